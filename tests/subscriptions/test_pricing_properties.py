"""Invariants of prices over tens of thousands of generated cases. Pure: no database.

Each test says the rule it holds. Quantities and prices are drawn with their decimals, so that rounding is really met.
"""

import random
from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from moneyed import Money

from billing.metering import Used
from subscriptions.arrears import Elapsed, Stretch, arrears_lines
from subscriptions.lines import Component, PriceBook
from subscriptions.pricing import Filter, Parameters, Rule, Tier, Usage, by_specificity, most_specific, price_component
from subscriptions.pricing.commitments import committed, true_up
from subscriptions.pricing.percentages import needs_values
from subscriptions.proration import Part, share

MANY = settings(max_examples=2000, deadline=None)
quantities = st.integers(0, 10**7).map(lambda n: Decimal(n) / 1000)
small = st.integers(0, 5000).map(lambda n: Decimal(n) / 100)
prices = st.integers(0, 10**6).map(lambda n: Decimal(n) / 10_000)
bounds = st.lists(st.integers(1, 10**6), max_size=4, unique=True).map(
    lambda found: [Decimal(n) / 100 for n in sorted(found)]
)
percents = st.integers(0, 10_000).map(lambda n: Decimal(n) / 100)


@st.composite
def tier_lists(draw, order=None, fees=True):
    """Tiers with ascending bounds; ``order``: -1 falling prices, 1 rising prices."""
    ends = [*draw(bounds), None]
    costs = [draw(prices) for _ in ends]
    if order is not None:
        costs.sort(reverse=order < 0)
    return tuple(Tier(end, cost, draw(small) if fees else Decimal(0)) for end, cost in zip(ends, costs, strict=True))


@st.composite
def percentages(draw):
    least, most = draw(st.none() | small), draw(st.none() | small)
    if least is not None and most is not None and least > most:
        least, most = most, least
    return Parameters(
        rate=draw(percents), fixed_fee=draw(small), free_units=draw(st.none() | quantities),
        free_events=draw(st.none() | st.integers(0, 5)), min_per_event=least, max_per_event=most,
    )  # fmt: skip


def cost(model, quantity, **rule):
    return price_component(model=model, quantity=quantity, currency="INR", **rule)


def minor(exact):
    """Paise of an exact amount, half up, worked out with whole numbers only."""
    found = Fraction(exact) * 100
    return (2 * found.numerator + found.denominator) // (2 * found.denominator)


@MANY
@given(model=st.sampled_from(["graduated", "volume"]), quantity=quantities, tiers=tier_lists())
def test_tiers_add_up_to_the_amount_and_cover_every_unit_once(model, quantity, tiers):
    priced = cost(model, quantity, tiers=tiers)

    assert sum((tier.amount for tier in priced.tiers), Decimal(0)) == priced.exact
    assert sum((tier.quantity for tier in priced.tiers), Decimal(0)) == quantity
    assert priced.amount.amount * 100 == minor(priced.exact)


@MANY
@given(quantity=quantities, order=st.sampled_from([-1, 1]), data=st.data())
def test_graduated_is_never_below_volume_where_prices_fall_and_never_above_where_they_rise(quantity, order, data):
    tiers = data.draw(tier_lists(order=order, fees=False))
    graduated, volume = (cost(model, quantity, tiers=tiers).exact for model in ("graduated", "volume"))

    assert graduated >= volume if order < 0 else graduated <= volume


@MANY
@given(quantity=quantities, tiers=tier_lists())
def test_graduated_and_volume_agree_within_the_first_tier_and_graduated_never_falls(quantity, tiers):
    more = cost("graduated", quantity + Decimal("0.5"), tiers=tiers).exact

    assert cost("graduated", quantity, tiers=tiers).exact <= more
    if tiers[0].up_to is None or quantity <= tiers[0].up_to:
        assert cost("graduated", quantity, tiers=tiers).exact == cost("volume", quantity, tiers=tiers).exact


@MANY
@given(tiers=tier_lists(), data=st.data())
def test_a_bound_belongs_to_the_tier_it_closes(tiers, data):
    tier = data.draw(st.sampled_from(tiers))
    if tier.up_to is not None:
        assert cost("volume", tier.up_to, tiers=tiers).exact == tier.up_to * tier.unit_price + tier.flat_fee
        assert cost("graduated", tier.up_to, tiers=tiers).tiers[-1].up_to == tier.up_to


@MANY
@given(quantity=quantities, more=quantities, price=prices, size=st.integers(1, 10**5), free=st.none() | quantities)
def test_packages_are_monotone_cover_the_units_and_never_one_too_many(quantity, more, price, size, free):
    parameters = Parameters(package_size=Decimal(size) / 100, free_units=free)
    first, second = (
        cost("package", units, unit_price=price, parameters=parameters) for units in (quantity, quantity + more)
    )
    begun = sum((part.quantity for part in first.tiers if part.label == "package"), Decimal(0))
    paid = max(quantity - (free or 0), Decimal(0))

    assert first.exact <= second.exact
    assert first.exact == begun * price
    assert begun * parameters.package_size >= paid > (begun - 1) * parameters.package_size or begun == paid == 0


@MANY
@given(values=st.lists(quantities, max_size=12), parameters=percentages())
def test_a_percentage_adds_up_stays_within_its_limits_and_is_what_an_event_by_event_reckoning_says(values, parameters):
    usage = Usage(sum(values, Decimal(0)), len(values), None, tuple(values))
    priced = cost("percentage", usage.quantity, parameters=parameters, usage=usage)

    assert sum((part.amount for part in priced.tiers), Decimal(0)) == priced.exact
    expected, events_left, units_left, paying = Decimal(0), parameters.free_events, parameters.free_units, 0
    for value in values:
        paid = value
        if (events_left or units_left) and events_left != 0 and units_left != 0:
            covered = value if units_left is None else min(value, units_left)
            events_left = None if events_left is None else events_left - 1
            units_left = None if units_left is None else units_left - covered
            paid = value - covered
            if not paid:
                continue
        fee = paid * parameters.rate / 100 + parameters.fixed_fee
        fee = max(fee, parameters.min_per_event or Decimal(0))
        expected += fee if parameters.max_per_event is None else min(fee, parameters.max_per_event)
        paying += 1
    if needs_values(parameters):
        assert priced.exact == expected
        if parameters.max_per_event is not None:
            assert priced.exact <= paying * parameters.max_per_event
    else:  # no fee or limit looks at single events: the sum is enough
        plain = max(usage.quantity - (parameters.free_units or 0), Decimal(0)) * parameters.rate / 100
        assert priced.exact == plain + len(values) * parameters.fixed_fee


@MANY
@given(
    paid=st.lists(quantities.filter(bool), min_size=1, max_size=8),
    refunds=st.integers(0, 8),
    rate=percents,
    fee=small.filter(bool),
)
def test_what_is_given_back_pays_no_fee_whether_the_price_has_bounds_or_not(paid, refunds, rate, fee):
    values = (*paid, *(-value for value in paid[:refunds]))
    usage = Usage(sum(values, Decimal(0)), len(values), None, values)
    plain = Parameters(rate=rate, fixed_fee=fee)
    bounded = replace(plain, max_per_event=Decimal(10**12))

    for parameters in (plain, bounded):
        assert needs_values(parameters)
        priced = cost("percentage", usage.quantity, parameters=parameters, usage=usage)
        assert priced.exact == usage.quantity * rate / 100 + len(paid) * fee


@MANY
@given(values=st.lists(quantities, max_size=12), rate=percents, fee=small, most=small, seed=st.integers())
def test_the_order_of_events_does_not_matter(values, rate, fee, most, seed):
    """Without an allowance, which is spent in order of time, any order and any split into sums costs the same."""
    shuffled = list(values)
    random.Random(seed).shuffle(shuffled)
    for parameters in (Parameters(rate=rate, fixed_fee=fee), Parameters(rate=rate, max_per_event=most)):
        first, second = (
            cost("percentage", sum(one, Decimal(0)), parameters=parameters,
                 usage=Usage(sum(one, Decimal(0)), len(one), None, tuple(one)))
            for one in (values, shuffled)
        )  # fmt: skip
        assert first.exact == second.exact


@MANY
@given(quantity=quantities, first=st.integers(0, 1000), rates=tier_lists())
def test_graduated_percentages_price_money_like_units(quantity, first, rates):
    tiers = tuple(Tier(tier.up_to, tier.unit_price / 100, tier.flat_fee, tier.unit_price) for tier in rates)

    assert cost("graduated_percentage", quantity, tiers=tiers).exact == cost("graduated", quantity, tiers=tiers).exact


@MANY
@given(amount=st.integers(0, 10**9), cuts=st.lists(st.integers(0, 366), max_size=6), total=st.integers(1, 366))
def test_a_period_split_anywhere_costs_what_it_costs_whole(amount, cuts, total):
    price = Money(Decimal(amount) / 100, "INR")
    ends = sorted({0, total, *(cut for cut in cuts if cut <= total)})

    parts = [share(price, Part(first, last, total)) for first, last in pairwise(ends)]

    assert sum(parts, start=Money(0, "INR")) == price


@MANY
@given(minimum=st.integers(1, 10**8), charged=st.integers(0, 10**8), first=st.integers(0, 30), days=st.integers(1, 31))
def test_a_commitment_takes_neither_less_than_the_minimum_nor_more_than_the_greater_of_both(
    minimum, charged, first, days
):
    part = Part(first, min(first + days, 31), 31)
    least, used = Decimal(minimum) / 100, Money(Decimal(charged) / 100, "INR")

    paid = used + true_up(minimum=least, part=part, charged=used)

    assert paid == max(committed(least, part, "INR"), used)


@MANY
@given(
    minimum=st.integers(1, 10**7), usage=st.lists(st.integers(0, 10**6), min_size=1, max_size=5), data=st.data(),
)  # fmt: skip
def test_the_parts_of_a_committed_period_never_come_to_less_than_the_whole(minimum, usage, data):
    """However a period is split by changes, its parts commit to the whole minimum and each takes at least its usage."""
    ends = sorted(data.draw(st.lists(st.integers(1, 30), min_size=len(usage) - 1, max_size=len(usage) - 1)))
    parts = [Part(first, last, 31) for first, last in zip([0, *ends], [*ends, 31], strict=True)]
    least = Decimal(minimum) / 100
    used = [Money(Decimal(one) / 100, "INR") for one in usage]
    paid = sum(
        (one + true_up(minimum=least, part=part, charged=one) for one, part in zip(used, parts, strict=True)),
        start=Money(0, "INR"),
    )
    whole = sum(used, start=Money(0, "INR"))

    assert sum((committed(least, part, "INR") for part in parts), start=Money(0, "INR")) == Money(least, "INR")
    assert paid >= max(whole, Money(least, "INR"))


names = st.sampled_from(["region", "grade", "team"])
words = st.sampled_from(["a", "b", "c"])
condition_sets = st.dictionaries(names, st.lists(words, min_size=1, max_size=3, unique=True), min_size=1, max_size=3)


@MANY
@given(sets=st.lists(condition_sets, max_size=6), properties=st.dictionaries(names, words), seed=st.integers())
def test_the_most_specific_filter_wins_whatever_order_they_stand_in(sets, properties, seed):
    filters = [
        Filter(str(n), str(n), tuple(sorted((name, tuple(values)) for name, values in one.items())), Rule())
        for n, one in enumerate(sets)
    ]
    won = most_specific(filters, properties)
    shuffled = list(filters)
    random.Random(seed).shuffle(shuffled)
    again = most_specific(shuffled, properties)
    fitting = [one for one in filters if one.fits(properties)]

    assert (won is None) == (again is None) == (not fitting)
    if won is not None and again is not None:
        rank = [(-len(one.conditions), sum(len(values) for _, values in one.conditions)) for one in (won, again)]
        assert rank[0] == rank[1] == min((-len(f.conditions), sum(len(v) for _, v in f.conditions)) for f in fitting)
    assert by_specificity(by_specificity(filters)) == by_specificity(filters)


FIRST = date(2026, 3, 1)


@settings(max_examples=1200, deadline=None)
@given(
    price=st.integers(1, 10**6), minimum=st.integers(0, 10**7), cuts=st.lists(st.integers(1, 30), max_size=4),
    counts=st.lists(st.integers(0, 50), min_size=5, max_size=5), used=st.integers(0, 10**6),
)  # fmt: skip
def test_what_is_charged_afterwards_costs_each_day_its_quantity_and_at_least_the_minimum(
    price, minimum, cuts, counts, used
):
    """Seats in arrears that change on any days, usage, and a minimum: the lines say what day by day shares say."""
    seats = Component("seats", "Seats", "INR", "per_unit", Decimal(price) / 100, pay_in_advance=False)
    calls = Component("calls", "Calls", "INR", "per_unit", Decimal("0.01"), meter_id=object())
    least = Decimal(minimum) / 100 if minimum else None
    book = PriceBook("team", "month", 1, "INR", metered=(calls,), arrears=(seats,), min_commitment=least)
    ends = sorted({0, 31, *cuts})
    stretches = tuple(
        Stretch(Part(first, last, 31), book, count) for first, last, count in zip(ends, ends[1:], counts, strict=False)
    )
    lines = arrears_lines(
        elapsed=Elapsed(FIRST, date(2026, 3, 31), stretches), book=book,
        used={"calls": [Used("", (), Decimal(used), 1, Decimal(0))]},
    )  # fmt: skip
    seat_lines = [line.amount.amount for line in lines if line.code == "seats"]

    def until(whole, day):
        return (2 * int(whole * 100) * day + 31) // 62

    paise = sum(
        until(stretch.quantity * seats.unit_price, stretch.part.last)
        - until(stretch.quantity * seats.unit_price, stretch.part.first)
        for stretch in stretches
    )
    assert sum(seat_lines, Decimal(0)) * 100 == paise
    total = sum(line.amount.amount for line in lines)
    fees = (
        Decimal(paise) / 100
        + price_component(model="per_unit", quantity=used, currency="INR", unit_price=Decimal("0.01")).amount.amount
    )
    assert total == max(fees, least or Decimal(0))


@settings(max_examples=300, deadline=None)
@given(counts=st.lists(st.integers(1, 50), min_size=1, max_size=4), begins=st.booleans())
def test_what_is_not_prorated_is_charged_once_by_the_last_terms_and_only_when_the_period_begins(counts, begins):
    seats = Component("seats", "Seats", "INR", "per_unit", Decimal(7), pay_in_advance=False, prorated=False)
    book = PriceBook("team", "month", 1, "INR", arrears=(seats,))
    ends = [0, *range(5, 5 * len(counts), 5), 31]
    stretches = tuple(
        Stretch(Part(first, last, 31), book, count) for (first, last), count in zip(pairwise(ends), counts, strict=True)
    )

    lines = arrears_lines(elapsed=Elapsed(FIRST, date(2026, 3, 31), stretches, begins), book=book, used={})

    assert [line.amount.amount for line in lines] == ([Decimal(7) * counts[-1]] if begins else [])
