"""A seller in Karnataka whose time stands still, its customers, and what tests of documents share."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import count
from typing import Any

import pytest
from moneyed import Money

from billing.context import Actor
from billing.models import BillingParty, Customer, Event, JournalEntry, Organisation, TestClock
from billing.services import ledger
from billing.services.ledger import Entry, credit, debit
from invoices.drafts import InvoiceDraft, LineInput
from invoices.models import Invoice, TaxRate
from invoices.services.finalizing import issue_invoice
from payments.models import Payment, Refund

NOW = datetime(2026, 6, 1, 6, 0, tzinfo=UTC)
CLERK = Actor(type="user", id="7", label="asha@example.org", permissions=frozenset({"*"}))
SEQUENCE = count(1)


def make_organisation(
    *, code: str = "", country: str = "IN", region: str = "29", currency: str = "INR", **extra: Any
) -> Organisation:
    """An organisation with a party and tax rates, on a test clock unless ``test_clock=None`` leaves it on real time."""
    code = code or f"sunrise-valley-{next(SEQUENCE)}"
    if "test_clock" not in extra:
        extra["test_clock"] = TestClock.objects.create(name=code, now=NOW)
    options = {"time_zone": "Asia/Kolkata" if country == "IN" else "Europe/Berlin", "language": "en"}
    options |= {"financial_year_start": 4 if country == "IN" else 1} | extra
    organisation = Organisation.objects.create(
        code=code,
        name="Sunrise Valley School" if country == "IN" else "Nordlicht GmbH",
        currency=currency,
        country=country,
        region=region,
        **options,
    )
    tax_ids = {"gstin": "29AAACS1234F1Z5"} if country == "IN" else {"vat": "DE136695976"}
    organisation.party = BillingParty.objects.create(
        organisation=organisation,
        details={
            "name": organisation.name,
            "email": "accounts@sunrise.example",
            "phone": "+91 80 4000 1234",
            "address": {"line1": "12 Residency Road", "city": "Bengaluru", "postal_code": "560025", "country": country},
            "tax_ids": tax_ids,
        },
        country=country,
        region=region,
        registered=True,
    )
    organisation.save()
    for category, rate in (("tuition", "18"), ("meals", "5"), ("books", "0")):
        TaxRate.objects.create(
            organisation=organisation,
            category=category,
            country=country,
            rate=rate,
            code="9992",
            valid_from=date(2025, 9, 22),
        )
    return organisation


def make_customer(organisation: Organisation, *, name: str = "Meera Iyer", **extra: Any) -> Customer:
    """A customer with a party; ``country``, ``region``, ``registered``, ``treatment``, ``tax_ids`` go to the party."""
    place = {
        "country": extra.pop("country", organisation.country),
        "region": extra.pop("region", organisation.region),
        "registered": extra.pop("registered", False),
        "tax_treatment": extra.pop("treatment", "standard"),
    }
    address = extra.pop("address", {"line1": "4 Temple Street", "city": "Mysuru", "postal_code": "570001"})
    number = next(SEQUENCE)
    customer = Customer.objects.create(
        organisation=organisation,
        external_id=f"c-{number}",
        name=name,
        email=extra.pop("email", f"parent{number}@example.org"),
        currency=extra.pop("currency", organisation.currency),
        created_at=NOW,
        **{key: extra[key] for key in extra if key in ("language", "phone")},
    )
    details = {"name": name, "email": customer.email, "address": address | {"country": place["country"]}}
    details["tax_ids"] = extra.get("tax_ids", {})
    customer.party = BillingParty.objects.create(organisation=organisation, customer=customer, details=details, **place)
    customer.save()
    return customer


def line(amount: str = "1000.00", currency: str = "INR", **extra: Any) -> LineInput:
    """A line of tuition."""
    options = {"description": "Tuition, June", "code": "tuition", "tax_category": "tuition"} | extra
    return LineInput(amount=Money(amount, currency), **options)


def issue(customer: Customer, *lines: LineInput, at: datetime | None = None, **extra: Any) -> Invoice:
    """A finalised invoice of the lines, or of one line of 1000.00."""
    currency = extra.pop("currency", customer.currency)
    draft = InvoiceDraft(customer_id=customer.pk, currency=currency, lines=lines or [line(currency=currency)], **extra)
    return issue_invoice(organisation=customer.organisation, draft=draft, at=at)


def capture(customer: Customer, amount: str, *, invoice: Invoice | None = None, reference: str = "") -> Payment:
    """A captured payment as the payments app leaves it: the row and its journal entry."""
    money, number = Money(amount, customer.currency), next(SEQUENCE)
    payment = Payment.objects.create(
        organisation=customer.organisation,
        customer=customer,
        reference=reference or (f"invoice:{invoice.pk}" if invoice else f"deposit:{number}"),
        amount=money,
        refunded=Money(0, customer.currency),
        disputed=Money(0, customer.currency),
        status=Payment.Status.SUCCEEDED,
        created_at=NOW,
        captured_at=NOW,
    )
    _post(
        payment,
        "payment_captured",
        debit("gateway_clearing:test", money),
        credit("customer_credit", money, customer_id=customer.pk),
    )
    return payment


def refund(payment: Payment, amount: str) -> Refund:
    """A refund that succeeded, with its journal entry."""
    money = Money(amount, payment.currency)
    row = Refund.objects.create(
        organisation=payment.organisation,
        payment=payment,
        amount=money,
        reason="test",
        status=Refund.Status.SUCCEEDED,
        idempotency_key=f"r-{next(SEQUENCE)}",
        created_at=NOW,
    )
    Payment.objects.filter(pk=payment.pk).update(refunded=payment.refunded + money)
    _post(
        row,
        "refund_succeeded",
        debit("customer_credit", money, customer_id=payment.customer_id),
        credit("gateway_clearing:test", money),
    )
    return row


def _post(row: Any, kind: str, *lines: Any) -> None:
    entry = Entry(
        kind=kind,
        source_type=row._meta.label_lower,
        source_id=row.pk,
        occurred_at=NOW,
        key=f"{kind}:{row.pk}",
        lines=lines,
    )
    ledger.post(organisation=row.organisation_id, entry=entry)


def books(organisation: Organisation, currency: str = "") -> dict[str, str]:
    """Balances of all accounts that are not zero: debits less credits."""
    found = {}
    for account in organisation_accounts(organisation):
        value = ledger.balance(organisation=organisation, account=account, currency=currency or organisation.currency)
        if value.amount:
            found[account] = f"{value.amount:.2f}"
    return found


def organisation_accounts(organisation: Organisation) -> list[str]:
    from billing.models import LedgerAccount

    return sorted(set(LedgerAccount.objects.of(organisation).values_list("code", flat=True)))


def events(organisation: Organisation) -> list[str]:
    """Types of the organisation's events, in order."""
    return list(Event.objects.of(organisation).order_by("id").values_list("type", flat=True))


def postings_of(row: Any) -> list[tuple[str, str, str]]:
    """Side, account and amount of the postings whose source is ``row``."""
    return [
        (posting.side, posting.account.code, f"{posting.amount.amount:.2f}")
        for entry in JournalEntry.objects.filter(source_id=row.pk).order_by("recorded_at", "id")
        for posting in entry.postings.select_related("account").order_by("id")
    ]


def advance(organisation: Organisation, to: datetime) -> None:
    """Turn the organisation's clock."""
    TestClock.objects.filter(pk=organisation.test_clock_id).update(now=to)


@pytest.fixture
def school(db) -> Organisation:
    return make_organisation()


@pytest.fixture
def nordlicht(db) -> Organisation:
    return make_organisation(code=f"nordlicht-{next(SEQUENCE)}", country="DE", region="", currency="EUR")


@pytest.fixture
def family(school) -> Customer:
    return make_customer(school)
