"""Journal entries of documents: who posts what is in docs/ARCHITECTURE.md. Nothing is written here."""

import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from moneyed import Money

from billing.services.ledger import Entry, Line, credit, debit
from invoices.models import CreditNote, Invoice

INVOICE = "invoices.invoice"
CREDIT_NOTE = "invoices.creditnote"
ZERO = Decimal(0)


def tax_account(component: str) -> str:
    """Ledger account of a tax component."""
    return f"tax_payable:{component.lower()}"


def summed(pairs: Iterable[tuple[str, Decimal]]) -> dict[str, Decimal]:
    """Sums by account, in order of first appearance."""
    sums: dict[str, Decimal] = {}
    for account, amount in pairs:
        sums[account] = sums.get(account, ZERO) + amount
    return sums


def invoice_finalized(
    *, invoice: Invoice, revenue: Mapping[str, Decimal], taxes: Mapping[str, Decimal], at: datetime
) -> Entry:
    """Receivable against revenue (earned or deferred), tax payable and round-off."""
    currency, customer = invoice.currency, invoice.customer_id
    lines = [debit("receivable", invoice.total, customer_id=customer)]
    lines += [credit(account, Money(amount, currency)) for account, amount in revenue.items()]
    lines += [credit(tax_account(component), Money(amount, currency)) for component, amount in taxes.items()]
    lines.append(credit("rounding", invoice.rounding))
    return _entry(
        "invoice_finalized", INVOICE, invoice.pk, f"invoice_finalized:{invoice.pk}", lines, at, invoice.number
    )


def allocation(*, invoice: Invoice, amount: Money, key: str, at: datetime) -> Entry:
    """Customer credit pays a receivable; a negative amount takes it back."""
    customer = invoice.customer_id
    lines = [
        debit("customer_credit", amount, customer_id=customer),
        credit("receivable", amount, customer_id=customer),
    ]
    return _entry("payment_allocated", INVOICE, invoice.pk, f"allocation:{key}", lines, at, invoice.number)


def written_off(*, invoice: Invoice, at: datetime) -> Entry:
    """What is due becomes bad debt."""
    lines = [
        debit("bad_debt", invoice.due, customer_id=invoice.customer_id),
        credit("receivable", invoice.due, customer_id=invoice.customer_id),
    ]
    key = f"invoice_written_off:{invoice.pk}:{invoice.version}"
    return _entry("invoice_written_off", INVOICE, invoice.pk, key, lines, at, invoice.number)


def credited(
    *, note: CreditNote, invoice: Invoice, revenue: Mapping[str, Decimal], taxes: Mapping[str, Decimal], at: datetime
) -> Entry:
    """Revenue and tax are taken back; what was due shrinks, the rest is owed to the customer."""
    currency, customer = note.currency, invoice.customer_id
    lines = [debit(account, Money(amount, currency)) for account, amount in revenue.items()]
    lines += [debit(tax_account(component), Money(amount, currency)) for component, amount in taxes.items()]
    lines += [
        debit("rounding", note.rounding),
        credit("receivable", note.reduced_due, customer_id=customer),
        credit("customer_credit", note.to_credit, customer_id=customer),
    ]
    return _entry("credit_note_issued", CREDIT_NOTE, note.pk, f"credit_note:{note.pk}", lines, at, note.number)


def claimed_again_key(dispute_id: uuid.UUID) -> str:
    """Under which a lost dispute is claimed from its customer once."""
    return f"dispute_claimed:{dispute_id}"


def claimed_again(*, dispute_id: uuid.UUID, customer_id: uuid.UUID, amount: Money, at: datetime) -> Entry:
    """A bank gave a payment back for good: it no longer is the customer's credit, so that much is no loss."""
    lines = [debit("customer_credit", amount, customer_id=customer_id), credit("chargeback_loss", amount)]
    return _entry("dispute_claimed", "payments.dispute", dispute_id, claimed_again_key(dispute_id), lines, at, "")


def earned(*, entry_id: uuid.UUID, amount: Money, at: datetime, description: str) -> Entry:
    """Deferred revenue becomes revenue."""
    lines = [debit("deferred_revenue", amount), credit("revenue", amount)]
    return _entry("revenue_earned", "invoices.recognitionentry", entry_id, f"earned:{entry_id}", lines, at, description)


def _entry(
    kind: str, source_type: str, source_id: Any, key: str, lines: list[Line], at: datetime, description: str
) -> Entry:
    return Entry(
        kind=kind,
        source_type=source_type,
        source_id=source_id,
        occurred_at=at,
        key=key,
        lines=lines,
        description=description,
    )
