"""What the outbox carries about invoices: payloads of amounts as strings, the same on every path."""

from typing import Any

from moneyed import Money

from billing.money import quantize
from invoices.models import CreditNote, Invoice


def text(amount: Money) -> str:
    """An amount as a decimal string with the currency's own decimals."""
    return f"{quantize(amount.amount, amount.currency.code):f}"


def reference(invoice_id: Any) -> str:
    """Reference under which an invoice is paid."""
    return f"invoice:{invoice_id}"


def invoice_payload(invoice: Invoice) -> dict[str, Any]:
    """Payload of every invoice event."""
    return {
        "invoice_id": str(invoice.pk),
        "customer_id": str(invoice.customer_id),
        "number": invoice.number,
        "total": text(invoice.total),
        "due": text(invoice.due),
        "currency": invoice.currency,
        "due_on": invoice.due_on.isoformat() if invoice.due_on else None,
        "subscription_ref": str(invoice.subscription_ref) if invoice.subscription_ref else None,
        "collect_automatically": invoice.collect_automatically,
        "method_ref": str(invoice.method_ref) if invoice.method_ref else None,
    }


def credit_note_payload(note: CreditNote, invoice: Invoice) -> dict[str, Any]:
    """Payload of ``credit_note.issued`` and ``credit_note.refund_due``."""
    return {
        "credit_note_id": str(note.pk),
        "invoice_id": str(invoice.pk),
        "customer_id": str(invoice.customer_id),
        "number": note.number,
        "total": text(note.total),
        "reduced_due": text(note.reduced_due),
        "to_credit": text(note.to_credit),
        "currency": note.currency,
        "subscription_ref": str(invoice.subscription_ref) if invoice.subscription_ref else None,
    }
