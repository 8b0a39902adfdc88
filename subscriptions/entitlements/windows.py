"""In which window a quota is counted, and when it is full again. Pure."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from subscriptions import periods

BILLING_PERIOD, NEVER = "billing_period", "never"
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_CALENDAR = {
    periods.DAY: date(2000, 1, 1),
    periods.WEEK: date(2000, 1, 3),  # a Monday
    periods.MONTH: date(2000, 1, 1),
    periods.YEAR: date(2000, 1, 1),
}
RESETS = (BILLING_PERIOD, *_CALENDAR, NEVER)


class Span(NamedTuple):
    """[start, end); ``end`` None: without end."""

    start: datetime
    end: datetime | None


@dataclass(frozen=True, slots=True)
class Cycle:
    """How a subscription's billing periods follow each other."""

    anchor_on: date
    interval: str
    count: int
    zone: ZoneInfo
    started_at: datetime
    trial_ends_at: datetime | None = None


def window(
    *, reset: str, at: datetime, zone: ZoneInfo, cycle: Cycle | None = None, otherwise: Span | None = None
) -> Span:
    """The window that contains ``at``.

    ``cycle`` is that of the subscription that gives the quota; where none does (a grant by itself), billing periods are
    replaced by ``otherwise``, the time of the grant. Calendar windows are those of the organisation's ``zone``.
    """
    if reset in _CALENDAR:
        found = periods.period_containing(anchor=_CALENDAR[reset], interval=reset, count=1, at=at, zone=zone)
        return Span(found.start, found.end)
    if reset == BILLING_PERIOD and cycle is not None:
        return _billing_period(cycle, at)
    return otherwise if reset == BILLING_PERIOD and otherwise is not None else Span(EPOCH, None)


def _billing_period(cycle: Cycle, at: datetime) -> Span:
    """The trial is a window of its own; the first period begins with the agreement, however its anchor lies."""
    begins = cycle.trial_ends_at or cycle.started_at
    if cycle.trial_ends_at is not None and at < cycle.trial_ends_at:
        return Span(min(cycle.started_at, at), cycle.trial_ends_at)
    found = periods.period_containing(
        anchor=cycle.anchor_on, interval=cycle.interval, count=cycle.count, at=at, zone=cycle.zone
    )
    start = max(found.start, begins) if begins <= at else found.start
    return Span(start, found.end)


def within(span: Span, at: datetime) -> bool:
    """Whether ``at`` lies in the window."""
    return span.start <= at and (span.end is None or at < span.end)
