"""MRR movements from levels, by the rules P1–P16 of docs/mrr.md. Pure: values in, values out.

A *level* says what a subscription's MRR is from a time on, and whether its customer counts as active through it.
A *movement* is one net change of one customer in one currency.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import groupby
from uuid import UUID
from zoneinfo import ZoneInfo

NEW, EXPANSION, CONTRACTION, CHURN, REACTIVATION = "new_business", "expansion", "contraction", "churn", "reactivation"
GROUPING = timedelta(minutes=60)  # P4


@dataclass(frozen=True, kw_only=True)
class Level:
    """MRR of one subscription from ``at`` on. ``active``: the agreement runs (paused counts, cancelled does not)."""

    subscription_id: UUID
    at: datetime
    order: int
    mrr: Decimal
    active: bool


@dataclass(frozen=True, kw_only=True)
class Movement:
    """A signed net change of a customer's MRR."""

    kind: str
    amount: Decimal
    at: datetime
    month: date


@dataclass(frozen=True, kw_only=True)
class MonthRow:
    """One month: opening + new + expansion + reactivation − contraction − churn = closing, to the cent."""

    month: date
    opening: Decimal
    new: Decimal
    expansion: Decimal
    reactivation: Decimal
    contraction: Decimal
    churn: Decimal
    closing: Decimal
    opening_customers: int
    closing_customers: int
    churned_customers: int

    @property
    def gross_churn_rate(self) -> Decimal | None:
        """(churn + contraction) / opening, percent with two decimals; None without an opening."""
        return percent(self.churn + self.contraction, self.opening)

    @property
    def net_churn_rate(self) -> Decimal | None:
        """(churn + contraction − expansion − reactivation) / opening, percent with two decimals."""
        return percent(self.churn + self.contraction - self.expansion - self.reactivation, self.opening)

    @property
    def customer_churn_rate(self) -> Decimal | None:
        """Churned customers / opening customers, percent with two decimals."""
        return percent(Decimal(self.churned_customers), Decimal(self.opening_customers))

    @property
    def quick_ratio(self) -> Decimal | None:
        """(new + expansion + reactivation) / (churn + contraction), two decimals; None when nothing was lost."""
        lost = self.churn + self.contraction
        return _two(Decimal(self.new + self.expansion + self.reactivation) / lost) if lost else None


def movements(levels: Iterable[Level], *, zone: ZoneInfo) -> list[Movement]:
    """Net movements of one customer in one currency from its levels, in any order (a backdated one restates, P16)."""
    ordered = sorted(levels, key=lambda level: (level.at, level.order))
    found: list[Movement] = []
    current: dict[UUID, Level] = {}
    ever = False
    index = 0
    while index < len(ordered):
        first = ordered[index]
        before, was_active = _total(current), _active(current)
        while index < len(ordered) and ordered[index].at - first.at < GROUPING:
            current[ordered[index].subscription_id] = ordered[index]
            index += 1
        after, is_active = _total(current), _active(current)
        kind = _kind(before, after, was_active=was_active, is_active=is_active, ever=ever)
        if kind:
            month = first.at.astimezone(zone).date().replace(day=1)  # P13
            found.append(Movement(kind=kind, amount=after - before, at=first.at, month=month))
        ever = ever or after > 0
    return found


def _kind(before: Decimal, after: Decimal, *, was_active: bool, is_active: bool, ever: bool) -> str:
    if after == before:
        return ""
    if after > before:
        if not ever:
            return NEW
        return EXPANSION if was_active else REACTIVATION
    return CONTRACTION if is_active else CHURN


def _total(current: dict[UUID, Level]) -> Decimal:
    return sum((level.mrr for level in current.values()), Decimal(0))


def _active(current: dict[UUID, Level]) -> bool:
    return any(level.active for level in current.values())


def month_rows(moves: Sequence[tuple[UUID, Movement]], *, first: date, last: date) -> list[MonthRow]:
    """One row for each month from ``first`` to ``last`` (first days), from all customers' movements in one currency."""
    by_month = {
        month: list(rows)
        for month, rows in groupby(sorted(moves, key=lambda move: move[1].month), key=lambda move: move[1].month)
    }
    standing: dict[UUID, Decimal] = {}
    for month in sorted(by_month):
        if month < first:
            _apply(standing, by_month[month])
    rows = []
    month = first
    while month <= last:
        rows.append(_row(month, standing, by_month.get(month, [])))
        month = next_month(month)
    return rows


def _row(month: date, standing: dict[UUID, Decimal], moves: Sequence[tuple[UUID, Movement]]) -> MonthRow:
    sums = dict.fromkeys((NEW, EXPANSION, REACTIVATION, CONTRACTION, CHURN), Decimal(0))
    for _, move in moves:
        sums[move.kind] += abs(move.amount)
    opening, opening_customers = sum(standing.values(), Decimal(0)), _paying(standing)
    _apply(standing, moves)
    return MonthRow(
        month=month,
        opening=opening,
        new=sums[NEW],
        expansion=sums[EXPANSION],
        reactivation=sums[REACTIVATION],
        contraction=sums[CONTRACTION],
        churn=sums[CHURN],
        closing=sum(standing.values(), Decimal(0)),
        opening_customers=opening_customers,
        closing_customers=_paying(standing),
        churned_customers=len({customer for customer, move in moves if move.kind == CHURN}),
    )


def _apply(standing: dict[UUID, Decimal], moves: Sequence[tuple[UUID, Movement]]) -> None:
    for customer, move in moves:
        standing[customer] = standing.get(customer, Decimal(0)) + move.amount


def _paying(standing: dict[UUID, Decimal]) -> int:
    return sum(1 for mrr in standing.values() if mrr > 0)


def next_month(month: date) -> date:
    """First day of the month after ``month``."""
    return (month.replace(day=1) + timedelta(days=32)).replace(day=1)


def percent(part: Decimal, whole: Decimal) -> Decimal | None:
    """``part`` of ``whole`` in percent, two decimals, half up; None for a whole of nothing."""
    return _two(100 * part / whole) if whole else None


def _two(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)
