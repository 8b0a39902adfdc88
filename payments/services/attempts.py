"""Attempts: begun in a transaction of their own before any call, settled in exactly one place.

Locks are taken payment first, then attempt. Charging, webhooks, the resolver and reconciliation all end in
``settle_attempt``; news that is known already, or older than what is known, changes nothing.
"""

import uuid
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Count, Min, Q
from django_fsm import can_proceed

from billing import clock
from billing.ids import uuid7
from billing.models import Organisation
from billing.services import ledger, outbox
from payments import postings, retry_policy
from payments.gateways.base import ChargeResult, Decline, DeclineClass, Outcome, Recovery
from payments.models import GatewayAccount, Payment, PaymentAttempt, PaymentMethod, Provider
from payments.retry_policy import Move
from payments.services import misconfigured, surprises, waking
from payments.services.facts import payment_facts

ASK_FIRST = frozenset({DeclineClass.AUTHENTICATION, DeclineClass.CUSTOMER_ACTION})
RESUMABLE = frozenset({DeclineClass.SOFT, DeclineClass.TECHNICAL, DeclineClass.AMBIGUOUS})
CLOSE_TASK = "payments.tasks.close_attempts"

NOT_SENT = Decline(decline_class=DeclineClass.TECHNICAL, code="gateway_unavailable", recovery=Recovery.RETRY_SOON)
PAGE_CLOSED = Decline(decline_class=DeclineClass.CUSTOMER_ACTION, code="page_closed", recovery=Recovery.ASK_CUSTOMER)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the next attempt is made: debit ``method``, or a page at ``account``."""

    account: GatewayAccount
    method: PaymentMethod | None
    expires_at: datetime | None = None


# --- beginning ------------------------------------------------------------------------------------
@transaction.atomic(durable=True)
def begin_attempt(
    *, payment_id: uuid.UUID, by_hand: bool = False, page: bool = False, method_id: uuid.UUID | None = None
) -> PaymentAttempt | None:
    """Commit the next attempt of a payment that is due, or None when there is nothing to do (or somebody does it).

    ``by_hand`` begins at once whatever the schedule says; ``page`` asks for a hosted page, ``method_id`` for a method.
    """
    payment = _payments(skip_locked=True).select_related("customer").filter(pk=payment_id).first()
    if payment is None or payment.status != Payment.Status.PENDING or payment.cancel_requested:
        return None
    if _others_open(payment):
        return None  # a late authorisation is being captured
    now = clock.now(payment.organisation_id)
    scheduled = payment.next_attempt_at
    if not by_hand and (scheduled is None or scheduled > now):
        return None
    plan = _plan(payment, now=now, page=page, method_id=method_id, by_hand=by_hand)
    if plan is None:  # it waits for the customer: a page is made when somebody asks for one
        payment.next_attempt_at = None
        if payment.automatic and (stopped := misconfigured.stopped_account(payment, on=now.date())) is not None:
            payment.decline_class, payment.decline_code = DeclineClass.CONFIG, misconfigured.STOPPED
            misconfigured.tell_stopped(stopped)
        payment.save(update_fields=["next_attempt_at", "decline_class", "decline_code"])
        return None
    attempt_id = uuid7()
    payment.begin()
    payment.gateway_account = plan.account
    payment.save()
    expires_at = None if plan.method else _page_end(now, scheduled)
    return PaymentAttempt.objects.create(
        id=attempt_id,
        organisation_id=payment.organisation_id,
        payment=payment,
        number=payment.attempts_made,
        gateway_account=plan.account,
        method=plan.method,
        amount=payment.amount,
        idempotency_key=f"att_{attempt_id.hex}",
        started_at=now,
        expires_at=expires_at,
    )


def _page_end(now: datetime, scheduled: datetime | None) -> datetime:
    """A page stays open for two weeks, or until the next debit that was planned anyhow."""
    end = now + retry_policy.PAGE_OPEN_FOR
    if scheduled is not None and scheduled > now:
        end = min(end, max(scheduled, now + timedelta(minutes=20)))
    return end


def _plan(payment: Payment, *, now: datetime, page: bool, method_id: uuid.UUID | None, by_hand: bool) -> Plan | None:
    method = None if page else usable_method(payment, on=now.date(), wanted=method_id)
    if method is not None and not (payment.automatic or by_hand):
        method = None
    asks = payment.decline_class in ASK_FIRST and method_id is None
    if method is not None and not asks and not _above_limit(payment, method):
        return Plan(account=method.gateway_account, method=method)
    if not (page or payment.automatic or by_hand):
        return None
    account = page_account(payment, method)
    return None if account is None else Plan(account=account, method=None)


def _above_limit(payment: Payment, method: PaymentMethod) -> bool:
    return retry_policy.needs_customer(
        provider=method.gateway_account.provider, kind=method.kind, amount=payment.amount, limit=method.max_amount
    )


def usable_method(payment: Payment, *, on: date, wanted: uuid.UUID | None = None) -> PaymentMethod | None:
    """The method to debit: the one wished for, the payment's own, the customer's default, else the newest."""
    alive = PaymentMethod.objects.filter(
        Q(expires_on=None) | Q(expires_on__gte=on),
        customer_id=payment.customer_id,
        status=PaymentMethod.Status.ACTIVE,
        gateway_account__active=True,
    ).select_related("gateway_account")
    if wanted is not None:
        return alive.filter(pk=wanted).first()
    found = list(alive.order_by("-is_default", "-id"))
    return next((method for method in found if method.pk == payment.method_id), found[0] if found else None)


def page_account(payment: Payment, method: PaymentMethod | None) -> GatewayAccount | None:
    """Where a hosted page is opened: the payment's account, the method's, the default, else any that is online."""
    online = GatewayAccount.objects.of(payment.organisation_id).filter(active=True).exclude(provider=Provider.OFFLINE)
    found = {account.pk: account for account in online.order_by("-is_default", "id")}
    for wanted in (payment.gateway_account_id, method.gateway_account_id if method else None):
        if wanted in found:
            return found[wanted]
    return next(iter(found.values()), None)


# --- settling -------------------------------------------------------------------------------------
@transaction.atomic
def settle_attempt(*, attempt_id: uuid.UUID, result: ChargeResult) -> PaymentAttempt:
    """Record where an attempt stands at the gateway: the only place that does. Safe to repeat, in any order."""
    payment = _payments().get(attempts__pk=attempt_id)
    attempt = _lock_attempt(attempt_id)
    owner = _owner(payment, attempt, result)
    now = clock.now(payment.organisation_id)
    if owner is not None:  # what was found belongs to an earlier attempt of the same payment
        _end_without_money(attempt, now, code="superseded")
        attempt = owner
    before = attempt.status
    _remember(attempt, result)
    match result.outcome:
        case Outcome.CAPTURED:
            _captured(payment, attempt, result, now)
        case Outcome.AUTHORIZED:
            _authorized(payment, attempt)
        case Outcome.PROCESSING:
            _move(attempt, attempt.wait)
        case Outcome.REQUIRES_ACTION:
            _requires_action(payment, attempt, result)
        case Outcome.DECLINED:
            assert result.decline is not None
            _declined(payment, attempt, result.decline, now)
        case Outcome.CANCELLED:
            _declined(payment, attempt, PAGE_CLOSED, now)
        case Outcome.UNKNOWN:
            _move(attempt, attempt.lose_answer)
    attempt.save()
    if owner is not None and payment.status == Payment.Status.PROCESSING and not _others_open(payment):
        _next_move(payment, attempt, NOT_SENT, now)  # what is processing has an open attempt, always
    payment.save()
    _follow_cancellation(payment, attempt, before)
    return attempt


@transaction.atomic
def settle_unsent(*, attempt_id: uuid.UUID) -> PaymentAttempt:
    """The gateway never heard of the attempt: it ends, and the payment is tried again soon."""
    payment = _payments().get(attempts__pk=attempt_id)
    attempt = _lock_attempt(attempt_id)
    if not attempt.is_open:
        return attempt
    now = clock.now(payment.organisation_id)
    _end_without_money(attempt, now, code=NOT_SENT.code, decline_class=NOT_SENT.decline_class)
    _next_move(payment, attempt, NOT_SENT, now)
    payment.save()
    return attempt


def _payments(*, skip_locked: bool = False) -> Any:
    """Payments to be locked when they are read."""
    return Payment.objects.select_for_update(of=("self",), skip_locked=skip_locked)


def _others_open(payment: Payment, attempt: PaymentAttempt | None = None) -> bool:
    """Whether an attempt (another than ``attempt``) is under way."""
    if payment.attempts_made <= (attempt is not None):
        return False
    others = payment.attempts.filter(status__in=PaymentAttempt.OPEN)
    return bool((others.exclude(pk=attempt.pk) if attempt else others).exists())


def _lock_attempt(attempt_id: uuid.UUID) -> PaymentAttempt:
    rows = PaymentAttempt.objects.select_for_update(of=("self",)).select_related("gateway_account", "method")
    attempt: PaymentAttempt = rows.get(pk=attempt_id)
    return attempt


def _owner(payment: Payment, attempt: PaymentAttempt, result: ChargeResult) -> PaymentAttempt | None:
    """The other attempt of the same payment that this charge belongs to, locked."""
    if not result.gateway_ref or attempt.gateway_ref == result.gateway_ref or payment.attempts_made <= 1:
        return None
    others = PaymentAttempt.objects.filter(payment_id=attempt.payment_id, gateway_ref=result.gateway_ref)
    found = others.exclude(pk=attempt.pk).values_list("pk", flat=True).first()
    return None if found is None else _lock_attempt(found)


def _remember(attempt: PaymentAttempt, result: ChargeResult) -> None:
    attempt.gateway_order_ref = attempt.gateway_order_ref or result.gateway_order_ref
    keeps = attempt.status == PaymentAttempt.Status.CAPTURED or not result.gateway_ref
    attempt.gateway_ref = attempt.gateway_ref if keeps else result.gateway_ref
    attempt.fee = attempt.fee if result.fee is None else result.fee


def _move(attempt: PaymentAttempt, transition: Any) -> None:
    """Take a transition if the attempt is where it starts; older news otherwise."""
    if can_proceed(transition):
        transition()


def _authorized(payment: Payment, attempt: PaymentAttempt) -> None:
    """Held funds. An ended attempt comes back to life (late authorisation) unless a newer one is under way."""
    if attempt.is_open or not _others_open(payment, attempt):
        _move(attempt, attempt.authorize)


def _captured(payment: Payment, attempt: PaymentAttempt, result: ChargeResult, now: datetime) -> None:
    if attempt.status == PaymentAttempt.Status.CAPTURED:
        if result.gateway_ref and result.gateway_ref != attempt.gateway_ref:
            surprises.book_duplicate(payment=payment, attempt=attempt, result=result, now=now)
        return
    if result.amount is not None and result.amount != attempt.amount:
        surprises.amount_differs(payment=payment, attempt=attempt, got=result.amount, now=now)
        return
    if payment.status == Payment.Status.SUCCEEDED:
        surprises.book_duplicate(payment=payment, attempt=attempt, result=result, now=now)
        _end_without_money(attempt, now, code="duplicate")
        return
    unwanted = payment.cancel_requested or payment.status == Payment.Status.CANCELLED
    attempt.capture(at=now)
    payment.succeed(at=now)
    ledger.post(
        organisation=payment.organisation_id,
        entry=postings.payment_captured(
            attempt_id=attempt.pk,
            payment_id=payment.pk,
            customer_id=payment.customer_id,
            account_code=attempt.gateway_account.code,
            amount=attempt.amount,
            at=now,
        ),
    )
    outbox.publish("payment.captured", payment, at=now, **payment_facts(payment))
    if unwanted:
        surprises.paid_after_cancellation(payment=payment, now=now)
    if _others_open(payment, attempt):
        waking.after_commit(CLOSE_TASK, str(payment.pk))


def _requires_action(payment: Payment, attempt: PaymentAttempt, result: ChargeResult) -> None:
    if attempt.status == PaymentAttempt.Status.REQUIRES_ACTION or not attempt.is_open:
        return
    if attempt.status == PaymentAttempt.Status.AUTHORIZED:
        return
    attempt.require_action(url=result.action_url)
    if payment.status == Payment.Status.PROCESSING:
        payment.require_action(url=result.action_url)
        facts = payment_facts(payment) | {"action_url": result.action_url}
        outbox.publish("payment.requires_action", payment, **facts)


def _declined(payment: Payment, attempt: PaymentAttempt, decline: Decline, now: datetime) -> None:
    if not attempt.is_open:
        return
    attempt.decline(at=now, decline_class=decline.decline_class, decline_code=decline.code)
    attempt.save()
    _next_move(payment, attempt, decline, now)


def _end_without_money(attempt: PaymentAttempt, now: datetime, *, code: str, decline_class: str = "") -> None:
    if attempt.is_open:
        attempt.decline_code, attempt.decline_class = code, decline_class
        attempt.abandon(at=now)
        attempt.save()


# --- what next ------------------------------------------------------------------------------------
def _next_move(payment: Payment, attempt: PaymentAttempt, decline: Decline, now: datetime) -> None:
    """Retry, ask or give up, as the policy says; a payment that has moved on is left alone.

    One that nobody wants any more ends with its last attempt, also where a late one came after it was pending again.
    """
    if _others_open(payment, attempt):
        return
    if payment.cancel_requested and can_proceed(payment.cancel):
        payment.cancel()
        outbox.publish("payment.cancelled", payment, at=now, **payment_facts(payment))
        return
    if payment.status not in (Payment.Status.PROCESSING, Payment.Status.REQUIRES_ACTION):
        return
    said = {"decline_class": str(decline.decline_class), "decline_code": decline.code}
    decision = _decision(payment, attempt, decline, now)
    at = decision.at if decision.move is Move.RETRY else None
    told = payment_facts(payment) | said | {"next_attempt_at": at.isoformat() if at else None}
    if decline.code != PAGE_CLOSED.code:
        outbox.publish("payment.declined", payment, at=now, **told)
    if decision.move is Move.GIVE_UP:
        payment.give_up(**said)
        outbox.publish("payment.failed", payment, at=now, **payment_facts(payment) | said)
        return
    if decline.code == PAGE_CLOSED.code:  # what the bank said last decides how it goes on, not that nobody came
        last = _last_debit(payment)
        said = {"decline_class": last.decline_class if last else "", "decline_code": last.decline_code if last else ""}
    payment.retry_at(at=decision.at, **said)


def _decision(payment: Payment, attempt: PaymentAttempt, decline: Decline, now: datetime) -> retry_policy.Decision:
    if decline.code == PAGE_CLOSED.code:
        return _after_page(payment, now)
    organisation = Organisation.objects.get(pk=payment.organisation_id)
    return retry_policy.decide(
        decline_class=decline.decline_class,
        history=_history(payment, attempt, now),
        now=now,
        zone=clock.zone(organisation),
        seed=str(payment.pk),
    )


def _after_page(payment: Payment, now: datetime) -> retry_policy.Decision:
    """An unpaid page was closed: debits that were planned, the first one too, go on; otherwise it is over."""
    if not payment.automatic:
        return retry_policy.GIVE_UP
    last = _last_debit(payment)
    if last is None:
        method = usable_method(payment, on=now.date())
        goes_on = method is not None and not _above_limit(payment, method)
    else:
        goes_on = last.decline_class in RESUMABLE
    return retry_policy.Decision(move=Move.RETRY, at=now) if goes_on else retry_policy.GIVE_UP


def _last_debit(payment: Payment) -> PaymentAttempt | None:
    return payment.attempts.filter(method__isnull=False).order_by("-number").first()


def _history(payment: Payment, attempt: PaymentAttempt, now: datetime) -> retry_policy.History:
    ended = payment.attempts.exclude(decline_class="")
    mine = ended.filter(method_id=attempt.method_id)
    counts = mine.values("decline_class").annotate(n=Count("id"))
    first = mine.filter(decline_class=DeclineClass.SOFT).aggregate(first=Min("finished_at"))["first"]
    of_method = 0
    if attempt.method_id:
        since = now - retry_policy.METHOD_WINDOW
        tries = PaymentAttempt.objects.filter(method_id=attempt.method_id, started_at__gte=since)
        of_method = (
            tries.exclude(status=PaymentAttempt.Status.ABANDONED).exclude(decline_class=DeclineClass.CONFIG).count()
        )
    return retry_policy.History(
        declines={row["decline_class"]: row["n"] for row in counts},
        first_declined_at=first,
        debits=payment.attempts.filter(method__isnull=False, status=PaymentAttempt.Status.DECLINED)
        .exclude(decline_class=DeclineClass.CONFIG)
        .count(),
        debits_of_method=of_method,
        pages=payment.attempts.filter(method=None).count(),
    )


def _follow_cancellation(payment: Payment, attempt: PaymentAttempt, before: str) -> None:
    """An open attempt of a payment nobody wants any more is closed at the gateway."""
    if attempt.is_open and attempt.status != before and payment.status in _OVER:
        waking.after_commit(CLOSE_TASK, str(payment.pk))


_OVER = (Payment.Status.CANCELLED, Payment.Status.SUCCEEDED)
