"""Prices: exact to the last digit, rounded once."""

import random
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moneyed import Money

from billing.errors import UnknownCurrency
from subscriptions import pricing
from subscriptions.pricing import (
    AmountTooLarge,
    InvalidPrice,
    InvalidQuantity,
    InvalidTiers,
    Tier,
    parse_tiers,
    price_component,
)

API_TIERS = parse_tiers(
    [
        {"up_to": "1000", "unit_price": "0", "flat_fee": "0"},
        {"up_to": "10000", "unit_price": "0.02", "flat_fee": "5"},
        {"up_to": None, "unit_price": "0.0125"},
    ]
)


@pytest.mark.parametrize(
    ("model", "quantity", "currency", "unit_price", "amount"),
    [
        ("flat", 7, "INR", "499.00", "499.00"),
        ("per_unit", 7, "INR", "499.00", "3493.00"),
        ("per_unit", 0, "INR", "499.00", "0.00"),
        ("per_unit", 1, "INR", "0.005", "0.01"),  # half up
        ("per_unit", 1, "INR", "0.00499999", "0.00"),
        ("per_unit", 3, "JPY", "33.5", "101"),  # 100.5
        ("per_unit", 1, "KWD", "1.2345", "1.235"),
        ("per_unit", 1_000_000, "USD", "0.000000123456", "0.12"),
    ],
)
def test_flat_and_per_unit(model, quantity, currency, unit_price, amount):
    priced = price_component(model=model, quantity=quantity, currency=currency, unit_price=Decimal(unit_price))

    assert priced.amount == Money(amount, currency)
    assert str(priced.amount.amount) == amount


@pytest.mark.parametrize(
    ("quantity", "amount", "tiers"),
    [
        ("0", "0.00", []),
        ("1000", "0.00", [("1000", "0")]),  # a bound belongs to the tier it closes
        ("1000.5", "5.01", [("1000", "0"), ("0.5", "5.010")]),
        ("1001", "5.02", [("1000", "0"), ("1", "5.02")]),
        ("10000", "185.00", [("1000", "0"), ("9000", "185.00")]),
        ("10001", "185.01", [("1000", "0"), ("9000", "185.00"), ("1", "0.0125")]),
        ("50000", "685.00", [("1000", "0"), ("9000", "185.00"), ("40000", "500.0000")]),
    ],
)
def test_graduated_prices_each_unit_in_its_tier(quantity, amount, tiers):
    priced = price_component(model="graduated", quantity=Decimal(quantity), currency="USD", tiers=API_TIERS)

    assert priced.amount == Money(amount, "USD")
    assert [(tier.quantity, tier.amount) for tier in priced.tiers] == [(Decimal(q), Decimal(a)) for q, a in tiers]


def test_average_unit_price_of_graduated_is_told():
    priced = price_component(model="graduated", quantity=10_000, currency="USD", tiers=API_TIERS)

    assert priced.unit_price == Decimal("0.0185")


prices = st.decimals(min_value=0, max_value=10**9, places=12)
quantities = st.decimals(min_value=0, max_value=10**6, places=6)


@st.composite
def tier_lists(draw):
    steps = draw(st.lists(st.decimals(min_value="0.000001", max_value=10**6, places=6), max_size=6))
    bounds, floor = [], Decimal(0)
    for step in steps:
        floor += step
        bounds.append(floor)
    return tuple(Tier(bound, draw(prices), draw(prices)) for bound in [*bounds, None])


@settings(max_examples=250, deadline=None)
@given(tiers=tier_lists(), quantity=quantities)
def test_graduated_equals_the_sum_told_in_fractions(tiers, quantity):
    priced = price_component(model="graduated", quantity=quantity, currency="INR", tiers=tiers)

    exact, floor = Fraction(0), Fraction(0)
    for tier in tiers:
        if Fraction(quantity) <= floor:
            break
        top = Fraction(quantity) if tier.up_to is None else min(Fraction(quantity), Fraction(tier.up_to))
        exact += (top - floor) * Fraction(tier.unit_price) + Fraction(tier.flat_fee)
        floor = top
    assert Fraction(priced.exact) == exact
    assert sum((tier.quantity for tier in priced.tiers), Decimal(0)) == quantity
    assert Fraction(priced.amount.amount) == Fraction(int(exact * 100 + Fraction(1, 2)), 100)


@settings(max_examples=250, deadline=None)
@given(price=prices, quantity=quantities)
def test_one_open_tier_is_a_per_unit_price(price, quantity):
    graduated = price_component(model="graduated", quantity=quantity, currency="EUR", tiers=(Tier(None, price),))
    per_unit = price_component(model="per_unit", quantity=quantity, currency="EUR", unit_price=price)

    assert graduated.amount == per_unit.amount
    assert graduated.exact == per_unit.exact
    assert Fraction(per_unit.exact) == Fraction(price) * Fraction(quantity)


@settings(max_examples=250, deadline=None)
@given(tiers=tier_lists(), quantity=quantities, more=quantities)
def test_more_units_never_cost_less(tiers, quantity, more):
    less_units = price_component(model="graduated", quantity=quantity, currency="INR", tiers=tiers)
    more_units = price_component(model="graduated", quantity=quantity + more, currency="INR", tiers=tiers)

    assert more_units.amount >= less_units.amount


@settings(max_examples=250, deadline=None)
@given(tiers=tier_lists())
def test_tiers_survive_storage(tiers):
    assert parse_tiers(pricing.dump_tiers(tiers)) == tiers


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ([], "tiers"),
        ("[]", "tiers"),
        (None, "tiers"),
        ({"up_to": None}, "tiers"),
        ([1], "tiers[0]"),
        ([{"up_to": None, "unit_price": "1", "price": "2"}], "tiers[0]"),
        ([{"up_to": "10", "unit_price": "1"}], "tiers[0].up_to"),  # nothing above 10
        ([{"up_to": None, "unit_price": "1"}, {"up_to": None, "unit_price": "1"}], "tiers[0].up_to"),
        (
            [
                {"up_to": "10", "unit_price": "1"},
                {"up_to": "10", "unit_price": "1"},
                {"up_to": None, "unit_price": "1"},
            ],
            "tiers[1].up_to",
        ),
        (
            [{"up_to": "10", "unit_price": "1"}, {"up_to": "9", "unit_price": "1"}, {"up_to": None, "unit_price": "1"}],
            "tiers[1].up_to",
        ),
        ([{"up_to": "0", "unit_price": "1"}, {"up_to": None, "unit_price": "1"}], "tiers[0].up_to"),
        ([{"up_to": None, "unit_price": "-1"}], "tiers[0].unit_price"),
        ([{"up_to": None, "unit_price": 1.5}], "tiers[0].unit_price"),  # a float never holds money
        ([{"up_to": None, "unit_price": True}], "tiers[0].unit_price"),
        ([{"up_to": None, "unit_price": "NaN"}], "tiers[0].unit_price"),
        ([{"up_to": None, "unit_price": "Infinity"}], "tiers[0].unit_price"),
        ([{"up_to": None, "unit_price": "1e400000"}], "tiers[0].unit_price"),
        ([{"up_to": None, "unit_price": "0.0000000000001"}], "tiers[0].unit_price"),
        ([{"up_to": None, "unit_price": "1\x00"}], "tiers[0].unit_price"),
        ([{"up_to": None}], "tiers[0].unit_price"),
        ([{"up_to": None, "unit_price": "1", "flat_fee": "-0.01"}], "tiers[0].flat_fee"),
        ([{"up_to": str(i + 1), "unit_price": "1"} for i in range(60)], "tiers"),
    ],
)
def test_broken_tiers_are_refused_by_name(raw, field):
    with pytest.raises(InvalidTiers) as refused:
        parse_tiers(raw)

    assert refused.value.field == field


def test_incomplete_prices_and_bad_quantities_are_refused():
    with pytest.raises(InvalidPrice):
        price_component(model="flat", quantity=1, currency="INR")
    with pytest.raises(InvalidPrice):
        price_component(model="volume", quantity=1, currency="INR", unit_price=Decimal(1))
    with pytest.raises(InvalidTiers):
        price_component(model="graduated", quantity=1, currency="INR")
    for quantity in (-1, Decimal("-0.1"), Decimal("NaN"), Decimal("Infinity")):
        with pytest.raises(InvalidQuantity):
            price_component(model="per_unit", quantity=quantity, currency="INR", unit_price=Decimal(1))
    with pytest.raises(UnknownCurrency):
        price_component(model="flat", quantity=1, currency="RUPEE", unit_price=Decimal(1))
    with pytest.raises(AmountTooLarge):
        price_component(model="per_unit", quantity=10**9, currency="INR", unit_price=Decimal(10**9))


def test_twenty_thousand_quantities_equal_the_sum_told_unit_by_unit():
    """The simplest possible reading of a graduated price: walk the units one after the other."""
    dice = random.Random(7)
    for _ in range(400):
        bounds = sorted(dice.sample(range(1, 60), dice.randint(0, 4)))
        tiers = tuple(
            Tier(
                None if bound is None else Decimal(bound),
                Decimal(dice.randint(0, 10**6)).scaleb(-4),
                Decimal(dice.randint(0, 500)).scaleb(-2),
            )
            for bound in [*bounds, None]
        )
        exact, entered = Decimal(0), -1
        for unit in range(1, 51):
            at = next(i for i, tier in enumerate(tiers) if tier.up_to is None or unit <= tier.up_to)
            exact += tiers[at].unit_price + sum((tier.flat_fee for tier in tiers[entered + 1 : at + 1]), Decimal(0))
            entered = at
            assert price_component(model="graduated", quantity=unit, currency="INR", tiers=tiers).exact == exact


@pytest.mark.parametrize(
    "text", ["1_000", " 1", "1 ", "\u0663", "1,5", "0x1", "NaN", "Infinity", "--1", "", ".", "1e", "1e99999"]
)
def test_what_is_no_plain_decimal_is_no_price(text):
    """``Decimal`` itself reads underscores, blanks and digits of other alphabets."""
    with pytest.raises(InvalidTiers) as refused:
        parse_tiers([{"up_to": None, "unit_price": text}])
    assert refused.value.field == "tiers[0].unit_price"
