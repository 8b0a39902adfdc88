"""The life of a subscription, with the invoices it makes."""

from datetime import timedelta

import pytest

from billing.errors import NotFound
from subscriptions import errors
from subscriptions.errors import BillingBehind, TransitionRefused
from subscriptions.lines import MissingPrice
from subscriptions.models import Subscription
from subscriptions.services import catalog, changes, changing, lifecycle
from subscriptions.services.rows import Status
from tests.subscriptions.house import (
    CLERK,
    amounts,
    credit_notes_of,
    events_of,
    flat,
    fresh,
    invoices_of,
    lines_of,
    live,
    local,
    make_customer,
    make_meter,
    make_organisation,
    make_plan,
    periods_of,
    run,
    seats,
    subscribe,
    turn,
    use,
)  # fmt: skip

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


@pytest.fixture
def customer(tenant):
    return make_customer(tenant)


def test_a_subscription_bills_in_advance_and_keeps_its_day(tenant, customer):
    turn(tenant, local("2026-01-31 15:00"))
    plan = make_plan(tenant, flat("100.00", tax_category="saas"), seats("499.00", tax_category="saas"))

    subscription = subscribe(customer, plan, quantity=3)
    run(tenant)
    live(tenant, local("2026-05-01 00:00"))

    assert periods_of(subscription) == [
        ("2026-01-31", "2026-02-28", "cycle"),
        ("2026-02-28", "2026-03-31", "cycle"),
        ("2026-03-31", "2026-04-30", "cycle"),
        ("2026-04-30", "2026-05-31", "cycle"),
    ]
    first = invoices_of(subscription)[0]
    assert lines_of(first) == [("Base fee", "100.00"), ("Seats", "1497.00")]
    assert (first.period_start.isoformat(), first.period_end.isoformat()) == ("2026-01-31", "2026-02-27")
    assert f"{first.total.amount:.2f}" == "1884.46"  # 1597.00 and 18 % GST
    assert events_of(subscription)[:2] == [("created", "1597.00"), ("activated", "1597.00")]


def test_nothing_is_billed_the_day_before_and_once_on_the_day(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, flat("100.00")))
    run(tenant)

    turn(tenant, local("2026-04-30 23:59"))
    run(tenant)
    assert len(invoices_of(subscription)) == 1
    turn(tenant, local("2026-05-01 00:00"))
    for _ in range(3):
        run(tenant)

    assert len(invoices_of(subscription)) == 2


def test_a_trial_costs_nothing_and_its_end_is_the_anchor(tenant, customer):
    meter = make_meter(tenant)
    calls = catalog.PriceInput(
        code="calls", name="Calls", currency="INR", model="per_unit", unit_price="2", meter="calls"
    )
    subscription = subscribe(customer, make_plan(tenant, flat("100.00"), calls, trial_days=14))
    use(customer, meter, "50", local("2026-04-10 12:00"))
    use(customer, meter, "7", local("2026-04-15 00:00"))

    live(tenant, local("2026-04-14 23:59"))
    assert fresh(subscription).status == Status.TRIALING
    assert invoices_of(subscription) == []
    live(tenant, local("2026-05-15 10:00"))

    assert fresh(subscription).status == Status.ACTIVE
    assert periods_of(subscription) == [("2026-04-15", "2026-05-15", "cycle"), ("2026-05-15", "2026-06-15", "cycle")]
    assert [lines_of(invoice) for invoice in invoices_of(subscription)] == [
        [("Base fee", "100.00")],
        [("Base fee", "100.00"), ("Calls", "14.00")],  # what was used in the trial is free
    ]
    assert events_of(subscription)[:3] == [("created", "0.00"), ("trial_started", "0.00"), ("activated", "100.00")]


def test_a_future_start_waits(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, flat("100.00")), start_at=local("2026-04-20 10:00"))
    run(tenant)
    assert (fresh(subscription).status, invoices_of(subscription)) == (Status.PENDING, [])

    live(tenant, local("2026-04-21 00:00"))

    assert fresh(subscription).status == Status.ACTIVE
    assert periods_of(subscription) == [("2026-04-20", "2026-05-20", "cycle")]


def test_a_back_dated_start_bills_every_period(tenant, customer):
    plan = make_plan(tenant, flat("100.00"), trial_days=10)

    subscription = subscribe(customer, plan, start_at=local("2026-01-05 10:00"))
    run(tenant)

    assert periods_of(subscription) == [
        ("2026-01-15", "2026-02-15", "cycle"), ("2026-02-15", "2026-03-15", "cycle"), ("2026-03-15", "2026-04-15", "cycle"),
    ]  # fmt: skip
    assert amounts(invoices_of(subscription)) == ["100.00"] * 3


def test_an_anchor_in_the_past_makes_a_first_part(tenant, customer):
    turn(tenant, local("2026-04-11 09:00"))

    subscription = subscribe(customer, make_plan(tenant, flat("300.00")), anchor_on=local("2026-04-01 12:00").date())
    run(tenant)
    live(tenant, local("2026-05-01 12:00"))

    assert periods_of(subscription) == [("2026-04-11", "2026-05-01", "cycle"), ("2026-05-01", "2026-06-01", "cycle")]
    assert amounts(invoices_of(subscription)) == ["200.00", "300.00"]  # 20 of 30 days
    assert lines_of(invoices_of(subscription)[0]) == [("Base fee (20 of 30 days)", "200.00")]


def test_a_fixed_end_charges_up_to_its_last_day_and_expires(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, flat("300.00")), ends_at=local("2026-05-11 00:00"))
    run(tenant)
    live(tenant, local("2026-06-15 00:00"))

    assert fresh(subscription).status == Status.EXPIRED
    assert periods_of(subscription) == [("2026-04-01", "2026-05-01", "cycle"), ("2026-05-01", "2026-05-11", "cycle")]
    assert amounts(invoices_of(subscription)) == ["300.00", "96.77"]  # 10 of 31 days
    assert events_of(subscription)[-1] == ("expired", "0.00")


def test_more_seats_now_cost_the_rest_of_the_period(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, flat("100.00"), seats("300.00")), quantity=2)
    run(tenant)
    turn(tenant, local("2026-04-11 18:00"))

    changed = changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=5)
    live(tenant, local("2026-05-01 01:00"))

    assert lines_of(changed.issued.invoice) == [
        ("Unused: Seats (20 of 30 days)", "-400.00"),
        ("Seats (20 of 30 days)", "1000.00"),  # the base fee did not change and stays out
    ]
    assert amounts(invoices_of(subscription)) == ["700.00", "600.00", "1600.00"]
    assert events_of(subscription)[2:] == [("changed", "1600.00"), ("renewed", "1600.00")]


def test_fewer_seats_now_are_credited_on_the_invoice_of_the_period(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, seats("300.00", tax_category="saas")), quantity=5)
    run(tenant)
    turn(tenant, local("2026-04-11 18:00"))

    changed = changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=2)

    assert changed.issued.invoice is None
    assert amounts(credit_notes_of(subscription)) == ["600.00"]
    assert f"{credit_notes_of(subscription)[0].total.amount:.2f}" == "708.00"


def test_up_and_down_within_a_period_costs_each_day_its_own_terms(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, seats("99.99")), quantity=1)
    run(tenant)
    for day, quantity in ((4, 7), (5, 3), (17, 11), (17, 2), (29, 1)):
        turn(tenant, local(f"2026-04-{day:02} 11:00"))
        changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=quantity)

    def until(quantity, day):
        return round(9999 * quantity * day / 30 + 1e-9)

    days = [(1, 0, 3), (7, 3, 4), (3, 4, 16), (2, 16, 28), (1, 28, 30)]
    paise = sum(until(quantity, last) - until(quantity, first) for quantity, first, last in days)
    billed = sum(invoice.net.amount for invoice in invoices_of(subscription))
    credited = sum(note.net.amount for note in credit_notes_of(subscription))
    assert int((billed - credited) * 100) == paise


def test_another_plan_at_the_period_end_prices_old_usage_by_the_old_plan(tenant, customer):
    meter = make_meter(tenant)
    calls = {"code": "calls", "name": "Calls", "currency": "INR", "model": "per_unit", "meter": "calls"}
    small = make_plan(tenant, flat("100.00"), catalog.PriceInput(unit_price="2", **calls), code="small")
    large = make_plan(tenant, flat("500.00"), catalog.PriceInput(unit_price="1", **calls), code="large")
    subscription = subscribe(customer, small)
    run(tenant)
    use(customer, meter, "10", local("2026-04-20 00:00"))
    use(customer, meter, "10", local("2026-05-20 00:00"))

    version = changing.version_for(organisation=tenant, plan_id=large.pk)
    changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, version=version, when="period_end")
    assert fresh(subscription).plan_version.plan.code == "small"
    live(tenant, local("2026-06-01 01:00"))

    assert [lines_of(invoice) for invoice in invoices_of(subscription)] == [
        [("Base fee", "100.00")],
        [("Base fee", "500.00"), ("Calls", "20.00")],
        [("Base fee", "500.00"), ("Calls", "10.00")],
    ]


def test_another_plan_now_bills_old_usage_with_the_change(tenant, customer):
    meter = make_meter(tenant)
    calls = {"code": "calls", "name": "Calls", "currency": "INR", "model": "per_unit", "meter": "calls"}
    small = make_plan(tenant, flat("300.00"), catalog.PriceInput(unit_price="2", **calls))
    large = make_plan(tenant, flat("600.00"), catalog.PriceInput(unit_price="1", **calls))
    subscription = subscribe(customer, small)
    run(tenant)
    use(customer, meter, "10", local("2026-04-10 00:00"))
    use(customer, meter, "10", local("2026-04-20 00:00"))
    turn(tenant, local("2026-04-16 09:00"))

    version = changing.version_for(organisation=tenant, plan_id=large.pk)
    changed = changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, version=version)
    live(tenant, local("2026-05-01 01:00"))

    assert lines_of(changed.issued.invoice) == [
        ("Unused: Base fee (15 of 30 days)", "-150.00"), ("Base fee (15 of 30 days)", "300.00"), ("Calls", "20.00"),
    ]  # fmt: skip
    assert lines_of(invoices_of(subscription)[-1]) == [("Base fee", "600.00"), ("Calls", "10.00")]


def test_another_interval_now_begins_a_new_period_today(tenant, customer):
    monthly, yearly = make_plan(tenant, flat("300.00")), make_plan(tenant, flat("3000.00"), interval="year")
    subscription = subscribe(customer, monthly)
    run(tenant)
    turn(tenant, local("2026-04-16 09:00"))

    version = changing.version_for(organisation=tenant, plan_id=yearly.pk)
    changed = changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, version=version)
    live(tenant, local("2027-04-16 12:00"), step=timedelta(days=15))

    assert lines_of(changed.issued.invoice) == [
        ("Unused: Base fee (15 of 30 days)", "-150.00"),
        ("Base fee", "3000.00"),
    ]
    assert periods_of(subscription) == [
        ("2026-04-01", "2026-05-01", "cycle"), ("2026-04-16", "2027-04-16", "change1"), ("2027-04-16", "2028-04-16", "cycle"),
    ]  # fmt: skip
    assert events_of(subscription)[2] == ("changed", "250.00")


def test_another_interval_at_the_period_end_takes_the_new_anchor(tenant, customer):
    monthly, weekly = make_plan(tenant, flat("300.00")), make_plan(tenant, flat("80.00"), interval="week")
    subscription = subscribe(customer, monthly)
    run(tenant)

    version = changing.version_for(organisation=tenant, plan_id=weekly.pk)
    changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, version=version, when="period_end")
    live(tenant, local("2026-05-08 12:00"))

    assert periods_of(subscription)[1:] == [
        ("2026-05-01", "2026-05-08", "cycle"),
        ("2026-05-08", "2026-05-15", "cycle"),
    ]


def test_a_change_planned_again_replaces_the_first_and_can_be_taken_back(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, seats("100.00")), quantity=1)
    run(tenant)
    for quantity in (5, 9):
        changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=quantity, when="period_end")
    live(tenant, local("2026-05-01 12:00"))
    assert fresh(subscription).quantity == 9
    changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=2, when="period_end")

    changing.cancel_planned_change(subscription_id=subscription.pk, actor=CLERK)
    live(tenant, local("2026-06-01 12:00"))

    assert amounts(invoices_of(subscription)) == ["100.00", "900.00", "900.00"]
    with pytest.raises(errors.ChangePlanned):
        changing.cancel_planned_change(subscription_id=subscription.pk, actor=CLERK)


def test_pause_and_resume_within_the_paid_period_cost_nothing(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, flat("300.00")))
    run(tenant)
    turn(tenant, local("2026-04-10 10:00"))
    lifecycle.pause(subscription_id=subscription.pk, actor=CLERK, resume_at=local("2026-04-20 10:00"))
    live(tenant, local("2026-05-01 10:00"))

    assert periods_of(subscription) == [("2026-04-01", "2026-05-01", "cycle"), ("2026-05-01", "2026-06-01", "cycle")]
    assert [event for event in events_of(subscription) if event[0] in ("paused", "resumed")] == [
        ("paused", "0.00"), ("resumed", "300.00"),
    ]  # fmt: skip


def test_after_a_long_pause_the_rest_of_the_running_period_is_billed_and_the_day_kept(tenant, customer):
    meter = make_meter(tenant)
    calls = catalog.PriceInput(
        code="calls", name="Calls", currency="INR", model="per_unit", unit_price="1", meter="calls"
    )
    subscription = subscribe(customer, make_plan(tenant, flat("310.00"), calls))
    run(tenant)
    for day in ("2026-04-05", "2026-06-01", "2026-07-25"):
        use(customer, meter, "10", local(f"{day} 12:00"))
    turn(tenant, local("2026-04-10 10:00"))

    paused = lifecycle.pause(subscription_id=subscription.pk, actor=CLERK)
    live(tenant, local("2026-07-22 10:00"), step=timedelta(days=5))
    lifecycle.resume(subscription_id=subscription.pk, actor=CLERK)
    run(tenant)
    live(tenant, local("2026-08-01 10:00"))

    assert lines_of(paused.issued.invoice) == [("Calls", "10.00")]
    assert periods_of(subscription) == [
        ("2026-04-01", "2026-05-01", "cycle"), ("2026-04-01", "2026-04-10", "final"),
        ("2026-07-22", "2026-08-01", "cycle"), ("2026-08-01", "2026-09-01", "cycle"),
    ]  # fmt: skip
    assert lines_of(invoices_of(subscription)[2]) == [("Base fee (10 of 31 days)", "100.00")]
    assert lines_of(invoices_of(subscription)[3]) == [("Base fee", "310.00"), ("Calls", "10.00")]


def test_cancelling_now_credits_the_days_after_today(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, flat("300.00", tax_category="saas")))
    run(tenant)
    turn(tenant, local("2026-04-10 10:00"))

    ended = lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK, credit="prorated", reason="moved away")
    live(tenant, local("2026-06-01 10:00"))

    assert amounts(ended.issued.credit_notes) == ["200.00"]
    assert f"{ended.issued.credit_notes[0].total.amount:.2f}" == "236.00"
    assert amounts(invoices_of(subscription)) == ["300.00"]
    found = fresh(subscription)
    assert (found.status, found.cancel_reason, found.next_billing_at) == (Status.CANCELLED, "moved away", None)
    assert events_of(subscription)[-1] == ("cancelled", "0.00")


def test_cancelling_now_bills_the_last_usage(tenant, customer):
    meter = make_meter(tenant)
    calls = catalog.PriceInput(
        code="calls", name="Calls", currency="INR", model="per_unit", unit_price="1", meter="calls"
    )
    subscription = subscribe(customer, make_plan(tenant, flat("300.00"), calls))
    run(tenant)
    use(customer, meter, "25", local("2026-04-05 12:00"))
    turn(tenant, local("2026-04-10 10:00"))

    ended = lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK)

    assert lines_of(ended.issued.invoice) == [("Calls", "25.00")]
    assert periods_of(subscription)[-1] == ("2026-04-01", "2026-04-10", "final")


def test_cancelling_at_the_period_end_serves_what_was_paid(tenant, customer):
    meter = make_meter(tenant)
    calls = catalog.PriceInput(
        code="calls", name="Calls", currency="INR", model="per_unit", unit_price="1", meter="calls"
    )
    subscription = subscribe(customer, make_plan(tenant, flat("300.00"), calls))
    run(tenant)
    use(customer, meter, "25", local("2026-04-29 12:00"))

    lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK, when="period_end")
    live(tenant, local("2026-04-30 23:00"))
    assert fresh(subscription).status == Status.ACTIVE
    live(tenant, local("2026-06-02 00:00"))

    assert fresh(subscription).status == Status.CANCELLED
    assert fresh(subscription).cancelled_at == local("2026-05-01 00:00")
    assert [lines_of(invoice) for invoice in invoices_of(subscription)] == [
        [("Base fee", "300.00")],
        [("Calls", "25.00")],
    ]


def test_a_planned_cancellation_can_be_taken_back(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, flat("300.00")))
    run(tenant)
    lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK, when="period_end")

    lifecycle.uncancel(subscription_id=subscription.pk, actor=CLERK)
    live(tenant, local("2026-05-01 12:00"))

    assert amounts(invoices_of(subscription)) == ["300.00", "300.00"]
    with pytest.raises(errors.ChangePlanned):
        lifecycle.uncancel(subscription_id=subscription.pk, actor=CLERK)


def test_a_trial_cancelled_at_its_end_costs_nothing(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, flat("300.00"), trial_days=14))
    lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK, when="period_end")

    live(tenant, local("2026-05-01 12:00"))

    assert (fresh(subscription).status, invoices_of(subscription)) == (Status.CANCELLED, [])
    assert [event[0] for event in events_of(subscription)] == ["created", "trial_started", "cancelled"]


def test_suspension_stops_billing_and_recovery_takes_it_up(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, flat("300.00")))
    run(tenant)
    turn(tenant, local("2026-04-11 10:00"))
    lifecycle.suspend(subscription_id=subscription.pk, actor=CLERK)
    live(tenant, local("2026-05-17 10:00"))

    lifecycle.recover(subscription_id=subscription.pk, actor=CLERK)
    run(tenant)
    live(tenant, local("2026-06-01 10:00"))

    assert periods_of(subscription)[1:] == [
        ("2026-05-17", "2026-06-01", "cycle"),
        ("2026-06-01", "2026-07-01", "cycle"),
    ]
    assert amounts(invoices_of(subscription)) == ["300.00", "145.16", "300.00"]  # 15 of 31 days


def test_a_late_run_walks_the_time_line_in_order(tenant, customer):
    """Nobody ran anything for four months: each period has the terms it began with, the cancellation comes last."""
    subscription = subscribe(customer, make_plan(tenant, seats("100.00")), quantity=1)
    run(tenant)
    changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=4, when="period_end")
    turn(tenant, local("2026-08-05 10:00"))

    run(tenant)

    assert amounts(invoices_of(subscription)) == ["100.00", "400.00", "400.00", "400.00", "400.00"]
    assert fresh(subscription).failure == ""


def test_a_late_run_comes_to_the_end_last(tenant, customer):
    """A change, three renewals and a fixed end were all missed: the end waits until everything before it is billed."""
    subscription = subscribe(customer, make_plan(tenant, seats("310.00")), ends_at=local("2026-07-11 00:00"))
    run(tenant)
    changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=2, when="period_end")
    turn(tenant, local("2026-09-01 10:00"))

    run(tenant)

    assert amounts(invoices_of(subscription)) == ["310.00", "620.00", "620.00", "200.00"]  # ten days of July
    assert [event[0] for event in events_of(subscription)][-2:] == ["renewed", "expired"]


def test_billing_that_lags_is_not_jumped_over(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, seats("100.00")), quantity=1)
    run(tenant)
    turn(tenant, local("2026-05-04 10:00"))

    with pytest.raises(BillingBehind):
        changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=4)
    run(tenant)
    changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=4)

    assert fresh(subscription).quantity == 4


def test_on_the_morning_of_renewal_a_change_takes_the_whole_new_period(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, seats("100.00")), quantity=1)
    run(tenant)
    turn(tenant, local("2026-05-01 06:00"))

    changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=4)
    run(tenant)

    assert amounts(invoices_of(subscription)) == ["100.00", "400.00"]


def test_new_prices_are_for_new_subscribers(tenant, customer):
    plan = make_plan(tenant, flat("100.00"))
    old = subscribe(customer, plan)
    catalog.add_version(plan_id=plan.pk, prices=[flat("150.00")], actor=CLERK, effective_from=local("2026-05-01 00:00"))
    run(tenant)
    live(tenant, local("2026-05-02 00:00"))

    new = subscribe(customer, plan)
    run(tenant)

    assert (amounts(invoices_of(old)), amounts(invoices_of(new))) == (["100.00", "100.00"], ["150.00"])


def test_two_currencies_of_one_plan(tenant, customer):
    plan = make_plan(tenant, flat("100.00"), flat("1.29", currency="USD"))
    dollars = make_customer(tenant, currency="USD")

    rupee, dollar = subscribe(customer, plan), subscribe(dollars, plan)
    run(tenant)

    assert [str(invoices_of(row)[0].net) for row in (rupee, dollar)] == ["₹100.00", "$1.29"]
    with pytest.raises(MissingPrice):
        subscribe(customer, plan, currency="EUR")
    assert Subscription.objects.count() == 2


def test_what_belongs_to_another_tenant_does_not_exist(tenant, customer):
    other = make_organisation(local("2026-04-01 09:00"))
    foreign_plan, foreign_customer = make_plan(other, flat("1.00")), make_customer(other)
    plan = make_plan(tenant, flat("1.00"))

    with pytest.raises(NotFound):
        subscribe(customer, foreign_plan)
    with pytest.raises(NotFound):
        lifecycle.create_subscription(
            organisation=tenant, actor=CLERK, customer_id=foreign_customer.pk, plan_id=plan.pk
        )
    with pytest.raises(NotFound):
        changing.version_for(organisation=tenant, plan_id=foreign_plan.pk)
    make_meter(other, "theirs")
    with pytest.raises(errors.UnknownMeter):
        make_plan(tenant, seats("1.00", meter="theirs"))


OPERATIONS = {
    "pause": lambda pk: lifecycle.pause(subscription_id=pk, actor=CLERK),
    "resume": lambda pk: lifecycle.resume(subscription_id=pk, actor=CLERK),
    "suspend": lambda pk: lifecycle.suspend(subscription_id=pk, actor=CLERK),
    "recover": lambda pk: lifecycle.recover(subscription_id=pk, actor=CLERK),
    "cancel": lambda pk: lifecycle.cancel(subscription_id=pk, actor=CLERK),
    "change": lambda pk: changing.change_subscription(subscription_id=pk, actor=CLERK, quantity=2),
}
ALLOWED = {
    "pending": {"cancel", "change"},
    "trialing": {"cancel", "change"},
    "active": {"pause", "suspend", "cancel", "change"},
    "past_due": {"suspend", "recover", "cancel", "change"},
    "paused": {"resume", "cancel"},
    "suspended": {"recover", "cancel"},
    "cancelled": set(),
    "expired": set(),
}


@pytest.mark.parametrize("status", list(ALLOWED))
@pytest.mark.parametrize("operation", list(OPERATIONS))
def test_every_status_allows_its_operations_and_no_other(tenant, customer, status, operation):
    subscription = subscribe(customer, make_plan(tenant, seats("100.00")))
    run(tenant)
    Subscription.objects.filter(pk=subscription.pk).update(status=status)
    before = (events_of(subscription), amounts(invoices_of(subscription)))

    if operation in ALLOWED[status]:
        OPERATIONS[operation](subscription.pk)
        assert events_of(subscription) != before[0]
    else:
        with pytest.raises(TransitionRefused) as refused:
            OPERATIONS[operation](subscription.pk)
        assert status in str(refused.value)
        assert fresh(subscription).status == status
        assert (events_of(subscription), amounts(invoices_of(subscription))) == before


def test_what_cannot_be_applied_is_set_aside_with_the_reason(tenant, customer):
    meter = make_meter(tenant)
    calls = catalog.PriceInput(
        code="calls",
        name="Calls",
        currency="INR",
        model="per_unit",
        unit_price="1",
        meter="calls",
        tax_category="unknown",
    )
    broken, sound = subscribe(customer, make_plan(tenant, calls)), subscribe(customer, make_plan(tenant, flat("9.00")))
    run(tenant)
    use(customer, meter, "5", local("2026-04-05 12:00"))
    for row in (broken, sound):
        lifecycle.cancel(subscription_id=row.pk, actor=CLERK, when="period_end")

    turn(tenant, local("2026-05-01 12:00"))
    assert changes.apply_due(organisation=tenant) == 1

    assert fresh(sound).status == Status.CANCELLED
    assert fresh(broken).status == Status.ACTIVE
    assert fresh(broken).failure.startswith("missing_tax_rate")
