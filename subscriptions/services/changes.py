"""What was planned and is due: starts, trial ends, changes, resumptions, cancellations, expiries; in their own order."""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from django.db import OperationalError, transaction
from django.db.models import F, Q

from billing import clock
from billing.context import Actor
from billing.errors import DomainError
from billing.models import Organisation
from invoices.services.mailing import queue_mail
from subscriptions.models import FailedCycle, PlannedChange, Subscription
from subscriptions.periods import local_date
from subscriptions.services import activation, ending, lifecycle, rows, switches, terms
from subscriptions.services.desk import Desk
from subscriptions.services.rows import Status
from subscriptions.services.zones import zone_of

log = structlog.get_logger(__name__)
ACTOR = Actor.system("subscriptions")


def apply_due(
    *, organisation: Organisation, due_at: datetime | None = None, subscription_ids: Sequence[uuid.UUID] | None = None
) -> int:
    """Do what is due at ``due_at`` (now), each subscription in its own transaction; returns how many changes were made.

    A subscription whose billing lags behind its next change waits for the billing run, also when the run has set it aside:
    periods are billed by the terms they began with, and before an end. One whose change is refused is set aside too; it is
    tried again by each call, and does not stop the others.
    """
    due_at = due_at or clock.now(organisation)
    due = Subscription.objects.of(organisation).filter(next_change_at__lte=due_at).filter(_IN_TURN)
    if subscription_ids is not None:
        due = due.filter(pk__in=subscription_ids)
    done = 0
    for pk, version in list(due.order_by("next_change_at", "id").values_list("id", "version")):
        try:
            done += apply_to(subscription_id=pk, due_at=due_at)
        except OperationalError:  # a deadlock, a database that is away: the next run tries again
            raise
        except Exception as exc:  # one broken subscription does not stop the others; one changed since is tried again
            _set_aside(pk, version, _why(pk, exc), organisation)
    return done


@transaction.atomic
def _set_aside(subscription_id: uuid.UUID, version: int, why: str, organisation: Organisation) -> None:
    """Note why a change could not be made, on the row and among the failed cycles, unless it has changed since."""
    refused = Subscription.objects.filter(pk=subscription_id, version=version)
    due_at = refused.values_list("next_change_at", flat=True).first()
    if due_at is None or not refused.update(failure=why):
        return
    if FailedCycle.objects.filter(subscription=subscription_id, retried_at=None).exists():
        return
    FailedCycle.objects.create(
        organisation=organisation, subscription_id=subscription_id, starts_at=due_at, code=why.partition(":")[0][:60],
        reason=why, failed_at=clock.now(organisation),
    )  # fmt: skip


def _why(subscription_id: uuid.UUID, exc: Exception) -> str:
    """Why a change was not made; what nobody foresaw is logged with its trace."""
    if isinstance(exc, DomainError):
        log.warning("subscription.change_refused", subscription=str(subscription_id), code=exc.code)
        return f"{exc.code}: {exc}"[:300]
    log.error("subscription.change_failed", subscription=str(subscription_id), exc_info=exc)
    return f"unexpected: {type(exc).__name__}: {exc}"[:300]


TRIAL_NOTICE = timedelta(days=3)
_IN_TURN = Q(next_billing_at=None) | Q(next_billing_at__gte=F("next_change_at"))


def announce_trial_ends(*, organisation: Organisation, at: datetime) -> int:
    """Write to customers whose trial ends within three days, once per trial; returns how many were told."""
    soon = Subscription.objects.of(organisation).filter(
        status=Status.TRIALING,
        trial_ends_at__gt=at,
        trial_ends_at__lte=at + TRIAL_NOTICE,
        trial_notice_at=None,
        cancel_at=None,
    )
    return sum(_announce(pk, at) for pk in list(soon.order_by("id").values_list("id", flat=True)))


@transaction.atomic
def _announce(subscription_id: uuid.UUID, at: datetime) -> int:
    subscription = rows.locked(subscription_id, skip_locked=True)
    if subscription is None or subscription.status != Status.TRIALING or subscription.trial_notice_at is not None:
        return 0
    subscription.trial_notice_at = at
    rows.save(subscription)
    assert subscription.trial_ends_at is not None
    ends_on = local_date(subscription.trial_ends_at, zone_of(subscription))
    rows.publish("trial_ending", subscription, at=at, trial_ends_at=subscription.trial_ends_at.isoformat())
    queue_mail(
        organisation=subscription.organisation,
        customer_id=subscription.customer_id,
        kind="trial_ending",
        key=f"trial_ending:{subscription.pk}",
        context={"plan": subscription.plan_version.plan.name, "trial_ends_on": ends_on.isoformat()},
    )
    return 1


@transaction.atomic
def apply_to(*, subscription_id: uuid.UUID, due_at: datetime) -> int:
    """All that is due for one subscription until its next billing moment; 0 when another worker has it."""
    subscription = rows.locked(subscription_id, skip_locked=True)
    if subscription is None:
        return 0
    desk, done = Desk(organisation=subscription.organisation, actor=ACTOR), 0
    while is_due(subscription, due_at):
        apply_next(subscription, desk)
        if subscription.failure:  # what was refused before has worked now
            desk.mended(subscription)
        rows.save(subscription)
        done += 1
    return done


def is_due(subscription: Subscription, due_at: datetime) -> bool:
    """Whether something planned is due, and comes before the next billing moment."""
    at, billing_at = subscription.next_change_at, subscription.next_billing_at
    if at is None or at > due_at:
        return False
    return billing_at is None or billing_at >= at


def apply_next(subscription: Subscription, desk: Desk) -> None:
    """The one thing that is due first; an end comes before everything else at the same time. The caller saves the row."""
    at = subscription.next_change_at
    assert at is not None
    if subscription.cancel_at == at:
        ending.end(subscription, desk, until=at, credit=subscription.cancel_credit)
    elif subscription.ends_at == at:
        _end_or_renew(subscription, desk, at)
    elif subscription.status == Status.PENDING:
        activation.start(subscription, desk, at=at, seen=at)
    elif subscription.status == Status.INCOMPLETE and subscription.activate_by == at:
        _end_waiting(subscription, desk, at)
    elif subscription.status == Status.TRIALING and subscription.trial_ends_at == at:
        activation.begin_paid_time(subscription, desk, at=at)
    elif subscription.status == Status.PAUSED and subscription.resume_at == at:
        lifecycle.resume_now(subscription, desk, at=at)
    else:
        _apply_planned(subscription, desk, at)


def _end_or_renew(subscription: Subscription, desk: Desk, at: datetime) -> None:
    if terms.renews(subscription) and subscription.status not in (Status.SUSPENDED, Status.INCOMPLETE):
        terms.renew(subscription, desk, at=at)
        return
    never_began = subscription.status == Status.PENDING
    ending.end(subscription, desk, until=at, expired=not never_began)


def _end_waiting(subscription: Subscription, desk: Desk, at: datetime) -> None:
    """Nobody paid in time, or there was less time than agreed; or it was paid and the news is still on its way."""
    if not desk.owes(subscription):
        activation.complete(subscription, desk, at=at)
    elif not activation.wait_on(subscription, desk):
        activation.give_up(subscription, desk, at=at)


def _apply_planned(subscription: Subscription, desk: Desk, at: datetime) -> None:
    change = desk.planned(subscription)[0]
    if change.kind == PlannedChange.Kind.PAUSE:
        desk.close(change, applied=True)
        _pause(subscription, desk, change, at)
        return
    version, quantity = change.plan_version or subscription.plan_version, change.quantity or subscription.quantity
    if not change.prorate and switches.waits_for_period_end(subscription, version, at):
        assert subscription.next_billing_at is not None
        desk.move(change, subscription.next_billing_at)
        return
    desk.close(change, applied=True)
    if (version.pk, quantity) == (subscription.plan_version_id, subscription.quantity):
        return
    switches.switch_now(
        subscription, desk, version=version, quantity=quantity, at=at, prorate=change.prorate, reason=change.reason
    )
    desk.tell("changed", subscription, at=at)


def _pause(subscription: Subscription, desk: Desk, change: PlannedChange, at: datetime) -> None:
    """A pause that was planned; who owes something by then is not paused."""
    if subscription.status != Status.ACTIVE:
        desk.tell("pause_skipped", subscription, at=at)
        return
    lifecycle.pause_now(
        subscription, desk, at=at, resume_at=change.resume_at, credit=change.credit, reason=change.reason
    )
