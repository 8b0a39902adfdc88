"""When revenue is earned: what is billed for longer than a month is earned month by month. Pure."""

import calendar
import itertools
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

from moneyed import Money

from billing.money import allocate
from invoices.drafts import LineInput

DEFERRED = "deferred_revenue"
EARNED = "revenue"


@dataclass(frozen=True, slots=True)
class Earning:
    """A part of a line, earned on the last day of its month of service."""

    number: int
    due_on: date
    amount: Money


def add_months(day: date, months: int) -> date:
    """The same day ``months`` later, or the month's last day where it has no such day."""
    index = day.year * 12 + day.month - 1 + months
    year, month = index // 12, index % 12 + 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


@lru_cache(maxsize=4096)
def is_deferred(start: date | None, end: date | None) -> bool:
    """Whether a service from ``start`` to ``end`` (last day) is longer than one month."""
    if start is None or end is None or (end - start).days < 28:
        return False
    return end >= add_months(start, 1)


def revenue_account(line: LineInput) -> str:
    """The account a line is credited to: deferred revenue for a long period, else the line's own."""
    if line.revenue_account == EARNED and is_deferred(line.period_start, line.period_end):
        return DEFERRED
    return line.revenue_account


def earnings(*, amount: Money, start: date, end: date) -> list[Earning]:
    """Split ``amount`` over the months of service by their days; the parts add up to it."""
    bounds, months = [start], 1
    while (bound := add_months(start, months)) <= end:
        bounds.append(bound)
        months += 1
    bounds.append(end + timedelta(days=1))
    days = [(after - before).days for before, after in itertools.pairwise(bounds)]
    parts = allocate(amount, days)
    return [
        Earning(number=i, due_on=after - timedelta(days=1), amount=part)
        for i, (after, part) in enumerate(zip(bounds[1:], parts, strict=True), start=1)
    ]
