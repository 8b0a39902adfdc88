"""What a part of a period costs. Pure and exact: a period split anywhere, any number of times, costs what it costs whole.

Counted in local days, or in seconds. Units [a, b) of a period of N units cost ``round(price × b / N) − round(price × a / N)``:
the parts are differences of one running total, so whatever rounding adds to one part it takes from the next.

By the *day* a day begun counts as a whole. By the *second* only the first charge of a period counts its first day as a whole,
so that who comes in the afternoon pays a whole month for a month. With *none* a period begun is charged whole, once.
"""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from zoneinfo import ZoneInfo

from moneyed import Money

from billing import money
from billing.errors import InvalidInput
from subscriptions.periods import Period, end_day, local_date, start_of_day

DAY, SECOND, NONE = "day", "second", "none"
SECONDS = "seconds"

_EXACT = Context(prec=80, rounding=ROUND_HALF_UP)


class InvalidPart(InvalidInput):
    """A part of a period ends before it begins or lies outside of the period."""

    code = "invalid_part"
    message = "{first} to {last} is not a part of a period of {total} days or seconds."


@dataclass(frozen=True, slots=True)
class Part:
    """Days (or seconds) [first, last) of a period of ``total`` of them."""

    first: int
    last: int
    total: int
    unit: str = "days"

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last <= self.total or self.total < 1:
            raise InvalidPart(first=self.first, last=self.last, total=self.total)

    @property
    def days(self) -> int:
        """Units in the part: days, or seconds where the period is counted in those."""
        return self.last - self.first

    @property
    def is_whole(self) -> bool:
        """Whether the part is the whole period."""
        return self.days == self.total

    def __str__(self) -> str:
        return f"{self.days} of {self.total} {self.unit}"


def part_of(period: Period, *, first_on: date, next_on: date) -> Part:
    """The days [first_on, next_on) of ``period``, cut to it."""
    first = min(max((first_on - period.first_on).days, 0), period.days)
    last = min(max((next_on - period.first_on).days, first), period.days)
    return Part(first, last, period.days)


def seconds_of(period: Period, *, start: datetime, end: datetime) -> Part:
    """The seconds [start, end) of ``period``, cut to it."""
    total = int((period.end - period.start).total_seconds())
    first = min(max(int((start - period.start).total_seconds()), 0), total)
    last = min(max(int((end - period.start).total_seconds()), first), total)
    return Part(first, last, total, SECONDS)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a period: how much of it, its local days [first_on, next_on) and its instants [start, end)."""

    part: Part
    first_on: date
    next_on: date
    start: datetime
    end: datetime


def span_of(period: Period, *, start: datetime, end: datetime, proration: str, zone: ZoneInfo) -> Span:
    """The part of ``period`` from ``start`` to ``end``: exact by the second, else in days, those begun counted whole."""
    first_on = local_date(start, zone)
    if proration == SECOND:
        end = max(start, end)
        next_on = max(end_day(end, zone), first_on)
        return Span(seconds_of(period, start=start, end=end), first_on, next_on, start, end)
    next_on = max(end_day(end, zone), first_on)
    part = part_of(period, first_on=first_on, next_on=next_on)
    return Span(part, first_on, next_on, start_of_day(first_on, zone), start_of_day(next_on, zone))


def share(price: Money, part: Part) -> Money:
    """What ``part`` of a period costs whose whole costs ``price`` (rounded to its currency, zero or more)."""
    if part.is_whole:
        return price
    code = price.currency.code
    return Money(
        _until(price.amount, part.last, part.total, code) - _until(price.amount, part.first, part.total, code),
        price.currency,
    )


def _until(amount: Decimal, day: int, total: int, code: str) -> Decimal:
    """Running total at the end of ``day`` days, rounded half up in whole numbers: no quotient is ever cut off."""
    if day == 0:
        return money.quantize(Decimal(0), code)
    if day == total:
        return amount
    minor = int(amount.scaleb(money.exponent(code), context=_EXACT)) * day
    return Decimal((2 * minor + total) // (2 * total)).scaleb(-money.exponent(code))
