"""Banking days: when money that was captured today reaches a bank."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, date, datetime, timedelta

DAY = 86_400
IST = 19_800  # seconds east of UTC
NATIONAL_HOLIDAYS = frozenset({(1, 26), (4, 1), (5, 1), (8, 15), (10, 2), (12, 25)})  # month, day

IsWorkday = Callable[[date], bool]


def indian_workday(day: date, extra_holidays: Collection[date] = ()) -> bool:
    """Not a Sunday, second or fourth Saturday, or bank holiday."""
    if day.weekday() == 6 or (day.month, day.day) in NATIONAL_HOLIDAYS or day in extra_holidays:
        return False
    return not (day.weekday() == 5 and (day.day - 1) // 7 in (1, 3))


def western_workday(day: date, extra_holidays: Collection[date] = ()) -> bool:
    """Monday to Friday."""
    return day.weekday() < 5 and day not in extra_holidays


def add_workdays(day: date, count: int, is_workday: IsWorkday) -> date:
    """The ``count``-th working day after ``day``; with 0, ``day`` itself or the next working day."""
    while count == 0 and not is_workday(day):
        day += timedelta(days=1)
    while count:
        day += timedelta(days=1)
        count -= is_workday(day)
    return day


def local_date(seconds: int, offset: int) -> date:
    """Calendar day of Unix ``seconds`` in a zone ``offset`` seconds east of UTC."""
    return datetime.fromtimestamp(seconds + offset, UTC).date()


def start_of(day: date, offset: int) -> int:
    """Unix seconds of midnight of ``day`` in a zone ``offset`` seconds east of UTC."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) - offset
