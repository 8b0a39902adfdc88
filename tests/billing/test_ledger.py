"""The books: what is posted balances, is posted once, and cannot be changed by anybody, with or without our code."""

import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moneyed import Money

from billing.models import Customer, JournalEntry, LedgerAccount, Organisation, Posting
from billing.services import ledger
from billing.services.ledger import Entry, Line, UnbalancedEntry, credit, debit

AT = datetime(2026, 4, 1, tzinfo=UTC)


def inr(amount: str) -> Money:
    return Money(amount, "INR")


def entry(*lines: Line, key: str = "k1", **changes: Any) -> Entry:
    values = {"kind": "test", "source_type": "test", "source_id": uuid.uuid4(), "occurred_at": AT, "key": key}
    return Entry(lines=lines, **(values | changes))


def check_now() -> None:
    """Run the checks that otherwise run at commit."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")


def test_an_entry_is_posted_once_per_key(organisation: Organisation, customer: Customer) -> None:
    sale = entry(debit("receivable", inr("118.00"), customer_id=customer.pk), credit("revenue", inr("100.00")),
                 credit("tax_payable:cgst", inr("9.00")), credit("tax_payable:sgst", inr("9.00")))  # fmt: skip

    first = ledger.post(organisation=organisation, entry=sale)
    second = ledger.post(organisation=organisation, entry=entry(*sale.lines))
    check_now()

    assert first == second
    assert Posting.objects.count() == 4
    assert ledger.balance(organisation=organisation, account="receivable", currency="INR") == inr("118.00")
    assert ledger.balance(organisation=organisation, account="revenue", currency="INR") == inr("-100.00")


def test_a_reversal_brings_every_balance_back(organisation: Organisation) -> None:
    posted = ledger.post(
        organisation=organisation, entry=entry(debit("receivable", inr("5")), credit("revenue", inr("5")))
    )
    assert posted is not None

    mirror = ledger.reverse(entry=posted, key="undo", occurred_at=AT)
    again = ledger.reverse(entry=posted, key="undo", occurred_at=AT)
    check_now()

    assert mirror == again
    assert mirror is not None
    assert mirror.reverses == posted
    assert ledger.balance(organisation=organisation, account="receivable", currency="INR") == inr("0")


def test_an_unbalanced_entry_is_refused_by_the_service(organisation: Organisation) -> None:
    with pytest.raises(UnbalancedEntry, match=r"differ by 1\.00 INR"):
        ledger.post(
            organisation=organisation, entry=entry(debit("receivable", inr("2.00")), credit("revenue", inr("1.00")))
        )

    assert not JournalEntry.objects.exists()


def test_an_entry_of_nothing_is_not_posted(organisation: Organisation) -> None:
    nothing = entry(debit("receivable", inr("0")), credit("revenue", inr("0")))

    assert ledger.post(organisation=organisation, entry=nothing) is None
    assert not JournalEntry.objects.exists()


def test_one_currency_does_not_pay_for_another(organisation: Organisation) -> None:
    with pytest.raises(UnbalancedEntry):
        ledger.post(
            organisation=organisation, entry=entry(debit("receivable", inr("1")), credit("revenue", Money("1", "USD")))
        )


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["INR", "USD", "JPY"]), st.integers(-(10**9), 10**9)), min_size=1, max_size=8)
)
def test_whatever_is_posted_the_trial_balance_is_zero(organisation: Organisation, parts: list[tuple[str, int]]) -> None:
    with transaction.atomic():
        lines = [debit("receivable", Money(Decimal(n), code)) for code, n in parts]
        lines += [credit("revenue", Money(Decimal(n), code)) for code, n in parts]
        ledger.post(organisation=organisation, entry=entry(*lines, key=uuid.uuid4().hex))
        check_now()
        for code in {code for code, _ in parts}:
            total = sum((ledger.balance(organisation=organisation, account=account, currency=code).amount
                         for account in ("receivable", "revenue")), Decimal(0))  # fmt: skip
            assert total == 0
            expected = sum(n for one, n in parts if one == code)
            assert ledger.balance(organisation=organisation, account="receivable", currency=code).amount == expected
        transaction.set_rollback(True)


# --- what the database refuses, whoever asks ------------------------------------------------------


def account(organisation: Organisation, code: str, currency: str = "INR") -> LedgerAccount:
    return LedgerAccount.objects.get_or_create(organisation=organisation, code=code, currency=currency, kind="asset")[0]


def raw_entry(organisation: Organisation) -> JournalEntry:
    return JournalEntry.objects.create(
        organisation=organisation, kind="raw", source_type="t", source_id=uuid.uuid4(), occurred_at=AT,
        idempotency_key=uuid.uuid4().hex,
    )  # fmt: skip


def raw_posting(
    row: JournalEntry, where: LedgerAccount, side: str, amount: str, currency: str = "INR", **more: Any
) -> None:
    Posting.objects.create(
        **({"organisation_id": row.organisation_id} | more),
        entry=row,
        account=where,
        side=side,
        amount=Money(amount, currency),
    )


def refused(match: str) -> Any:
    return pytest.raises(IntegrityError, match=match)


def test_the_database_refuses_an_unbalanced_entry(organisation: Organisation) -> None:
    with refused("does not balance in INR"), transaction.atomic():
        row = raw_entry(organisation)
        raw_posting(row, account(organisation, "receivable"), "D", "10.00")
        raw_posting(row, account(organisation, "revenue"), "C", "9.99")
        check_now()


def test_the_database_refuses_an_entry_without_postings(organisation: Organisation) -> None:
    with refused("has 0 postings"), transaction.atomic():
        raw_entry(organisation)
        check_now()


def test_the_database_balances_each_currency(organisation: Organisation) -> None:
    with refused("does not balance in USD"), transaction.atomic():
        row = raw_entry(organisation)
        raw_posting(row, account(organisation, "receivable"), "D", "10.00")
        raw_posting(row, account(organisation, "revenue", "USD"), "C", "10.00", "USD")
        check_now()


@pytest.mark.parametrize("amount", ["0", "-1.00"])
def test_the_database_wants_positive_amounts(organisation: Organisation, amount: str) -> None:
    with refused("posting_positive"), transaction.atomic():
        raw_posting(raw_entry(organisation), account(organisation, "receivable"), "D", amount)


def test_the_database_keeps_accounts_in_their_currency(organisation: Organisation) -> None:
    with refused("kept in another currency"), transaction.atomic():
        raw_posting(raw_entry(organisation), account(organisation, "receivable"), "D", "1", "USD")


def test_the_database_keeps_organisations_apart(organisation: Organisation, other: Organisation) -> None:
    with refused("account is of another organisation"), transaction.atomic():
        raw_posting(raw_entry(organisation), account(other, "receivable"), "D", "1")
    with refused("entry is of another organisation"), transaction.atomic():
        raw_posting(raw_entry(organisation), account(other, "receivable"), "D", "1", organisation_id=other.pk)


def test_the_database_refuses_the_customer_of_another(
    organisation: Organisation, other: Organisation, customer: Customer
) -> None:
    with refused("customer is of another organisation"), transaction.atomic():
        raw_posting(raw_entry(other), account(other, "receivable"), "D", "1", customer=customer)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE billing_posting SET amount = amount + 1",
        "DELETE FROM billing_posting",
        "UPDATE billing_journalentry SET occurred_at = now()",
        "DELETE FROM billing_journalentry",
        "UPDATE billing_ledgeraccount SET currency = 'USD'",
        "UPDATE billing_auditrecord SET action = 'nothing'",
        "DELETE FROM billing_auditrecord",
        "UPDATE billing_billingparty SET country = 'DE'",
        "DELETE FROM billing_billingparty",
        "UPDATE billing_event SET payload = '{}'",
    ],
)
def test_the_database_refuses_to_rewrite_history(
    organisation: Organisation, customer: Customer, statement: str
) -> None:
    ledger.post(organisation=organisation, entry=entry(debit("receivable", inr("5")), credit("revenue", inr("5"))))
    check_now()

    with refused("is append only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.mark.parametrize(
    "table", ["billing_posting", "billing_journalentry", "billing_auditrecord", "billing_usageevent"]
)
def test_the_database_refuses_to_empty_the_books(db: None, table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER TABLE {table} ENABLE TRIGGER "{table}_no_truncate"')  # the test run switches it off

    with refused("is append only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {table} CASCADE")


@pytest.mark.django_db(transaction=True)
def test_a_closed_entry_takes_no_more_postings(make_organisation: Any) -> None:
    organisation = make_organisation()
    posted = ledger.post(
        organisation=organisation, entry=entry(debit("receivable", inr("5")), credit("revenue", inr("5")))
    )
    assert posted is not None

    with refused("its entry is closed"), transaction.atomic():
        raw_posting(posted, account(organisation, "receivable"), "D", "1.00")

    assert ledger.balance(organisation=organisation, account="receivable", currency="INR") == inr("5")


@pytest.mark.django_db(transaction=True)
def test_an_unbalanced_transaction_leaves_nothing(make_organisation: Any) -> None:
    organisation = make_organisation()

    with refused("does not balance"), transaction.atomic():
        row = raw_entry(organisation)
        raw_posting(row, account(organisation, "receivable"), "D", "10.00")
        raw_posting(row, account(organisation, "revenue"), "C", "1.00")

    assert not JournalEntry.objects.exists()
