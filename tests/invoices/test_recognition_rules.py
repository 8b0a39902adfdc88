"""When a line is deferred, and how it is earned."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moneyed import Money

from invoices.recognition import add_months, earnings, is_deferred


@pytest.mark.parametrize(
    ("start", "end", "deferred"),
    [
        (date(2026, 1, 1), date(2026, 1, 31), False),
        (date(2026, 1, 1), date(2026, 2, 1), True),
        (date(2026, 1, 31), date(2026, 2, 27), False),  # the month that begins on the 31st ends on the 27th
        (date(2026, 1, 31), date(2026, 2, 28), True),
        (date(2026, 4, 1), date(2027, 3, 31), True),
        (None, date(2027, 3, 31), False),
    ],
)
def test_only_what_is_longer_than_a_month_is_deferred(start, end, deferred):
    assert is_deferred(start, end) is deferred


def test_a_year_is_earned_by_the_days_of_its_months():
    parts = earnings(amount=Money("1200.00", "INR"), start=date(2026, 4, 1), end=date(2027, 3, 31))

    assert [part.due_on for part in parts[:3]] == [date(2026, 4, 30), date(2026, 5, 31), date(2026, 6, 30)]
    assert [part.amount.amount for part in parts[:3]] == [
        Money("98.63", "INR").amount,
        Money("101.92", "INR").amount,
        Money("98.63", "INR").amount,
    ]
    assert len(parts) == 12


def test_months_keep_their_day():
    assert add_months(date(2024, 1, 31), 1) == date(2024, 2, 29)
    assert add_months(date(2026, 12, 15), 1) == date(2027, 1, 15)


@given(st.dates(date(2000, 1, 1), date(2090, 1, 1)), st.integers(1, 900), st.integers(1, 10**7))
def test_what_is_earned_adds_up_to_what_was_billed(start, days, minor):
    end = date.fromordinal(start.toordinal() + days)
    amount = Money(minor, "INR") / 100

    parts = earnings(amount=amount, start=start, end=end)

    assert sum((part.amount for part in parts), Money(0, "INR")) == amount
    assert parts[-1].due_on == end
    assert [part.due_on for part in parts] == sorted({part.due_on for part in parts})
