"""Two years of every cycle, day by day under a test clock in Berlin, asserted invoice by invoice: period, amount, day of issue.

2027 and 2028 have a leap day and, in Berlin and in New York, four clock changes each. What is expected is counted here in
another way than in the product.
"""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from zoneinfo import ZoneInfo

import pytest
from dateutil.relativedelta import MO, relativedelta

from billing import clock
from invoices.models import Invoice
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
ONE_DAY = timedelta(days=1)
PRICE, CENT = Decimal("73.00"), Decimal("0.01")
ANNIVERSARY = [
    ("day", 1), ("day", 10), ("day", 45), ("week", 1), ("week", 2), ("week", 6), ("month", 1), ("month", 2), ("month", 3),
    ("month", 5), ("month", 6), ("year", 1), ("year", 2),
]  # fmt: skip
CALENDAR = [("week", 1), ("week", 2), ("month", 1), ("month", 2), ("month", 3), ("month", 5), ("month", 6), ("year", 1)]
BEGINS = {
    ("week", 1): relativedelta(weekday=MO(-1)), ("week", 2): relativedelta(weekday=MO(-1)),
    ("month", 1): relativedelta(day=1), ("month", 2): relativedelta(day=1), ("month", 3): relativedelta(day=1),
    ("month", 5): relativedelta(day=1), ("month", 6): relativedelta(day=1), ("year", 1): relativedelta(month=1, day=1),
}  # fmt: skip
"""Where the calendar's own period that contains the first day (of January) begins: seen from that day."""


def rounded(amount):
    return amount.quantize(CENT, ROUND_HALF_UP)


def expected(interval, count, *, first_on, last_on, anchor=None, issued_after=0):
    """(first day, first day after, net, total, issued on) of each invoice, the first one for the rest of its period."""
    step, anchor = relativedelta(**{f"{interval}s": count}), anchor or first_on
    found, n = [], 0
    while (begins := anchor + step * n) <= last_on:
        n += 1
        ends = anchor + step * n
        if ends <= first_on:
            continue
        charged = max(begins, first_on)
        passed, whole = (charged - begins).days, (ends - begins).days
        net = PRICE - rounded(PRICE * passed / whole)
        found.append((charged, ends, net, net + rounded(net * 19 / 100), max(FIRST, charged + issued_after * ONE_DAY)))
    return found


def told(subscription):
    return [
        (one.period_start, one.period_end + ONE_DAY, one.net.amount, one.total.amount, one.issued_on)
        for one in invoices_of(subscription)
    ]


def live_two_years(tenant, zone):
    """A run on each morning, as a clock that is advanced by days does."""
    day = FIRST
    while day <= LAST:
        at = local(f"{day} 00:30", zone)
        turn(tenant, at)
        with clock.standing([tenant.pk], at):
            run_billing(organisation=tenant)
        day += ONE_DAY


def midnight(day, zone):
    return datetime.combine(day, datetime.min.time(), zone).astimezone(UTC)


def check_instants(subscription, zone, invoices):
    """Periods begin and end at midnight where the subscription lives, each where the last one ended."""
    periods = list(BilledPeriod.objects.filter(subscription=subscription).order_by("starts_at"))
    assert [one.ends_at for one in periods] == [midnight(ends, zone) for _, ends, *_ in invoices]
    assert [one.starts_at for one in periods] == [
        local(f"{FIRST} 00:10", BERLIN),
        *(one.ends_at for one in periods[:-1]),
    ]
    assert [one.invoice_id for one in periods] == [one.pk for one in invoices_of(subscription)]


def hours_of(subscription):
    """How many billed periods are how many hours long, without the first, which began within a day."""
    periods = BilledPeriod.objects.filter(subscription=subscription).order_by("starts_at")[1:]
    return Counter((one.ends_at - one.starts_at) // timedelta(hours=1) for one in periods)


def test_two_years_of_every_cycle():
    tenant = make_organisation(local(f"{FIRST} 00:10", BERLIN), country="DE")
    customer = make_customer(tenant)
    price = flat(f"{PRICE}", currency="EUR", tax_category="saas")
    plans = {
        (interval, count): make_plan(tenant, price, interval=interval, interval_count=count)
        for interval, count in ANNIVERSARY
    }
    there, last_there = FIRST - ONE_DAY, LAST - ONE_DAY  # where it is still the evening before
    rows = {}
    for zone, first_on, last_on, later in ((BERLIN, FIRST, LAST, 0), (NEW_YORK, there, last_there, 1)):
        about = {"first_on": first_on, "last_on": last_on, "issued_after": later}
        agreed = {"time_zone": zone.key} if later else {}
        for cycle in ANNIVERSARY:
            rows[zone, "anniversary", *cycle] = subscribe(customer, plans[cycle], **agreed), expected(*cycle, **about)
        for cycle in CALENDAR:
            invoices = expected(*cycle, anchor=first_on + BEGINS[cycle], **about)
            rows[zone, "calendar", *cycle] = subscribe(customer, plans[cycle], cycle="calendar", **agreed), invoices
    leap = subscribe(customer, plans["year", 1], anchor_on=date(2026, 2, 28))

    live_two_years(tenant, BERLIN)

    for (zone, *cycle), (subscription, invoices) in rows.items():
        assert told(subscription) == invoices, (zone.key, cycle)
        check_instants(subscription, zone, invoices)
    counts = {(zone.key, *cycle): len(invoices) for (zone, *cycle), (_, invoices) in rows.items()}
    assert counts["Europe/Berlin", "anniversary", "day", 1] == 731
    assert counts["America/New_York", "anniversary", "month", 1] == 24
    assert counts["America/New_York", "calendar", "month", 1] == 25
    assert counts["Europe/Berlin", "calendar", "month", 3] == 9
    assert counts["Europe/Berlin", "anniversary", "year", 2] == 1
    assert rows[BERLIN, "calendar", "month", 1][1][0][2] == Decimal("2.35")  # 1 of 31 days
    assert rows[NEW_YORK, "calendar", "month", 3][1][0][2] == Decimal("49.48")  # 61 of 90
    assert told(leap) == expected(
        "year", 1, first_on=FIRST, last_on=LAST, anchor=date(2026, 2, 28)
    )  # a 28th in February is no last day: it stays the 28th in the leap year
    assert [str(begins) for begins, *_ in told(leap)] == ["2027-01-31", "2027-02-28", "2028-02-28"]
    for zone in (BERLIN, NEW_YORK):
        assert hours_of(rows[zone, "anniversary", "day", 1][0]) == {24: 726, 23: 2, 25: 2}
    assert Invoice.objects.count() == sum(counts.values()) + 3


def test_a_yearly_anchor_on_the_leap_day_comes_back():
    tenant = make_organisation(local("2024-02-29 09:00", BERLIN), country="DE")
    plan = make_plan(tenant, flat("365.00", currency="EUR"), interval="year")
    subscription = subscribe(make_customer(tenant), plan)
    turn(tenant, local("2028-03-01 09:00", BERLIN))

    while run_billing(organisation=tenant).billed:
        pass

    assert [str(begins) for begins, *_ in told(subscription)] == [
        "2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29",
    ]  # fmt: skip
