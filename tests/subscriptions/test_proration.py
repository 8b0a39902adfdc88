"""Proration: split anywhere, the parts cost what the whole costs."""

import random
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moneyed import Money

from billing import money
from subscriptions.periods import calendar_anchor, period, start_of_day
from subscriptions.proration import InvalidPart, Part, part_of, share, span_of

currencies = st.sampled_from(["INR", "EUR", "JPY", "KWD", "USD"])


@st.composite
def whole_prices(draw):
    code = draw(currencies)
    return money.from_minor_units(draw(st.integers(0, 10**12)), code)


@settings(max_examples=250, deadline=None)
@given(price=whole_prices(), total=st.integers(1, 366), data=st.data())
def test_a_period_split_anywhere_costs_the_same_as_whole(price, total, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, total), max_size=8)))
    edges = [0, *cuts, total]

    parts = [share(price, Part(first, last, total)) for first, last in pairwise(edges)]

    assert sum(parts, start=money.zero(price.currency.code)) == price
    assert all(part.amount >= 0 for part in parts)


@settings(max_examples=250, deadline=None)
@given(price=whole_prices(), total=st.integers(1, 366), data=st.data())
def test_a_part_is_less_than_one_unit_from_the_exact_fraction(price, total, data):
    first = data.draw(st.integers(0, total))
    last = data.draw(st.integers(first, total))

    part = share(price, Part(first, last, total))

    exact = Fraction(price.amount) * (last - first) / total
    unit = Fraction(1, 10 ** money.exponent(price.currency.code))
    assert abs(Fraction(part.amount) - exact) < unit
    assert part == money.round_money(part)


@pytest.mark.parametrize(
    ("amount", "currency", "first", "last", "total", "expected"),
    [
        ("999.00", "INR", 15, 30, 30, "499.50"),  # a float day price gives 499
        ("999.00", "INR", 0, 15, 30, "499.50"),
        ("100.00", "INR", 0, 1, 31, "3.23"),
        ("100.00", "INR", 30, 31, 31, "3.23"),
        ("0.05", "EUR", 0, 15, 30, "0.03"),  # 0.025 half up; the other half gets the rest
        ("0.05", "EUR", 15, 30, 30, "0.02"),
        ("1001", "JPY", 0, 14, 28, "501"),
        ("1001", "JPY", 14, 28, 28, "500"),
        ("365.00", "INR", 59, 60, 365, "1.00"),
        ("499.00", "INR", 10, 10, 30, "0.00"),
    ],
)
def test_shares(amount, currency, first, last, total, expected):
    assert share(Money(amount, currency), Part(first, last, total)) == Money(Decimal(expected), currency)


def test_a_part_is_cut_to_its_period():
    february = period(anchor=date(2028, 2, 1), interval="month", count=1, n=0, zone=ZoneInfo("Asia/Kolkata"))

    assert part_of(february, first_on=date(2028, 2, 10), next_on=date(2028, 3, 1)) == Part(9, 29, 29)
    assert part_of(february, first_on=date(2027, 1, 1), next_on=date(2029, 1, 1)) == Part(0, 29, 29)
    assert part_of(february, first_on=date(2028, 3, 10), next_on=date(2028, 3, 1)) == Part(29, 29, 29)


@pytest.mark.parametrize(("first", "last", "total"), [(-1, 2, 30), (3, 2, 30), (0, 31, 30), (0, 0, 0)])
def test_what_is_not_a_part_is_refused(first, last, total):
    with pytest.raises(InvalidPart):
        Part(first, last, total)


def test_twenty_thousand_periods_split_at_random_cost_the_same_as_whole():
    dice = random.Random(20_000)
    for _ in range(20_000):
        total, code = dice.randint(1, 366), dice.choice(["INR", "JPY", "KWD"])
        price = money.from_minor_units(dice.randint(0, 10 ** dice.randint(1, 12)), code)
        edges = [0, *sorted(dice.randint(0, total) for _ in range(dice.randint(0, 4))), total]

        parts = [share(price, Part(first, last, total)).amount for first, last in pairwise(edges)]

        assert sum(parts) == price.amount
        assert min(parts) >= 0


def test_twenty_thousand_periods_split_at_any_moment_cost_the_same_as_whole():
    """By the second split at instants, by the day at days, in zones with and without clock changes."""
    dice = random.Random(20_001)
    zones = [ZoneInfo(name) for name in ("Asia/Kolkata", "Europe/Berlin", "America/New_York", "Pacific/Apia")]
    for _ in range(20_000):
        zone, interval = dice.choice(zones), dice.choice(["day", "week", "month", "year"])
        anchor = date(dice.randint(2020, 2032), dice.randint(1, 12), dice.randint(1, 28))
        whole = period(anchor=anchor, interval=interval, count=dice.randint(1, 4), n=dice.randint(0, 9), zone=zone)
        price = money.from_minor_units(dice.randint(0, 10**7), "INR")
        by = dice.choice(["day", "second"])
        if by == "second":
            length = int((whole.end - whole.start).total_seconds())
            cuts = [whole.start + timedelta(seconds=dice.randint(0, length)) for _ in range(dice.randint(0, 4))]
        else:
            cuts = [
                start_of_day(whole.first_on + timedelta(days=dice.randint(0, whole.days)), zone)
                for _ in range(dice.randint(0, 4))
            ]
        edges = [whole.start, *sorted(cuts), whole.end]

        parts = [
            share(price, span_of(whole, start=start, end=end, proration=by, zone=zone).part).amount
            for start, end in pairwise(edges)
        ]

        assert sum(parts) == price.amount, (whole, by, edges)
        assert min(parts) >= 0


@pytest.mark.parametrize(
    ("day", "interval", "count", "anchor"),
    [
        ("2026-05-14", "week", 1, "2026-05-11"),
        ("2026-05-14", "month", 1, "2026-05-01"),
        ("2026-05-14", "month", 3, "2026-04-01"),
        ("2026-05-14", "month", 5, "2026-05-01"),
        ("2026-05-14", "year", 1, "2026-01-01"),
        ("2026-05-14", "day", 10, "2026-05-14"),
    ],
)
def test_the_calendars_own_anchors(day, interval, count, anchor):
    found = calendar_anchor(first_on=date.fromisoformat(day), interval=interval, count=count)
    assert found.isoformat() == anchor
