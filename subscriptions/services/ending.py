"""How a subscription ends: cancelled now, at the period's or term's end, on a date; expired; renewed instead; taken up again."""

import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import transaction

from billing.context import Actor
from invoices.drafts import LineInput
from subscriptions.arrears import charged_today
from subscriptions.errors import ChangePlanned, InvalidSubscription, PeriodOver, ProrationOff
from subscriptions.models import Credit, Subscription
from subscriptions.periods import local_date, start_of_day
from subscriptions.proration import NONE as WHOLE
from subscriptions.proration import SECOND
from subscriptions.rules import FREE, NOW, PERIOD_END, TERM_END
from subscriptions.services import documents, rows, switches, terms
from subscriptions.services.desk import Desk
from subscriptions.services.documents import Documents, Issued
from subscriptions.services.rows import Status
from subscriptions.services.zones import zone_of
from subscriptions.switching import Terms, unused_lines

ON_DATE = "on_date"
AHEAD_AT_MOST = timedelta(days=5 * 366)
_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The subscription after a pause or an end, and what was issued by it."""

    subscription: Subscription
    issued: Issued = field(default_factory=Issued)


@transaction.atomic
def cancel(
    *,
    subscription_id: uuid.UUID,
    actor: Actor,
    when: str = NOW,
    on: datetime | None = None,
    credit: str = Credit.NONE,
    waive_unbilled: bool = False,
    reason: str = "",
) -> Ended:
    """End the agreement ``now``, at ``period_end`` (a trial: at its end), at ``term_end``, or ``on`` a time.

    Unbilled usage is invoiced. ``credit``: nothing, a credit note for what is paid and not used (``prorated``), or that
    and the money back (``refund``). Without a paid period that still runs, ``period_end`` means now; a term whose notice
    has passed is followed by another one. A subscription of which a period could not be billed is ended now only with
    ``waive_unbilled``, which gives that period up.
    Raises ``TransitionRefused``, ``InvalidSubscription``, ``ProrationOff``, ``BillingBehind``, ``DraftNotPriced``.
    """
    subscription = rows.lock(subscription_id)
    desk = Desk(organisation=subscription.organisation, actor=actor)
    issued = cancel_row(
        subscription, desk, when=when, on=on, credit=credit, waive_unbilled=waive_unbilled, reason=reason
    )
    rows.save(subscription)
    return Ended(subscription=subscription, issued=issued)


def cancel_row(
    subscription: Subscription, desk: Desk, *, when: str = NOW, on: datetime | None = None, credit: str = Credit.NONE,
    waive_unbilled: bool = False, reason: str = "",
) -> Issued:  # fmt: skip
    """Cancel a row, now or for later; the caller saves it."""
    if subscription.has_ended:
        raise rows.refusal(subscription, "be cancelled")
    _check_credit(subscription, credit)
    at = _ends_at(subscription, when, on, desk.now)
    if at is None or at <= desk.now:
        if waive_unbilled:
            _waive(subscription, desk, reason)
        issued = end(subscription, desk, until=desk.now, credit=credit, reason=reason)
        desk.record("cancelled", subscription, reason=reason)
        return issued
    subscription.cancel_at, subscription.cancel_credit, subscription.cancel_reason = at, credit, reason
    desk.record(
        "cancellation_planned", subscription, reason=reason, after={"cancel_at": at.isoformat(), "credit": credit}
    )
    return Issued()


@transaction.atomic
def uncancel(*, subscription_id: uuid.UUID, actor: Actor, reason: str = "") -> Subscription:
    """Take a planned cancellation back. Raises ``ChangePlanned`` when there is none."""
    subscription = rows.lock(subscription_id)
    uncancel_row(subscription, Desk(organisation=subscription.organisation, actor=actor), reason=reason)
    rows.save(subscription)
    return subscription


def uncancel_row(subscription: Subscription, desk: Desk, *, reason: str = "") -> Issued:
    """Take the planned cancellation of a row back; the caller saves it."""
    if subscription.has_ended:
        raise rows.refusal(subscription, "be uncancelled")
    if subscription.cancel_at is None:
        raise ChangePlanned(what="planned cancellation")
    subscription.cancel_at, subscription.cancel_reason, subscription.cancel_credit = None, "", Credit.NONE
    desk.record("uncancelled", subscription, reason=reason)
    return Issued()


def end(
    subscription: Subscription, desk: Desk, *, until: datetime, credit: str = Credit.NONE, reason: str = "",
    expired: bool = False,
) -> Issued:  # fmt: skip
    """End a row as of ``until``: bill what was used, give back what was asked for, drop plans; the caller saves it."""
    if subscription.status == Status.INCOMPLETE:
        desk.annul_unpaid(subscription, reason=reason or "Cancelled before the first payment")
    issued = settle(subscription, desk, until=until, credit=credit, reason=reason or "End of the subscription")
    if expired:
        with rows.refusing(subscription, "expire"):
            subscription.expire()
    else:
        with rows.refusing(subscription, "be cancelled"):
            subscription.cancel(at=until, reason=reason or subscription.cancel_reason)
    for change in desk.planned(subscription):
        desk.close(change, applied=False)
    subscription.cancel_at = None
    if subscription.failure:
        desk.mended(subscription)
    desk.tell("expired" if expired else "cancelled", subscription, at=until)
    return issued


def _waive(subscription: Subscription, desk: Desk, reason: str) -> None:
    """Give up what is due and was set aside; the usage of that time with it."""
    due_at = subscription.next_billing_at
    if not subscription.failure or due_at is None or due_at > desk.now:
        return
    desk.record(
        "unbilled_waived",
        subscription,
        reason=reason,
        before={"due_at": due_at.isoformat(), "failure": subscription.failure},
    )
    subscription.next_billing_at = subscription.usage_from = None


def settle(subscription: Subscription, desk: Desk, *, until: datetime, credit: str, reason: str) -> Issued:
    """Bill the usage up to ``until`` and give back what is paid and not used, which is then paid for no longer."""
    if subscription.status in rows.NOT_STARTED or subscription.status == Status.INCOMPLETE:
        return Issued()
    rows.require_billed(subscription, until)
    desk.end_grace(subscription)
    used_from = subscription.usage_from
    unused_from = _unused_from(subscription, until) if credit != Credit.NONE else None
    issued = desk.issue(subscription, _last_documents(subscription, desk, until, unused_from), reason=reason)
    if issued.invoice is not None and used_from is not None:
        desk.note_period(subscription, starts_at=used_from, ends_at=until, kind="final", issued=issued)
    if credit == Credit.REFUND:
        desk.refund(subscription, issued)
    if unused_from is not None and subscription.period_end is not None:
        subscription.period_end = min(subscription.period_end, unused_from)
    subscription.usage_from = subscription.usage_version = None
    subscription.earlier_terms = []
    return issued


def _last_documents(subscription: Subscription, desk: Desk, until: datetime, unused_from: datetime | None) -> Documents:
    zone = zone_of(subscription)
    today = local_date(until, zone)
    lines: list[LineInput] = documents.usage_due(subscription=subscription, until=until, at_end=True)
    credit_from = today if unused_from is None else local_date(unused_from, zone)
    if unused_from is not None and subscription.period_end is not None and subscription.period_end > unused_from:
        old = Terms(rows.book_of(subscription), subscription.quantity)
        lines += unused_lines(old=old, paid=switches.paid_period(subscription), at=unused_from)
    first_on = min((line.period_start or today for line in lines), default=today)
    return documents.plan(
        subscription=subscription, lines=lines, claims=lambda: desk.claims(subscription, credit_from),
        held=lambda: desk.held(subscription), books=[rows.book_of(subscription)],
        credit_from=credit_from, first_on=first_on, last_on=today, at=desk.now, inclusive=rows.book_of(subscription).inclusive,
    )  # fmt: skip


def _unused_from(subscription: Subscription, until: datetime) -> datetime:
    """From when on nothing is used: by the second at once, by the day after the last day (or with it, by the rules)."""
    if subscription.proration == SECOND:
        return until
    zone = zone_of(subscription)
    today = local_date(until, zone)
    if start_of_day(today, zone) == until or rows.rules_for(subscription).last_day == FREE:
        return start_of_day(today, zone)
    return start_of_day(today + _ONE_DAY, zone)


def _check_credit(subscription: Subscription, credit: str) -> None:
    if credit not in Credit.values:
        raise InvalidSubscription(f"credit is one of {', '.join(Credit.values)}.", field="credit")
    if credit != Credit.NONE and subscription.proration == WHOLE:
        raise ProrationOff(field="credit")


def check_credit(subscription: Subscription, credit: str) -> None:
    """Raise ``ProrationOff`` when the subscription gives nothing back, ``InvalidSubscription`` for an unknown choice."""
    _check_credit(subscription, credit)


def _ends_at(subscription: Subscription, when: str, on: datetime | None, now: datetime) -> datetime | None:
    """The end that is asked for; None: now."""
    if on is not None:
        if when not in (NOW, ON_DATE):
            raise InvalidSubscription("Give either when or on.", field="on")
        if not now < on <= now + AHEAD_AT_MOST:
            raise InvalidSubscription("on lies in the future, at most five years ahead.", field="on")
        if on <= subscription.started_at:
            raise InvalidSubscription("on comes after the start; cancel now what has not begun.", field="on")
        last_end = terms.last_end(subscription)
        if last_end is not None and on > last_end:
            raise InvalidSubscription("The subscription ends before that day by itself.", field="on")
        return on
    if when == ON_DATE:
        raise InvalidSubscription("Say the time in on.", field="on")
    if when == TERM_END:
        return _term_ends_at(subscription, now)
    return runs_until(subscription) if when == PERIOD_END else None


def runs_until(subscription: Subscription) -> datetime | None:
    """The end of what is paid for, or of the trial."""
    if subscription.status == Status.TRIALING:
        return subscription.trial_ends_at
    return None if subscription.status in (Status.PENDING, Status.INCOMPLETE) else subscription.period_end


def _term_ends_at(subscription: Subscription, now: datetime) -> datetime | None:
    """The end of the present term, or of the next one when the notice for this one has passed."""
    if not subscription.term_interval or subscription.ends_at is None:
        raise InvalidSubscription("The subscription has no term; choose now, period_end or a date.", field="when")
    notice_until = terms.notice_until(subscription)
    if notice_until is None or now <= notice_until or not terms.renews(subscription):
        return subscription.ends_at
    return terms.following_end(subscription) or subscription.ends_at


def go_on(subscription: Subscription, *, ended_at: datetime | None, at: datetime) -> None:
    """A row goes on that was settled at ``ended_at``: where that is today, what is charged afterwards begins tomorrow."""
    zone = zone_of(subscription)
    today = local_date(at, zone)
    if ended_at is not None and local_date(ended_at, zone) == today and start_of_day(today, zone) < ended_at:
        subscription.earlier_terms = charged_today(
            row=subscription, book=rows.book_of(subscription), today=today, zone=zone
        )


@transaction.atomic
def reactivate(*, subscription_id: uuid.UUID, actor: Actor, reason: str = "") -> Subscription:
    """Take up a subscription that was cancelled within the time it paid for: it goes on as if it had not been.

    Raises ``TransitionRefused`` when it is not cancelled, ``PeriodOver`` when nothing paid is left.
    """
    subscription = rows.lock(subscription_id)
    reactivate_row(subscription, Desk(organisation=subscription.organisation, actor=actor), reason=reason)
    rows.save(subscription)
    return subscription


def reactivate_row(subscription: Subscription, desk: Desk, *, reason: str = "") -> Issued:
    """Take a cancelled row up again; the caller saves it."""
    now, paid_until = desk.now, subscription.period_end
    if subscription.status != Status.CANCELLED:
        raise rows.refusal(subscription, "be reactivated")
    over = subscription.ends_at is not None and subscription.ends_at <= now
    if paid_until is None or paid_until <= now or over:
        raise PeriodOver
    ended_at = subscription.cancelled_at
    with rows.refusing(subscription, "be reactivated"):
        subscription.reactivate()
    subscription.usage_from, subscription.next_billing_at = now, paid_until
    go_on(subscription, ended_at=ended_at, at=now)
    desk.record("reactivated", subscription, reason=reason)
    desk.tell("reactivated", subscription, at=now)
    desk.keep_standing(subscription, at=now)
    return Issued()
