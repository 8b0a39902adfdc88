"""Changing plan or quantity: now, with what is unused credited and the rest charged, at the end of the paid period, on a date."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from django.db import transaction

from billing import clock
from billing.context import Actor
from billing.errors import NotFound
from billing.metering import Window
from billing.models import Meter, Organisation
from billing.selectors.usage import aggregate
from subscriptions import proration, recurring
from subscriptions.errors import (
    BillingBehind,
    ChangePlanned,
    ChangesPlanAnyway,
    InvalidSubscription,
    NothingToChange,
    QuantityBelowUse,
    TaxBasisDiffers,
)
from subscriptions.models import Plan, PlanMigrationItem, PlannedChange, PlanVersion, Subscription
from subscriptions.periods import local_date
from subscriptions.rules import BY_VALUE, NOW, PERIOD_END
from subscriptions.services import catalog, rows, switches, terms
from subscriptions.services.desk import Desk
from subscriptions.services.documents import Issued
from subscriptions.services.rows import Status
from subscriptions.services.zones import zone_of

MAX_QUANTITY = 1_000_000
MAX_PLANNED = 20
AHEAD_AT_MOST = timedelta(days=5 * 366)
ON_DATE = "on_date"


@dataclass(frozen=True, kw_only=True)
class Changed:
    """The subscription after a change, and what was issued or planned by it."""

    subscription: Subscription
    issued: Issued = field(default_factory=Issued)
    planned: PlannedChange | None = None


@transaction.atomic
def change_subscription(
    *,
    subscription_id: uuid.UUID,
    actor: Actor,
    version: PlanVersion | None = None,
    quantity: int | None = None,
    when: str = "",
    on: datetime | None = None,
    prorate: bool | None = None,
    keep_planned: bool = False,
    running_at: datetime | None = None,
    reason: str = "",
) -> Changed:
    """Change plan version or quantity ``now``, at ``period_end``, ``by_value`` (dearer now, else then), or ``on`` a time.

    Within a period the unused rest of what was billed is credited and the rest charged at the new price, on one invoice;
    what comes to less than nothing becomes credit notes. ``prorate=False`` changes the price from the next period on only.
    Usage of the old plan's meters is billed up to then. A change now takes the place of planned ones unless ``keep_planned``;
    a planned one takes the place of another at the same time. What is not said follows the subscription's rules.
    ``running_at``: the period whose end is meant ran at that time; its end may be past, as long as what follows is not billed.
    Raises ``TransitionRefused``, ``NothingToChange``, ``BillingBehind``, ``InvalidSubscription``, ``QuantityBelowUse``.
    """
    subscription = rows.lock(subscription_id)
    desk = Desk(organisation=subscription.organisation, actor=actor)
    changed = change_row(
        subscription, desk, version=version, quantity=quantity, when=when, on=on, prorate=prorate,
        keep_planned=keep_planned, running_at=running_at, reason=reason,
    )  # fmt: skip
    rows.save(subscription)
    return changed


def change_row(
    subscription: Subscription, desk: Desk, *, version: PlanVersion | None = None, quantity: int | None = None, when: str = "",
    on: datetime | None = None, prorate: bool | None = None, keep_planned: bool = False, running_at: datetime | None = None,
    migrates: bool = False, reason: str = "",
) -> Changed:  # fmt: skip
    """Change a row, now or for later; the caller saves it.

    ``migrates``: a plan migration moves it. What was planned for it stays, another quantity at the same time too; another plan
    that it will have by then is not overruled (``ChangesPlanAnyway``).
    """
    new_version, new_quantity = checked_terms(subscription, desk, version=version, quantity=quantity)
    if prorate is None:
        prorate = subscription.proration != proration.NONE
    at = _takes_hold_at(
        subscription, new_version, new_quantity, when=when, on=on, now=desk.now, running_at=running_at or desk.now
    )
    if at is not None:
        planned = _plan_for(
            subscription, desk, at, version=version, quantity=quantity, prorate=prorate, reason=reason,
            over=_taken_over(subscription, desk, at, version=version, migrates=migrates, alone=on is None and not keep_planned),
        )  # fmt: skip
        return Changed(subscription=subscription, planned=planned)
    over = [] if keep_planned or migrates else _not_decided(subscription, planned_terms(subscription, desk), version)
    issued = _change_now(subscription, desk, new_version, new_quantity, prorate=prorate, over=over, reason=reason)
    return Changed(subscription=subscription, issued=issued)


def _change_now(
    subscription: Subscription,
    desk: Desk,
    version: PlanVersion,
    quantity: int,
    *,
    prorate: bool,
    over: Iterable[PlannedChange],
    reason: str,
) -> Issued:
    before = _terms_of(subscription)
    _require_today(subscription, desk.now)
    issued = switches.switch_now(
        subscription, desk, version=version, quantity=quantity, at=desk.now, prorate=prorate, reason=reason
    )
    for change in over:
        desk.close(change, applied=False)
    desk.record("changed", subscription, reason=reason, before=before, after=_terms_of(subscription))
    desk.tell("changed", subscription, at=desk.now)
    return issued


@transaction.atomic
def cancel_planned_change(
    *, subscription_id: uuid.UUID, actor: Actor, change_id: uuid.UUID | None = None, reason: str = ""
) -> Subscription:
    """Take planned changes and pauses back: one, or all. Raises ``ChangePlanned`` when there is none."""
    subscription = rows.lock(subscription_id)
    desk = Desk(organisation=subscription.organisation, actor=actor)
    cancel_planned_row(subscription, desk, change_id=change_id, reason=reason)
    rows.save(subscription)
    return subscription


def cancel_planned_row(
    subscription: Subscription, desk: Desk, *, change_id: uuid.UUID | None = None, reason: str = ""
) -> Issued:
    """Take what is planned for a row back; the caller saves it."""
    planned = [change for change in desk.planned(subscription) if change_id in (None, change.pk)]
    if not planned:
        raise ChangePlanned(what="planned change")
    for change in planned:
        desk.close(change, applied=False)
    desk.record("planned_change_cancelled", subscription, reason=reason, after={"changes": len(planned)})
    return Issued()


def version_for(*, organisation: Organisation, plan_id: uuid.UUID) -> PlanVersion:
    """The version of a plan that a change to it takes now. Raises ``NotFound`` and ``PlanUnavailable``."""
    plan = Plan.objects.of(organisation).filter(pk=plan_id).first()
    if plan is None:
        raise NotFound("No such plan in this organisation.", field="plan")
    return catalog.version_at(plan=plan, at=clock.now(organisation), on=clock.today(organisation))


def checked_terms(
    subscription: Subscription, desk: Desk, *, version: PlanVersion | None, quantity: int | None
) -> tuple[PlanVersion, int]:
    """New terms that are allowed and differ from the present ones, or from those that are planned."""
    if subscription.status not in (*rows.NOT_STARTED, *rows.LIVE):
        raise rows.refusal(subscription, "be changed")
    version = version or subscription.plan_version
    quantity = subscription.quantity if quantity is None else quantity
    if not 1 <= quantity <= MAX_QUANTITY:
        raise InvalidSubscription(f"The quantity is 1 to {MAX_QUANTITY}.", field="quantity")
    if version.organisation_id != subscription.organisation_id:
        raise NotFound("No such plan in this organisation.", field="plan")
    same = (version.pk, quantity) == (subscription.plan_version_id, subscription.quantity)
    if same and not planned_terms(subscription, desk):
        raise NothingToChange
    _check_books(subscription, version)
    _check_use(subscription, quantity, desk.now)
    return version, quantity


def _check_books(subscription: Subscription, version: PlanVersion) -> None:
    """The new version has a price in the currency, and its prices mean the same: with tax, or without."""
    new = rows.book_of(subscription, version.pk)
    if version.pk != subscription.plan_version_id and new.inclusive != rows.book_of(subscription).inclusive:
        raise TaxBasisDiffers(field="plan")


def _check_use(subscription: Subscription, quantity: int, now: datetime) -> None:
    """Where a meter counts the seats in use (the rule ``seats_meter``), the quantity cannot go below it."""
    code = rows.rules_for(subscription).seats_meter
    if not code or quantity >= subscription.quantity:
        return
    meter = Meter.objects.of(subscription.organisation_id).filter(code=code).first()
    since = subscription.usage_from or subscription.period_start or subscription.started_at
    if meter is None or since >= now:
        return
    window = Window(subscription.customer_id, meter.pk, since, now, subscription_id=subscription.pk)
    used = aggregate([window]).get(window)
    if used is not None and quantity < used:
        raise QuantityBelowUse(used=f"{used.normalize():f}", field="quantity")


def _takes_hold_at(
    subscription: Subscription, version: PlanVersion, quantity: int, *, when: str, on: datetime | None, now: datetime,
    running_at: datetime,
) -> datetime | None:  # fmt: skip
    """When the change takes hold; None: now."""
    if on is not None:
        if when not in ("", ON_DATE):
            raise InvalidSubscription("Give either when or on.", field="on")
        if not now < on <= now + AHEAD_AT_MOST:
            raise InvalidSubscription("on lies in the future, at most five years ahead.", field="on")
        ends = (terms.last_end(subscription), subscription.cancel_at)
        if any(end is not None and end <= on for end in ends):
            raise InvalidSubscription("The subscription has ended by then.", field="on")
        if on <= subscription.started_at:
            raise InvalidSubscription("on comes after the start; change now what has not begun.", field="on")
        return on
    when = when or rows.rules_for(subscription).change_when
    if when == BY_VALUE:
        when = NOW if _is_dearer(subscription, version, quantity) else PERIOD_END
    if when == PERIOD_END and subscription.status != Status.PENDING:
        return effective_at(subscription, running_at)
    if when not in (NOW, PERIOD_END):
        raise InvalidSubscription("when is now, period_end or by_value; a time is given in on.", field="when")
    return None


def _is_dearer(subscription: Subscription, version: PlanVersion, quantity: int) -> bool:
    """Whether the new terms cost as much a month as the present ones at least, or more; minimums included."""
    was = recurring.least_a_month(book=rows.book_of(subscription), quantity=subscription.quantity)
    becomes = recurring.least_a_month(book=rows.book_of(subscription, version.pk), quantity=quantity)
    return becomes.amount >= was.amount


def _require_today(subscription: Subscription, now: datetime) -> None:
    """A period that is not billed yet may take the new terms only while its first day lasts, or when it cannot be billed."""
    zone, billing_at = zone_of(subscription), subscription.next_billing_at
    if subscription.status in rows.NOT_STARTED or billing_at is None or billing_at > now:
        return
    due_on: date = local_date(billing_at, zone)
    if due_on != local_date(now, zone) and not subscription.failure:
        raise BillingBehind(on=due_on.isoformat())


def _plan_for(
    subscription: Subscription, desk: Desk, at: datetime, *, version: PlanVersion | None, quantity: int | None,
    prorate: bool, reason: str, over: Sequence[PlannedChange],
) -> PlannedChange | None:  # fmt: skip
    """Plan other terms, in the place of ``over``."""
    kept = [change for change in planned_terms(subscription, desk) if change not in over]
    if len(kept) >= MAX_PLANNED:
        raise InvalidSubscription(f"At most {MAX_PLANNED} changes are planned; take one back first.", field="on")
    for change in over:
        desk.close(change, applied=False)
    new = (
        version.pk if version else subscription.plan_version_id,
        subscription.quantity if quantity is None else quantity,
    )
    planned = None
    if kept or new != (subscription.plan_version_id, subscription.quantity):
        planned = PlannedChange(
            organisation_id=subscription.organisation_id, subscription=subscription, plan_version=version,
            quantity=quantity, prorate=prorate, reason=reason, effective_at=at, created_at=desk.now,
        )  # fmt: skip
        desk.plan(planned)
    desk.record(
        "change_planned", subscription, reason=reason, before=_terms_of(subscription),
        after={"plan_version": str(new[0]), "quantity": new[1], "effective_at": at.isoformat()},
    )  # fmt: skip
    return planned


def effective_at(subscription: Subscription, now: datetime) -> datetime:
    """When a change "at the period's end" takes hold; a trial's end counts as one. Raises ``BillingBehind``."""
    trialing = subscription.status == Status.TRIALING
    at = subscription.trial_ends_at if trialing else subscription.period_end
    if at is None or at <= now:
        due = subscription.next_billing_at or now
        raise BillingBehind(on=local_date(due, zone_of(subscription)).isoformat())
    return at


def planned_terms(subscription: Subscription, desk: Desk) -> list[PlannedChange]:
    return [change for change in desk.planned(subscription) if change.kind == PlannedChange.Kind.TERMS]


def _taken_over(
    subscription: Subscription, desk: Desk, at: datetime, *, version: PlanVersion | None, migrates: bool, alone: bool
) -> list[PlannedChange]:
    """What a change that is planned for ``at`` takes the place of: all (``alone``), or what was planned for that time."""
    planned = planned_terms(subscription, desk)
    if migrates:
        if any(change.plan_version_id is not None and change.effective_at <= at for change in planned):
            raise ChangesPlanAnyway(on=local_date(at, zone_of(subscription)).isoformat())
        return []
    return _not_decided(subscription, [change for change in planned if alone or change.effective_at == at], version)


def _not_decided(
    subscription: Subscription, planned: list[PlannedChange], version: PlanVersion | None
) -> list[PlannedChange]:
    """Without those that a plan migration has decided, where nothing is said of the plan: a quantity overrules no price."""
    if version is not None or all(change.plan_version_id is None for change in planned):
        return planned
    items = PlanMigrationItem.objects.filter(subscription=subscription, status=PlanMigrationItem.Status.PLANNED)
    decided = set(items.values_list("migration__to_version", flat=True))
    return [change for change in planned if change.quantity is not None or change.plan_version_id not in decided]


def _terms_of(subscription: Subscription) -> dict[str, object]:
    return {
        "plan": subscription.plan_version.plan.code,
        "plan_version": str(subscription.plan_version_id),
        "quantity": subscription.quantity,
    }
