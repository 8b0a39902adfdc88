"""Sending credit back where the money came from: the part of a credit note that became the customer's credit.

Its refunds are reserved in the transaction of the note, so that nobody spends that credit before they are sent. A refund
that fails frees it again; a person may then send what failed once more, as far as it is still there.
"""

import uuid
from collections.abc import Iterable

import structlog
from django.db import transaction
from moneyed import Money

from billing.context import Actor
from billing.errors import DomainError, NotFound, PermissionRefused
from billing.money import round_money, zero
from invoices import selectors
from invoices.errors import NothingToRefund, NothingToSendAgain
from invoices.models import CreditNote, Invoice
from invoices.services import settling
from payments.models import Payment, Refund
from payments.services import exceptions, refunds

log = structlog.get_logger(__name__)

PERMISSION = "refund.issue"
Status = Refund.Status


@transaction.atomic
def reserve(*, note: CreditNote, actor: Actor) -> list[Refund]:
    """Take what a credit note turned into credit for refunds of its invoice's payments, the newest first; nothing is sent.

    What no payment can bear (the invoice was paid from credit, or the gateway cannot refund any more), and what the
    customer has spent, stays as it is. Safe to repeat: each payment is refunded once for a note. The customer is locked
    until the commit: from then on the rows hold the credit.
    """
    settling.lock_customer(note.invoice.customer_id)
    left, made = note.to_credit, []
    for payment_id in list(selectors.bearers(note.invoice).values_list("pk", flat=True)):
        refund = _reserve(payment_id, left, note, actor)
        if refund is not None:
            left -= refund.amount
            made.append(refund)
    return made


def refund_credit(*, organisation_id: uuid.UUID, credit_note_id: uuid.UUID, actor: Actor) -> list[Refund]:
    """Send the refunds that a credit note reserved. Safe to repeat. Talks to gateways: not inside a transaction."""
    note = _note(organisation_id, credit_note_id)
    if note is None:
        return []
    with transaction.atomic(durable=True):
        reserved = reserve(note=note, actor=actor)
    return _sent(reserved)


def send_again(*, organisation_id: uuid.UUID, credit_note_id: uuid.UUID, actor: Actor) -> list[Refund]:
    """Refund once more what of a credit note's refunds has failed, as far as its credit is still there; returns all of them.

    What failed before is no longer open work then. One that was reserved and never sent is sent. Talks to gateways: not
    inside a transaction. Raises ``PermissionRefused``, ``NotFound``, ``NothingToSendAgain``.
    """
    if not actor.may(PERMISSION):
        raise PermissionRefused(permission=PERMISSION)
    note = _note(organisation_id, credit_note_id)
    if note is None:
        raise NotFound
    with transaction.atomic(durable=True):
        settling.lock_customer(note.invoice.customer_id)
        last = [made[-1] for made in _by_payment(note) if made]
        waiting = [refund for refund in last if refund.status == Status.REQUESTED]
        failed = [refund for refund in last if refund.status == Status.FAILED]
        again = [refund for refund in (_reserve_again(one, note, actor) for one in failed) if refund is not None]
        if not again and not waiting:
            why = "its credit was spent, or its payment bears no more" if failed else "no refund of it has failed"
            raise NothingToSendAgain(number=note.number, why=why)
    _sent([*waiting, *again])
    return refunds_of(note)


def refunds_of(note: CreditNote) -> list[Refund]:
    """The refunds that were made for a credit note: the newest payment's first, those of one payment as they were sent."""
    return [refund for made in _by_payment(note) for refund in made]


def failed_of(made: Iterable[Refund]) -> list[Refund]:
    """Those of a note's refunds that failed and were not sent again: work to do."""
    last = {refund.payment_id: refund for refund in made}
    return [refund for refund in last.values() if refund.status == Status.FAILED]


def require_refundable(note: CreditNote) -> None:
    """Raise ``NothingToRefund`` where nothing of the note can go back: it only lowers what is due, or no payment bears it."""
    if note.to_credit.amount <= 0:
        raise NothingToRefund(why="nothing was paid of what it credits, so it only lowers what is due", field="refund")
    if not can_refund(note.invoice):
        raise NothingToRefund(why="no payment of the invoice can be given back any more", field="refund")


def can_refund(invoice: Invoice) -> bool:
    """Whether a payment of the invoice can bear a refund now."""
    return any(_refundable(payment).amount > 0 for payment in selectors.bearers(invoice))


def _note(organisation_id: uuid.UUID, credit_note_id: uuid.UUID) -> CreditNote | None:
    return CreditNote.objects.of(organisation_id).select_related("invoice").filter(pk=credit_note_id).first()


def _reserve(payment_id: uuid.UUID, left: Money, note: CreditNote, actor: Actor) -> Refund | None:
    """What this payment can bear of what is left of the note, once. The customer is locked."""
    known = refunds.refund_by_key(payment_id=payment_id, key=_key(note))
    return known or _make(payment_id, left, note, actor, key=_key(note))


def _reserve_again(failed: Refund, note: CreditNote, actor: Actor) -> Refund | None:
    """The next refund after one that failed, over what is still there of it. The customer is locked."""
    tries = len(_made(failed.payment_id, note))
    refund = _make(failed.payment_id, failed.amount, note, actor, key=_key(note, tries + 1))
    if refund is not None:
        exceptions.close_handled(
            organisation_id=note.organisation_id, kind="refund_failed", source_id=failed.pk, actor=actor,
            reason=f"{refund.amount} of {failed.amount} sent again for credit note {note.number}.",
        )  # fmt: skip
    return refund


def _make(payment_id: uuid.UUID, wanted: Money, note: CreditNote, actor: Actor, *, key: str) -> Refund | None:
    spendable = selectors.spendable_credit(
        organisation=note.organisation_id, customer_id=note.invoice.customer_id, currency=note.currency
    )
    payment = Payment.objects.select_for_update(of=("self",)).get(pk=payment_id)
    part = round_money(min(wanted, _refundable(payment), spendable))
    if part.amount <= 0:
        return None
    reason = f"Credit note {note.number}"
    try:
        return refunds.reserve_refund(payment_id=payment_id, amount=part, reason=reason, actor=actor, key=key)
    except DomainError as exc:  # the credit stays with the customer, where a person finds it
        log.warning("refund.refused", credit_note=note.number, payment=str(payment_id), code=exc.code)
        return None


def _sent(reserved: Iterable[Refund]) -> list[Refund]:
    return [refunds.send(refund.pk) if refund.status == Status.REQUESTED else refund for refund in reserved]


def _by_payment(note: CreditNote) -> list[list[Refund]]:
    return [_made(payment.pk, note) for payment in selectors.bearers(note.invoice)]


def _made(payment_id: uuid.UUID, note: CreditNote) -> list[Refund]:
    """The refunds of one payment for a note, in the order in which they were tried."""
    made: list[Refund] = []
    while (found := refunds.refund_by_key(payment_id=payment_id, key=_key(note, len(made) + 1))) is not None:
        made.append(found)
    return made


def _key(note: CreditNote, number: int = 1) -> str:
    return f"credit_note:{note.pk}" if number == 1 else f"credit_note:{note.pk}:{number}"


def _refundable(payment: Payment) -> Money:
    return max(payment.amount - payment.refunded - payment.disputed, zero(payment.amount.currency.code))
