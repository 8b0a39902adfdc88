"""Refunds: a row first, then the call under its key. The sum of a payment's refunds never exceeds what was captured."""

import hashlib
import logging
import uuid
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django_fsm import can_proceed
from moneyed import Money

from billing import clock
from billing.clock import wall_now
from billing.context import Actor
from billing.errors import InvalidAmount
from billing.ids import uuid7
from billing.money import same_currency, to_minor_units, zero
from billing.services import audit, ledger, outbox
from payments import postings
from payments.errors import NotRefundable, RefundExceedsCaptured
from payments.gateways.base import Gateway, RefundOutcome, RefundRequest, RefundResult
from payments.gateways.faults import GatewayOutcomeUnknown, GatewayRejected, GatewayUnavailable
from payments.gateways.registry import gateway_for
from payments.models import GatewayAccount, Payment, PaymentAttempt, Refund
from payments.services import exceptions, findings, requests, waking
from payments.services.facts import amount_text

logger = logging.getLogger(__name__)

RESOLVE_TASK = "payments.tasks.resolve_refund"
OPEN = (Refund.Status.REQUESTED, Refund.Status.PROCESSING, Refund.Status.UNKNOWN)
IN_FLIGHT = timedelta(minutes=2)
ASK_AGAIN = {
    Refund.Status.REQUESTED: timedelta(minutes=2),
    Refund.Status.UNKNOWN: timedelta(minutes=2),
    Refund.Status.PROCESSING: timedelta(hours=2),
}


def request_refund(*, payment_id: uuid.UUID, amount: Money | None, reason: str, actor: Actor, key: str = "") -> Refund:
    """Give ``amount`` (all that is left when None) of a captured payment back and send it to the gateway.

    ``key`` makes a repetition return the first refund. Raises ``NotRefundable`` or ``RefundExceedsCaptured``;
    a lost answer leaves the refund unknown, and it is asked for.
    """
    refund = open_refund(payment_id=payment_id, amount=amount, reason=reason, actor=actor, key=key)
    return send(refund.pk)


@transaction.atomic(durable=True)
def open_refund(*, payment_id: uuid.UUID, amount: Money | None, reason: str, actor: Actor, key: str = "") -> Refund:
    """Reserve the amount and commit the row that the call will be made for."""
    return reserve_refund(payment_id=payment_id, amount=amount, reason=reason, actor=actor, key=key)


@transaction.atomic
def reserve_refund(*, payment_id: uuid.UUID, amount: Money | None, reason: str, actor: Actor, key: str = "") -> Refund:
    """``open_refund`` within the caller's transaction, who calls :func:`send` once that is committed; else the schedule does."""
    payment = Payment.objects.select_for_update(of=("self",)).get(pk=payment_id)
    refund_id = uuid7()
    mark = _mark(payment_id, key) if key else f"ref_{refund_id.hex}"
    known = Refund.objects.of(payment.organisation_id).filter(idempotency_key=mark, payment=payment).first()
    if known is not None:
        return known
    if payment.status != Payment.Status.SUCCEEDED:
        raise NotRefundable(status=payment.get_status_display().lower())
    left = payment.amount - payment.refunded - payment.disputed
    amount = left if amount is None else amount
    same_currency(payment.amount, amount, field="amount")
    if amount.amount <= 0 and left.amount > 0:
        raise InvalidAmount("A refund is more than nothing.", field="amount")
    to_minor_units(amount)
    if amount > left or left.amount <= 0:
        left = max(left, zero(left.currency.code))  # refunded while a bank only asked, and taken back after all
        raise RefundExceedsCaptured(left=f"{amount_text(left)} {left.currency.code}", field="amount")
    payment.refunded += amount
    payment.save(update_fields=["refunded", "currency"])
    refund = Refund.objects.create(
        id=refund_id,
        organisation_id=payment.organisation_id,
        payment=payment,
        amount=amount,
        reason=reason[:300],
        idempotency_key=mark,
        created_at=clock.now(payment.organisation_id),
    )
    after = {"amount": amount_text(amount), "currency": amount.currency.code}
    audit.record(actor=actor, action="refund.requested", target=refund, after=after, reason=reason[:500])
    return refund


def refund_by_key(*, payment_id: uuid.UUID, key: str) -> Refund | None:
    """The refund of a payment that was asked for under the caller's ``key``, whatever became of it."""
    return Refund.objects.filter(payment_id=payment_id, idempotency_key=_mark(payment_id, key)).first()


def _mark(payment_id: uuid.UUID, key: str) -> str:
    """The caller's key as the key of one refund of one payment."""
    return f"ref_{hashlib.sha256(f'{payment_id}:{key}'.encode()).hexdigest()[:60]}"


def send(refund_id: uuid.UUID) -> Refund:
    """Make the call of a refund that is open, under its own key: repeated, it is the same refund there."""
    refund = Refund.objects.select_related("payment__customer").get(pk=refund_id)
    if refund.status not in (Refund.Status.REQUESTED, Refund.Status.UNKNOWN):
        return refund
    attempt = captured_attempt(refund.payment)
    gateway, wanted = gateway_for(attempt.gateway_account), requests.refund_request(refund, attempt=attempt)
    try:
        result = _ask_for(gateway, wanted)
    except GatewayUnavailable:
        return refund  # it was not sent; the schedule sends it
    except GatewayOutcomeUnknown:
        waking.send(RESOLVE_TASK, str(refund_id))
        return _lose_answer(refund_id)
    return settle_refund(refund_id=refund_id, result=result)


def _ask_for(gateway: Gateway, wanted: RefundRequest) -> RefundResult:
    """Make the call. A refusal is believed only when the refund is not there: it may be that it was made before.

    Raises ``GatewayUnavailable`` where nothing was sent, ``GatewayOutcomeUnknown``.
    """
    try:
        result = gateway.refund(wanted)
    except GatewayRejected as exc:
        logger.error("The gateway refused refund %s: %s", wanted.refund_id, exc)
        result = RefundResult(outcome=RefundOutcome.FAILED, error=str(exc))
    if result.outcome is not RefundOutcome.FAILED:
        return result
    try:
        return gateway.find_refund(wanted) or result
    except GatewayRejected:  # it speaks to nobody with these keys, so it made no refund either
        return result
    except GatewayUnavailable as exc:
        raise GatewayOutcomeUnknown from exc


def captured_attempt(payment: Payment) -> PaymentAttempt:
    """The attempt that brought the money."""
    rows = payment.attempts.select_related("gateway_account")
    attempt: PaymentAttempt = rows.get(status=PaymentAttempt.Status.CAPTURED)
    return attempt


@transaction.atomic
def _lose_answer(refund_id: uuid.UUID) -> Refund:
    refund: Refund = Refund.objects.select_for_update(of=("self",)).get(pk=refund_id)
    if refund.status == Refund.Status.REQUESTED:
        refund.lose_answer()
        refund.save()
    return refund


@transaction.atomic
def settle_refund(*, refund_id: uuid.UUID, result: RefundResult) -> Refund:
    """Record where a refund stands: the only place that does. Safe to repeat; failed is final, succeeded may yet fail."""
    payment_id = Refund.objects.values_list("payment_id", flat=True).get(pk=refund_id)
    payment = Payment.objects.select_for_update(of=("self",)).get(pk=payment_id)
    refund: Refund = Refund.objects.select_for_update(of=("self",)).get(pk=refund_id)
    if refund.status == Refund.Status.FAILED:
        return refund
    refund.gateway_ref = refund.gateway_ref or result.gateway_ref
    now = clock.now(payment.organisation_id)
    match result.outcome:
        case RefundOutcome.SUCCEEDED:
            _succeeded(payment, refund, now)
        case RefundOutcome.PROCESSING:
            if can_proceed(refund.submit):
                refund.submit(gateway_ref=refund.gateway_ref)
        case RefundOutcome.FAILED:
            _failed(payment, refund, result.error, now)
    refund.save()
    return refund


def _succeeded(payment: Payment, refund: Refund, now: datetime) -> None:
    if refund.status == Refund.Status.SUCCEEDED:
        return
    refund.succeed(at=now)
    ledger.post(organisation=refund.organisation_id, entry=postings.refund_succeeded(**_entry(payment, refund, now)))
    outbox.publish("refund.succeeded", refund, at=now, **_facts(payment, refund))


def _failed(payment: Payment, refund: Refund, error: str, now: datetime) -> None:
    """The reserved amount is free again; what was booked as gone comes back; a person is told."""
    if refund.status == Refund.Status.SUCCEEDED:
        ledger.post(organisation=refund.organisation_id, entry=postings.refund_returned(**_entry(payment, refund, now)))
    returned = refund.status == Refund.Status.SUCCEEDED
    refund.fail(at=now, error=(error or "The gateway refused the refund.")[:300])
    payment.refunded -= refund.amount
    payment.save(update_fields=["refunded", "currency"])
    facts = _facts(payment, refund) | {"error": refund.error, "returned": returned}
    outbox.publish("refund.failed", refund, at=now, **facts)
    exceptions.open_exceptions(organisation=payment.organisation, findings=[findings.of_failed_refund(refund)], at=now)


def _entry(payment: Payment, refund: Refund, now: datetime) -> dict[str, Any]:
    return {
        "refund_id": refund.pk,
        "customer_id": payment.customer_id,
        "account_code": captured_attempt(payment).gateway_account.code,
        "amount": refund.amount,
        "at": now,
    }


def _facts(payment: Payment, refund: Refund) -> dict[str, Any]:
    return {
        "refund_id": str(refund.pk),
        "payment_id": str(payment.pk),
        "reference": payment.reference,
        "customer_id": str(payment.customer_id),
        "amount": amount_text(refund.amount),
        "currency": refund.amount.currency.code,
    }


# --- asking ---------------------------------------------------------------------------------------
def resolve(refund_id: uuid.UUID) -> Refund:
    """Ask what became of an open refund; one the gateway never heard of is sent again under the same key."""
    Refund.objects.filter(pk=refund_id).update(asked_at=wall_now())
    refund = Refund.objects.select_related("payment__customer").get(pk=refund_id)
    if refund.status not in OPEN:
        return refund
    attempt = captured_attempt(refund.payment)
    found = gateway_for(attempt.gateway_account).find_refund(requests.refund_request(refund, attempt=attempt))
    if found is not None:
        return settle_refund(refund_id=refund_id, result=found)
    return send(refund_id)


def unresolved(*, organisation_id: uuid.UUID | None = None, limit: int = 500) -> list[uuid.UUID]:
    """Refunds to ask for or to send now."""
    wall = wall_now()
    due = Q()
    for status, wait in ASK_AGAIN.items():
        due |= Q(status=status) & (Q(asked_at=None) | Q(asked_at__lt=wall - wait))
    found = Refund.objects.filter(due & ~Q(status=Refund.Status.REQUESTED, recorded_at__gt=wall - IN_FLIGHT))
    if organisation_id is not None:
        found = found.of(organisation_id)
    return list(found.order_by("id").values_list("pk", flat=True)[:limit])


def follow_gateway(*, account: GatewayAccount, refund_ref: str, charge_ref: str) -> Refund | None:
    """A message about a refund: find ours and ask; one made at the gateway's own pages is recorded here.

    None when the charge is not one of ours (yet).
    """
    known = Refund.objects.of(account.organisation_id).filter(gateway_ref=refund_ref).first()
    if known is not None:
        return _ask(known, account)
    attempt = PaymentAttempt.objects.filter(
        gateway_account=account, gateway_ref=charge_ref, status=PaymentAttempt.Status.CAPTURED
    ).first()
    if attempt is None or not charge_ref:
        return None
    for waiting in Refund.objects.filter(payment_id=attempt.payment_id, status__in=OPEN, gateway_ref=""):
        if _ask(waiting, account).gateway_ref == refund_ref:
            return waiting
    return _record_external(account=account, attempt=attempt, refund_ref=refund_ref)


def _ask(refund: Refund, account: GatewayAccount) -> Refund:
    attempt = captured_attempt(refund.payment)
    found = gateway_for(account).find_refund(requests.refund_request(refund, attempt=attempt))
    return refund if found is None else settle_refund(refund_id=refund.pk, result=found)


def _record_external(*, account: GatewayAccount, attempt: PaymentAttempt, refund_ref: str) -> Refund | None:
    """Somebody refunded at the gateway's dashboard: the books follow."""
    probe = requests.refund_request(
        Refund(id=uuid7(), payment_id=attempt.payment_id, amount=attempt.amount, gateway_ref=refund_ref),
        attempt=attempt,
    )
    result = gateway_for(account).find_refund(probe)
    if result is None or result.amount is None or result.outcome is RefundOutcome.FAILED:
        return None
    with transaction.atomic():
        payment = Payment.objects.select_for_update(of=("self",)).get(pk=attempt.payment_id)
        known: Refund | None = Refund.objects.filter(payment=payment, gateway_ref=refund_ref).first()
        if known is None:
            payment.refunded += result.amount
            payment.save(update_fields=["refunded", "currency"])
            known = Refund.objects.create(
                organisation_id=payment.organisation_id,
                payment=payment,
                amount=result.amount,
                reason="Refunded at the gateway.",
                idempotency_key=f"ext_{refund_ref}"[:80],
                gateway_ref=refund_ref,
                created_at=clock.now(payment.organisation_id),
            )
    return settle_refund(refund_id=known.pk, result=result)
