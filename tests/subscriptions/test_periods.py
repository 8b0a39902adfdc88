"""Periods: month ends, leap years, time zones, days of daylight-saving change."""

import random
from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subscriptions.periods import (
    InvalidInterval,
    boundary_on,
    end_day,
    local_date,
    period,
    period_containing,
    start_of_day,
)

KOLKATA, BERLIN, UTC_ZONE = ZoneInfo("Asia/Kolkata"), ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")
ZONES = [ZoneInfo(name) for name in (
    "UTC", "Asia/Kolkata", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Beirut",
    "Pacific/Apia", "Asia/Kathmandu", "Africa/Cairo", "America/St_Johns",
)]  # fmt: skip


def boundaries(anchor, interval, count, numbers):
    return [boundary_on(anchor=anchor, interval=interval, count=count, n=n).isoformat() for n in numbers]


@pytest.mark.parametrize(
    ("anchor", "interval", "count", "expected"),
    [
        (date(2026, 1, 31), "month", 1, ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]),
        (date(2027, 12, 30), "month", 1, ["2027-12-30", "2028-01-30", "2028-02-29", "2028-03-30", "2028-04-30"]),
        (date(2026, 8, 31), "month", 3, ["2026-08-31", "2026-11-30", "2027-02-28", "2027-05-31", "2027-08-31"]),
        (date(2024, 2, 29), "year", 1, ["2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"]),
        (date(2026, 12, 28), "week", 2, ["2026-12-28", "2027-01-11", "2027-01-25", "2027-02-08", "2027-02-22"]),
        (date(2028, 2, 27), "day", 1, ["2028-02-27", "2028-02-28", "2028-02-29", "2028-03-01", "2028-03-02"]),
    ],
)
def test_boundaries_are_counted_from_the_anchor(anchor, interval, count, expected):
    assert boundaries(anchor, interval, count, range(5)) == expected


def test_a_period_begins_at_local_midnight():
    found = period(anchor=date(2026, 4, 1), interval="month", count=1, n=0, zone=KOLKATA)

    assert found.start == datetime(2026, 3, 31, 18, 30, tzinfo=UTC)
    assert found.end == datetime(2026, 4, 30, 18, 30, tzinfo=UTC)
    assert (found.first_on, found.last_on, found.days) == (date(2026, 4, 1), date(2026, 4, 30), 30)


def test_daylight_saving_makes_a_day_shorter_or_longer_and_nothing_else():
    spring = period(anchor=date(2026, 3, 29), interval="day", count=1, n=0, zone=BERLIN)
    autumn = period(anchor=date(2026, 10, 25), interval="day", count=1, n=0, zone=BERLIN)

    assert spring.end - spring.start == timedelta(hours=23)
    assert autumn.end - autumn.start == timedelta(hours=25)
    assert spring.days == autumn.days == 1


def test_a_day_whose_midnight_is_skipped_begins_at_the_change():
    beirut = ZoneInfo("Asia/Beirut")  # 29 March 2026: clocks go from 00:00 to 01:00

    start = start_of_day(date(2026, 3, 29), beirut)

    assert start == datetime(2026, 3, 28, 22, 0, tzinfo=UTC)
    assert start.astimezone(beirut).isoformat() == "2026-03-29T01:00:00+03:00"


def test_a_day_begun_counts_as_a_whole():
    midnight = start_of_day(date(2026, 5, 10), KOLKATA)

    assert end_day(midnight, KOLKATA) == date(2026, 5, 10)
    assert end_day(midnight + timedelta(microseconds=1), KOLKATA) == date(2026, 5, 11)


intervals = st.tuples(st.sampled_from(["day", "week", "month", "year"]), st.integers(1, 24))
anchors = st.dates(date(1990, 1, 1), date(2060, 12, 31))
zones = st.sampled_from(ZONES)


@settings(max_examples=250, deadline=None)
@given(anchor=anchors, interval=intervals, n=st.integers(-3, 200), zone=zones)
def test_periods_follow_each_other_without_gap_or_overlap(anchor, interval, n, zone):
    kind, count = interval
    found = period(anchor=anchor, interval=kind, count=count, n=n, zone=zone)
    following = period(anchor=anchor, interval=kind, count=count, n=n + 1, zone=zone)

    assert found.end == following.start
    assert found.start < found.end or found.days == 1  # Samoa had no 30 December 2011
    assert found.next_on == following.first_on
    assert found.start == start_of_day(found.first_on, zone)
    if kind in ("month", "year"):
        following_day = found.first_on + timedelta(days=1)
        assert (
            found.first_on.day == anchor.day or following_day.day == 1
        )  # the anchor's day, or the last of a short month


@settings(max_examples=250, deadline=None)
@given(
    anchor=anchors,
    interval=intervals,
    at=st.datetimes(datetime(1991, 1, 1), datetime(2062, 1, 1), timezones=st.just(UTC)),
    zone=zones,
)
def test_every_instant_lies_in_exactly_one_period(anchor, interval, at, zone):
    kind, count = interval
    found = period_containing(anchor=anchor, interval=kind, count=count, at=at, zone=zone)

    assert found.start <= at < found.end
    assert found == period(anchor=anchor, interval=kind, count=count, n=found.number, zone=zone)


@settings(max_examples=250, deadline=None)
@given(day=anchors, zone=zones)
def test_the_first_moment_of_a_day_is_its_first(day, zone):
    start = start_of_day(day, zone)

    assert local_date(start - timedelta(microseconds=1), zone) < day
    assert local_date(start, zone) >= day  # later only where the whole day was skipped


@pytest.mark.parametrize(
    ("anchor", "interval", "count", "n"),
    [
        (date(2026, 1, 1), "fortnight", 1, 0),
        (date(2026, 1, 1), "month", 0, 0),
        (date(2026, 1, 1), "day", 10**9, 10**9),
        (date(2026, 1, 1), "year", 1, 8000),
        (date(2026, 1, 1), "month", 1, -100_000),
        (date(9999, 12, 31), "day", 1, 1),
        (date(1, 1, 1), "week", 1, 0),
    ],
)
def test_what_leaves_the_calendar_is_refused(anchor, interval, count, n):
    with pytest.raises(InvalidInterval):
        boundary_on(anchor=anchor, interval=interval, count=count, n=n)


def test_thousands_of_boundaries_leave_no_gap_and_keep_the_day():
    dice = random.Random(4)
    for _ in range(1_500):
        anchor = date(2000, 1, 1) + timedelta(days=dice.randint(0, 20_000))
        kind, count, zone = dice.choice(["day", "week", "month", "year"]), dice.randint(1, 13), dice.choice(ZONES)
        earlier = None
        for n in range(12):
            found = period(anchor=anchor, interval=kind, count=count, n=n, zone=zone)
            assert earlier is None or (earlier.end, earlier.next_on) == (found.start, found.first_on)
            assert kind in ("day", "week") or found.first_on.day in (
                anchor.day,
                monthrange(*found.first_on.timetuple()[:2])[1],
            )
            at = found.start + (found.end - found.start) * dice.random()
            assert period_containing(anchor=anchor, interval=kind, count=count, at=at, zone=zone).number == n
            earlier = found
