"""Disputes: what the gateway says is followed, the money booked as it moves: not while a bank only asks."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django_fsm import can_proceed

from billing import clock
from billing.models import JournalEntry
from billing.money import zero
from billing.services import ledger, outbox
from payments import postings
from payments.gateways.base import DisputeRecord, DisputeState
from payments.gateways.registry import gateway_for
from payments.models import Dispute, GatewayAccount, Payment, PaymentAttempt
from payments.services import exceptions, findings
from payments.services.facts import amount_text

UNDECIDED = (Dispute.Status.OPEN, Dispute.Status.UNDER_REVIEW)


def follow_gateway(*, account: GatewayAccount, dispute_ref: str) -> Dispute | None:
    """Ask for a dispute as it stands and follow it. None when the charge is not one of ours (yet)."""
    return record(account=account, found=gateway_for(account).dispute(dispute_ref))


@transaction.atomic
def record(*, account: GatewayAccount, found: DisputeRecord) -> Dispute | None:
    """Bring our row to where the gateway's dispute stands. Safe to repeat, in any order."""
    attempts = PaymentAttempt.objects.filter(gateway_account=account, status=PaymentAttempt.Status.CAPTURED)
    payment_id = attempts.filter(gateway_ref=found.charge_ref).values_list("payment_id", flat=True).first()
    if payment_id is None:
        return None
    payment = Payment.objects.select_for_update(of=("self",)).get(pk=payment_id)
    now = clock.now(account.organisation_id)
    dispute = Dispute.objects.select_for_update().filter(gateway_account=account, gateway_ref=found.gateway_ref).first()
    if dispute is None:
        dispute = _open(account, payment, found, now)
    if found.taken and dispute.status in UNDECIDED:
        take = _take_more if _is_booked(dispute) else _take
        take(account, payment, dispute, found, now)
    match found.state:
        case DisputeState.UNDER_REVIEW if can_proceed(dispute.contest):
            dispute.contest()
        case DisputeState.WON if can_proceed(dispute.win):
            _won(account, payment, dispute, now)
        case DisputeState.LOST if can_proceed(dispute.lose):
            _lost(account, payment, dispute, now)
    dispute.save()
    return dispute


def _open(account: GatewayAccount, payment: Payment, found: DisputeRecord, now: datetime) -> Dispute:
    dispute = Dispute.objects.create(
        organisation_id=account.organisation_id,
        payment=payment,
        gateway_account=account,
        gateway_ref=found.gateway_ref,
        amount=found.amount,
        fee=zero(found.amount.currency.code),
        reason=found.reason,
        respond_by=found.respond_by,
        opened_at=now,
    )
    _tell("dispute.opened", payment, dispute, now)
    return dispute


def _take(account: GatewayAccount, payment: Payment, dispute: Dispute, found: DisputeRecord, now: datetime) -> None:
    """The bank took the amount back, at once or after it had asked: at what it then says."""
    dispute.amount = found.amount
    dispute.fee = found.fee if found.fee.currency == found.amount.currency else zero(found.amount.currency.code)
    payment.disputed += found.amount
    payment.save(update_fields=["disputed", "currency"])
    ledger.post(
        organisation=account.organisation_id,
        entry=postings.dispute_opened(
            dispute_id=dispute.pk, account_code=account.code, amount=dispute.amount, fee=dispute.fee, at=now
        ),
    )
    _warn_of_twice(payment, dispute, now)


def _take_more(
    account: GatewayAccount, payment: Payment, dispute: Dispute, found: DisputeRecord, now: datetime
) -> None:
    """Only a part was taken at first. What was taken grows while it is undecided; a loss says what it came to, less too."""
    change = found.amount - dispute.amount
    if not change.amount or (change.amount < 0 and found.state is not DisputeState.LOST):
        return
    dispute.amount = found.amount
    payment.disputed += change
    payment.save(update_fields=["disputed", "currency"])
    entry = postings.dispute_changed(
        dispute_id=dispute.pk, account_code=account.code, total=found.amount, change=change, at=now
    )
    ledger.post(organisation=account.organisation_id, entry=entry)
    _warn_of_twice(payment, dispute, now)


def _warn_of_twice(payment: Payment, dispute: Dispute, now: datetime) -> None:
    """Refunded while the bank only asked, and taken back after all: the customer has the money twice."""
    if payment.refunded + payment.disputed > payment.amount:
        exceptions.open_exceptions(
            organisation=payment.organisation, findings=[findings.of_refunded_twice(payment, dispute)], at=now
        )


def _is_booked(dispute: Dispute) -> bool:
    """Whether its amount was booked as taken."""
    key = postings.dispute_opened_key(dispute.pk)
    return JournalEntry.objects.of(dispute.organisation_id).filter(idempotency_key=key).exists()


def _won(account: GatewayAccount, payment: Payment, dispute: Dispute, now: datetime) -> None:
    dispute.win(at=now)
    if _is_booked(dispute):
        payment.disputed -= dispute.amount
        payment.save(update_fields=["disputed", "currency"])
        entry = postings.dispute_won(dispute_id=dispute.pk, account_code=account.code, amount=dispute.amount, at=now)
        ledger.post(organisation=account.organisation_id, entry=entry)
    _tell("dispute.won", payment, dispute, now)


def _lost(account: GatewayAccount, payment: Payment, dispute: Dispute, now: datetime) -> None:
    dispute.lose(at=now)
    entry = postings.dispute_lost(dispute_id=dispute.pk, amount=dispute.amount, at=now)
    ledger.post(organisation=account.organisation_id, entry=entry)
    _tell("dispute.lost", payment, dispute, now)


def _tell(event: str, payment: Payment, dispute: Dispute, now: datetime) -> None:
    facts: dict[str, Any] = {
        "dispute_id": str(dispute.pk),
        "payment_id": str(payment.pk),
        "reference": payment.reference,
        "customer_id": str(payment.customer_id),
        "amount": amount_text(dispute.amount),
        "currency": dispute.amount.currency.code,
        "reason": dispute.reason,
    }
    outbox.publish(event, dispute, at=now, **facts)
