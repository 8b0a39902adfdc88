"""Fixed ends and terms of a subscription's row: when the agreement ends, and what follows then.

``ends_at`` is a fixed end, or the end of the present term. At that time the term that was agreed for it takes its place
(``next_term``), else the term renews itself: as often as agreed (``renewals_left``), and not after ``last_term``, where somebody
asked so. What is followed by nothing expires.
"""

from dataclasses import asdict
from datetime import date, datetime, timedelta

from subscriptions.models import Subscription
from subscriptions.periods import InvalidInterval, boundary_on, end_day, start_of_day
from subscriptions.rules import Term
from subscriptions.services.desk import Desk
from subscriptions.services.zones import zone_of


def begin(subscription: Subscription, term: Term | None, *, first_on: date) -> None:
    """Put a term on the row, counted from ``first_on``; None: none, it is open-ended. The caller saves it."""
    subscription.last_term = subscription.next_term = None
    subscription.term_number = 0
    subscription.term_interval, subscription.term_count = (term.interval, term.count) if term else ("", 0)
    subscription.term_anchor_on = first_on if term else None
    subscription.renewals_left = term.renewals if term else None
    subscription.notice_days = term.notice_days if term else 0
    subscription.ends_at = term_end(subscription, 0) if term else None


def term_of(subscription: Subscription) -> Term | None:
    """The present term, as often as it still renews; None: it has none."""
    if not subscription.term_interval:
        return None
    return Term(
        interval=subscription.term_interval, count=subscription.term_count, renewals=subscription.renewals_left,
        notice_days=subscription.notice_days,
    )  # fmt: skip


def plan_next(subscription: Subscription, term: Term | None) -> None:
    """Agree on what follows at the end: a term, or (None) no end any more. The caller saves the row."""
    subscription.next_term, subscription.last_term = asdict(term) if term else {}, None


def next_of(subscription: Subscription) -> Term | None:
    """The term that was agreed to follow; None: none was, or it goes on open-ended."""
    return Term(**subscription.next_term) if subscription.next_term else None


def renews(subscription: Subscription) -> bool:
    """Whether it goes on at its present end, unless it is cancelled."""
    if subscription.next_term is not None:
        return True
    is_last = subscription.last_term is not None and subscription.last_term <= subscription.term_number
    return bool(subscription.term_interval) and subscription.renewals_left != 0 and not is_last


def notice_until(subscription: Subscription) -> datetime | None:
    """Until when notice is in time for the present end; None: it has none."""
    return None if subscription.ends_at is None else subscription.ends_at - timedelta(days=subscription.notice_days)


def term_end(subscription: Subscription, number: int) -> datetime:
    """When term ``number`` (0: the first) ends."""
    assert subscription.term_anchor_on is not None
    return _end_of(subscription, term_of(subscription), subscription.term_anchor_on, number)


def following_end(subscription: Subscription) -> datetime | None:
    """The end of the term that follows the present end; None: there is none, it goes on open-ended."""
    if subscription.next_term is None:
        return term_end(subscription, subscription.term_number + 1)
    term = next_of(subscription)
    return _end_of(subscription, term, _next_anchor(subscription), 0) if term else None


def last_end(subscription: Subscription) -> datetime | None:
    """When it ends by itself, all renewals counted; None: it goes on until somebody ends it."""
    if subscription.ends_at is None or not renews(subscription):
        return subscription.ends_at
    term = term_of(subscription) if subscription.next_term is None else next_of(subscription)
    left = term.renewals if term else None
    number = subscription.term_number if subscription.next_term is None else 0
    last = None if left is None else number + left
    if subscription.last_term is not None and subscription.next_term is None:
        last = subscription.last_term if last is None else min(last, subscription.last_term)
    if last is None:
        return None
    anchor = subscription.term_anchor_on if subscription.next_term is None else _next_anchor(subscription)
    assert anchor is not None
    try:
        return _end_of(subscription, term, anchor, last)
    except InvalidInterval:  # beyond the calendar
        return None


def renew(subscription: Subscription, desk: Desk, *, at: datetime) -> None:
    """The term is over and what was agreed follows; the caller saves the row."""
    if subscription.next_term is not None:
        begin(subscription, next_of(subscription), first_on=_next_anchor(subscription))
    else:
        subscription.term_number += 1
        if subscription.renewals_left is not None:
            subscription.renewals_left -= 1
        subscription.ends_at = term_end(subscription, subscription.term_number)
    ends_at = subscription.ends_at
    desk.tell("term_renewed", subscription, at=at, ends_at=ends_at.isoformat() if ends_at else None)


def _next_anchor(subscription: Subscription) -> date:
    """The first day after the present end, from which the next term is counted."""
    assert subscription.ends_at is not None
    return end_day(subscription.ends_at, zone_of(subscription))


def _end_of(subscription: Subscription, term: Term | None, anchor: date, number: int) -> datetime:
    assert term is not None
    day = boundary_on(anchor=anchor, interval=term.interval, count=term.count, n=number + 1)
    return start_of_day(day, zone_of(subscription))
