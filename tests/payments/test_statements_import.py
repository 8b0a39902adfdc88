"""Importing statements: once, all or nothing, of the right account; and the commands that do it."""

import io
import json
import threading
from datetime import date
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from billing.context import Actor
from billing.errors import Conflict, InvalidInput, PermissionRefused, UnknownCurrency
from billing.models import AuditRecord
from payments.models import BankAccount, BankLine, StatementImport
from payments.services.statements import create_bank_account, import_statement, preview_statement
from payments.statements import StatementRefused
from tests.payments.reconciliation_world import CLERK, World, inr
from tests.payments.test_statements import CSV, MT940

NOBODY = Actor(type="user", label="nobody")


@pytest.fixture
def world(db):
    return World()


def load(world, content=CSV, actor=CLERK, **more):
    return import_statement(organisation=world.organisation, bank_account=more.pop("account", world.bank), file_name="../april.csv",
                            content=content.encode(), actor=actor, **more)  # fmt: skip


def test_a_preview_writes_nothing_and_says_what_an_import_would_do(world):
    given = {"organisation": world.organisation, "bank_account": world.bank, "content": CSV.encode()}
    seen = preview_statement(**given)
    assert (seen.rows_read, seen.rows_new, seen.rows_known, seen.difference) == (2, 2, 0, inr("0.00"))
    assert (seen.total, seen.opening, seen.closing) == (inr("4691.11"), inr("1000.00"), inr("5691.11"))
    assert not StatementImport.objects.exists()
    load(world)
    again = preview_statement(**given)
    assert (again.rows_new, again.rows_known) == (0, 2)


def test_a_preview_says_when_the_statement_before_closed_otherwise(world):
    given = {"organisation": world.organisation, "bank_account": world.bank}
    follows = "Date,Narration,Ref,Debit,Credit,Balance\n2025-05-02,NEFT A,R1,,10.00,{}\n"
    assert preview_statement(**given, content=follows.format("5701.11").encode()).gap is None, "there is none before"
    before = load(world)

    fits = preview_statement(**given, content=follows.format("5701.11").encode())
    jumps = preview_statement(**given, content=follows.format("5801.11").encode())
    earlier = preview_statement(**given, content=follows.replace("-05-", "-03-").format("1000.00").encode())
    overlaps = preview_statement(**given, content=CSV.encode())

    assert (fits.before, fits.gap, jumps.gap) == (before, inr("0.00"), inr("100.00"))
    assert (earlier.gap, overlaps.gap) == (None, None)


def test_the_same_file_and_the_same_lines_in_another_file_change_nothing(world):
    first = load(world)
    assert (first.rows_read, first.rows_new, first.file_name, first.imported_by) == (2, 2, "april.csv", "clerk")
    assert load(world).pk == first.pk
    longer = load(world, CSV + '14/04/25,COFFEE,,14/04/25,10.00,,"5,681.11"\n')
    assert (longer.rows_read, longer.rows_new, longer.rows_known) == (3, 1, 2)
    assert BankLine.objects.count() == 3
    line = BankLine.objects.order_by("row_number").first()
    assert (line.booked_on, line.amount, line.reference, line.state) == (
        date(2025, 4, 3), inr("4750.11"), "AXISN25093000001", "unmatched")  # fmt: skip
    assert AuditRecord.objects.filter(action="statement.imported").count() == 2


def test_a_refused_file_leaves_its_reason_and_no_line_and_may_come_again(world):
    broken = CSV.replace("59.00", "5x.00")
    for _ in range(2):
        with pytest.raises(StatementRefused, match="Row 4, column 'debit'"):
            load(world, broken)
    assert not BankLine.objects.exists()
    assert set(StatementImport.objects.values_list("error", "rows_new")) == {
        ("Row 4, column 'debit': expected an amount such as 1234.56. Found '5x.00'.", 0)
    }
    assert load(world).rows_new == 2


def test_who_may_and_which_account(world):
    with pytest.raises(PermissionRefused):
        load(world, actor=NOBODY)
    other = create_bank_account(
        organisation=world.organisation, code="icici", name="ICICI", currency="INR", last4="9999", actor=CLERK
    )
    with pytest.raises(StatementRefused, match=r"ends in 9999.*…2051"):
        load(world, MT940, account=other)
    euro = BankAccount.objects.create(organisation=world.organisation, code="eur", name="E", currency="EUR")
    with pytest.raises(StatementRefused, match="lines in EUR"):
        load(world, MT940, account=euro)
    assert load(world, MT940).rows_new == 2
    mine = create_bank_account(
        organisation=world.organisation, code="axis", name="Axis", currency="INR", last4="2051", actor=CLERK
    )
    assert load(world, MT940, account=mine).rows_new == 2


def test_two_accounts_in_one_file_need_the_last_four_digits(world):
    both = MT940 + "\n" + MT940.replace("12345678/0202051", "12345678/0207777").replace("4750,11", "1,00")
    with pytest.raises(StatementRefused, match="last four digits"):
        load(world, both)
    BankAccount.objects.filter(pk=world.bank.pk).update(last4="7777")
    load(world, both, account=BankAccount.objects.get(pk=world.bank.pk))
    assert sorted(BankLine.objects.values_list("amount", flat=True)) == [Decimal(-59), Decimal(1)]


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [({"code": "Hdfc"}, InvalidInput), ({"code": "hdfc"}, Conflict), ({"currency": "XXX"}, UnknownCurrency),
     ({"dialect": {"odd": 1}}, InvalidInput), ({"dialect": {"columns": {"odd": 1}}}, InvalidInput), ({"actor": NOBODY}, PermissionRefused)],
)  # fmt: skip
def test_a_bank_account_is_opened_only_in_order(world, changes, refusal):
    given = {"organisation": world.organisation, "code": "new", "name": "New", "currency": "INR", "actor": CLERK}
    with pytest.raises(refusal):
        create_bank_account(**(given | changes))


def test_dates_are_read_as_the_account_or_its_country_writes_them(world):
    ambiguous = "Date,Description,Amount\n03/04/2025,a,1.00\n"
    load(world, ambiguous)
    american = World(country="US")
    load(american, ambiguous)
    stated = World(country="US")
    BankAccount.objects.filter(pk=stated.bank.pk).update(dialect={"day_first": True})
    load(stated, ambiguous, account=BankAccount.objects.get(pk=stated.bank.pk))
    days = {line.organisation_id: line.booked_on for line in BankLine.objects.all()}
    assert [days[each.organisation.pk] for each in (world, american, stated)] == [
        date(2025, 4, 3),
        date(2025, 3, 4),
        date(2025, 4, 3),
    ]


@pytest.mark.django_db(transaction=True)
def test_the_same_file_from_four_hands_is_imported_once():
    world = World()
    barrier, found = threading.Barrier(4), []

    def work():
        barrier.wait()
        try:
            found.append(load(world).pk)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(found) == 4
    assert len(set(found)) == 1
    assert BankLine.objects.count() == 2


def command(name, *args):
    out = io.StringIO()
    call_command(name, *args, "--json", stdout=out)
    return json.loads(out.getvalue())


def test_the_commands_tell_their_figures_and_refuse_with_a_reason(world, tmp_path):
    path = tmp_path / "april.csv"
    path.write_text(CSV)
    where = ("--organisation", world.organisation.code)
    into = (*where, "--account", "hdfc")
    dry = command("import_statement", path, *into, "--dry-run")
    assert (dry["rows_new"], dry["difference"], BankLine.objects.count()) == (2, "₹ 0.00", 0) or dry[
        "difference"
    ].endswith("0.00")
    assert command("import_statement", path, *into)["rows_new"] == 2
    payment = world.payment("4773.71")
    world.settle(world.line("payment", payment.attempt.gateway_ref, "4773.71", "20", "3.60"), utr="AXISN25093000001")
    found = command("reconcile", *where)
    assert (found["matching"]["payments"], found["matching"]["bank"], found["open_exceptions"]) == (1, 1, 1)
    assert found["sums"][0]["unexplained"] == {"amount": "0.00", "currency": "INR"}
    assert command("reconcile", *where, "--dry-run")["matching"]["bank"] == 0
    for args, said in (
        (("import_statement", path, *where, "--account", "no"), "there is: hdfc"),
        (("import_statement", tmp_path / "no.csv", *into), "No such file"),
        (("fetch_settlements", *where, "--since", "soon"), "2025-04-01"),
        (("fetch_settlements", *where), "could not be asked"),
    ):
        with pytest.raises(CommandError, match=said):
            call_command(*map(str, args), stdout=io.StringIO())
    world.payment("55.55", booked=False)
    with pytest.raises(CommandError, match=r"55\.55 INR"):
        call_command("reconcile", *where, stdout=io.StringIO())
