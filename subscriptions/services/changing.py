"""Changing plan or quantity: now, with what is unused credited and the rest charged, or at the end of the paid period."""

import uuid
from dataclasses import dataclass, field
from datetime import date, datetime

from django.db import transaction

from billing import clock
from billing.context import Actor
from billing.errors import NotFound
from billing.models import Organisation
from billing.services import audit
from invoices.drafts import LineInput
from subscriptions.arrears import noted_terms
from subscriptions.errors import BillingBehind, ChangePlanned, InvalidSubscription, NothingToChange
from subscriptions.lines import Moment, billing_moment, lines_in_advance
from subscriptions.models import BilledPeriod, Plan, PlannedChange, PlanVersion, Subscription
from subscriptions.periods import end_day, local_date, period
from subscriptions.selectors import price_books
from subscriptions.services import catalog, documents, rows
from subscriptions.services.documents import Documents, Issued
from subscriptions.switching import Paid, Terms, switch_lines, unused_lines

MAX_QUANTITY = 1_000_000
NOW, PERIOD_END = "now", "period_end"


@dataclass(frozen=True, kw_only=True)
class Switch:
    """A change, worked out: the new terms, the documents it makes now and the new period, if one begins."""

    version: PlanVersion
    quantity: int
    at: datetime
    documents: Documents = field(default_factory=Documents)
    new_period: Moment | None = None
    settles_usage: bool = False
    at_boundary: bool = False


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
    when: str = NOW,
    prorate: bool = True,
    reason: str = "",
) -> Changed:
    """Change plan version or quantity ``now`` or at ``period_end``.

    Now: the unused rest of what was billed is credited and the rest of the period charged at the new price, on one
    invoice; what comes to less than nothing becomes credit notes. ``prorate=False`` changes the price from the next
    period on only. Usage of the old plan's meters is billed up to now. A planned change takes the place of an older one.
    Raises ``TransitionRefused``, ``NothingToChange``, ``BillingBehind``, ``InvalidSubscription``.
    """
    subscription = rows.lock(subscription_id)
    now = clock.now(subscription.organisation_id)
    version, quantity = checked_terms(subscription, version=version, quantity=quantity)
    if when == PERIOD_END and subscription.status != rows.Status.PENDING:
        return _plan_for_later(subscription, version, quantity, now, actor, reason)
    switch = plan_switch(subscription=subscription, version=version, quantity=quantity, now=now, prorate=prorate)
    before = _terms_of(subscription)
    issued = documents.write(
        subscription=subscription,
        documents=switch.documents,
        at=now,
        actor=actor,
        reason=reason or "Change of the subscription",
    )
    _cancel_planned(subscription)
    apply_switch(subscription, switch)
    if switch.new_period is not None:
        _note_period(subscription, switch.new_period, now, issued)
    audit.record(
        actor=actor,
        action="subscription.changed",
        target=subscription,
        reason=reason,
        before=before,
        after=_terms_of(subscription),
    )
    rows.save(subscription)
    rows.publish("changed", subscription, at=now)
    return Changed(subscription=subscription, issued=issued)


@transaction.atomic
def cancel_planned_change(*, subscription_id: uuid.UUID, actor: Actor) -> Subscription:
    """Take a planned change back. Raises ``ChangePlanned`` when there is none."""
    subscription = rows.lock(subscription_id)
    if not _cancel_planned(subscription):
        raise ChangePlanned(what="planned change")
    audit.record(actor=actor, action="subscription.planned_change_cancelled", target=subscription)
    rows.save(subscription)
    return subscription


def version_for(*, organisation: Organisation, plan_id: uuid.UUID) -> PlanVersion:
    """The version of a plan that a change to it takes now. Raises ``NotFound`` and ``PlanUnavailable``."""
    plan = Plan.objects.of(organisation).filter(pk=plan_id).first()
    if plan is None:
        raise NotFound("No such plan in this organisation.", field="plan")
    return catalog.version_at(plan=plan, at=clock.now(organisation), on=clock.today(organisation))


def checked_terms(
    subscription: Subscription, *, version: PlanVersion | None, quantity: int | None
) -> tuple[PlanVersion, int]:
    """New terms that are allowed and differ from the present ones."""
    if subscription.status not in (*rows.NOT_STARTED, *rows.LIVE):
        raise rows.refusal(subscription, "be changed")
    version = version or subscription.plan_version
    quantity = subscription.quantity if quantity is None else quantity
    if not 1 <= quantity <= MAX_QUANTITY:
        raise InvalidSubscription(f"The quantity is 1 to {MAX_QUANTITY}.", field="quantity")
    if version.organisation_id != subscription.organisation_id:
        raise NotFound("No such plan in this organisation.", field="plan")
    planned = rows.planned_change(subscription)
    if (version.pk, quantity) == (subscription.plan_version_id, subscription.quantity) and planned is None:
        raise NothingToChange
    if version.pk != subscription.plan_version_id:
        rows.refuse_taken_meters(subscription, version, since=clock.now(subscription.organisation_id))
    return version, quantity


def plan_switch(
    *, subscription: Subscription, version: PlanVersion, quantity: int, now: datetime, prorate: bool
) -> Switch:
    """Work a change out that takes hold now. Reads only: the preview shows the same."""
    old, new = (
        _terms(subscription, subscription.plan_version, subscription.quantity),
        _terms(subscription, version, quantity),
    )
    if subscription.status in rows.NOT_STARTED:
        return Switch(version=version, quantity=quantity, at=now)
    billing_at = subscription.next_billing_at
    if billing_at is not None and billing_at <= now:
        _require_today(subscription, now)
        return Switch(version=version, quantity=quantity, at=billing_at, at_boundary=True)
    zone = clock.zone(subscription.organisation)
    today = local_date(now, zone)
    paid = paid_period(subscription)
    usage = _usage_of_old_plan(subscription, version, now)
    if _restarts(old, new):
        moment = _new_period(subscription, new, now)
        if not prorate:
            raise InvalidSubscription(
                "Another interval begins a new period: prorate it, or change at period_end.", field="prorate"
            )
        lines = unused_lines(old=old, paid=paid, from_on=today)
        lines += lines_in_advance(moment=moment, book=new.book, quantity=quantity)
        first_on, last_on = moment.first_on, moment.last_on
    else:
        moment = None
        lines = switch_lines(old=old, new=new, paid=paid, today=today) if prorate else []
        first_on, last_on = max(today, paid.first_on), paid.last_on
    lines = documents.still_claimed(subscription=subscription, lines=lines, from_on=today)
    planned = documents.plan(
        subscription=subscription, lines=[*lines, *usage], first_on=first_on, last_on=last_on, at=now
    )
    return Switch(
        version=version, quantity=quantity, at=now, documents=planned, new_period=moment,
        settles_usage=version.pk != subscription.plan_version_id,
    )  # fmt: skip


def apply_switch(subscription: Subscription, switch: Switch) -> None:
    """Put the new terms on the row, which the caller saves (or, for a preview, does not)."""
    if switch.at_boundary or subscription.status in rows.NOT_STARTED:
        switch_at_boundary(subscription, switch.version, switch.quantity, switch.at)
        return
    if switch.settles_usage:
        subscription.usage_from, subscription.earlier_terms = switch.at, []
    else:
        note_terms(subscription, until_on=local_date(switch.at, clock.zone(subscription.organisation)))
    take_terms(subscription, switch.version, switch.quantity)
    if switch.new_period is not None:
        moment = switch.new_period
        subscription.anchor_on, subscription.period_number = moment.first_on, moment.number
        subscription.period_start, subscription.period_end = moment.start, moment.end
        subscription.next_billing_at = moment.next_billing_at


def switch_at_boundary(subscription: Subscription, version: PlanVersion, quantity: int, at: datetime) -> None:
    """New terms from a billing moment on: the usage before it is still priced by the old version."""
    old = subscription.plan_version
    if subscription.period_end is not None:
        note_terms(subscription, until_on=end_day(subscription.period_end, clock.zone(subscription.organisation)))
    if version.pk != old.pk and subscription.usage_from is not None and subscription.usage_version_id is None:
        subscription.usage_version = old
    take_terms(subscription, version, quantity)
    subscription.failure = ""
    if (old.plan.interval, old.plan.interval_count) != (version.plan.interval, version.plan.interval_count):
        started = subscription.status not in rows.NOT_STARTED
        if started:
            subscription.anchor_on = local_date(at, clock.zone(subscription.organisation))
        subscription.period_number = 0


def note_terms(subscription: Subscription, *, until_on: date) -> None:
    """Keep on the row that its present terms were in force up to ``until_on``, where its prices look back."""
    if subscription.usage_from is not None and subscription.usage_version_id is None:
        zone = clock.zone(subscription.organisation)
        book = rows.book_of(subscription)
        subscription.earlier_terms = noted_terms(row=subscription, book=book, next_on=until_on, zone=zone)


def take_terms(subscription: Subscription, version: PlanVersion, quantity: int) -> None:
    """Put version and quantity on the row; add-ons that the version does not offer fall away."""
    if version.pk != subscription.plan_version_id and subscription.add_ons:
        books = price_books(subscription.organisation_id, [version.pk])
        subscription.add_ons = books.kept(version.pk, subscription.currency, subscription.add_ons)
    subscription.plan_version, subscription.quantity = version, quantity


def paid_period(subscription: Subscription) -> Paid:
    """The days that were billed in advance. Raises ``BillingBehind`` when none were."""
    if subscription.period_start is None or subscription.period_end is None:
        raise BillingBehind(on=subscription.started_at.date().isoformat())
    zone = clock.zone(subscription.organisation)
    plan = subscription.plan_version.plan
    whole = period(
        anchor=subscription.anchor_on, interval=plan.interval, count=plan.interval_count,
        n=subscription.period_number, zone=zone,
    )  # fmt: skip
    return Paid(whole, local_date(subscription.period_start, zone), local_date(subscription.period_end, zone))


def _terms(subscription: Subscription, version: PlanVersion, quantity: int) -> Terms:
    books = price_books(subscription.organisation_id, [version.pk])
    add_ons = books.kept(version.pk, subscription.currency, subscription.add_ons)
    return Terms(books.get(version.pk, subscription.currency, add_ons), quantity)


def _restarts(old: Terms, new: Terms) -> bool:
    return (old.book.interval, old.book.interval_count) != (new.book.interval, new.book.interval_count)


def _new_period(subscription: Subscription, new: Terms, now: datetime) -> Moment:
    """The period that begins today under a plan of another interval."""
    zone = clock.zone(subscription.organisation)
    return billing_moment(
        anchor_on=local_date(now, zone), interval=new.book.interval, interval_count=new.book.interval_count, zone=zone,
        next_billing_at=now, period_number=-1, ends_at=subscription.ends_at,
    )  # fmt: skip


def _usage_of_old_plan(subscription: Subscription, version: PlanVersion, now: datetime) -> list[LineInput]:
    if version.pk == subscription.plan_version_id:
        return []
    return documents.usage_due(subscription=subscription, until=now)


def _require_today(subscription: Subscription, now: datetime) -> None:
    """A period that is not billed yet may take the new terms only while its first day lasts, or when it cannot be billed."""
    zone = clock.zone(subscription.organisation)
    assert subscription.next_billing_at is not None
    due_on: date = local_date(subscription.next_billing_at, zone)
    if due_on != local_date(now, zone) and not subscription.failure:
        raise BillingBehind(on=due_on.isoformat())


def _plan_for_later(
    subscription: Subscription, version: PlanVersion, quantity: int, now: datetime, actor: Actor, reason: str
) -> Changed:
    at = effective_at(subscription, now)
    _terms(subscription, version, quantity)  # refuses a plan without a price in the currency
    _cancel_planned(subscription)
    planned = None
    if (version.pk, quantity) != (subscription.plan_version_id, subscription.quantity):
        planned = PlannedChange.objects.create(
            organisation_id=subscription.organisation_id, subscription=subscription, plan_version=version,
            quantity=quantity, effective_at=at, created_at=now,
        )  # fmt: skip
    audit.record(
        actor=actor, action="subscription.change_planned", target=subscription, reason=reason, before=_terms_of(subscription),
        after={"plan_version": str(version.pk), "quantity": quantity, "effective_at": at.isoformat()},
    )  # fmt: skip
    rows.save(subscription)
    return Changed(subscription=subscription, planned=planned)


def effective_at(subscription: Subscription, now: datetime) -> datetime:
    """When a change "at the period's end" takes hold; a trial's end counts as one. Raises ``BillingBehind``."""
    trialing = subscription.status == rows.Status.TRIALING
    at = subscription.trial_ends_at if trialing else subscription.period_end
    if at is None or at <= now:
        due = subscription.next_billing_at or now
        raise BillingBehind(on=local_date(due, clock.zone(subscription.organisation)).isoformat())
    return at


def _cancel_planned(subscription: Subscription) -> bool:
    planned = rows.planned_change(subscription)
    if planned is None:
        return False
    planned.cancel()
    planned.save(update_fields=["status"])
    return True


def _note_period(subscription: Subscription, moment: Moment, at: datetime, issued: Issued) -> None:
    """A period that a change billed, beside those of the billing run; a test clock may stand still between two changes."""
    earlier = BilledPeriod.objects.filter(subscription=subscription, kind__startswith="change").count()
    BilledPeriod.objects.create(
        organisation_id=subscription.organisation_id, subscription=subscription, starts_at=moment.start,
        ends_at=moment.end, kind=f"change{earlier + 1}", invoice=issued.invoice, billed_at=at,
    )  # fmt: skip


def _terms_of(subscription: Subscription) -> dict[str, object]:
    return {
        "plan": subscription.plan_version.plan.code,
        "plan_version": str(subscription.plan_version_id),
        "quantity": subscription.quantity,
    }
