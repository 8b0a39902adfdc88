"""From a subscription to lines: moments follow each other, parts add up, and MRR by its rule."""

import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moneyed import Money

from billing.metering import Used
from subscriptions import recurring
from subscriptions.arrears import Elapsed, arrears_lines
from subscriptions.lines import Component, MissingPrice, PriceBook, billing_moment, lines_in_advance
from subscriptions.periods import local_date, start_of_day
from subscriptions.pricing import Tier
from subscriptions.switching import Paid, Terms, net_by_component, switch_lines, unused_lines

METER = uuid.uuid4()
KOLKATA = ZoneInfo("Asia/Kolkata")
BASE = Component("base", "Base fee", "INR", "flat", Decimal("310.00"))
SEATS = Component("seats", "Seats", "INR", "per_unit", Decimal("99.99"), unit="seat")
CALLS = Component("calls", "Calls", "INR", "per_unit", Decimal("0.015"), meter_id=METER)
BOOK = PriceBook("team", "month", 1, "INR", (BASE, SEATS), (CALLS,))


def used(quantity, segment="", group=(), events=1, amount="0", values=()):
    return Used(segment, group, Decimal(quantity), events, Decimal(amount), values)


zones = st.sampled_from([ZoneInfo(name) for name in ("UTC", "Asia/Kolkata", "Europe/Berlin", "America/New_York")])
intervals = st.sampled_from([("day", 1), ("day", 10), ("week", 2), ("month", 1), ("month", 3), ("year", 1)])


@settings(max_examples=250, deadline=None)
@given(
    anchor=st.dates(date(2000, 1, 1), date(2040, 1, 1)),
    start=st.integers(0, 3 * 365 * 86_400),
    interval=intervals,
    zone=zones,
)
def test_moments_follow_each_other_and_keep_the_anchor(anchor, start, interval, zone):
    """Wherever billing begins, its first part ends at a boundary of the anchor and every further period is whole."""
    at = start_of_day(anchor, zone) + timedelta(seconds=start)
    number, usage_from = 0, at
    for step in range(4):
        moment = billing_moment(
            anchor_on=anchor, interval=interval[0], interval_count=interval[1], zone=zone, next_billing_at=at,
            period_number=number, usage_from=usage_from,
        )  # fmt: skip
        assert moment.start <= at < moment.end
        assert moment.first_on == local_date(at, zone)
        assert moment.part.days == (moment.next_on - moment.first_on).days >= 1
        assert moment.end == moment.period.end == start_of_day(moment.next_on, zone)
        if step:
            assert moment.part.is_whole
            assert (moment.usage_start, moment.usage_end) == (usage_from, at)
        number, usage_from, at = moment.number, at, moment.next_billing_at


def test_lines_of_a_whole_period_and_its_usage():
    moment = billing_moment(
        anchor_on=date(2026, 1, 31), interval="month", interval_count=1, zone=KOLKATA,
        next_billing_at=start_of_day(date(2026, 3, 31), KOLKATA), period_number=1,
        usage_from=start_of_day(date(2026, 2, 28), KOLKATA),
    )  # fmt: skip

    past = Elapsed(local_date(moment.usage_start, KOLKATA), date(2026, 3, 30))
    lines = lines_in_advance(moment=moment, book=BOOK, quantity=3)
    lines += arrears_lines(elapsed=past, book=BOOK, used={"calls": [used("1234.5")]})

    assert [(line.code, line.quantity, line.unit_price, str(line.amount.amount)) for line in lines] == [
        ("base", 1, Decimal("310.00"), "310.00"),
        ("seats", 3, Decimal("99.99"), "299.97"),
        ("calls", Decimal("1234.5"), Decimal("0.015"), "18.52"),
    ]
    assert [(line.period_start, line.period_end) for line in lines] == [
        (date(2026, 3, 31), date(2026, 4, 29)),
        (date(2026, 3, 31), date(2026, 4, 29)),
        (date(2026, 2, 28), date(2026, 3, 30)),
    ]


def test_usage_of_nothing_makes_no_line_and_another_book_prices_it():
    moment = billing_moment(
        anchor_on=date(2026, 4, 1), interval="month", interval_count=1, zone=KOLKATA,
        next_billing_at=start_of_day(date(2026, 5, 1), KOLKATA), usage_from=start_of_day(date(2026, 4, 1), KOLKATA),
    )  # fmt: skip
    dear = PriceBook(
        "old",
        "month",
        1,
        "INR",
        (),
        (Component("old-calls", "Old calls", "INR", "per_unit", Decimal(2), meter_id=METER),),
    )

    past = Elapsed(date(2026, 4, 1), date(2026, 4, 30))
    nothing = lines_in_advance(moment=moment, book=BOOK, quantity=1)
    nothing += arrears_lines(elapsed=past, book=BOOK, used={})
    priced_by_old = arrears_lines(elapsed=past, book=dear, used={"old-calls": [used("5")]})

    assert [line.code for line in nothing] == ["base", "seats"]
    assert [(line.code, str(line.amount.amount)) for line in priced_by_old] == [("old-calls", "10.00")]
    with pytest.raises(MissingPrice):
        lines_in_advance(moment=moment, book=PriceBook("empty", "month", 1, "INR"), quantity=1)


def test_an_end_within_the_period_charges_up_to_its_last_day():
    common = {"anchor_on": date(2026, 4, 1), "interval": "month", "interval_count": 1, "zone": KOLKATA}
    at = start_of_day(date(2026, 4, 1), KOLKATA)

    noon = billing_moment(next_billing_at=at, ends_at=datetime(2026, 4, 10, 6, 30, tzinfo=UTC), **common)
    midnight = billing_moment(next_billing_at=at, ends_at=start_of_day(date(2026, 4, 11), KOLKATA), **common)

    assert noon == midnight
    assert (noon.last_on, noon.part.days, noon.part.total) == (date(2026, 4, 10), 10, 30)
    lines = lines_in_advance(moment=noon, book=BOOK, quantity=1)
    assert [str(line.amount.amount) for line in lines] == ["103.33", "33.33"]
    assert lines[0].details[0] == {
        "kind": "part", "unit": "days", "days": 10, "of": 30, "quantity": "1", "unit_price": "310.00", "whole": "310.00",
    }  # fmt: skip


APRIL = billing_moment(
    anchor_on=date(2026, 4, 1), interval="month", interval_count=1, zone=KOLKATA,
    next_billing_at=start_of_day(date(2026, 4, 1), KOLKATA),
).period  # fmt: skip
PAID = Paid(APRIL, APRIL.start, APRIL.end, KOLKATA)


def on(day):
    """The first moment of a day in Kolkata."""
    return start_of_day(day, KOLKATA)


@settings(max_examples=250, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 29), st.integers(1, 400)), max_size=6), first=st.integers(1, 400))
def test_any_chain_of_changes_costs_each_day_its_terms(changes, first):
    """Billed in advance for the first quantity, then changed on rising days: the sum is what day by day shares say."""
    changes = sorted(changes, key=lambda change: change[0])
    total, quantity = SEATS.price(first).amount, first
    for day, changed in changes:
        lines = switch_lines(
            old=Terms(BOOK, quantity),
            new=Terms(BOOK, changed),
            paid=PAID,
            at=on(date(2026, 4, 1) + timedelta(days=day)),
        )
        total += sum((line.amount for line in lines), start=Money(0, "INR"))
        quantity = changed

    def until(amount, days):
        return (2 * int(amount * 100) * days + 30) // 60

    ends = [*(day for day, _ in changes), 30]
    paise, begin = 0, 0
    for terms, end in zip([first, *(changed for _, changed in changes)], ends, strict=True):
        whole = SEATS.price(terms).amount.amount
        paise += until(whole, end) - until(whole, begin)
        begin = end
    assert total == Money(Decimal(paise) / 100, "INR")


def test_a_change_on_the_first_day_swaps_the_whole_price():
    lines = switch_lines(old=Terms(BOOK, 1), new=Terms(BOOK, 4), paid=PAID, at=on(date(2026, 4, 1)))

    assert [str(line.amount.amount) for line in lines] == ["-99.99", "399.96"]


def test_unused_days_after_the_last_are_worth_nothing():
    assert unused_lines(old=Terms(BOOK, 3), paid=PAID, at=on(date(2026, 5, 1))) == []
    assert [str(line.amount.amount) for line in unused_lines(old=Terms(BOOK, 3), paid=PAID, at=on(date(2026, 4, 30)))] == [
        "-10.33", "-10.00",
    ]  # fmt: skip


def test_what_comes_to_less_than_nothing_is_split_by_component():
    other = PriceBook(
        "other",
        "month",
        1,
        "INR",
        (
            Component("base", "Base", "INR", "flat", Decimal(10)),
            Component("extra", "Extra", "INR", "flat", Decimal(30)),
        ),
    )

    lines = switch_lines(old=Terms(BOOK, 1), new=Terms(other, 1), paid=PAID, at=on(date(2026, 4, 1)))
    netted = net_by_component(lines)

    assert [(line.code, str(line.amount.amount)) for line in netted.invoice] == [("extra", "30.00")]
    assert {code: str(amount.amount) for code, amount in netted.credit.items()} == {"base": "300.00", "seats": "99.99"}


@pytest.mark.parametrize(
    ("interval", "count", "price", "quantity", "mrr"),
    [
        ("month", 1, "499.00", 1, "499.00"),
        ("month", 3, "1000.00", 1, "333.33"),
        ("year", 1, "1000.00", 1, "83.33"),
        ("year", 2, "100.02", 1, "4.17"),
        ("week", 1, "10.00", 1, "43.33"),  # 52 weeks
        ("week", 2, "10.00", 3, "65.00"),
        ("day", 1, "1.00", 1, "30.42"),  # 365 days
        ("day", 10, "1.00", 1, "3.04"),
        ("year", 1, "0.06", 1, "0.01"),  # 0.005 half up
    ],
)
def test_mrr_of_a_licensed_item(interval, count, price, quantity, mrr):
    component = Component("x", "X", "INR", "per_unit", Decimal(price))

    book = PriceBook("p", interval, count, "INR", (component,), (CALLS,))

    assert recurring.mrr(book=book, quantity=quantity, status="active") == Money(mrr, "INR")


def test_mrr_rounds_each_item_and_counts_only_what_is_owed():
    half = Component("x", "X", "INR", "flat", Decimal("0.06"))
    tiers = Component(
        "t", "T", "INR", "graduated", tiers=(Tier(Decimal(2), Decimal(12)), Tier(None, Decimal(6), Decimal(1)))
    )
    book = PriceBook("p", "year", 1, "INR", (half, half, tiers))

    levels = {status: str(recurring.mrr(book=book, quantity=4, status=status).amount) for status in (
        "pending", "trialing", "active", "past_due", "suspended", "paused", "cancelled", "expired")}  # fmt: skip

    assert levels == dict.fromkeys(levels, "0.00") | dict.fromkeys(("active", "past_due", "suspended"), "3.10")
