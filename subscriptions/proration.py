"""What a part of a period costs. Pure and exact: a period split anywhere, any number of times, costs what it costs whole.

Counted in local days. Days [a, b) of a period of N days cost ``round(price × b / N) − round(price × a / N)``: the parts are
differences of one running total, so whatever rounding adds to one part it takes from the next.
"""

from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Context, Decimal

from moneyed import Money

from billing import money
from billing.errors import InvalidInput
from subscriptions.periods import Period

_EXACT = Context(prec=80, rounding=ROUND_HALF_UP)


class InvalidPart(InvalidInput):
    """A part of a period ends before it begins or lies outside of the period."""

    code = "invalid_part"
    message = "Days {first} to {last} are not a part of a period of {total} days."


@dataclass(frozen=True, slots=True)
class Part:
    """Days [first, last) of a period of ``total`` days."""

    first: int
    last: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last <= self.total or self.total < 1:
            raise InvalidPart(first=self.first, last=self.last, total=self.total)

    @property
    def days(self) -> int:
        """Days in the part."""
        return self.last - self.first

    @property
    def is_whole(self) -> bool:
        """Whether the part is the whole period."""
        return self.days == self.total


def part_of(period: Period, *, first_on: date, next_on: date) -> Part:
    """The days [first_on, next_on) of ``period``, cut to it."""
    first = min(max((first_on - period.first_on).days, 0), period.days)
    last = min(max((next_on - period.first_on).days, first), period.days)
    return Part(first, last, period.days)


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
