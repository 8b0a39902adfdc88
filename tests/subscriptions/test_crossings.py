"""Where features meet: drafts in grace and credits, coupons and corrections, an end and a new beginning on one day."""

from datetime import timedelta
from decimal import Decimal

import pytest
from moneyed import Money

from billing import clock
from billing.models import UsageWindow
from invoices.services.credit_notes import issue_credit_note
from invoices.services.settling import void_invoice, write_off_invoice
from subscriptions.models import AppliedCoupon
from subscriptions.services import acting, changing, ended_usage, lifecycle, preview
from subscriptions.services.billing_run import run_billing
from subscriptions.services.billing_terms import set_terms
from subscriptions.services.catalog import PriceInput
from subscriptions.services.coupon_uses import give_back
from subscriptions.services.draft_finalizing import finalize_due
from tests.subscriptions.house import (
    CLERK,
    amounts,
    credit_notes_of,
    flat,
    fresh,
    invoices_of,
    live,
    local,
    make_customer,
    make_meter,
    make_organisation,
    make_plan,
    run,
    seats,
    subscribe,
    turn,
)
from tests.subscriptions.test_coupons import coupon, give, state
from tests.subscriptions.test_late_usage import send, void

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


@pytest.fixture
def customer(tenant):
    return make_customer(tenant)


def charged(subscription):
    """Net of all invoices less all credit notes."""
    invoiced = sum(invoice.net.amount for invoice in invoices_of(subscription) if invoice.status != "draft")
    return invoiced - sum(note.net.amount for note in credit_notes_of(subscription))


def calls(price="1.00", **more):
    return PriceInput(
        code="calls", name="Calls", currency="INR", model="per_unit", unit_price=Decimal(price), meter="calls", **more
    )


# --- a draft in its grace is issued before it is weighed -------------------------------------------------
@pytest.fixture
def in_grace(tenant, customer):
    """Three seats for April, on a draft until the 11th."""
    set_terms(organisation=tenant, actor=CLERK, grace_days=10)
    subscription = subscribe(customer, make_plan(tenant, seats("100.00")), quantity=3)
    run_billing(organisation=tenant)
    return subscription


def lived_on(tenant, subscription):
    turn(tenant, local("2026-04-06 09:00"))
    run(tenant)
    turn(tenant, local("2026-04-20 09:00"))
    finalize_due(organisation=tenant)
    return charged(subscription)


def test_an_end_on_a_date_gives_back_what_a_draft_bills(tenant, in_grace):
    lifecycle.cancel(subscription_id=in_grace.pk, actor=CLERK, on=local("2026-04-06 00:00"), credit="prorated")

    assert lived_on(tenant, in_grace) == 50  # five days of thirty


def test_fewer_seats_on_a_date_give_back_what_a_draft_bills(tenant, in_grace):
    changing.change_subscription(
        subscription_id=in_grace.pk, actor=CLERK, quantity=1, on=local("2026-04-06 00:00")
    )  # fmt: skip

    assert lived_on(tenant, in_grace) == Decimal("133.33")  # 25 days of two seats less


def test_a_credit_now_is_of_the_draft_and_previewed_so(tenant, in_grace):
    turn(tenant, local("2026-04-05 09:00"))
    asked = {"subscription_id": in_grace.pk, "action": "cancel", "credit": "prorated"}
    seen = preview.preview_action(organisation=tenant, count=0, **asked)

    lifecycle.cancel(subscription_id=in_grace.pk, actor=CLERK, credit="prorated")

    assert [one.priced.net for one in seen.credits] == [Decimal(250)]
    assert amounts(credit_notes_of(in_grace)) == ["250.00"]
    assert lived_on(tenant, in_grace) == 50


# --- what was voided after it was billed ----------------------------------------------------------------
def billed_april(tenant, customer, *prices):
    """100 calls in April, billed on the first of May."""
    subscription = subscribe(customer, make_plan(tenant, flat("50.00"), *prices))
    live(tenant, local("2026-04-20 09:00"))
    send(tenant, customer, "a", "100", "2026-04-10")
    live(tenant, local("2026-05-05 09:00"))
    return subscription


def test_an_end_gives_back_usage_that_was_voided(tenant, customer):
    make_meter(tenant)
    subscription = billed_april(tenant, customer, calls())
    void(tenant, "a")

    lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK)

    assert UsageWindow.objects.get(owed__gt=0).owed == 100
    assert [ended_usage.settle_ended(organisation=tenant) for _ in range(2)] == [1, 0]
    assert charged(subscription) == 100  # April and May without usage
    assert not UsageWindow.objects.filter(owed__gt=0).exists()


def test_a_change_of_plan_leaves_the_credit_to_the_next_invoice(tenant, customer):
    make_meter(tenant)
    other = make_plan(tenant, flat("50.00"), calls("2.00"))
    subscription = billed_april(tenant, customer, calls())
    void(tenant, "a")

    changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, version=other.versions.get())
    live(tenant, local("2026-07-02 09:00"))

    assert charged(subscription) == 200  # four months without usage


GONE = {
    "annulled": (lambda bill: void_invoice(invoice_id=bill.pk, reason="Not theirs", actor=CLERK), "0"),
    "written off": (lambda bill: write_off_invoice(invoice_id=bill.pk, reason="Given up", actor=CLERK), "0"),
    "credited by hand": (lambda bill: credit_by_hand(bill, "100.00"), "0"),
    "credited in part": (lambda bill: credit_by_hand(bill, "60.00"), "-40"),
    "as it was": (lambda bill: None, "-100"),
}


def credit_by_hand(bill, amount):
    line = next(line for line in bill.lines.all() if line.code == "calls")
    issue_credit_note(
        invoice_id=bill.pk, amounts={line.position: Money(amount, "INR")}, reason="Never happened", actor=CLERK
    )


@pytest.mark.parametrize("decided", GONE)
@pytest.mark.parametrize("first", ["decision", "void", "void, which then waits"])
def test_what_a_bill_does_not_claim_any_more_is_not_given_back_again(tenant, customer, decided, first):
    """100 calls of April, voided; its bill annulled, given up or credited before that, after it, or while the credit waits."""
    make_meter(tenant)
    decide, correction = GONE[decided]
    subscription = subscribe(customer, make_plan(tenant, calls()))
    live(tenant, local("2026-04-20 09:00"))
    send(tenant, customer, "a", "100", "2026-04-10")
    live(tenant, local("2026-05-05 09:00"))
    (bill,) = invoices_of(subscription)
    steps = [lambda: decide(bill), lambda: void(tenant, "a")]
    for step in steps if first == "decision" else reversed(steps):
        step()
        if first == "void, which then waits":  # the 1st of June has nothing to take it off
            live(tenant, local("2026-06-02 09:00"))
    live(tenant, max(clock.now(tenant), local("2026-05-20 09:00")))
    send(tenant, customer, "b", "200", f"{clock.now(tenant):%Y-%m}-01")

    live(tenant, clock.now(tenant) + timedelta(days=40))

    last = invoices_of(subscription)[-1]
    assert sum(line.amount.amount for line in last.lines.all()) == 200 + Decimal(correction)
    assert not UsageWindow.objects.exclude(owed=0).exists()


@pytest.mark.parametrize(
    ("decided", "due"),
    [
        ("as it was", "-50"),
        ("credited in part", "0"),
        ("annulled", "0"),
        ("written off", "0"),
        ("credited by hand", "0"),
    ],
)
@pytest.mark.parametrize("whose", ["of the version", "of the component"])
def test_a_void_charges_no_minimum_in_the_place_of_what_is_not_claimed_any_more(tenant, customer, decided, due, whose):
    """100 of April, at least 50: voided, 50 are left to pay, or what was paid of them; an annulled April costs nothing."""
    make_meter(tenant)
    decide, _ = GONE[decided]
    if whose == "of the version":
        plan = make_plan(tenant, calls(), min_commitment={"INR": "50.00"})
    else:
        plan = make_plan(tenant, calls(min_commitment=Decimal("50.00")))
    subscription = subscribe(customer, plan)
    live(tenant, local("2026-04-20 09:00"))
    send(tenant, customer, "a", "100", "2026-04-10")
    live(tenant, local("2026-05-05 09:00"))
    (bill,) = invoices_of(subscription)
    decide(bill)
    void(tenant, "a")
    live(tenant, local("2026-05-20 09:00"))
    send(tenant, customer, "b", "200", "2026-05-10")

    live(tenant, local("2026-06-02 09:00"))

    assert invoices_of(subscription)[-1].net.amount == 200 + Decimal(due)
    assert not UsageWindow.objects.exclude(owed=0).exists()


def test_no_more_is_given_back_than_a_coupon_left_to_pay(tenant, customer):
    make_meter(tenant)
    coupon(tenant, code="half", percent="50", charges=["calls"])
    give(customer, code="half")
    subscription = billed_april(tenant, customer, calls())
    assert amounts(invoices_of(subscription)) == ["50.00", "100.00"]
    void(tenant, "a")
    live(tenant, local("2026-05-20 09:00"))
    send(tenant, customer, "b", "100", "2026-05-10")

    live(tenant, local("2026-06-02 09:00"))

    assert amounts(invoices_of(subscription))[-1] == "100.00"  # 50 and May's 100, less the 50 that April's came to
    assert fresh(subscription).failure == ""


def test_nor_after_an_end(tenant, customer):
    make_meter(tenant)
    coupon(tenant, code="half", percent="50", charges=["calls"])
    give(customer, code="half")
    subscription = billed_april(tenant, customer, calls())
    lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK)
    void(tenant, "a")

    ended_usage.settle_ended(organisation=tenant)

    assert amounts(credit_notes_of(subscription)) == ["50.00"]


def test_usage_recorded_after_an_end_keeps_its_coupon_and_costs_nothing_once_it_is_voided(tenant, customer):
    make_meter(tenant)
    coupon(tenant, code="half", percent="50", duration="forever")
    applied = give(customer, code="half")
    subscription = billed_april(tenant, customer, calls())
    lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK)
    assert amounts(invoices_of(subscription)) == ["25.00", "75.00"]
    send(tenant, customer, "late", "30", "2026-04-12")

    ended_usage.settle_ended(organisation=tenant)

    assert amounts(invoices_of(subscription)) == ["25.00", "75.00", "15.00"]
    assert state(applied)[3:] == (3, "115.00")
    void(tenant, "late")
    assert [ended_usage.settle_ended(organisation=tenant) for _ in range(2)] == [1, 0]
    assert charged(subscription) == 100


@pytest.mark.parametrize(("duration", "late"), [("once", "15.00"), ("removed", "30.00")])
def test_usage_recorded_after_an_end_has_the_coupons_that_held_at_the_end(tenant, customer, duration, late):
    """Good for one invoice, and that is the last period's; one that was taken away again holds no more."""
    make_meter(tenant)
    subscription = subscribe(customer, make_plan(tenant, flat("50.00"), calls()))
    live(tenant, local("2026-04-20 09:00"))
    coupon(tenant, code="half", percent="50", duration="once")
    applied = give(customer, code="half")
    live(tenant, local("2026-05-05 09:00"))
    lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK)
    if duration == "removed":
        AppliedCoupon.objects.filter(pk=applied.pk).update(status="removed")
    send(tenant, customer, "late", "30", "2026-05-02")

    ended_usage.settle_ended(organisation=tenant)

    assert amounts(invoices_of(subscription)) == ["50.00", "25.00", late]


@pytest.mark.parametrize("decide", [void_invoice, write_off_invoice])
def test_a_minimum_that_was_given_up_goes_back_at_no_more_than_its_coupon_left_of_it(tenant, customer, decide):
    """April came to the minimum of 100 at half the price and is given up; 40 late calls neither add to that nor take from it."""
    make_meter(tenant)
    coupon(tenant, code="half", percent="50", duration="forever")
    give(customer, code="half")
    subscription = subscribe(
        customer, make_plan(tenant, flat("50.00"), calls(min_commitment=Decimal("100.00")))
    )  # fmt: skip
    live(tenant, local("2026-05-05 09:00"))
    decide(invoice_id=invoices_of(subscription)[1].pk, reason="Given up", actor=CLERK)
    send(tenant, customer, "late", "40", "2026-04-12")

    live(tenant, local("2026-06-02 09:00"))

    assert amounts(invoices_of(subscription)) == ["25.00", "75.00", "75.00"]


# --- a coupon that comes back from an annulled invoice --------------------------------------------------
def test_what_was_left_of_a_fixed_coupon_comes_back_as_it_was(tenant, customer):
    coupon(tenant, code="gift", amount="100", carries_over=True)
    subscription = subscribe(customer, make_plan(tenant, flat("60.00")))
    applied = give(customer, code="gift")
    live(tenant, local("2026-05-02 09:00"))
    assert state(applied) == ("used_up", 0, "0.00", 2, "100.00")  # 60 in April, the other 40 in May

    give_back(invoice_id=invoices_of(subscription)[1].pk)
    assert state(applied) == ("active", 0, "40.00", 1, "60.00")

    give_back(invoice_id=invoices_of(subscription)[0].pk)
    assert state(applied) == ("active", 1, "0.00", 0, "0.00")


def test_a_coupon_never_gives_more_than_it_has_whichever_invoice_goes_first(tenant, customer):
    coupon(tenant, code="gift", amount="100", carries_over=True)
    subscription = subscribe(customer, make_plan(tenant, flat("60.00")))
    applied = give(customer, code="gift")
    live(tenant, local("2026-05-02 09:00"))

    give_back(invoice_id=invoices_of(subscription)[0].pk)
    assert state(applied) == ("active", 0, "60.00", 1, "40.00")  # May keeps the 40 that April had left

    give_back(invoice_id=invoices_of(subscription)[1].pk)
    assert state(applied)[2:] == ("100.00", 0, "0.00")


# --- an end and a new beginning on one day -----------------------------------------------------------------
@pytest.mark.parametrize("prorated", [True, False])
@pytest.mark.parametrize("ends", ["cancel", "pause"])
@pytest.mark.parametrize("day", ["2026-04-01", "2026-04-11", "2026-04-30"])
def test_a_day_charged_afterwards_is_charged_once(tenant, customer, ends, day, prorated):
    subscription = subscribe(customer, make_plan(tenant, seats("300.00", pay_in_advance=False, prorated=prorated)))
    live(tenant, local(f"{day} 11:00"))
    if ends == "cancel":
        lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK)
        acting.reactivate(organisation=tenant, subscription_id=subscription.pk, actor=CLERK)
    else:
        lifecycle.pause(subscription_id=subscription.pk, actor=CLERK)
        acting.resume(organisation=tenant, subscription_id=subscription.pk, actor=CLERK)

    live(tenant, local("2026-05-02 09:00"))

    assert charged(subscription) == 300
    live(tenant, local("2026-06-02 09:00"))
    assert charged(subscription) == 600


def test_a_minimum_counts_each_day_once(tenant, customer):
    make_meter(tenant)
    plan = make_plan(tenant, calls(), min_commitment={"INR": "300.00"})
    subscription = subscribe(customer, plan)
    live(tenant, local("2026-04-11 11:00"))
    lifecycle.pause(subscription_id=subscription.pk, actor=CLERK)
    acting.resume(organisation=tenant, subscription_id=subscription.pk, actor=CLERK)

    live(tenant, local("2026-05-02 09:00"))

    assert charged(subscription) == 300


@pytest.mark.parametrize(
    "ends", [["cancel"], ["pause"], ["cancel", "reactivate", "cancel"], ["pause", "resume", "cancel"]]
)
@pytest.mark.parametrize(("begins", "owed"), [("09:00", 10), ("00:00", 0)])
def test_what_ends_in_the_instant_it_began_is_charged_for_that_day_once(ends, begins, owed):
    """300.00 a month afterwards, 10.00 a day; at midnight no day has begun."""
    tenant = make_organisation(local(f"2026-04-01 {begins}"))
    subscription = subscribe(make_customer(tenant), make_plan(tenant, seats("300.00", pay_in_advance=False)))

    for action in ends:
        getattr(acting, action)(organisation=tenant, subscription_id=subscription.pk, actor=CLERK)

    assert charged(subscription) == owed


def test_a_change_and_an_end_in_one_instant_charge_the_day_by_the_new_terms(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, seats("300.00", pay_in_advance=False)), quantity=2)
    live(tenant, local("2026-04-11 11:00"))

    acting.change(organisation=tenant, subscription_id=subscription.pk, actor=CLERK, quantity=5)
    acting.cancel(organisation=tenant, subscription_id=subscription.pk, actor=CLERK)

    assert charged(subscription) == 10 * 20 + 50  # ten days of two seats, one of five
