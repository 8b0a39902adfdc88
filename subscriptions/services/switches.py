"""Putting new terms on a subscription, at once or at a billing moment: what that issues, and how the row stands afterwards."""

from dataclasses import dataclass, field
from datetime import date, datetime

from invoices.drafts import LineInput
from subscriptions import proration
from subscriptions.arrears import noted_terms
from subscriptions.errors import (
    BillingBehind,
    InvalidSubscription,
)
from subscriptions.lines import Moment, billing_moment, lines_in_advance
from subscriptions.models import PlanVersion, Subscription
from subscriptions.periods import end_day, local_date, period
from subscriptions.rules import CONTINUE
from subscriptions.selectors import price_books
from subscriptions.services import documents, rows
from subscriptions.services.desk import Desk
from subscriptions.services.documents import Documents, Issued
from subscriptions.services.zones import zone_of
from subscriptions.switching import Paid, Terms, switch_lines, unused_lines


@dataclass(frozen=True, kw_only=True)
class Switch:
    """A change, worked out: the new terms, the documents it makes now and the new period, if one begins."""

    version: PlanVersion
    quantity: int
    at: datetime
    documents: Documents = field(default_factory=Documents)
    new_period: Moment | None = None
    moves_usage: bool = False
    at_boundary: bool = False


def switch_now(
    subscription: Subscription,
    desk: Desk,
    *,
    version: PlanVersion,
    quantity: int,
    at: datetime,
    prorate: bool,
    reason: str,
) -> Issued:
    """Put new terms on a row from ``at`` on and issue what that makes; the caller saves it."""
    desk.end_grace(subscription)
    switch = plan_switch(subscription, desk, version=version, quantity=quantity, at=at, prorate=prorate)
    issued = desk.issue(subscription, switch.documents, reason=reason or "Change of the subscription")
    apply_switch(subscription, switch)
    if switch.new_period is not None:
        moment = switch.new_period
        desk.note_period(subscription, starts_at=moment.start, ends_at=moment.end, kind="change", issued=issued)
    return issued


def plan_switch(
    subscription: Subscription, desk: Desk, *, version: PlanVersion, quantity: int, at: datetime, prorate: bool
) -> Switch:
    """Work a change out that takes hold at ``at``. Reads only: the preview shows the same."""
    old, new = (
        _terms(subscription, subscription.plan_version, subscription.quantity),
        _terms(subscription, version, quantity),
    )
    if subscription.status in rows.NOT_STARTED:
        return Switch(version=version, quantity=quantity, at=at)
    billing_at = subscription.next_billing_at
    if billing_at is not None and billing_at <= at:
        return Switch(version=version, quantity=quantity, at=billing_at, at_boundary=True)
    paid = paid_period(subscription)
    moves = version.pk != subscription.plan_version_id and not _usage_goes_on(subscription, old, new)
    usage = documents.usage_due(subscription=subscription, until=at) if moves else []
    credit_from = first_on = paid.first_on(at)
    last_on = paid.last_on
    moment, lines = None, list[LineInput]()
    if _restarts(old, new):
        if not prorate:
            raise InvalidSubscription(
                "Another interval begins a new period: prorate it, or change at period_end.", field="prorate"
            )
        moment = _new_period(subscription, new, at)
        lines = unused_lines(old=old, paid=paid, at=at)
        lines += lines_in_advance(moment=moment, book=new.book, quantity=quantity)
        first_on, last_on = moment.first_on, moment.last_on
    elif prorate:
        lines = switch_lines(old=old, new=new, paid=paid, at=at)
    planned = documents.plan(
        subscription=subscription, lines=[*lines, *usage], claims=lambda: desk.claims(subscription, credit_from),
        held=lambda: desk.held(subscription), books=[new.book, old.book],
        credit_from=credit_from, first_on=first_on, last_on=last_on, at=desk.now, inclusive=new.book.inclusive,
    )  # fmt: skip
    return Switch(version=version, quantity=quantity, at=at, documents=planned, new_period=moment, moves_usage=moves)


def _usage_goes_on(subscription: Subscription, old: Terms, new: Terms) -> bool:
    """Whether usage before a change is priced, as a whole, by the new plan when the period ends.

    Only with the rule ``usage_after_change: continue`` and the same meters in both plans; by default usage so far is billed
    by the old prices at once, and tiers begin anew.
    """
    same_meters = frozenset(old.book.meter_ids) == frozenset(new.book.meter_ids)
    goes_on = rows.rules_for(subscription).usage_after_change == CONTINUE
    return goes_on and same_meters and not _restarts(old, new)


def waits_for_period_end(subscription: Subscription, version: PlanVersion, at: datetime) -> bool:
    """Whether a change that is not prorated cannot take hold at ``at``: it begins a period of another length within one."""
    if subscription.status in rows.NOT_STARTED or subscription.next_billing_at is None:
        return False
    old, new = subscription.plan_version.plan, version.plan
    differs = (old.interval, old.interval_count) != (new.interval, new.interval_count)
    return differs and at < subscription.next_billing_at


def apply_switch(subscription: Subscription, switch: Switch) -> None:
    """Put the new terms on the row, which the caller saves (or, for a preview, does not)."""
    if switch.at_boundary or subscription.status in rows.NOT_STARTED:
        switch_at_boundary(subscription, switch.version, switch.quantity, switch.at)
        return
    if switch.moves_usage:
        subscription.usage_from, subscription.earlier_terms = switch.at, []
    else:
        note_terms(subscription, until_on=local_date(switch.at, zone_of(subscription)))
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
        note_terms(subscription, until_on=end_day(subscription.period_end, zone_of(subscription)))
    if version.pk != old.pk and subscription.usage_from is not None and subscription.usage_version_id is None:
        subscription.usage_version = old
    take_terms(subscription, version, quantity)
    subscription.failure = ""
    if (old.plan.interval, old.plan.interval_count) != (version.plan.interval, version.plan.interval_count):
        started = subscription.status not in rows.NOT_STARTED
        if started:
            subscription.anchor_on = local_date(at, zone_of(subscription))
        subscription.period_number = 0


def note_terms(subscription: Subscription, *, until_on: date) -> None:
    """Keep on the row that its present terms were in force up to ``until_on``, where its prices look back."""
    if subscription.usage_from is not None and subscription.usage_version_id is None:
        zone = zone_of(subscription)
        book = rows.book_of(subscription)
        subscription.earlier_terms = noted_terms(row=subscription, book=book, next_on=until_on, zone=zone)


def take_terms(subscription: Subscription, version: PlanVersion, quantity: int) -> None:
    """Put version and quantity on the row; add-ons that the version does not offer fall away."""
    if version.pk != subscription.plan_version_id and subscription.add_ons:
        books = price_books(subscription.organisation_id, [version.pk])
        subscription.add_ons = books.kept(version.pk, subscription.currency, subscription.add_ons)
    subscription.plan_version, subscription.quantity = version, quantity


def paid_period(subscription: Subscription) -> Paid:
    """The time that was billed in advance. Raises ``BillingBehind`` when none was."""
    if subscription.period_start is None or subscription.period_end is None:
        raise BillingBehind(on=subscription.started_at.date().isoformat())
    zone = zone_of(subscription)
    plan = subscription.plan_version.plan
    whole = period(
        anchor=subscription.anchor_on, interval=plan.interval, count=plan.interval_count,
        n=subscription.period_number, zone=zone,
    )  # fmt: skip
    return Paid(whole, subscription.period_start, subscription.period_end, zone, subscription.proration)


def _terms(subscription: Subscription, version: PlanVersion, quantity: int) -> Terms:
    books = price_books(subscription.organisation_id, [version.pk])
    add_ons = books.kept(version.pk, subscription.currency, subscription.add_ons)
    return Terms(books.get(version.pk, subscription.currency, add_ons), quantity)


def _restarts(old: Terms, new: Terms) -> bool:
    return (old.book.interval, old.book.interval_count) != (new.book.interval, new.book.interval_count)


def _new_period(subscription: Subscription, new: Terms, at: datetime) -> Moment:
    """The period that begins on the day of ``at`` under a plan of another interval; by the second, at that moment."""
    zone = zone_of(subscription)
    day = local_date(at, zone)
    return billing_moment(
        anchor_on=day, interval=new.book.interval, interval_count=new.book.interval_count, zone=zone,
        next_billing_at=at, period_number=-1, ends_at=subscription.ends_at, proration=subscription.proration,
        exact_start=subscription.proration == proration.SECOND,
    )  # fmt: skip
