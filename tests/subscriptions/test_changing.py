"""Changing plan and quantity: what is credited, what is charged, and from when."""

from datetime import timedelta
from decimal import Decimal

import pytest
from moneyed import Money

from billing.models import UsageNaming
from billing.services import usage
from invoices.services.credit_notes import issue_credit_note
from invoices.services.settling import void_invoice
from subscriptions import errors
from subscriptions.errors import BillingBehind
from subscriptions.services import activation, catalog, changes, changing, lifecycle
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


def test_more_seats_after_the_period_was_annulled_credit_nothing(tenant, customer):
    """What was annulled, or credited in full by hand, is not paid back a second time on the next invoice."""
    subscription = subscribe(customer, make_plan(tenant, seats("300.00")), quantity=2)
    run(tenant)
    turn(tenant, local("2026-04-11 18:00"))
    void_invoice(invoice_id=invoices_of(subscription)[0].pk, reason="Mistake", actor=CLERK)

    changed = changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=5)
    assert lines_of(changed.issued.invoice) == [("Seats (20 of 30 days)", "1000.00")]

    again = changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=6)
    assert amounts([again.issued.invoice]) == ["200.00"]  # what the first change billed counts


def test_a_period_credited_by_hand_is_not_credited_again(tenant, customer):
    meter = make_meter(tenant)
    plan = make_plan(tenant, seats("300.00"), seats("1.00", code="calls", name="Calls", meter="calls"))
    subscription = subscribe(customer, plan, quantity=2)
    run(tenant)
    use(customer, meter, "900", local("2026-04-05 10:00"))
    turn(tenant, local("2026-04-10 18:00"))
    issue_credit_note(invoice_id=invoices_of(subscription)[0].pk, amounts=None, reason="Goodwill", actor=CLERK)

    ended = lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK, credit="prorated")

    assert amounts([ended.issued.invoice]) == ["900.00"]
    assert len(credit_notes_of(subscription)) == 1


def forgive(subscription, amount):
    """A credit note by hand on the first line of the first invoice."""
    first = invoices_of(subscription)[0]
    issue_credit_note(invoice_id=first.pk, amounts={1: Money(amount, "INR")}, reason="Goodwill", actor=CLERK)


def net_of(subscription):
    billed = sum(invoice.net.amount for invoice in invoices_of(subscription))
    return billed - sum(note.net.amount for note in credit_notes_of(subscription))


@pytest.mark.parametrize(
    ("forgiven", "credited"),
    [("150.00", "95.00"), ("299.00", "0.63"), ("0.01", "190.00"), ("30.00", "171.00")],
)
def test_credit_given_by_hand_is_weighed_when_the_rest_is_credited(tenant, customer, forgiven, credited):
    """Who paid half of the month is given half of the unused days back: of 30 days 19 are left."""
    subscription = subscribe(customer, make_plan(tenant, seats("300.00")))
    run(tenant)
    turn(tenant, local("2026-04-11 18:00"))
    forgive(subscription, forgiven)

    ended = lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK, credit="prorated")

    assert amounts(ended.issued.credit_notes) == [credited]


def test_credit_given_by_hand_is_weighed_once_however_often_the_terms_change(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, seats("300.00")))
    run(tenant)
    turn(tenant, local("2026-04-06 18:00"))
    forgive(subscription, "150.00")

    for day, quantity in ((11, 2), (16, 4), (21, 1)):
        turn(tenant, local(f"2026-04-{day} 09:00"))
        changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=quantity)

    # half price for the first ten days (50), then by the day: 2 x 50, 4 x 50, 1 x 100
    assert net_of(subscription) == Decimal("450.00")


def test_fewer_seats_after_credit_by_hand_never_credit_more_than_the_line(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, seats("300.00")), quantity=5)
    run(tenant)
    forgive(subscription, "1400.00")
    turn(tenant, local("2026-04-11 18:00"))

    changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=1)

    assert net_of(subscription) == Decimal("233.33")  # 33.33 for ten days of five seats, 200.00 for twenty days of one


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


@pytest.mark.parametrize("error", [errors.NothingToChange(), KeyError("unforeseen")])
def test_a_subscription_whose_change_fails_does_not_stop_the_others(tenant, customer, monkeypatch, error):
    plan = make_plan(tenant, flat("100.00"))
    first, second = subscribe(customer, plan, trial_days=5), subscribe(customer, plan, trial_days=6)
    real = activation.begin_paid_time

    def begin_or_fail(subscription, desk, *, at):
        if subscription.pk == first.pk:
            raise error
        real(subscription, desk, at=at)

    monkeypatch.setattr(activation, "begin_paid_time", begin_or_fail)
    turn(tenant, local("2026-04-20 09:00"))

    assert changes.apply_due(organisation=tenant) == 1
    assert (fresh(first).status, fresh(second).status) == ("trialing", "active")
    assert fresh(first).failure


def test_what_is_measured_once_is_billed_once(tenant, customer):
    """A second subscription on the same meter has events name theirs; what named none is the first one's."""
    meter = make_meter(tenant)
    calls = seats("1.00", code="calls", name="Calls", meter="calls")
    plan, plain = make_plan(tenant, calls), make_plan(tenant, flat("10.00"))
    first = subscribe(customer, plan)
    other = subscribe(customer, plain)
    assert not UsageNaming.objects.exists()
    changing.change_subscription(subscription_id=other.pk, actor=CLERK, version=plan.versions.get())
    third = subscribe(customer, make_plan(tenant, flat("5.00"), calls))
    assert list(UsageNaming.objects.values_list("customer", "meter", "first_ref")) == [
        (customer.pk, meter.pk, first.pk)
    ]

    turn(tenant, local("2026-04-20 09:00"))
    sent = {"meter": "calls", "customer": customer.external_id, "occurred_at": "2026-04-10T00:00:00Z", "quantity": "3"}
    named = [sent | {"event_id": one.external_id, "subscription": one.external_id} for one in (first, third)]
    strange = subscribe(make_customer(tenant), plan)
    wrong = sent | {"event_id": "w", "subscription": str(strange.pk)}
    verdicts = usage.ingest(organisation=tenant, events=[*named, sent | {"event_id": "x"}, wrong])
    assert [(one.status, one.field) for one in verdicts] == [
        ("accepted", ""), ("accepted", ""), ("rejected", "subscription"), ("rejected", "subscription"),
    ]  # fmt: skip
    use(customer, meter, "4", local("2026-04-11 09:00"))  # came before there was a second one

    live(tenant, local("2026-05-02 09:00"))
    assert [amounts(invoices_of(one)[-1:]) for one in (first, other, third)] == [["7.00"], [], ["8.00"]]
