"""The reconciliation console: every page opens for those who may, decides through the services, and shows nobody else's rows."""

import re
from datetime import date
from decimal import Decimal
from html import unescape

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from billing.models import Membership, Role, User
from payments.models import BankAccount, BankLine, ReconciliationException, Settlement, SettlementLine, StatementImport
from payments.services.matching import run_matching
from payments.statements import StatementRefused
from tests.payments.reconciliation_world import World
from tests.payments.test_statements import CSV

MODELS = (Settlement, SettlementLine, BankAccount, BankLine, StatementImport, ReconciliationException)
TODAY = "admin:payments_today"


@pytest.fixture
def world(db):
    """A payout in the bank, one short by a charge, an unknown line, a refused file."""
    world = World()
    first, second = world.payment("1000"), world.payment("500")
    one = world.settle(world.line("payment", first.attempt.gateway_ref, "1000", "20", "3.60"))
    other = world.settle(
        world.line("payment", second.attempt.gateway_ref, "500"), world.line("adjustment", "adj_1", "-5")
    )
    rows = [
        (f"NEFT {one.settlement.utr}", "976.40"),
        (f"NEFT {other.settlement.utr}", "490.00"),
        ("CHARGES <b>APRIL</b>", "-59.00"),
    ]
    world.statement(*((date(2025, 4, 1), *row) for row in rows))
    with pytest.raises(StatementRefused):
        world.statement((date(2025, 4, 1), "x", "abc"))
    run_matching(organisation=world.organisation)
    return world


def sign_in(role, world):
    user = User.objects.create_user(f"{role}@example.com", "secret-word-1", is_staff=True)
    Membership.objects.create(organisation=world.organisation, user=user, role=role)
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client, user


def changelist(model):
    return reverse(f"admin:payments_{model._meta.model_name}_changelist")


def page(row):
    return reverse(f"admin:payments_{row._meta.model_name}_change", args=[row.pk])


def text_of(client, url, **more):
    answer = client.get(url, **more)
    assert answer.status_code == 200, (url, answer.status_code)
    return re.sub(r"\s+", " ", answer.content.decode())


@pytest.mark.parametrize("role", [Role.CLERK, Role.MANAGER, Role.AUDITOR])
def test_every_page_opens_and_escapes_what_the_bank_wrote(world, role):
    client, _ = sign_in(role, world)
    for model in MODELS:
        rows = model.objects.all()
        assert rows
        assert client.get(changelist(model)).status_code == 200
        for row in rows:
            assert "<b>APRIL</b>" not in text_of(client, page(row))
    assert "Unexplained" in text_of(client, reverse(TODAY))
    for query in (
        "?status=all",
        "?status=mine",
        "?status=overdue",
        "?age=8%2B",
        "?age=odd",
        "?explained=no",
        "?refused=yes",
        "?status=odd",
    ):
        for model in MODELS:
            assert client.get(f"{changelist(model)}?{query}").status_code in (200, 302)


def test_nobody_else_sees_anything(world):
    client, _ = sign_in(Role.MANAGER, World())
    for model in MODELS:
        row = model.objects.first()
        assert str(row.pk) not in client.get(changelist(model)).content.decode()
        assert client.get(page(row)).status_code in (302, 404)
    assert world.organisation.code not in text_of(client, reverse(TODAY) + f"?organisation={world.organisation.pk}")
    support, _ = sign_in(Role.SUPPORT, world)
    assert {support.get(changelist(model)).status_code for model in MODELS} == {403}
    assert support.get(reverse(TODAY)).status_code in (302, 403)


def test_the_filters_offer_nobody_elses_bank_accounts(world):
    """Choices of a filter are rows as well."""
    BankAccount.objects.filter(pk=world.bank.pk).update(code="secret-9911")
    own = World()
    BankAccount.objects.create(organisation=own.organisation, code="axis-2", name="Axis", currency="INR")
    client, _ = sign_in(Role.MANAGER, own)
    for model in (BankLine, StatementImport):
        page_of_list = text_of(client, changelist(model))
        assert "secret-9911" not in page_of_list
        assert "axis-2" in page_of_list


def test_the_bridge_and_the_tiles_show_the_sums(world):
    client, _ = sign_in(Role.MANAGER, world)
    bridge = text_of(client, page(Settlement.objects.order_by("id").first()))
    for figure in ("₹1,000.00", "₹20.00", "₹3.60", "₹976.40", "₹0.00"):
        assert figure in bridge, figure
    today = text_of(client, reverse(TODAY))
    assert re.search(r"Exceptions</div>\s*<div class=\"m-value\">3<", today)
    assert re.search(r"Refused imports</div>\s*<div class=\"m-value\">1<", today)
    assert re.search(r"Unexplained</div>\s*<div class=\"m-value\">0\.00<", today)


def act(client, row, action, **form):
    url = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{action}", args=[row.pk])
    return client.post(url, {"confirm": "yes", **form}, follow=True)


def test_decisions_ask_for_a_reason_and_the_permission(world):
    charge = ReconciliationException.objects.get(amount=Decimal(-59))
    clerk, user = sign_in(Role.CLERK, world)
    act(clerk, charge, "take")
    assert ReconciliationException.objects.get(pk=charge.pk).owner == user
    assert act(clerk, charge, "resolve", resolution="bank_charge", reason="fees").status_code == 403
    manager, boss = sign_in(Role.MANAGER, world)
    assert "This field is required" in act(manager, charge, "resolve", resolution="bank_charge").content.decode()
    act(manager, charge, "assign", owner=boss.email)
    act(manager, charge, "assign", owner="stranger@example.com")
    assert ReconciliationException.objects.get(pk=charge.pk).owner == boss
    act(manager, charge, "resolve", resolution="bank_charge", reason="Price list.")
    assert ReconciliationException.objects.get(pk=charge.pk).status == "resolved"
    assert world.balance("bank_charges") == Decimal(59)
    short = ReconciliationException.objects.get(kind="amount_differs")
    payout = Settlement.objects.get(pk=short.details["settlement"])
    act(manager, short, "match", payout="setl_nowhere", reason="By the advice.")
    assert ReconciliationException.objects.get(pk=short.pk).status == "open"
    act(manager, short, "match", payout=payout.gateway_ref, reason="By the advice.")
    assert Settlement.objects.get(pk=payout.pk).status == "in_bank"
    assert world.balance("bank_charges") == Decimal(64)


def upload(client, account, content, **form):
    url = reverse("admin:payments_bankaccount_upload", args=[account.pk])
    return client.post(url, {"file": SimpleUploadedFile("april.csv", content.encode()), "format": "auto", **form})


def test_a_statement_is_uploaded_looked_at_and_confirmed(world):
    client, _ = sign_in(Role.CLERK, world)
    before = BankLine.objects.count()
    seen = upload(client, world.bank, CSV).content.decode()
    assert "Import 2 new lines" in seen
    assert BankLine.objects.count() == before
    token = re.search(r'name="token" value="([0-9a-f]+)"', seen)[1]
    url = reverse("admin:payments_bankaccount_upload", args=[world.bank.pk])
    stranger, _ = sign_in(Role.MANAGER, world)
    assert "is gone" in stranger.post(url, {"token": token}, follow=True).content.decode()
    assert client.post(url, {"token": token}).status_code == 302
    assert BankLine.objects.count() == before + 2
    assert "is gone" in client.post(url, {"token": token}, follow=True).content.decode()
    later = "Date,Narration,Ref,Debit,Credit,Balance\n2025-05-02,NEFT A,R1,,10.00,5801.11\n"
    gap = unescape(upload(client, world.bank, later).content.decode())
    assert "april.csv, closed with ₹5,691.11; this one opens with ₹5,791.11. Is one between them missing?" in gap
    refused = upload(client, world.bank, CSV.replace("59.00", "5x.00")).content.decode()
    assert "Row 4, column &#x27;debit&#x27;" in refused
    assert StatementImport.objects.exclude(error="").count() == 2
    auditor, _ = sign_in(Role.AUDITOR, world)
    assert upload(auditor, world.bank, CSV).status_code == 403


def test_a_bank_account_is_added_and_payouts_are_fetched_from_the_console(world):
    client, _ = sign_in(Role.CLERK, world)
    url = reverse("admin:payments_bankaccount_add_account")
    assert client.get(url).status_code == 200
    given = {
        "organisation": world.organisation.pk,
        "code": "icici",
        "name": "ICICI",
        "currency": "inr",
        "last4": "1234",
    }
    client.post(url, given)
    assert BankAccount.objects.get(code="icici").currency == "INR"
    client.post(url, given)
    assert BankAccount.objects.filter(code="icici").count() == 1
    answer = client.post(reverse("admin:payments_settlement_fetch"), follow=True)
    assert "has no key here" in answer.content.decode()


def test_lists_do_not_ask_the_database_for_each_row(world, django_assert_max_num_queries):
    client, _ = sign_in(Role.MANAGER, world)
    for _ in range(12):
        world.settle(world.line("payment", world.payment("10").attempt.gateway_ref, "10"))
    world.statement(*((date(2025, 4, 2), f"stranger {n}", f"-{n}.00") for n in range(1, 13)))
    run_matching(organisation=world.organisation)
    for model in MODELS:
        with django_assert_max_num_queries(20):
            assert client.get(changelist(model)).status_code == 200
    with django_assert_max_num_queries(40):
        client.get(reverse(TODAY))
