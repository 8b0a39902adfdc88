"""When a declined payment is tried again, when the customer is asked, when it is given up. Pure.

* soft: 1, 3, 5 and 7 days after the first decline, between 7 and 8 in the morning of the organisation (after salaries
  are booked, outside the hours in which UPI debits are not executed)
* technical: 15 minutes, 1 hour, 6 hours, 1 day, 2 days
* authentication, customer action: a page for the customer, three of them at most
* hard, fraud: given up until there is a new method
* config: 1 hour, then every day for two weeks (somebody is told), and at once when the account is mended; never a try of the customer
* never more than 8 debits of one payment nor 15 of one method in 30 days (rules of the card networks)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from zoneinfo import ZoneInfo

from moneyed import Money

from payments.gateways.base import DeclineClass

SOFT_DAYS = (1, 3, 5, 7)
BEST_HOUR = time(7, 0)
TECHNICAL_WAITS = (
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=6),
    timedelta(days=1),
    timedelta(days=2),
)
CONFIG_WAITS = (timedelta(hours=1), *(timedelta(days=1),) * 14)
AMBIGUOUS_WAITS = (timedelta(hours=1), timedelta(hours=12), timedelta(days=2))
MAX_PAGES = 3
MAX_DEBITS = 8
MAX_DEBITS_OF_METHOD = 15
METHOD_WINDOW = timedelta(days=30)
PAGE_OPEN_FOR = timedelta(days=14)

# RBI: recurring debits by card and UPI above this need the customer each time; e-mandates have their own limit.
CUSTOMER_NEEDED_ABOVE = {("razorpay", "card"): Decimal(15000), ("razorpay", "upi"): Decimal(15000)}


class Move(StrEnum):
    """What happens next."""

    RETRY = "retry"
    ASK_CUSTOMER = "ask_customer"
    GIVE_UP = "give_up"


@dataclass(frozen=True, kw_only=True)
class History:
    """What was tried so far, the present decline included."""

    declines: Mapping[str, int] = field(default_factory=dict)
    first_declined_at: datetime | None = None
    debits: int = 0
    debits_of_method: int = 0
    pages: int = 0


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A move, and when."""

    move: Move
    at: datetime | None = None


GIVE_UP = Decision(move=Move.GIVE_UP)


def decide(*, decline_class: str, history: History, now: datetime, zone: ZoneInfo, seed: str) -> Decision:
    """The next move after a decline. ``seed`` spreads payments over the hour, the same for the same payment."""
    match decline_class:
        case DeclineClass.AUTHENTICATION | DeclineClass.CUSTOMER_ACTION:
            return GIVE_UP if history.pages >= MAX_PAGES else Decision(move=Move.ASK_CUSTOMER, at=now)
        case DeclineClass.HARD | DeclineClass.FRAUD:
            return GIVE_UP
    if history.debits >= MAX_DEBITS or history.debits_of_method >= MAX_DEBITS_OF_METHOD:
        return GIVE_UP
    seen = max(history.declines.get(decline_class, 1), 1)
    match decline_class:
        case DeclineClass.TECHNICAL:
            return _after(TECHNICAL_WAITS, seen, now, seed)
        case DeclineClass.AMBIGUOUS:
            return _after(AMBIGUOUS_WAITS, seen, now, seed)
        case DeclineClass.CONFIG:
            return _after(CONFIG_WAITS, seen, now, seed)
    return _on_a_day(history.first_declined_at or now, seen, now, zone, seed)


def _after(waits: tuple[timedelta, ...], seen: int, now: datetime, seed: str) -> Decision:
    if seen > len(waits):
        return GIVE_UP
    wait = waits[seen - 1]
    return Decision(move=Move.RETRY, at=now + wait + wait * (_spread(seed, seen) / 10_000))  # up to a tenth more


def _on_a_day(first: datetime, seen: int, now: datetime, zone: ZoneInfo, seed: str) -> Decision:
    if seen > len(SOFT_DAYS):
        return GIVE_UP
    earliest = max(first + timedelta(days=SOFT_DAYS[seen - 1] - 1), now)
    day = earliest.astimezone(zone).date() + timedelta(days=1)
    at = datetime.combine(day, BEST_HOUR, tzinfo=zone).astimezone(UTC)
    return Decision(move=Move.RETRY, at=at + timedelta(hours=1) * (_spread(seed, seen) / 1000))


def _spread(seed: str, n: int) -> int:
    """A number below 1,000 that belongs to the seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{n}".encode()).digest()[:4], "big") % 1000


def needs_customer(*, provider: str, kind: str, amount: Money, limit: Money | None) -> bool:
    """Whether a debit of ``amount`` needs the customer: above the mandate's own limit or the regulator's."""
    if limit is not None and limit.currency == amount.currency and amount.amount > limit.amount:
        return True
    bound = CUSTOMER_NEEDED_ABOVE.get((provider, kind))
    return bound is not None and amount.currency.code == "INR" and amount.amount > bound
