"""Coupons and invoices in mid-period: all of them together cost what one invoice would have cost, and a coupon counts once."""

import uuid
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from moneyed import Money

from invoices.drafts import LineInput
from invoices.models import CreditNote
from invoices.services import settling
from subscriptions.lines import Component, PriceBook
from subscriptions.models import CouponUse
from subscriptions.progressive import Earlier, take_off
from subscriptions.services import acting, interim, preview
from subscriptions.services.billing_run import run_billing
from subscriptions.services.coupon_book import Held, discount_in, taken_off
from subscriptions.services.thresholds import add_threshold
from tests.subscriptions.house import (
    CLERK,
    amounts,
    credit_notes_of,
    flat,
    invoices_of,
    lines_of,
    local,
    make_customer,
    make_meter,
    make_organisation,
    make_plan,
    seats,
    subscribe,
    turn,
    use,
)
from tests.subscriptions.test_coupons import coupon, give, state

START = local("2026-04-01 09:00")
CENTS = st.integers(min_value=0, max_value=10**6).map(lambda n: Decimal(n).scaleb(-2))
WHO = uuid.UUID(int=7)
CENT = Decimal("0.01")
BOOKS = {
    WHO: [PriceBook("plan", "month", 1, "INR", metered=tuple(Component(code, code, "INR", "per_unit", Decimal(1), meter_id=WHO)
                                                             for code in ("calls", "storage")))]
}  # fmt: skip


def held(number, kind, value, codes=()):
    amount = Decimal(value).scaleb(-2)
    return Held(
        id=uuid.UUID(int=number), code=f"c{number}", name="", kind=kind, percent=min(amount, Decimal(100)), amount=amount,
        currency="INR", carries_over=False, plans=frozenset(), codes=frozenset(codes), meters=frozenset(), subscription_id=None,
        applied_at=START + timedelta(days=number), periods_left=None, left_over=Decimal(0),
    )  # fmt: skip


def line(code, amount):
    return LineInput(description=code, code=code, amount=Money(amount, "INR"), tax_category="saas")


def total(lines, code=None):
    return sum((one.amount.amount for one in lines if code in (None, one.code)), Decimal(0))


@given(
    steps=st.lists(st.fixed_dictionaries({"calls": CENTS, "storage": CENTS}), min_size=1, max_size=5),
    base=CENTS,
    coupons=st.lists(
        st.tuples(
            st.sampled_from(["percent", "fixed"]),
            st.integers(1, 20_000),
            st.sampled_from([(), ("calls",), ("storage",)]),
        ),
        max_size=3,
    ),
    grows=st.booleans(),
)
@example(
    steps=[{"calls": Decimal(0), "storage": Decimal("1.48")}, {"calls": Decimal("0.19"), "storage": Decimal(0)}],
    base=Decimal("1.31"),
    coupons=[("percent", 17, ())],
    grows=True,
)
@example(
    steps=[{"calls": Decimal("0.07"), "storage": Decimal("1.05")}] * 2,
    base=Decimal("0.01"),
    coupons=[("fixed", 8, ())],
    grows=True,
)
@settings(max_examples=3000, deadline=None)
def test_interim_and_last_invoice_cost_what_one_invoice_costs(steps, base, coupons, grows):
    """Whatever the coupons, and also where usage was corrected downwards: then the rest goes back, and nothing is below zero."""
    if grows:
        steps = [
            {code: sum((one[code] for one in steps[: n + 1]), Decimal(0)) for code in steps[0]}
            for n in range(len(steps))
        ]
    in_hand = [(one, one.offer()) for one in (held(n, *terms) for n, terms in enumerate(coupons, start=1))]
    earlier, paid, off = [], Decimal(0), Decimal(0)
    for number, step in enumerate(steps, start=1):
        is_last = number == len(steps)
        lines = [line(code, amount) for code, amount in step.items() if amount]
        lines += [line("base", base)] if is_last and base else []
        whole = taken_off(lines, in_hand, currency="INR", books=BOOKS).lines
        taken = take_off(whole, earlier)
        assert all(total(taken.lines, code) >= 0 for code in ("calls", "storage", "base"))
        if is_last:
            paid += total(taken.lines) - sum(taken.excess.values(), Decimal(0))
        elif total(taken.lines) > 0:
            paid += total(taken.lines)
            off += sum((discount_in(one.details) for one in taken.lines), Decimal(0))
            earlier += [
                Earlier(one.code, "", "saas", one.amount.amount, WHO, "INR", discount=discount_in(one.details))
                for one in taken.lines
            ]

    assert paid == total(whole)
    if grows and len(coupons) == 1:
        # Rounded on the whole and shared out among the lines: by a cent it may move between them.
        assert all(rest <= CENT for rest in taken.excess.values())


@pytest.fixture
def tenant(db):
    return make_organisation(START)


def agreed(tenant, *coupons, in_advance=True, customer=None):
    """A subscription whose first month is billed before the ``coupons`` are given."""
    price = seats("1.00", code="calls", name="Calls", meter="calls", tax_category="saas", pay_in_advance=in_advance)
    customer = customer or make_customer(tenant)
    subscription = subscribe(customer, make_plan(tenant, flat("500.00", tax_category="saas"), price))
    run_billing(organisation=tenant)
    return subscription


def look(tenant, text):
    turn(tenant, local(text))
    return interim.invoice_passed(organisation=tenant)


def close_month(tenant, text="2026-05-01 09:00"):
    turn(tenant, local(text))
    run_billing(organisation=tenant)


@pytest.mark.django_db
def test_a_percentage_is_taken_off_at_once_and_counted_once(tenant):
    meter = make_meter(tenant)
    subscription, plain = agreed(tenant), agreed(tenant)
    coupon(tenant, percent="12.5", duration="once")
    mine, theirs = give(subscription.customer), give(plain.customer)
    for day, quantity in (("05", "0.33"), ("06", "10.01"), ("07", "89.99")):
        use(subscription.customer, meter, quantity, local(f"2026-04-{day} 12:00"))
        assert look(tenant, f"2026-04-{day} 13:00") == 1
    assert state(mine) == ("active", 1, "0.00", 0, "0.00")
    use(plain.customer, meter, "100.33", local("2026-04-07 12:00"))
    use(subscription.customer, meter, "2", local("2026-04-30 12:00"))
    use(plain.customer, meter, "2", local("2026-04-30 12:00"))
    close_month(tenant)

    one, other = invoices_of(subscription), invoices_of(plain)
    assert lines_of(one[2]) == [("Calls", "9.05"), ("Billed already: Calls", "-0.29")]
    assert sum(row.net.amount for row in one) == sum(row.net.amount for row in other) == Decimal("1027.04")
    assert state(mine) == state(theirs) == ("used_up", 0, "0.00", 1, "75.29")
    assert not CreditNote.objects.exists()


@pytest.mark.django_db
def test_a_fixed_amount_is_promised_at_once_and_given_once(tenant):
    meter = make_meter(tenant)
    subscription = agreed(tenant)
    coupon(tenant, amount="100.00", duration="once")
    applied = give(subscription.customer)
    use(subscription.customer, meter, "150", local("2026-04-05 12:00"))
    assert look(tenant, "2026-04-05 13:00") == 1
    use(subscription.customer, meter, "50", local("2026-04-06 12:00"))
    assert look(tenant, "2026-04-06 13:00") == 1
    close_month(tenant)

    assert amounts(invoices_of(subscription)) == ["500.00", "50.00", "50.00", "500.00"]
    assert state(applied) == ("used_up", 0, "0.00", 1, "100.00")
    assert CouponUse.objects.get().invoice_id == invoices_of(subscription)[-1].pk


@pytest.mark.django_db
def test_a_coupon_that_came_later_is_for_the_whole_period(tenant):
    meter = make_meter(tenant)
    subscription = agreed(tenant)
    use(subscription.customer, meter, "150", local("2026-04-05 12:00"))
    assert look(tenant, "2026-04-05 13:00") == 1
    coupon(tenant, percent="50")
    give(subscription.customer)
    use(subscription.customer, meter, "10", local("2026-04-06 12:00"))
    assert look(tenant, "2026-04-06 13:00") == 0  # eighty are due, 150 were invoiced
    seen = preview.preview_action(organisation=tenant, subscription_id=subscription.pk, count=1)
    close_month(tenant)

    assert amounts(invoices_of(subscription)) == ["500.00", "150.00", "250.00"]
    assert amounts(credit_notes_of(subscription)) == ["70.00"]
    assert [f"{one.priced.net:.2f}" for one in seen.invoices] == ["250.00"]
    [credit] = seen.credits
    assert credit.invoice == invoices_of(subscription)[1]
    assert (credit.at, credit.priced.net) == (local("2026-05-01 00:00"), 70)


@pytest.mark.django_db
def test_a_coupon_of_two_subscriptions_is_promised_twice_and_given_once(tenant):
    meter = make_meter(tenant)
    one = agreed(tenant, in_advance=False)
    two = agreed(tenant, in_advance=False, customer=one.customer)
    for subscription in (one, two):
        add_threshold(organisation=tenant, actor=CLERK, subscription_id=subscription.pk, amount=Money("10", "INR"))
    coupon(tenant, percent="50", duration="once")
    applied = give(one.customer)
    use(one.customer, meter, "40", local("2026-04-05 12:00"))  # names none: the first one's
    assert look(tenant, "2026-04-05 13:00") == 1
    close_month(tenant)

    bills = {f"{row.net.amount:.2f}" for row in [*invoices_of(one), *invoices_of(two)]}
    spent = sum(row.net.amount for row in [*invoices_of(one), *invoices_of(two)])
    assert spent in (Decimal("1770.00"), Decimal("1790.00")), bills  # half of 540, or of 500: whichever came first
    assert state(applied)[:2] == ("used_up", 0)
    assert state(applied)[3] == 1
    assert spent == 2040 - Decimal(state(applied)[4])


@pytest.mark.django_db
def test_an_end_takes_off_what_was_charged_after_the_coupon(tenant):
    meter = make_meter(tenant)
    subscription = agreed(tenant)
    coupon(tenant, percent="10", duration="forever")
    give(subscription.customer)
    use(subscription.customer, meter, "60", local("2026-04-10 12:00"))
    look(tenant, "2026-04-10 13:00")
    use(subscription.customer, meter, "10", local("2026-04-11 12:00"))
    turn(tenant, local("2026-04-12 09:00"))

    acting.cancel(organisation=tenant, subscription_id=subscription.pk, actor=CLERK)

    mine = invoices_of(subscription)
    assert lines_of(mine[1]) == [("Calls", "54.00")]
    assert lines_of(mine[2]) == [("Calls", "63.00"), ("Billed already: Calls", "-54.00")]
    assert CouponUse.objects.get().amount == 7


@pytest.mark.django_db
def test_an_annulled_interim_invoice_leaves_the_coupon_to_the_last_one(tenant):
    meter = make_meter(tenant)
    subscription = agreed(tenant)
    coupon(tenant, amount="100.00", duration="once")
    applied = give(subscription.customer)
    use(subscription.customer, meter, "150", local("2026-04-05 12:00"))
    look(tenant, "2026-04-05 13:00")
    settling.void_invoice(invoice_id=invoices_of(subscription)[1].pk, actor=CLERK, reason="wrong")
    close_month(tenant)

    assert amounts(invoices_of(subscription)) == ["500.00", "50.00", "550.00"]
    assert state(applied) == ("used_up", 0, "0.00", 1, "100.00")


def test_what_is_taken_off_knows_its_discount():
    whole = taken_off(
        [line("calls", "200.00")], [(one := held(1, "percent", 1000), one.offer())], currency="INR", books=BOOKS
    )
    first = [
        Earlier("calls", "Calls", "saas", one.amount.amount, WHO, "INR", discount=discount_in(one.details))
        for one in whole.lines
    ]
    second = replace(whole.lines[0], amount=Money("90", "INR"))

    taken = take_off([second], first)

    assert [(one.amount.amount, discount_in(one.details)) for one in taken.lines] == [(90, 20), (-90, -10)]
    assert taken.excess == {"calls": 90}
