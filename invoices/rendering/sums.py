"""The table of taxes, the column of totals, and how what is due can be paid."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils.safestring import SafeString, mark_safe
from moneyed import Money

from invoices.models import CreditNote, Invoice
from invoices.rendering import formats, qr

Pair = tuple[str, str]


@dataclass(frozen=True)
class TaxRow:
    """A row of the tax table."""

    component: str
    rate: str
    base: str
    tax: str
    note: str


@dataclass(frozen=True)
class Payment:
    """How to pay: a code and the bank's details."""

    svg: SafeString
    hint: str
    details: list[Pair]


def payable(invoice: Invoice) -> Money:
    """What is due now: nothing on a void or written-off invoice."""
    closed = (Invoice.Status.VOID, Invoice.Status.UNCOLLECTIBLE)
    return Money(0, invoice.currency) if invoice.status in closed else invoice.due


def tax_row(row: Any, language: str, word: Mapping[str, str]) -> TaxRow:
    note = word.get(f"reason_{row.category}", row.reason)
    if row.reverse_charged.amount:
        note = f"{formats.amount(row.reverse_charged, language)} {word['reverse_charge_tax']}"
    return TaxRow(
        component=word.get(row.component, row.component),
        rate=formats.percent(row.rate, language),
        base=formats.number(row.base, language),
        tax=formats.number(row.tax, language),
        note=note,
    )


def totals(invoice: Invoice, language: str, word: Mapping[str, str]) -> list[Pair]:
    def optional(name: str, value: Money) -> Iterable[Pair]:
        return [(word[name], formats.amount(value, language))] if value.amount else []

    return [
        (word["subtotal"], formats.amount(invoice.net, language)),
        (word["tax"], formats.amount(invoice.tax, language)),
        *optional("rounding", invoice.rounding),
        (word["total"], formats.amount(invoice.total, language)),
        *optional("paid", -invoice.paid),
        *optional("credited", -invoice.credited),
        *(optional("written_off", -invoice.due) if invoice.status == Invoice.Status.UNCOLLECTIBLE else ()),
    ]


def credit_tax(row: Mapping[str, Any], currency: str, language: str, word: Mapping[str, str]) -> TaxRow:
    return TaxRow(
        component=word.get(row["component"], row["component"]),
        rate=formats.percent(Decimal(row["rate"]), language),
        base=formats.number(Money(row["base"], currency), language),
        tax=formats.number(Money(row["tax"], currency), language),
        note="",
    )


def credit_totals(note: CreditNote, language: str, word: Mapping[str, str]) -> list[Pair]:
    pairs = [("subtotal", note.net), ("tax", note.tax), ("rounding", note.rounding), ("total", note.total)]
    pairs += [("reduced_due", note.reduced_due), ("to_credit", note.to_credit)]
    always = ("subtotal", "tax", "total")
    return [(word[name], formats.amount(value, language)) for name, value in pairs if value.amount or name in always]


def payment(invoice: Invoice, seller: Mapping[str, Any], word: Mapping[str, str]) -> Payment | None:
    if invoice.status not in (Invoice.Status.OPEN, Invoice.Status.PARTIALLY_PAID):
        return None
    payload = qr.payment_payload(seller=dict(seller), invoice_id=invoice.pk, number=invoice.number, due=invoice.due)
    bank = seller.get("bank") or {}
    details = [
        ("UPI", seller.get("upi_id") if invoice.currency == "INR" else ""),
        (word["bank"], bank.get("name")),
        ("IBAN", _grouped(bank.get("iban"))),
        ("BIC", bank.get("bic")),
        (word["account"], bank.get("account")),
        ("IFSC", bank.get("ifsc")),
        (word["reference"], invoice.number),
    ]
    printed = [(name, str(value)) for name, value in details if value]
    if not payload and len(printed) == 1:
        return None
    hint = word["pay_upi" if payload.startswith("upi:") else "pay_epc"] if payload else ""
    return Payment(svg=mark_safe(qr.svg(payload)), hint=hint, details=printed)  # noqa: S308  our own drawing


def _grouped(iban: Any) -> str:
    text = str(iban or "").replace(" ", "")
    return " ".join(text[i : i + 4] for i in range(0, len(text), 4))
