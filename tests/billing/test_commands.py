"""What an operator runs by hand."""

import csv
import io
import json
import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st
from moneyed import Money

from billing.models import Event, EventHandling, Organisation, TestClock
from billing.selectors import ledger as books
from billing.services import ledger, outbox
from billing.services.ledger import Entry, credit, debit
from billing.services.ledger_export import account_name
from billing.services.outbox.publishing import Fact
from tests.billing.conftest import START


def run(*words: str, **options: Any) -> str:
    out = io.StringIO()
    call_command(*words, stdout=out, stderr=out, **options)
    return out.getvalue()


@pytest.fixture
def posted(organisation: Organisation) -> Organisation:
    def post(key: str, *lines: Any, description: str = "") -> None:
        ledger.post(organisation=organisation, entry=Entry(kind="test_entry", source_type="t", source_id=uuid.uuid4(), occurred_at=START, key=key, lines=lines, description=description))  # fmt: skip  # noqa: E501

    post("1", debit("receivable", Money("118.00", "INR")), credit("revenue", Money("100.00", "INR")),
         credit("tax_payable:cgst", Money("9.00", "INR")), credit("tax_payable:sgst", Money("9.00", "INR")),
         description='Invoice "SV/26-27/00001" \\ first')  # fmt: skip
    post("2", debit("bank:hdfc-Main 1", Money("50.5000", "INR")), credit("receivable", Money("50.50", "INR")))
    post("3", debit("receivable", Money("7", "JPY")), credit("revenue", Money("7", "JPY")), description="=HYPERLINK")
    return organisation


def test_bean_check_finds_nothing_wrong_with_the_exported_books(posted: Organisation, tmp_path: Path) -> None:
    file = tmp_path / "books.beancount"

    run("export_ledger", "--organisation", "acme", "--output", str(file))

    checked = subprocess.run(
        [sys.executable, "-m", "beancount.scripts.check", str(file)], capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    text = file.read_text()
    assert "2026-04-01 open Liabilities:Tax-Payable:Cgst INR\n" in text
    assert "  Assets:Bank:X--hdfc-2d--4d-ain-20-1  50.50 INR\n" in text
    assert "  Assets:Receivable  7.00 JPY\n" in text
    assert '* "Invoice \\"SV/26-27/00001\\" \\\\ first"' in text
    assert "open Assets:Receivable INR,JPY\n" in text


def test_csv_holds_the_same_and_no_formula(posted: Organisation, tmp_path: Path) -> None:
    file = tmp_path / "books.csv"

    run("export_ledger", "--organisation", "acme", "--format", "csv", "--output", str(file))

    rows = list(csv.DictReader(file.open()))
    assert len(rows) == 8
    assert sum(Decimal(row["debit"] or 0) - Decimal(row["credit"] or 0) for row in rows) == 0
    assert not any(value[:1] in "=+@" for row in rows for value in row.values() if value)


def test_json_is_one_entry_a_line(posted: Organisation, tmp_path: Path) -> None:
    file = tmp_path / "books.json"

    run("export_ledger", "--organisation", "acme", "--format", "json", "--output", str(file))

    entries = [json.loads(line) for line in file.read_text().splitlines()]
    assert [len(entry["postings"]) for entry in entries] == [4, 2, 2]
    assert entries[0]["postings"][0] == {
        "account": "receivable", "currency": "INR", "debit": "118.00", "credit": "", "customer": "",
    }  # fmt: skip


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_two_codes_never_share_an_account_name(one: str, two: str) -> None:
    first, second = account_name(one, "asset"), account_name(two, "asset")

    assert all(re.fullmatch(r"[A-Z0-9][A-Za-z0-9-]*", part) for part in first.split(":"))
    assert (first == second) == (one == two)


def test_check_ledger_says_that_the_books_balance(posted: Organisation) -> None:
    assert "acme INR: debit 168.50, credit 168.50: ok" in run("check_ledger")


@pytest.mark.django_db(transaction=True)
def test_check_ledger_finds_what_went_round_the_database(make_organisation: Callable[..., Organisation]) -> None:
    organisation = make_organisation("acme")
    lines = [debit("receivable", Money("5", "INR")), credit("revenue", Money("5", "INR"))]
    entry = ledger.post(organisation=organisation, entry=Entry(kind="t", source_type="t", source_id=uuid.uuid4(), occurred_at=START, key="k", lines=lines))  # fmt: skip  # noqa: E501
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE billing_posting DISABLE TRIGGER billing_posting_no_change")
        cursor.execute("UPDATE billing_posting SET amount = 6 WHERE side = 'D'")
        cursor.execute("ALTER TABLE billing_posting ENABLE TRIGGER billing_posting_no_change")

    with pytest.raises(CommandError, match="do not balance"):
        run("check_ledger", "--organisation", "acme")

    assert entry is not None
    assert books.unbalanced_entries(organisation_id=organisation.pk) == [entry.pk]


def test_an_organisation_is_founded_with_its_first_member_and_key(db: None) -> None:
    said = run(
        "create_organisation", "acme", "--name", "Acme", "--currency", "INR", "--country", "IN", "--region", "29",
        "--time-zone", "Asia/Kolkata", "--member", "admin@acme.example", "--password", "correct horse 7",
        "--api-key", "first", "--test-clock", "2026-04-01T00:00:00+05:30",
        "--details", '{"tax_ids": {"gstin": "33AAFCT2207K1ZJ"}}',
    )  # fmt: skip

    organisation = Organisation.objects.get()
    assert organisation.party is not None
    assert (organisation.region, organisation.party.registered) == ("33", True)
    assert "Member admin@acme.example as admin" in said
    assert "mk_" in said
    assert TestClock.objects.get().now.isoformat() == "2026-03-31T18:30:00+00:00"


def test_founding_says_what_is_wrong(db: None) -> None:
    with pytest.raises(CommandError, match="currency: 'XYZ' is not a currency code"):
        run("create_organisation", "acme", "--name", "Acme", "--currency", "XYZ", "--country", "IN")

    assert not Organisation.objects.exists()


def test_an_unknown_organisation_is_named(organisation: Organisation) -> None:
    with pytest.raises(CommandError, match=r"no organisation 'nobody'. Known: acme\."):
        run("export_ledger", "--organisation", "nobody")


def test_dead_letters_are_listed_and_replayed(organisation: Organisation, listening: Callable[..., Any]) -> None:
    cured: list[bool] = []

    @listening("a", consumer="c")
    def consume(event: Event) -> None:
        if not cured:
            raise RuntimeError("broken")

    outbox.publish_many(
        organisation_id=organisation.pk, facts=[Fact(type="a", aggregate_type="t", aggregate_id=uuid.uuid4())]
    )
    assert "1 failed" in run("sweep_outbox")
    EventHandling.objects.update(status="dead", next_attempt_at=None)

    assert "RuntimeError: broken" in run("replay_dead_letters", "--reason", "look", "--dry-run")
    assert EventHandling.objects.get().status == "dead"
    cured.append(True)
    assert "acme: 1 caught up" in run("replay_dead_letters", "--reason", "cured")

    assert EventHandling.objects.get().status == "done"
    assert "acme: 0 handed over; nothing owed" in run("sweep_outbox")
