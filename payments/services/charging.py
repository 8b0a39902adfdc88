"""Carrying attempts out: the call between two short transactions, and what follows from its answer.

What may be lost is only the answer: the attempt is committed before the call, and whoever finds it open later asks the
gateway what became of it.
"""

import logging
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import F, Q

from billing import clock
from billing.clock import wall_now
from payments.gateways.base import ChargeResult, Decline, DeclineClass, Outcome, Recovery
from payments.gateways.faults import GatewayMisconfigured, GatewayOutcomeUnknown, GatewayRejected, GatewayUnavailable
from payments.gateways.registry import gateway_for
from payments.models import Payment, PaymentAttempt
from payments.services import attempts, misconfigured, requests, waking

logger = logging.getLogger(__name__)

COLLECT_TASK = "payments.tasks.collect_payment"
RESOLVE_TASK = "payments.tasks.resolve_attempt"
IN_FLIGHT = timedelta(minutes=2)
"""Longer than a call can take: an attempt younger than this may still be on its way in another process."""
GRACE = timedelta(minutes=10)
"""How long an attempt the gateway does not know is waited for before it counts as never sent."""
ASK_AGAIN = {
    PaymentAttempt.Status.CREATED: timedelta(minutes=1),
    PaymentAttempt.Status.UNKNOWN: timedelta(minutes=1),
    PaymentAttempt.Status.AUTHORIZED: timedelta(minutes=5),
    PaymentAttempt.Status.PROCESSING: timedelta(minutes=30),
    PaymentAttempt.Status.REQUIRES_ACTION: timedelta(hours=6),
}


def load(attempt_id: uuid.UUID) -> PaymentAttempt:
    """An attempt with all that a request to its gateway needs."""
    rows = PaymentAttempt.objects.select_related("payment__customer", "method", "gateway_account")
    attempt: PaymentAttempt = rows.get(pk=attempt_id)
    return attempt


def carry_out(attempt: PaymentAttempt) -> PaymentAttempt:
    """Make the call of a committed attempt and record its answer. One call, whatever happens."""
    attempt_id = attempt.pk
    gateway = gateway_for(attempt.gateway_account)
    request = requests.charge_request(attempt)
    try:
        result = gateway.hosted_page(request) if attempt.is_page else gateway.charge(request)
    except GatewayUnavailable:
        return attempts.settle_unsent(attempt_id=attempt_id)
    except GatewayOutcomeUnknown:
        result = ChargeResult(outcome=Outcome.UNKNOWN)
        waking.send(RESOLVE_TASK, str(attempt_id))
    except GatewayRejected as exc:
        logger.error("The gateway refused attempt %s: %s", attempt_id, exc)
        misconfigured.tell(account=attempt.gateway_account, refusal=exc, payment=attempt.payment)
        result = ChargeResult(outcome=Outcome.DECLINED, decline=_refusal(exc))
    return settle(attempt_id, result)


def _refusal(exc: GatewayRejected) -> Decline:
    """Our mistake, not the customer's: no try is used up, and it goes on once it is mended."""
    fault = exc.fault if isinstance(exc, GatewayMisconfigured) else "gateway_rejected"
    return Decline(decline_class=DeclineClass.CONFIG, code=fault, recovery=Recovery.FIX_SETUP)


def settle(attempt_id: uuid.UUID, result: ChargeResult) -> PaymentAttempt:
    """Record a result; capture what was only authorised, or let it go when nobody wants it any more."""
    attempt = attempts.settle_attempt(attempt_id=attempt_id, result=result)
    if attempt.status != PaymentAttempt.Status.AUTHORIZED:
        return attempt
    loaded = load(attempt.pk)
    if _unwanted(loaded.payment):
        return close(loaded.pk)
    return _ask(
        loaded,
        lambda: gateway_for(loaded.gateway_account).capture(
            order_ref=loaded.gateway_order_ref, charge_ref=loaded.gateway_ref, amount=loaded.amount
        ),
    )


def _unwanted(payment: Payment) -> bool:
    """Whether money for this payment would be money nobody asked for."""
    return payment.cancel_requested or payment.status in (Payment.Status.SUCCEEDED, Payment.Status.CANCELLED)


def _ask(attempt: PaymentAttempt, call: Callable[[], ChargeResult]) -> PaymentAttempt:
    """A call whose failure changes nothing here: the resolver comes again."""
    try:
        result = call()
    except (GatewayUnavailable, GatewayOutcomeUnknown, GatewayRejected) as exc:
        logger.warning("Attempt %s stays %s: %s", attempt.pk, attempt.status, exc)
        return attempt
    return attempts.settle_attempt(attempt_id=attempt.pk, result=result)


# --- asking ---------------------------------------------------------------------------------------
def resolve(attempt_id: uuid.UUID, *, grace: timedelta = GRACE) -> PaymentAttempt:
    """Ask the gateway what became of an attempt, and record it. Raises when the gateway cannot be asked."""
    PaymentAttempt.objects.filter(pk=attempt_id).update(asked_at=wall_now())
    attempt = load(attempt_id)
    if not attempt.is_open:
        return attempt
    if _should_close(attempt):
        return close(attempt_id)
    found = gateway_for(attempt.gateway_account).find(requests.charge_request(attempt))
    if found is not None:
        return go_on(settle(attempt_id, found))
    if attempt.status not in (PaymentAttempt.Status.CREATED, PaymentAttempt.Status.UNKNOWN) or _age(attempt) < grace:
        return attempt
    return go_on(attempts.settle_unsent(attempt_id=attempt_id))


def _should_close(attempt: PaymentAttempt) -> bool:
    if attempt.payment.status in (Payment.Status.CANCELLED, Payment.Status.SUCCEEDED):
        return attempt.status != PaymentAttempt.Status.CREATED or _age(attempt) >= IN_FLIGHT
    if attempt.status != PaymentAttempt.Status.REQUIRES_ACTION:
        return False
    now = clock.now(attempt.organisation_id)
    return _unwanted(attempt.payment) or (attempt.expires_at is not None and attempt.expires_at <= now)


def _age(attempt: PaymentAttempt) -> timedelta:
    """How long ago the attempt was made, on whichever clock went further."""
    now = clock.now(attempt.organisation_id)
    return max(wall_now() - attempt.recorded_at, now - attempt.started_at)


def go_on(attempt: PaymentAttempt) -> PaymentAttempt:
    """A payment that is due again at once (a page is wanted) is handed to a worker."""
    payment = Payment.objects.get(pk=attempt.payment_id)
    due = payment.next_attempt_at
    if payment.status == Payment.Status.PENDING and due is not None and due <= clock.now(payment.organisation_id):
        waking.send(COLLECT_TASK, str(payment.pk))
    return attempt


def close(attempt_id: uuid.UUID) -> PaymentAttempt:
    """Close an open page or intent at the gateway; if the customer was faster, the money is recorded."""
    attempt = load(attempt_id)
    if not attempt.is_open:
        return attempt
    gateway = gateway_for(attempt.gateway_account)
    return _ask(attempt, lambda: _closed(attempt, gateway.cancel(requests.charge_request(attempt))))


def _closed(attempt: PaymentAttempt, result: ChargeResult) -> ChargeResult:
    """Funds held for a payment nobody wants are not captured: the gateway gives them back by itself."""
    if result.outcome is Outcome.AUTHORIZED and _unwanted(attempt.payment):
        return ChargeResult(outcome=Outcome.CANCELLED, gateway_order_ref=result.gateway_order_ref)
    return result


def close_attempts(payment_id: uuid.UUID) -> int:
    """Close whatever is open of a payment that is over."""
    open_ones = PaymentAttempt.objects.filter(payment_id=payment_id, status__in=PaymentAttempt.OPEN)
    done = 0
    for attempt in open_ones.select_related("payment"):
        if _should_close(attempt):
            close(attempt.pk)
            done += 1
    return done


def unresolved(*, organisation_id: uuid.UUID | None = None, limit: int = 500) -> list[uuid.UUID]:
    """Attempts whose outcome should be asked for now, the longest unasked first."""
    wall = wall_now()
    due = Q()
    for status, wait in ASK_AGAIN.items():
        due |= Q(status=status) & (Q(asked_at=None) | Q(asked_at__lt=wall - wait))
    due &= ~Q(status=PaymentAttempt.Status.CREATED, recorded_at__gt=wall - IN_FLIGHT)
    due &= ~Q(status=PaymentAttempt.Status.REQUIRES_ACTION, recorded_at__gt=wall - timedelta(hours=6), asked_at=None)
    found = PaymentAttempt.objects.filter(due)
    if organisation_id is not None:
        found = found.of(organisation_id)
    return list(found.order_by(F("asked_at").asc(nulls_first=True)).values_list("pk", flat=True)[:limit])


def ended_pages(*, organisation_id: uuid.UUID, now: datetime, limit: int = 500) -> list[uuid.UUID]:
    """Hosted pages whose time is over on the organisation's clock."""
    found = PaymentAttempt.objects.of(organisation_id).filter(
        status=PaymentAttempt.Status.REQUIRES_ACTION, expires_at__lte=now
    )
    return list(found.values_list("pk", flat=True)[:limit])


def in_transaction() -> bool:
    """Whether this connection is inside a transaction, so that other connections would not see its rows."""
    return bool(connection.in_atomic_block)
