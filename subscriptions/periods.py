"""When periods begin and end. Pure: an anchor day, an interval, a time zone; no clock, no database.

Boundary ``n`` is the anchor day plus ``n`` intervals, always counted from the anchor, so a day of the month that a short
month lacks comes back: 31 January, 28 February, 31 March. A period begins at the first moment of its local day and ends,
exclusively, where the next one begins; on days of daylight-saving change it is an hour shorter or longer, never split.
"""

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from billing.errors import InvalidInput

DAY, WEEK, MONTH, YEAR = "day", "week", "month", "year"
INTERVALS = (DAY, WEEK, MONTH, YEAR)
FIRST_YEAR, LAST_YEAR = 1900, 9000
_ONE_DAY = timedelta(days=1)


class InvalidInterval(InvalidInput):
    """The interval is not day, week, month or year, its count is below one, or a date leaves the calendar."""

    code = "invalid_interval"
    message = "The interval is not valid."


@dataclass(frozen=True, slots=True)
class Period:
    """Period ``number`` from the anchor: local days [first_on, next_on), instants [start, end) in UTC."""

    number: int
    first_on: date
    next_on: date
    start: datetime
    end: datetime

    @property
    def days(self) -> int:
        """Local days in the period."""
        return (self.next_on - self.first_on).days

    @property
    def last_on(self) -> date:
        """The last local day, as documents print it."""
        return self.next_on - _ONE_DAY


def boundary_on(*, anchor: date, interval: str, count: int, n: int) -> date:
    """The local day on which period ``n`` begins (0: the anchor). Raises ``InvalidInterval``."""
    if count < 1:
        raise InvalidInterval("interval_count must be 1 or more.", field="interval_count")
    try:
        if interval == DAY:
            found = anchor + timedelta(days=count * n)
        elif interval == WEEK:
            found = anchor + timedelta(weeks=count * n)
        elif interval in (MONTH, YEAR):
            found = _add_months(anchor, count * n * (12 if interval == YEAR else 1))
        else:
            raise InvalidInterval(f"'{interval}' is not an interval; use {', '.join(INTERVALS)}.", field="interval")
    except OverflowError as exc:
        raise InvalidInterval("The period leaves the calendar.", field="interval_count") from exc
    if not FIRST_YEAR <= found.year <= LAST_YEAR:
        raise InvalidInterval("The period leaves the calendar.", field="interval_count")
    return found


def _add_months(anchor: date, months: int) -> date:
    year, month = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
    if not 1 <= year <= 9998:
        raise InvalidInterval("The period leaves the calendar.", field="interval_count")
    day = anchor.day if anchor.day <= 28 else min(anchor.day, monthrange(year, month + 1)[1])
    return date(year, month + 1, day)


@lru_cache(maxsize=8192)
def start_of_day(day: date, zone: ZoneInfo) -> datetime:
    """The first moment of a local day, in UTC. Where midnight is skipped by daylight saving, the moment of the change."""
    return datetime.combine(day, time.min, tzinfo=zone).astimezone(UTC)


def calendar_anchor(*, first_on: date, interval: str, count: int) -> date:
    """The anchor that makes periods begin with the calendar's own: Monday, the first of the month, 1 January.

    Months in twos, threes, fours or sixes are counted from January, so quarters are the calendar's. Days have no calendar.
    """
    if interval == WEEK:
        return first_on - timedelta(days=first_on.weekday())
    if interval == MONTH:
        within = (first_on.month - 1) % count if count > 0 and 12 % count == 0 else 0
        return date(first_on.year, first_on.month - within, 1)
    return date(first_on.year, 1, 1) if interval == YEAR else first_on


def local_date(at: datetime, zone: ZoneInfo) -> date:
    """The local day of an instant."""
    return at.astimezone(zone).date()


def end_day(at: datetime, zone: ZoneInfo) -> date:
    """The first local day that is no longer touched by something that ends at ``at``: a day begun counts as a whole."""
    day = local_date(at, zone)
    return day if start_of_day(day, zone) == at else day + _ONE_DAY


@lru_cache(maxsize=8192)
def _period(anchor: date, interval: str, count: int, n: int, zone: ZoneInfo) -> Period:
    first = boundary_on(anchor=anchor, interval=interval, count=count, n=n)
    following = boundary_on(anchor=anchor, interval=interval, count=count, n=n + 1)
    return Period(n, first, following, start_of_day(first, zone), start_of_day(following, zone))


def period(*, anchor: date, interval: str, count: int, n: int, zone: ZoneInfo) -> Period:
    """Period ``n`` from ``anchor``. Raises ``InvalidInterval``."""
    return _period(anchor, interval, count, n, zone)


def period_containing(*, anchor: date, interval: str, count: int, at: datetime, zone: ZoneInfo) -> Period:
    """The period in which the instant ``at`` lies; before the anchor its number is negative."""
    day = local_date(at, zone)
    n = _estimate(anchor, interval, count, day)
    while boundary_on(anchor=anchor, interval=interval, count=count, n=n) > day:
        n -= 1
    while boundary_on(anchor=anchor, interval=interval, count=count, n=n + 1) <= day:
        n += 1
    return _period(anchor, interval, count, n, zone)


def _estimate(anchor: date, interval: str, count: int, day: date) -> int:
    if count < 1:
        raise InvalidInterval("interval_count must be 1 or more.", field="interval_count")
    if interval in (DAY, WEEK):
        return (day - anchor).days // (count * (7 if interval == WEEK else 1))
    months = (day.year - anchor.year) * 12 + day.month - anchor.month
    return months // (count * (12 if interval == YEAR else 1))
