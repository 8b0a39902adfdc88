"""Money that went back to its payer: what no credit of the customer covers is taken back from the invoices it had paid.

First from the invoice of the payment itself, as far as that still claims the money; then from what the customer's credit
paid, the newest first: a deposit that is refunded after it was spent does not leave its invoices paid.
"""

import uuid
from collections.abc import Iterator
from datetime import datetime

from django.db import transaction
from django.db.models import Sum
from moneyed import Money

from billing import clock
from billing.context import Actor
from billing.models import AuditRecord, JournalEntry
from billing.money import round_money, zero
from billing.services import audit, ledger
from invoices import postings, selectors
from invoices.events import text
from invoices.models import CreditNote, Invoice, PaymentAllocation
from invoices.services import settling
from payments.models import Dispute, Payment, Refund

REOPEN, LOSS = "reopen", "loss"
ACTOR = Actor.system("invoices")


@transaction.atomic
def take_back_refunded(*, refund_id: uuid.UUID, at: datetime | None = None) -> list[PaymentAllocation]:
    """After a refund, take back what no credit of the customer covers; those invoices are due again.

    A refund of overpaid or credited money that was not spent takes nothing back. Safe to repeat.
    """
    refund = Refund.objects.select_related("payment").get(pk=refund_id)
    payment = refund.payment
    settling.lock_customer(payment.customer_id)
    known = _taken(payment, f"refund:{refund.pk}")
    if known or refund.status != Refund.Status.SUCCEEDED:
        return known
    free = selectors.free_credit(
        organisation=refund.organisation_id, customer_id=payment.customer_id, currency=refund.amount.currency.code
    )
    at, kept = at or clock.now(refund.organisation_id), payment.amount - selectors.refunded(payment)
    return _take_back(payment, min(refund.amount, -free), kept=kept, key=f"refund:{refund.pk}", at=at)


@transaction.atomic
def restore_after_failed_refund(*, refund_id: uuid.UUID, at: datetime | None = None) -> list[PaymentAllocation]:
    """A refund came back from the bank: what it had taken off invoices is applied again, as far as they are still due."""
    refund = Refund.objects.select_related("payment").get(pk=refund_id)
    if refund.status != Refund.Status.FAILED:
        return []
    settling.lock_customer(refund.payment.customer_id)
    restored = []
    for taken in _taken(refund.payment, f"refund:{refund.pk}"):
        invoice = settling.lock_invoice(taken.invoice_id)
        key = f"refund_failed:{refund.pk}{taken.key.removeprefix(f'refund:{refund.pk}')}"
        amount = min(-taken.amount, settling.usable_credit(invoice))
        if invoice.status not in settling.COLLECTABLE or amount.amount <= 0:
            continue
        given = settling.apply_customer_credit(invoice_id=invoice.pk, amount=amount, key=key, at=at)
        restored += [given] if given is not None else []
    return restored


@transaction.atomic
def follow_lost_dispute(*, dispute_id: uuid.UUID, at: datetime | None = None) -> list[PaymentAllocation]:
    """The bank gave a payment back for good: the loss is claimed from the customer, as far as the organisation chose.

    Always: what came of the payment and is still the customer's unspent credit; nobody keeps it beside the money. With
    the choice ``lost_disputes: reopen`` also the rest: other credit first, then the invoices it had paid are due again.
    It is decided once, by the choice of that moment, and kept (``dispute.decided``): repeated, whatever was chosen since, it
    changes nothing.
    """
    dispute = Dispute.objects.select_related("payment", "organisation").get(pk=dispute_id)
    payment, key = dispute.payment, f"dispute:{dispute.pk}"
    if dispute.status != Dispute.Status.LOST or dispute.amount.currency != payment.amount.currency:
        return []
    named = selectors.invoice_of(organisation=dispute.organisation_id, reference=payment.reference)
    settling.lock_customers({payment.customer_id, named.customer_id} if named else {payment.customer_id})
    if _is_decided(dispute):
        return _taken(payment, key)
    at = at or clock.now(dispute.organisation_id)
    # If its capture was not heard yet, or waits for a draft: it would pay with lost money.
    settling.allocate_payment(payment_id=payment.pk, at=at, waits_for_draft=False)
    ours = payment.amount - selectors.refunded(payment)
    gone = min(dispute.amount, ours)
    choice = dispute.organisation.settings.get("lost_disputes") or LOSS
    reopens = choice == REOPEN
    own = gone if reopens else min(gone, _unspent(payment))
    from_credit = max(round_money(min(own, _spendable(payment))), _nothing(payment))
    kept = ours - _lost(payment)
    taken = _take_back(payment, gone - from_credit, kept=kept, key=key, at=at) if reopens else []
    claimed = from_credit - sum((one.amount for one in taken), _nothing(payment))
    if claimed.amount > 0:
        entry = postings.claimed_again(dispute_id=dispute.pk, customer_id=payment.customer_id, amount=claimed, at=at)
        ledger.post(organisation=dispute.organisation_id, entry=entry)
    due_again = claimed - from_credit
    audit.record(
        actor=ACTOR,
        action="dispute.decided",
        target=dispute,
        after={"choice": choice, "due_again": text(due_again), "from_credit": text(from_credit)},
    )
    return taken


def _is_decided(dispute: Dispute) -> bool:
    """Whether the loss was followed before: noted with what it came to, or (before that was noted) claimed in the books."""
    mine = AuditRecord.objects.of(dispute.organisation_id).filter(target_id=str(dispute.pk), action="dispute.decided")
    claimed = JournalEntry.objects.of(dispute.organisation_id).filter(
        idempotency_key=postings.claimed_again_key(dispute.pk)
    )
    return mine.exists() or claimed.exists()


def _take_back(payment: Payment, amount: Money, *, kept: Money, key: str, at: datetime) -> list[PaymentAllocation]:
    """Take ``amount`` back from invoices, as far as there are any; ``kept`` is left of the payment. The customer is locked."""
    left = round_money(amount)
    taken: list[PaymentAllocation] = []
    if left.amount <= 0:
        return []
    for invoice_id, source, most in list(_sources(payment, kept)):
        part = min(left, most)
        if part.amount <= 0:
            continue
        name = f"{key}:{len(taken)}" if taken or source is None else key
        invoice = Invoice.objects.select_for_update(no_key=True).get(pk=invoice_id)
        taken.append(settling.book(invoice=invoice, amount=-part, payment=source, key=name, at=at))
        left -= part
    return taken


def _sources(payment: Payment, kept: Money) -> Iterator[tuple[uuid.UUID, Payment | None, Money]]:
    """Invoice, whose money pays it (None: credit's) and how much, in the order in which it is taken back."""
    last = PaymentAllocation.objects.filter(payment=payment, amount__gt=0).order_by("-id").first()
    pays, excess, claimed = selectors.allocated(payment), _nothing(payment), _nothing(payment)
    if last is not None:
        excess = pays - max(kept, _nothing(payment))  # more than is left of the payment
        claimed = min(excess, pays - min(pays, _credited(last.invoice_id, payment)))
        yield last.invoice_id, payment, claimed
    for invoice_id, amount in _paid_by_credit(payment).items():
        yield invoice_id, None, amount
    if last is not None:
        yield last.invoice_id, payment, excess - max(claimed, _nothing(payment))


def _paid_by_credit(payment: Payment) -> dict[uuid.UUID, Money]:
    """What the customer's credit pays of each invoice, the invoice it came to last first."""
    rows = PaymentAllocation.objects.of(payment.organisation_id).filter(
        payment=None, invoice__customer_id=payment.customer_id, currency=payment.amount.currency.code
    )
    paid: dict[uuid.UUID, Money] = {}
    for row in rows.order_by("-id"):
        paid[row.invoice_id] = paid.get(row.invoice_id, _nothing(payment)) + row.amount
    return paid


def _credited(invoice_id: uuid.UUID, payment: Payment) -> Money:
    """What credit notes of an invoice made of its payments: credit, which may have been spent elsewhere."""
    notes = CreditNote.objects.of(payment.organisation_id).filter(invoice_id=invoice_id)
    return Money(notes.aggregate(sum=Sum("to_credit"))["sum"] or 0, payment.amount.currency)


def _unspent(payment: Payment) -> Money:
    """What of a payment pays no claim, or a claim that was credited, and did not go back: credit that came of it."""
    last = PaymentAllocation.objects.filter(payment=payment, amount__gt=0).order_by("-id").first()
    credited = _nothing(payment) if last is None else _credited(last.invoice_id, payment)
    return payment.amount - selectors.refunded(payment) - selectors.allocated(payment) + credited


def _lost(payment: Payment) -> Money:
    """What banks gave back of a payment for good."""
    lost = Dispute.objects.filter(payment=payment, status=Dispute.Status.LOST, currency=payment.amount.currency.code)
    return Money(lost.aggregate(sum=Sum("amount"))["sum"] or 0, payment.amount.currency)


def _spendable(payment: Payment) -> Money:
    return selectors.spendable_credit(
        organisation=payment.organisation_id, customer_id=payment.customer_id, currency=payment.amount.currency.code
    )


def _nothing(payment: Payment) -> Money:
    return zero(payment.amount.currency.code)


def _taken(payment: Payment, key: str) -> list[PaymentAllocation]:
    """What was taken back under ``key`` and the keys that follow from it, in the order in which it was."""
    of_customer = PaymentAllocation.objects.of(payment.organisation_id).filter(invoice__customer_id=payment.customer_id)
    found = of_customer.filter(key__startswith=key).order_by("id")
    return [one for one in found if one.key == key or one.key.startswith(f"{key}:")]
