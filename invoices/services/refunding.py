"""Sending credit back where the money came from: the part of a credit note that became the customer's credit."""

import uuid

import structlog
from moneyed import Money

from billing.context import Actor
from billing.errors import DomainError
from invoices import selectors
from invoices.models import CreditNote
from payments.models import Payment, Refund
from payments.services.refunds import request_refund

log = structlog.get_logger(__name__)


def refund_credit(*, organisation_id: uuid.UUID, credit_note_id: uuid.UUID, actor: Actor) -> list[Refund]:
    """Refund what a credit note turned into credit, on the payments of its invoice, the newest first.

    What no payment can bear (the invoice was paid from credit, or the gateway cannot refund any more) stays the customer's
    credit. Safe to repeat: each payment is refunded once for a note. Talks to gateways: not inside a transaction.
    """
    note = CreditNote.objects.of(organisation_id).filter(pk=credit_note_id).first()
    if note is None:
        return []
    left, refunds = note.to_credit, []
    payments = selectors.payments_of(organisation=organisation_id, invoice_id=note.invoice_id).order_by("-pk")
    for payment in payments.filter(status=Payment.Status.SUCCEEDED):
        known = Refund.objects.filter(payment=payment, reason=_reason(note)).first()
        part = known.amount if known is not None else min(left, _refundable(payment))
        if part.amount <= 0:
            continue
        refund = known or _request(payment, part, note, actor)
        if refund is not None:
            refunds.append(refund)
            left -= part
    return refunds


def _request(payment: Payment, amount: Money, note: CreditNote, actor: Actor) -> Refund | None:
    try:
        return request_refund(
            payment_id=payment.pk, amount=amount, reason=_reason(note), actor=actor, key=f"credit_note:{note.pk}"
        )
    except DomainError as exc:  # the credit stays with the customer, where a person finds it
        log.warning("refund.refused", credit_note=note.number, payment=str(payment.pk), code=exc.code)
        return None


def _refundable(payment: Payment) -> Money:
    return payment.amount - payment.refunded - payment.disputed


def _reason(note: CreditNote) -> str:
    return f"Credit note {note.number}"
