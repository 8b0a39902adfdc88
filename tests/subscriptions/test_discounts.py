"""Coupons on lines, over many invoices: to the cent, in order, never below nothing."""

import uuid
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import permutations, product

from hypothesis import example, given, settings
from hypothesis import strategies as st

from subscriptions.discounts import FIXED, PERCENT, Item, Offer, discounts

CENT = Decimal("0.01")
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
ONE, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)


def cents(low, high):
    return st.integers(low, high).map(lambda n: Decimal(n) / 100)


LINES = list(product(["seats", "calls", "storage"], ["team", "club"], ["", "m1"], [ONE, OTHER]))
PLANS = [frozenset(), frozenset(), frozenset({"team"}), frozenset({"team", "club"})]
CODES = [frozenset(), frozenset(), frozenset({"calls"})]
METERS = [frozenset(), frozenset(), frozenset({"m1"})]
OFFERS = list(product([PERCENT, FIXED], range(4), PLANS, CODES, METERS, [None, None, ONE]))
"""All combinations, of which one is drawn at once: what Hypothesis does for each draw costs more than what is tested."""


def line_of(amount, about):
    code, plan, meter, subscription_id = about
    return Item(amount=amount, code=code, plan=plan, meter=meter, subscription_id=subscription_id)


items = st.builds(line_of, cents(-3_000, 20_000), st.sampled_from(LINES))


@st.composite
def offers(draw):
    kind, day, plans, codes, meters, subscription_id = draw(st.sampled_from(OFFERS))
    worth = Decimal(draw(st.integers(1, 10_000 if kind == PERCENT else 30_000))) / 100
    return Offer(
        id=uuid.UUID(int=draw(st.integers(1, 10**6))),
        kind=kind,
        applied_at=SINCE + timedelta(days=day),
        percent=worth if kind == PERCENT else Decimal(0),
        available=worth if kind == FIXED else Decimal(0),
        plans=plans,
        codes=codes,
        meters=meters,
        subscription_id=subscription_id,
    )


invoices = st.lists(items, min_size=1, max_size=5)
held = st.lists(offers(), min_size=1, max_size=3, unique_by=lambda offer: offer.id)


def taken(shares, i):
    return sum((share.by_line.get(i, Decimal(0)) for share in shares), Decimal(0))


@settings(max_examples=4000, deadline=None)
@given(invoices, held)
@example(
    [Item(amount=Decimal("0.01"), code="a")] * 3, [Offer(id=ONE, kind=PERCENT, percent=Decimal(50), applied_at=SINCE)]
)
def test_any_coupons_on_any_invoice(lines, coupons):
    shares = discounts(lines, coupons, quantum=CENT)

    check_that_nothing_falls_below_nothing(lines, shares)
    check_that_coupons_keep_to_what_they_are_for_and_what_they_have(lines, coupons, shares)
    check_that_restricted_coupons_go_first_and_of_equals_the_oldest(coupons, shares)
    for order in permutations(coupons):
        assert discounts(lines, order, quantum=CENT) == shares, "in which order they are read does not matter"


def check_that_nothing_falls_below_nothing(lines, shares):
    """No line, no component, and not the invoice."""
    components = {}
    for i, line in enumerate(lines):
        off = taken(shares, i)
        assert 0 <= off <= max(line.amount, 0)
        assert off == off.quantize(CENT)
        paid, plain = components.get(line.component, (Decimal(0), Decimal(0)))
        components[line.component] = (paid + line.amount - off, plain + line.amount)
    assert all(paid >= min(plain, 0) for paid, plain in components.values())
    whole = sum((line.amount for line in lines), Decimal(0))
    assert whole - sum((share.amount for share in shares), Decimal(0)) >= min(whole, 0)
    for share in shares:
        assert share.amount == sum(share.by_line.values())
        assert share.amount > 0


def check_that_coupons_keep_to_what_they_are_for_and_what_they_have(lines, coupons, shares):
    by_id = {coupon.id: coupon for coupon in coupons}
    for share in shares:
        coupon = by_id[share.offer_id]
        assert all(coupon.touches(lines[i]) for i in share.by_line)
        if coupon.kind == FIXED:
            assert share.amount <= coupon.available


def check_that_restricted_coupons_go_first_and_of_equals_the_oldest(coupons, shares):
    by_id = {coupon.id: coupon for coupon in coupons}
    order = [by_id[share.offer_id].order for share in shares]
    assert order == sorted(order)


@settings(max_examples=2000, deadline=None)
@given(st.lists(cents(1, 20_000), min_size=1, max_size=6), st.integers(1, 10_000))
def test_a_percentage_of_plain_lines_is_the_percentage_of_their_sum(amounts, hundredths):
    percent = Decimal(hundredths) / 100
    lines = [Item(amount=amount, code=f"c{n}") for n, amount in enumerate(amounts)]
    shares = discounts(lines, [Offer(id=ONE, kind=PERCENT, percent=percent, applied_at=SINCE)], quantum=CENT)

    exact = sum(amounts) * percent / 100
    assert sum(share.amount for share in shares) == exact.quantize(CENT, rounding=ROUND_HALF_UP)
    for i, amount in enumerate(amounts):
        assert abs(taken(shares, i) - amount * percent / 100) <= CENT * 3 / 2, "the sum is rounded, the parts share it"


@settings(max_examples=2000, deadline=None)
@given(st.lists(cents(1, 20_000), min_size=1, max_size=6), cents(1, 60_000))
def test_a_fixed_amount_is_given_in_full_or_uses_the_lines_up(amounts, available):
    lines = [Item(amount=amount, code=f"c{n}") for n, amount in enumerate(amounts)]
    [share] = discounts(lines, [Offer(id=ONE, kind=FIXED, available=available, applied_at=SINCE)], quantum=CENT)
    assert share.amount == min(available, sum(amounts))


def coupon(number, **more):
    more.setdefault("applied_at", SINCE)
    kind = PERCENT if "percent" in more else FIXED
    return Offer(
        id=uuid.UUID(int=number),
        kind=kind,
        **{name: Decimal(v) if name in ("percent", "available") else v for name, v in more.items()},
    )


def test_an_invoice_by_hand():
    """Seats 1000.00, calls 333.33, club's seats 200.00; 10 % off calls, 50.00 off team, then 25 % off everything."""
    lines = [
        Item(amount=Decimal("1000.00"), code="seats", plan="team", subscription_id=ONE),
        Item(amount=Decimal("333.33"), code="calls", plan="team", subscription_id=ONE, meter="m1"),
        Item(amount=Decimal("200.00"), code="seats", plan="club", subscription_id=OTHER),
    ]
    coupons = [
        coupon(9, percent="25", applied_at=SINCE - timedelta(days=9)),
        coupon(8, available="50", plans=frozenset({"team"})),
        coupon(7, percent="10", meters=frozenset({"m1"})),
    ]

    shares = discounts(lines, coupons, quantum=CENT)

    assert [(share.offer_id.int, share.amount) for share in shares] == [
        (7, Decimal("33.33")), (8, Decimal("50.00")), (9, Decimal("362.50")),
    ]  # fmt: skip
    assert shares[1].by_line == {0: Decimal("38.46"), 1: Decimal("11.54")}
    assert sum((line.amount for line in lines), Decimal(0)) - sum(share.amount for share in shares) == Decimal(
        "1087.50"
    )


def test_what_was_billed_already_limits_what_can_be_taken_off():
    lines = [
        Item(amount=Decimal("1000.00"), code="calls"),
        Item(amount=Decimal("-800.00"), code="calls"),
        Item(amount=Decimal("100.00"), code="seats"),
    ]
    [half] = discounts(lines, [coupon(1, percent="50")], quantum=CENT)
    assert half.by_line == {0: Decimal("200.00"), 2: Decimal("50.00")}
