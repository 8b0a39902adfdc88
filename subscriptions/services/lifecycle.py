"""The life of a subscription: begin, pause, resume, suspend, recover. Its end is in ``ending``, its changes in ``changing``.

While paused or suspended nothing is billed. Billing resumes with the rest of the period that is running then, by the day,
and keeps the anchor: the customer's billing day stays what it was. A period already paid for stays paid, unless the pause
gave its rest back: then that rest is charged when billing resumes.
"""

import uuid
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from billing import clock
from billing.context import Actor
from billing.models import Customer, Organisation
from subscriptions.errors import ExternalIdTaken, InvalidSubscription
from subscriptions.models import Credit, PlannedChange, Subscription
from subscriptions.services import activation, rows
from subscriptions.services.agreements import AHEAD_AT_MOST, Agreement, drafted
from subscriptions.services.desk import Desk
from subscriptions.services.documents import Issued
from subscriptions.services.ending import (
    Ended,
    cancel,
    check_credit,
    go_on,
    reactivate,
    reactivate_row,
    settle,
    uncancel,
)
from subscriptions.services.experiments import enrolling
from subscriptions.services.rows import Status

__all__ = [
    "Agreement", "Ended", "begin", "cancel", "create_subscription", "drafted", "fall_behind", "pause", "reactivate", "recover",
    "resume", "suspend", "take_up", "uncancel",
]  # fmt: skip
NONE, PRORATED, REFUND = Credit.NONE.value, Credit.PRORATED.value, Credit.REFUND.value


def create_subscription(*, organisation: Organisation, actor: Actor, **agreed: Any) -> Subscription:
    """Begin an agreement (fields of ``Agreement``) now, in the future or in the past, with a trial or without.

    It takes the plan version that is effective at its start. What is due is billed by the billing run, all periods of a
    back-dated one included. Raises ``PlanUnavailable``, ``MissingPrice``, ``ExternalIdTaken``, ``InvalidSubscription``.
    """
    return begin(organisation=organisation, actor=actor, agreement=Agreement(**agreed))


@transaction.atomic
def begin(*, organisation: Organisation, actor: Actor, agreement: Agreement) -> Subscription:
    """Write the subscription that was agreed on, and everything that has happened to it until now."""
    desk = Desk(organisation=organisation, actor=actor)
    customers = Customer.objects.of(organisation).select_for_update(no_key=True)
    customers.filter(pk=agreement.customer_id).first()  # of two that begin at once on one meter, one is first
    enrolling.enrol(
        organisation=organisation, customer_id=agreement.customer_id, plan_id=agreement.plan_id, channel="subscribe",
        at=desk.now, start_at=agreement.start_at,
    )  # fmt: skip
    subscription = drafted(organisation=organisation, agreement=agreement, now=desk.now)
    subscription.next_change_at = rows.next_change_at(subscription, ())
    try:
        with transaction.atomic():
            subscription.save(force_insert=True)
    except IntegrityError as exc:
        if "subscription_external_id" not in str(exc):
            raise
        raise ExternalIdTaken(external_id=subscription.external_id, field="external_id") from exc
    rows.share_meters(subscription)
    enrolling.note_conversion(subscription, at=desk.now)
    desk.tell("created", subscription, at=desk.now)
    if subscription.started_at <= desk.now:
        activation.start(subscription, desk, at=subscription.started_at, seen=desk.now)
        subscription.next_change_at = rows.next_change_at(subscription, ())
        subscription.save()
    desk.record(
        "created", subscription,
        after={"plan": subscription.plan_version.plan.code, "quantity": subscription.quantity, "currency": subscription.currency},
    )  # fmt: skip
    return subscription


@transaction.atomic
def pause(
    *,
    subscription_id: uuid.UUID,
    actor: Actor,
    resume_at: datetime | None = None,
    on: datetime | None = None,
    credit: str = NONE,
    reason: str = "",
) -> Ended:
    """Bill nothing from now (or from ``on``) until ``resume``, or ``resume_at``. Usage is billed up to then.

    The paid period stays paid; with ``credit`` its rest is given back instead, and charged again once it is resumed.
    Raises ``TransitionRefused``, ``InvalidSubscription``, ``ProrationOff``.
    """
    subscription = rows.lock(subscription_id)
    desk = Desk(organisation=subscription.organisation, actor=actor)
    issued = pause_row(subscription, desk, resume_at=resume_at, on=on, credit=credit, reason=reason)
    rows.save(subscription)
    return Ended(subscription=subscription, issued=issued)


def pause_row(
    subscription: Subscription, desk: Desk, *, resume_at: datetime | None = None, on: datetime | None = None,
    credit: str = NONE, reason: str = "",
) -> Issued:  # fmt: skip
    """Pause a row, now or for later; the caller saves it."""
    check_credit(subscription, credit)
    begins = on or desk.now
    if on is not None and not desk.now < on <= desk.now + AHEAD_AT_MOST:
        raise InvalidSubscription("on lies in the future, at most five years ahead.", field="on")
    if resume_at is not None and not begins < resume_at <= begins + AHEAD_AT_MOST:
        raise InvalidSubscription(
            "resume_at comes after the pause begins, at most five years later.", field="resume_at"
        )
    if on is None:
        return pause_now(subscription, desk, at=desk.now, resume_at=resume_at, credit=credit, reason=reason)
    if subscription.status not in (*rows.LIVE, *rows.NOT_STARTED):
        raise rows.refusal(subscription, "be paused")
    if on <= (subscription.trial_ends_at or subscription.started_at):
        raise InvalidSubscription("on comes after the start, and after the trial.", field="on")
    desk.plan(
        PlannedChange(
            organisation_id=subscription.organisation_id, subscription=subscription, kind=PlannedChange.Kind.PAUSE,
            credit=credit, resume_at=resume_at, reason=reason, effective_at=on, created_at=desk.now,
        )
    )  # fmt: skip
    desk.record("pause_planned", subscription, reason=reason, after={"on": on.isoformat()})
    return Issued()


def pause_now(
    subscription: Subscription, desk: Desk, *, at: datetime, resume_at: datetime | None, credit: str, reason: str
) -> Issued:
    """Pause a row at ``at``; the caller saves it."""
    with rows.refusing(subscription, "be paused"):
        subscription.pause(at=at, resume_at=resume_at)
    issued = settle(subscription, desk, until=at, credit=credit, reason=reason or "Pause")
    subscription.next_billing_at = None
    after = {"resume_at": resume_at.isoformat() if resume_at else None, "credit": credit}
    desk.record("paused", subscription, reason=reason, after=after)
    desk.tell("paused", subscription, at=at)
    return issued


@transaction.atomic
def resume(
    *,
    subscription_id: uuid.UUID,
    actor: Actor,
    at: datetime | None = None,
    on: datetime | None = None,
    reason: str = "",
) -> Subscription:
    """Bill again, now or from ``on``: from the end of the paid period, or at once for the rest of the running one."""
    subscription = rows.lock(subscription_id)
    desk = Desk(organisation=subscription.organisation, actor=actor)
    if at is not None:
        desk.now = at
    resume_row(subscription, desk, on=on, reason=reason)
    rows.save(subscription)
    return subscription


def resume_row(subscription: Subscription, desk: Desk, *, on: datetime | None = None, reason: str = "") -> Issued:
    """Resume a row, now or for later; the caller saves it."""
    if on is None:
        resume_now(subscription, desk, at=desk.now)
        desk.record("resumed", subscription, reason=reason)
        return Issued()
    if subscription.status != Status.PAUSED:
        raise rows.refusal(subscription, "be resumed")
    if not desk.now < on <= desk.now + AHEAD_AT_MOST:
        raise InvalidSubscription("on lies in the future, at most five years ahead.", field="on")
    subscription.resume_at = on
    desk.record("resume_planned", subscription, reason=reason, after={"resume_at": on.isoformat()})
    return Issued()


def resume_now(subscription: Subscription, desk: Desk, *, at: datetime) -> None:
    """Resume a row at ``at``; the caller saves it."""
    paused_at = subscription.paused_at
    with rows.refusing(subscription, "be resumed"):
        subscription.resume()
    subscription.usage_from = at
    go_on(subscription, ended_at=paused_at, at=at)
    subscription.next_billing_at = _billed_again_at(subscription, at)
    desk.defer(subscription, at)
    desk.tell("resumed", subscription, at=at)
    desk.keep_standing(subscription, at=at)


@transaction.atomic
def suspend(*, subscription_id: uuid.UUID, actor: Actor, reason: str = "") -> Subscription:
    """Stop serving and billing because the customer does not pay; ``recover`` takes it up again.

    Raises ``TransitionRefused``, and ``BillingBehind`` while an earlier period is not billed.
    """
    subscription = rows.lock(subscription_id)
    desk = Desk(organisation=subscription.organisation, actor=actor)
    suspend_row(subscription, desk, reason=reason)
    rows.save(subscription)
    return subscription


def suspend_row(subscription: Subscription, desk: Desk, *, reason: str = "") -> Issued:
    """Suspend a row; the caller saves it."""
    rows.require_billed(subscription, desk.now)
    with rows.refusing(subscription, "be suspended"):
        subscription.suspend()
    subscription.next_billing_at = None
    desk.record("suspended", subscription, reason=reason)
    desk.tell("suspended", subscription, at=desk.now)
    return Issued()


@transaction.atomic
def fall_behind(*, subscription_id: uuid.UUID) -> Subscription | None:
    """An invoice became overdue: active becomes past due, any other status stays. Safe to repeat."""
    subscription = rows.lock(subscription_id)
    if subscription.status != Status.ACTIVE:
        return None
    subscription.fall_behind()
    rows.save(subscription)
    rows.publish("past_due", subscription, at=clock.now(subscription.organisation_id))
    return subscription


@transaction.atomic
def recover(*, subscription_id: uuid.UUID, actor: Actor, reason: str = "") -> Subscription:
    """What was owed is paid (or a person decides so): past due or suspended becomes active, and billing goes on."""
    subscription = rows.lock(subscription_id)
    desk = Desk(organisation=subscription.organisation, actor=actor)
    recover_row(subscription, desk, reason=reason)
    rows.save(subscription)
    return subscription


def recover_row(subscription: Subscription, desk: Desk, *, reason: str = "") -> Issued:
    """Put a row back into good standing; the caller saves it."""
    was_suspended = subscription.status == Status.SUSPENDED
    with rows.refusing(subscription, "recover"):
        subscription.recover()
    if was_suspended:
        subscription.next_billing_at = _billed_again_at(subscription, desk.now)
        desk.defer(subscription, desk.now)
    desk.record("recovered", subscription, reason=reason)
    desk.tell("recovered", subscription, at=desk.now)
    return Issued()


@transaction.atomic
def take_up(*, subscription_id: uuid.UUID, actor: Actor, reason: str = "") -> Subscription:
    """Go on with what was suspended, or cancelled within the time it paid for. Raises what ``recover`` and ``reactivate`` raise."""
    subscription = rows.lock(subscription_id)
    take_up_row(subscription, Desk(organisation=subscription.organisation, actor=actor), reason=reason)
    rows.save(subscription)
    return subscription


def take_up_row(subscription: Subscription, desk: Desk, *, reason: str = "") -> Issued:
    """Go on with a row that was suspended or cancelled; the caller saves it."""
    act = recover_row if subscription.status == Status.SUSPENDED else reactivate_row
    return act(subscription, desk, reason=reason)


def _billed_again_at(subscription: Subscription, at: datetime) -> datetime:
    """When billing goes on after an interruption that ends at ``at``."""
    end = subscription.period_end
    if end is None:
        return max(at, subscription.next_billing_at or at)
    return max(at, end)
