"""The life of a subscription, with the invoices it makes."""

from datetime import timedelta

import pytest

from billing.errors import NotFound
from subscriptions import errors
from subscriptions.errors import TransitionRefused
from subscriptions.lines import MissingPrice
from subscriptions.models import Subscription
from subscriptions.services import catalog, changing, lifecycle
from subscriptions.services.rows import Status
from tests.subscriptions.house import (
    CLERK,
    amounts,
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
    assert events_of(subscription)[:2] == [("created", "0.00"), ("activated", "1597.00")]


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
        ("2026-04-01", "2026-05-01", "cycle"), ("2026-04-01", "2026-04-10", "final1"),
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
    assert periods_of(subscription)[-1] == ("2026-04-01", "2026-04-10", "final1")


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
