"""What invoices still claim for the days from some day on: the most that may be credited for them. Pure.

A line claims by the day; what credit notes took off it counts against the same days. Credit that proration gave says from
which day on it was meant (``unused_from``); credit given by hand is meant for the whole of its line. So what was annulled,
written off, discounted or credited by hand, in full or in part, is not paid back a second time.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from moneyed import Money

from billing.money import exponent, round_money
from invoices.models import Invoice

COUNTING = (Invoice.Status.OPEN, Invoice.Status.PARTIALLY_PAID, Invoice.Status.PAID)
ZERO = Decimal(0)
ONE_DAY, ONE_SECOND = timedelta(days=1), timedelta(seconds=1)
CLOCK_CHANGE = timedelta(hours=1)
"""By how much the days that are left may be longer than their number: clocks are put back once in a while."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What is claimed for a component, not rounded, and of how many amounts it is made, each rounded by itself."""

    amount: Decimal = ZERO
    parts: int = 0

    def at_most(self, wanted: Money) -> Money:
        """``wanted``, or what is claimed if that is less by more than roundings explain; never below nothing."""
        tolerance = Decimal(self.parts).scaleb(-exponent(wanted.currency.code))
        if wanted.amount <= self.amount + tolerance and self.amount > 0:
            return wanted
        return round_money(Money(max(self.amount, ZERO), wanted.currency))


@dataclass(frozen=True, slots=True)
class Stake:
    """An amount for the days [first_on, last_on] of a component: billed (more than nothing), or taken off again (less).

    ``seconds``: how many of them were charged, where the first day was not charged whole.
    """

    code: str
    amount: Decimal
    first_on: date | None
    last_on: date | None
    seconds: int | None = None


def claimed_from(stakes: Iterable[Stake], from_on: date) -> dict[str, Claim]:
    """What is claimed by component for ``from_on`` and the days after."""
    sums: dict[str, list[Decimal]] = defaultdict(list)
    for stake in stakes:
        sums[stake.code].append(stake.amount * _share(stake, from_on))
    return {code: Claim(sum(amounts, ZERO), len(amounts)) for code, amounts in sums.items()}


def _share(stake: Stake, from_on: date) -> Decimal:
    """Which part of what was charged is for ``from_on`` or later; the whole where there are no days."""
    first_on, last_on = stake.first_on, stake.last_on
    if first_on is None or last_on is None or last_on < first_on:
        return Decimal(1)
    days = (last_on - first_on) + ONE_DAY
    left = max((last_on - max(first_on, from_on)) + ONE_DAY, timedelta(0))
    if stake.seconds and left:
        days, left = timedelta(seconds=stake.seconds), left + CLOCK_CHANGE
    return min(Decimal(left // ONE_SECOND) / Decimal(days // ONE_SECOND), Decimal(1))
