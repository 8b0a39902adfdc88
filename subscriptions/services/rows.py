"""What every use case does with a subscription's row: lock, plan ahead, save, tell the house."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db.models import F, Q
from django_fsm import TransitionNotAllowed

from billing import money
from billing.services import outbox
from billing.services.usage_naming import require_naming
from invoices.models import Invoice
from invoices.services.settling import lock_customer
from subscriptions import recurring
from subscriptions.errors import BillingBehind, TransitionRefused
from subscriptions.events import subscription_payload
from subscriptions.lines import PriceBook
from subscriptions.models import PlannedChange, Subscription
from subscriptions.periods import local_date
from subscriptions.rules import Rules, rules_of
from subscriptions.selectors import invoices_billing, price_books
from subscriptions.services.zones import zone_of

Status = Subscription.Status
NOT_STARTED = (Status.PENDING, Status.TRIALING)
LIVE = (Status.ACTIVE, Status.PAST_DUE)
ENDED = (Status.CANCELLED, Status.EXPIRED)
UNPAID = (Invoice.Status.OPEN, Invoice.Status.PARTIALLY_PAID)
WAITING = (Status.INCOMPLETE, Status.PAUSED, Status.SUSPENDED)


def locked(subscription_id: uuid.UUID, *, skip_locked: bool = False) -> Subscription | None:
    """The row, locked until the commit; None when another one holds it and ``skip_locked`` is set.

    ``no_key``: rows that only refer to it may be written meanwhile, else they would wait in another order of locks. It is
    locked before it is read: who waited for a change of plan would be given the row, but joined with the old plan, and so none.
    """
    wanted = Subscription.objects.filter(pk=subscription_id)
    if not list(wanted.select_for_update(skip_locked=skip_locked, no_key=True).values_list("pk")):
        return None
    return wanted.select_related("organisation", "plan_version__plan").first()


def lock(subscription_id: uuid.UUID) -> Subscription:
    """The row, locked until the commit. Raises ``Subscription.DoesNotExist``."""
    found = locked(subscription_id)
    if found is None:
        raise Subscription.DoesNotExist
    return found


def share_meters(subscription: Subscription, *, was_there: bool = False) -> None:
    """Where a customer has several subscriptions on a meter, events have to name theirs from now on.

    What names none belongs to the one that was first: another one, or this one where it ``was_there`` on the meter before
    (it lasts longer now) and began earlier. The customer is locked, so that two that begin at once see each other.
    """
    if subscription.status in ENDED or not subscription.plan_version.prices.filter(meter__isnull=False).exists():
        return
    lock_customer(subscription.customer_id)
    meters = subscription.plan_version.prices.filter(currency=subscription.currency, meter__isnull=False)
    others = Subscription.objects.of(subscription.organisation_id).filter(
        plan_version__prices__meter__in=meters.values("meter"), plan_version__prices__currency=F("currency"),
        customer_id=subscription.customer_id,
    )  # fmt: skip
    over = Q(status__in=ENDED) | Q(ends_at__lte=subscription.started_at) | Q(cancel_at__lte=subscription.started_at)
    shared = others.exclude(pk=subscription.pk).exclude(over).order_by("id")
    ends = [end for end in (subscription.ends_at, subscription.cancel_at) if end is not None]
    if was_there and ends:
        shared = shared.exclude(started_at__gte=min(ends))
    for other_id, started_at, meter_id in shared.values_list("pk", "started_at", "plan_version__prices__meter"):
        is_first = was_there and subscription.started_at <= started_at
        require_naming(
            organisation_id=subscription.organisation_id, customer_id=subscription.customer_id, meter_id=meter_id,
            first_ref=subscription.pk if is_first else other_id,
        )  # fmt: skip


def has_overdue(subscription: Subscription) -> bool:
    """Whether an invoice of the subscription is overdue and unpaid."""
    return invoices_billing(subscription).filter(status__in=UNPAID, overdue_at__isnull=False).exists()


def require_billed(subscription: Subscription, until: datetime) -> None:
    """Raise ``BillingBehind`` where a period that began before the day of ``until`` is not billed yet: it would be lost."""
    zone, due_at = zone_of(subscription), subscription.next_billing_at
    if due_at is None or local_date(due_at, zone) >= local_date(until, zone):
        return
    on = local_date(due_at, zone).isoformat()
    if subscription.failure:
        raise BillingBehind(
            f"The period that began on {on} could not be billed ({subscription.failure}); mend that and take the "
            "subscription up again first."
        )
    raise BillingBehind(on=on)


@contextmanager
def refusing(subscription: Subscription, operation: str) -> Iterator[None]:
    """Turn a forbidden transition into a refusal that says what was tried."""
    try:
        yield
    except TransitionNotAllowed as exc:
        raise refusal(subscription, operation) from exc


def refusal(subscription: Subscription, operation: str) -> TransitionRefused:
    """That the subscription's status does not allow ``operation``."""
    return TransitionRefused(status=subscription.status, operation=operation)


def book_of(subscription: Subscription, version_id: uuid.UUID | None = None) -> PriceBook:
    """The price book of the subscription's plan version with its add-ons, or of another version, in its currency."""
    wanted = version_id or subscription.plan_version_id
    add_ons = subscription.add_ons if wanted == subscription.plan_version_id else None
    return price_books(subscription.organisation_id, [wanted]).get(wanted, subscription.currency, add_ons)


def rules_for(subscription: Subscription) -> Rules:
    """The choices of the organisation and the plan that hold for the subscription now."""
    return rules_of(subscription.organisation.settings, subscription.plan_version.plan.rules)


def planned_changes(subscription: Subscription) -> list[PlannedChange]:
    """What waits for its time, in order of time."""
    planned = subscription.changes.filter(status=PlannedChange.Status.PLANNED).select_related("plan_version__plan")
    return list(planned.order_by("effective_at", "id"))


def next_change_at(subscription: Subscription, planned: Sequence[PlannedChange]) -> datetime | None:
    """When the next planned thing happens to the subscription as it stands. Plans wait while nothing is billed."""
    if subscription.has_ended:
        return None
    times: list[datetime | None] = [subscription.ends_at, subscription.cancel_at]
    if subscription.status == Status.PENDING:
        times.append(subscription.started_at)
    elif subscription.status == Status.INCOMPLETE:
        times.append(subscription.activate_by)
    elif subscription.status == Status.TRIALING:
        times.append(subscription.trial_ends_at)
    elif subscription.status == Status.PAUSED:
        times.append(subscription.resume_at)
    if planned and subscription.status not in WAITING:
        times.append(planned[0].effective_at)
    return min((time for time in times if time is not None), default=None)


def save(subscription: Subscription) -> None:
    """Write the row with its next planned time and a new version."""
    subscription.next_change_at = next_change_at(subscription, planned_changes(subscription))
    subscription.version += 1
    columns = ("plan_version_id", "status", "ends_at", "cancel_at")
    before = Subscription.objects.filter(pk=subscription.pk).values_list(*columns).first()
    subscription.save()
    if before is None or before[:2] != (subscription.plan_version_id, subscription.status):
        share_meters(subscription)
    elif _lasts_longer(subscription, *before[2:]):
        share_meters(subscription, was_there=True)


def _lasts_longer(subscription: Subscription, *before: datetime | None) -> bool:
    """Whether one of its ends moved on, or fell away."""
    now = (subscription.ends_at, subscription.cancel_at)
    return any(was is not None and (end is None or end > was) for was, end in zip(before, now, strict=True))


def publish(news: str, subscription: Subscription, *, at: datetime, **more: Any) -> None:
    """Tell the house ``subscription.<news>``, true from ``at`` on, with the MRR from then on."""
    outbox.publish(f"subscription.{news}", subscription, at=at, **payload_of(subscription, **more))


def payload_of(subscription: Subscription, **more: Any) -> dict[str, Any]:
    """The payload of an event about the subscription as it stands."""
    level = money.zero(subscription.currency)
    if subscription.status in recurring.COUNTING_STATUSES:
        level = recurring.mrr(book=book_of(subscription), quantity=subscription.quantity, status=subscription.status)
    return subscription_payload(
        subscription_id=subscription.pk,
        external_id=subscription.external_id,
        customer_id=subscription.customer_id,
        plan=subscription.plan_version.plan.code,
        quantity=subscription.quantity,
        status=subscription.status,
        mrr=level,
        **more,
    )
