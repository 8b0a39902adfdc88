"""Two years of every cycle, day by day under a test clock in Berlin, asserted invoice by invoice.

2027 and 2028 have a leap day and four clock changes. What is expected is counted here in another way than in the product.
"""

from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest
from dateutil.relativedelta import relativedelta

from subscriptions.models import BilledPeriod
from subscriptions.services.billing_run import run_billing
from tests.subscriptions.house import (
    flat,
    invoices_of,
    local,
    make_customer,
    make_organisation,
    make_plan,
    subscribe,
    turn,
)

pytestmark = pytest.mark.django_db
BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
FIRST, LAST = date(2027, 1, 31), date(2029, 1, 30)
CYCLES = {
    "day": ("day", 1, relativedelta(days=1), FIRST),
    "every 10 days": ("day", 10, relativedelta(days=10), FIRST),
    "week": ("week", 1, relativedelta(weeks=1), FIRST),
    "month from the 31st": ("month", 1, relativedelta(months=1), FIRST),
    "quarter": ("month", 3, relativedelta(months=3), FIRST),
    "year": ("year", 1, relativedelta(years=1), FIRST),
}


def starts(step, anchor, first=FIRST):
    """Where periods begin, counted from the anchor, up to the last day."""
    found, n = [], 0
    while (day := anchor + step * n) <= LAST:
        found.append(day)
        n += 1
    following = anchor + step * n
    return list(zip(found, [*found[1:], following], strict=True))


def told(subscription):
    return [
        (one.period_start, one.period_end + timedelta(days=1), f"{one.net.amount:.2f}")
        for one in invoices_of(subscription)
    ]


def live_two_years(tenant, zone):
    """A run on each morning, as a clock that is advanced by days does."""
    day = FIRST
    while day <= LAST:
        turn(tenant, local(f"{day} 00:30", zone))
        run_billing(organisation=tenant)
        day += timedelta(days=1)


def test_two_years_of_every_cycle():
    tenant = make_organisation(local(f"{FIRST} 00:10", BERLIN), country="DE")
    customer = make_customer(tenant)
    price = {"currency": "EUR", "tax_category": "saas"}

    def begin(interval, count, **agreed):
        return subscribe(
            customer, make_plan(tenant, flat("73.00", **price), interval=interval, interval_count=count), **agreed
        )

    rows = {name: begin(interval, count) for name, (interval, count, _, _) in CYCLES.items()}
    calendar = begin("month", 1, cycle="calendar")
    quarters = begin("month", 3, cycle="calendar")
    leap = begin("year", 1, anchor_on=date(2026, 2, 28))
    abroad = begin("month", 1, time_zone="America/New_York")

    live_two_years(tenant, BERLIN)

    for name, (_, _, step, anchor) in CYCLES.items():
        assert told(rows[name]) == [(begins, ends, "73.00") for begins, ends in starts(step, anchor)], name
    months = starts(relativedelta(months=1), date(2027, 2, 1))
    assert told(calendar) == [
        (FIRST, date(2027, 2, 1), "2.35"),
        *((one, two, "73.00") for one, two in months),
    ]  # 1 of 31
    thirds = starts(relativedelta(months=3), date(2027, 4, 1))
    assert told(quarters) == [
        (FIRST, date(2027, 4, 1), "48.67"),
        *((one, two, "73.00") for one, two in thirds),
    ]  # 60 of 90
    assert told(leap) == [
        (FIRST, date(2027, 2, 28), "5.60"),  # 28 of 365 days
        (date(2027, 2, 28), date(2028, 2, 28), "73.00"),
        (date(2028, 2, 28), date(2029, 2, 28), "73.00"),
    ]
    there = FIRST - timedelta(days=1)  # where it is still the evening before
    assert told(abroad)[:3] == [
        (there, date(2027, 2, 28), "73.00"), (date(2027, 2, 28), date(2027, 3, 30), "73.00"),
        (date(2027, 3, 30), date(2027, 4, 30), "73.00"),
    ]  # fmt: skip
    for row, zone in ((rows["day"], BERLIN), (abroad, NEW_YORK)):
        periods = list(BilledPeriod.objects.filter(subscription=row).order_by("starts_at"))
        assert all(one.ends_at.astimezone(zone).hour == 0 for one in periods)
        assert [one.ends_at for one in periods[:-1]] == [one.starts_at for one in periods[1:]]
    hours = {one.ends_at - one.starts_at for one in BilledPeriod.objects.filter(subscription=rows["day"])[1:]}
    assert {timedelta(hours=24), timedelta(hours=23), timedelta(hours=25)} >= hours


def test_a_yearly_anchor_on_the_leap_day_comes_back():
    tenant = make_organisation(local("2024-02-29 09:00", BERLIN), country="DE")
    plan = make_plan(tenant, flat("365.00", currency="EUR"), interval="year")
    subscription = subscribe(make_customer(tenant), plan)
    turn(tenant, local("2028-03-01 09:00", BERLIN))

    while run_billing(organisation=tenant).billed:
        pass

    assert [str(begins) for begins, _, _ in told(subscription)] == [
        "2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29",
    ]  # fmt: skip
