"""How long a subscription lasts, changed while it runs: its fixed end, its term, and whether another term follows.

An end is moved to any later time, or to an earlier one that lies ahead. What is charged past it already stays paid, or is given
back at once; then the time before the new end is all that is paid for, as if it had ended there from the beginning. An end that
moves on again is billed from there. Nothing that is over is touched.
"""

import uuid
from datetime import date, datetime
from typing import Any

from django.db import transaction

from billing.context import Actor
from subscriptions.errors import CancellationPlanned, InvalidSubscription, NothingToChange, NoticePassed
from subscriptions.models import Credit, Subscription
from subscriptions.periods import end_day, local_date, period_containing, start_of_day
from subscriptions.proration import SECOND
from subscriptions.rules import NOW, TERM_END, Term
from subscriptions.services import documents, rows, switches, terms
from subscriptions.services.agreements import LASTS_AT_MOST
from subscriptions.services.desk import Desk
from subscriptions.services.documents import Issued
from subscriptions.services.ending import Ended, check_credit
from subscriptions.services.rows import Status
from subscriptions.services.zones import zone_of
from subscriptions.switching import Terms, unused_lines

ASKED = ("term", "renews", "renewals")
"""What may be asked of a term, one at a time."""


@transaction.atomic
def change_end(
    *, subscription_id: uuid.UUID, actor: Actor, ends_at: datetime | None, credit: str = Credit.NONE, reason: str = ""
) -> Ended:
    """Give a subscription a fixed end, move it, or (None) take it away; a term that it has gives way to it.

    The day of the end is the last one charged; by the second, it is charged up to the end. ``credit``: what is charged past
    it stays paid (``none``), or is credited now (``prorated``), and the money goes back (``refund``).
    Raises ``InvalidSubscription`` for an end that is not ahead, ``NothingToChange``, ``TransitionRefused``,
    ``CancellationPlanned``, ``ProrationOff``, ``DraftNotPriced``.
    """
    subscription = rows.lock(subscription_id)
    desk = Desk(organisation=subscription.organisation, actor=actor)
    issued = change_end_row(subscription, desk, ends_at=ends_at, credit=credit, reason=reason)
    rows.save(subscription)
    return Ended(subscription=subscription, issued=issued)


def change_end_row(
    subscription: Subscription, desk: Desk, *, ends_at: datetime | None, credit: str = Credit.NONE, reason: str = ""
) -> Issued:
    """Change the fixed end of a row; the caller saves it."""
    _require_changeable(subscription)
    if ends_at is not None and not max(desk.now, subscription.started_at) < ends_at:
        raise InvalidSubscription("ends_at lies ahead, and after the start; cancel what ends now.", field="ends_at")
    if ends_at is not None and ends_at > subscription.started_at + LASTS_AT_MOST:
        raise InvalidSubscription("ends_at comes at most fifty years after the start.", field="ends_at")
    before = _duration(subscription)
    terms.begin(subscription, None, first_on=local_date(desk.now, zone_of(subscription)))
    subscription.ends_at = ends_at
    return _changed(subscription, desk, "end_changed", before, credit=credit, reason=reason)


@transaction.atomic
def change_term(*, subscription_id: uuid.UUID, actor: Actor, reason: str = "", **asked: Any) -> Ended:
    """Change the term of a subscription: one of ``term``, ``renews``, ``renewals``.

    ``term``: another term (None: none, open-ended), ``when`` it is ``now``, counted from the first day of the running period, or
    at the present end (``term_end``). ``renews``: whether another term follows as agreed; False ends the subscription with its
    term, or with the next one where the notice for this one has passed; True takes that, or a term planned to follow, back.
    ``renewals``: how often it renews itself from now on (None: for ever). ``credit`` as for ``change_end``.
    Raises what ``change_end`` raises, and ``NoticePassed`` for no renewals when the next one cannot be helped any more.
    """
    subscription = rows.lock(subscription_id)
    desk = Desk(organisation=subscription.organisation, actor=actor)
    issued = change_term_row(subscription, desk, reason=reason, **asked)
    rows.save(subscription)
    return Ended(subscription=subscription, issued=issued)


def change_term_row(
    subscription: Subscription, desk: Desk, *, when: str = "", credit: str = Credit.NONE, reason: str = "", **asked: Any
) -> Issued:
    """Change the term of a row; the caller saves it."""
    _require_changeable(subscription)
    if len(asked) != 1 or not asked.keys() <= {*ASKED}:
        raise InvalidSubscription(f"Give one of {', '.join(ASKED)}.", field="term")
    before, (name, value) = _duration(subscription), next(iter(asked.items()))
    if name != "term" and when:
        raise InvalidSubscription("when goes with a term.", field="when")
    if credit != Credit.NONE and not (name == "term" and when in ("", NOW)):
        raise InvalidSubscription("Only a term that is changed now can give something back.", field="credit")
    if name == "renews":
        (_renew_again if value else _stop_renewing)(subscription, desk.now)
    elif name == "renewals":
        _count_renewals(subscription, value, desk.now)
    else:
        _take_term(subscription, value, when or NOW, desk.now)
    return _changed(subscription, desk, "term_changed", before, credit=credit, reason=reason)


def _require_changeable(subscription: Subscription) -> None:
    if subscription.has_ended or subscription.status == Status.INCOMPLETE:
        raise rows.refusal(subscription, "be changed")
    if subscription.cancel_at is not None:
        raise CancellationPlanned(on=local_date(subscription.cancel_at, zone_of(subscription)).isoformat())


def _take_term(subscription: Subscription, term: Term | None, when: str, now: datetime) -> None:
    """Another term, or none, from now on or from the present end on."""
    if when == TERM_END:
        if subscription.ends_at is None:
            raise InvalidSubscription("The subscription has no end that another term could follow.", field="when")
        terms.plan_next(subscription, term)
        return
    if when != NOW:
        raise InvalidSubscription(f"when is {NOW} or {TERM_END}.", field="when")
    first_on = _counted_from(subscription, now)
    terms.begin(subscription, term, first_on=first_on)
    if subscription.ends_at is not None and subscription.ends_at <= now:
        raise InvalidSubscription(
            f"Counted from {first_on.isoformat()}, when the running period began, this term is over already.",
            field="term",
        )


def _counted_from(subscription: Subscription, now: datetime) -> date:
    """The first day of a term that is agreed on now: that of the running period, or of the paid time where that is later."""
    zone, plan = zone_of(subscription), subscription.plan_version.plan
    first_on = local_date(subscription.trial_ends_at or subscription.started_at, zone)
    if subscription.status in rows.NOT_STARTED:
        return first_on
    found = period_containing(
        anchor=subscription.anchor_on, interval=plan.interval, count=plan.interval_count, at=now, zone=zone
    )
    return max(found.first_on, first_on)


def _stop_renewing(subscription: Subscription, now: datetime) -> None:
    """No term after this one; where its notice has passed, none after the next."""
    if not terms.renews(subscription):
        raise _nothing_renews(subscription, "renews")
    notice_until = terms.notice_until(subscription)
    if subscription.next_term == {} or (notice_until is not None and now <= notice_until):
        subscription.next_term = None
        subscription.last_term = subscription.term_number if subscription.term_interval else None
    elif subscription.next_term is not None:
        subscription.next_term = subscription.next_term | {"renewals": 0}
    else:
        subscription.last_term = subscription.term_number + 1


def _renew_again(subscription: Subscription, now: datetime) -> None:
    """As it was agreed: what was asked, or planned to follow, is taken back."""
    if subscription.last_term is None and subscription.next_term is None and terms.renews(subscription):
        raise NothingToChange("The term renews itself already.")
    if not subscription.term_interval:
        raise _nothing_renews(subscription, "renews")
    if subscription.renewals_left == 0:
        raise InvalidSubscription("No renewals are left; say in renewals how many there are.", field="renews")
    subscription.last_term = subscription.next_term = None


def _count_renewals(subscription: Subscription, renewals: int | None, now: datetime) -> None:
    """The present term renews itself so many times, whatever was asked or planned before."""
    if not subscription.term_interval:
        raise _nothing_renews(subscription, "renewals")
    notice_until = terms.notice_until(subscription)
    if renewals == 0 and terms.renews(subscription) and notice_until is not None and now > notice_until:
        raise NoticePassed(on=local_date(notice_until, zone_of(subscription)).isoformat(), field="renewals")
    subscription.last_term = subscription.next_term = None
    subscription.renewals_left = renewals


def _nothing_renews(subscription: Subscription, field: str) -> NothingToChange | InvalidSubscription:
    if subscription.term_interval:
        return NothingToChange("No term follows this one already.")
    return InvalidSubscription("The subscription has no term; give it one in term.", field=field)


def _changed(
    subscription: Subscription, desk: Desk, news: str, before: dict[str, Any], *, credit: str, reason: str
) -> Issued:
    """Keep and tell what was changed, and give back what is charged past the end."""
    check_credit(subscription, credit)
    after = _duration(subscription)
    if after == before:
        raise NothingToChange("This is how long the subscription lasts already.")
    issued = _give_back(subscription, desk, credit, reason) if credit != Credit.NONE else Issued()
    desk.record(news, subscription, reason=reason, before=before, after=after)
    desk.tell(news, subscription, at=desk.now, ends_at=after["ends_at"], renews=terms.renews(subscription))
    return issued


def _give_back(subscription: Subscription, desk: Desk, credit: str, reason: str) -> Issued:
    """Credit what is charged past the end. The end is the end of the paid period then, and the next billing moment."""
    ends_at, paid_until = subscription.ends_at, subscription.period_end
    if ends_at is None or paid_until is None or subscription.status in rows.NOT_STARTED:
        return Issued()
    zone = zone_of(subscription)
    unused_from = ends_at if subscription.proration == SECOND else start_of_day(end_day(ends_at, zone), zone)
    if unused_from >= paid_until:
        return Issued()
    desk.end_grace(subscription)
    paid, book = switches.paid_period(subscription), rows.book_of(subscription)
    first_on = local_date(unused_from, zone)
    planned = documents.plan(
        subscription=subscription, lines=unused_lines(old=Terms(book, subscription.quantity), paid=paid, at=unused_from),
        claims=lambda: desk.claims(subscription, first_on), held=lambda: desk.held(subscription), books=[book],
        credit_from=first_on, first_on=first_on, last_on=paid.last_on, at=desk.now, inclusive=book.inclusive,
    )  # fmt: skip
    issued = desk.issue(subscription, planned, reason=reason or "Earlier end of the subscription")
    if credit == Credit.REFUND:
        desk.refund(subscription, issued)
    if subscription.next_billing_at == paid_until:
        subscription.next_billing_at = unused_from
    subscription.period_end = unused_from
    return issued


def _duration(subscription: Subscription) -> dict[str, Any]:
    """How long it lasts, as the audit trail keeps it."""
    term = terms.term_of(subscription)
    return {
        "ends_at": subscription.ends_at.isoformat() if subscription.ends_at else None,
        "term": f"{term.count} {term.interval}" if term else None,
        "counted_from": subscription.term_anchor_on.isoformat() if subscription.term_anchor_on else None,
        "renewals": term.renewals if term else None,
        "notice_days": term.notice_days if term else None,
        "last_term": subscription.last_term,
        "next_term": subscription.next_term,
    }
