"""Sending credit back where the money came from: the part of a credit note that became the customer's credit."""

import uuid

import structlog
from django.db import transaction
from moneyed import Money

from billing.context import Actor
from billing.errors import DomainError
from billing.money import round_money, zero
from invoices import selectors
from invoices.errors import NothingToRefund
from invoices.models import CreditNote, Invoice
from invoices.services import settling
from payments.models import Payment, Refund
from payments.services import refunds

log = structlog.get_logger(__name__)


def refund_credit(*, organisation_id: uuid.UUID, credit_note_id: uuid.UUID, actor: Actor) -> list[Refund]:
    """Refund what a credit note turned into credit, on the payments of its invoice, the newest first.

    What no payment can bear (the invoice was paid from credit, or the gateway cannot refund any more), and what the
    customer has spent meanwhile, stays as it is. Safe to repeat: each payment is refunded once for a note. Talks to
    gateways: not inside a transaction.
    """
    note = CreditNote.objects.of(organisation_id).select_related("invoice").filter(pk=credit_note_id).first()
    if note is None:
        return []
    left, made = note.to_credit, []
    for payment_id in list(selectors.bearers(note.invoice).values_list("pk", flat=True)):
        refund = _reserve(payment_id, left, note, actor)
        if refund is None:
            continue
        left -= refund.amount
        made.append(refunds.send(refund.pk) if refund.status == Refund.Status.REQUESTED else refund)
    return made


def refunds_of(note: CreditNote) -> list[Refund]:
    """The refunds that were made for a credit note, in the order of their payments, the newest first."""
    found = (_known(payment.pk, note) for payment in selectors.bearers(note.invoice))
    return [refund for refund in found if refund is not None]


def require_refundable(note: CreditNote) -> None:
    """Raise ``NothingToRefund`` where nothing of the note can go back: it only lowers what is due, or no payment bears it."""
    if note.to_credit.amount <= 0:
        raise NothingToRefund(why="nothing was paid of what it credits, so it only lowers what is due", field="refund")
    if not can_refund(note.invoice):
        raise NothingToRefund(why="no payment of the invoice can be given back any more", field="refund")


def can_refund(invoice: Invoice) -> bool:
    """Whether a payment of the invoice can bear a refund now."""
    return any(_refundable(payment).amount > 0 for payment in selectors.bearers(invoice))


@transaction.atomic(durable=True)
def _reserve(payment_id: uuid.UUID, left: Money, note: CreditNote, actor: Actor) -> Refund | None:
    """Reserve what this payment can bear of what is left of the note. The customer is locked: nobody spends it meanwhile."""
    settling.lock_customer(note.invoice.customer_id)
    known = _known(payment_id, note)
    if known is not None:
        return known
    spendable = selectors.spendable_credit(
        organisation=note.organisation_id, customer_id=note.invoice.customer_id, currency=note.currency
    )
    payment = Payment.objects.select_for_update(of=("self",)).get(pk=payment_id)
    part = round_money(min(left, _refundable(payment), spendable))
    if part.amount <= 0:
        return None
    reason = f"Credit note {note.number}"
    try:
        return refunds.reserve_refund(payment_id=payment_id, amount=part, reason=reason, actor=actor, key=_key(note))
    except DomainError as exc:  # the credit stays with the customer, where a person finds it
        log.warning("refund.refused", credit_note=note.number, payment=str(payment_id), code=exc.code)
        return None


def _known(payment_id: uuid.UUID, note: CreditNote) -> Refund | None:
    return refunds.refund_by_key(payment_id=payment_id, key=_key(note))


def _key(note: CreditNote) -> str:
    return f"credit_note:{note.pk}"


def _refundable(payment: Payment) -> Money:
    return max(payment.amount - payment.refunded - payment.disputed, zero(payment.amount.currency.code))
