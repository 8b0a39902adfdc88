"""Usage in mid-period where an end is agreed, or another plan is to come: invoiced soon, once, and as the preview says."""

import pytest
from moneyed import Money

from subscriptions.rules import Term
from subscriptions.services import acting, changes, changing, interim, preview
from subscriptions.services.billing_run import run_billing
from subscriptions.services.thresholds import add_threshold
from tests.subscriptions.house import (
    CLERK,
    amounts,
    credit_notes_of,
    flat,
    fresh,
    invoices_of,
    lines_of,
    local,
    make_customer,
    make_meter,
    make_organisation,
    make_plan,
    run,
    seats,
    subscribe,
    turn,
    use,
)

pytestmark = pytest.mark.django_db
RULES = {"usage_in_advance_hours": 0}
MONTHLY = {"term": Term(interval="month", count=1, renewals=1, notice_days=0)}
MID_MONTH = {"ends_at": local("2026-04-20 15:00")}
MONTH_END = {"ends_at": local("2026-05-01 00:00")}


@pytest.fixture
def tenant(db):
    return make_organisation(local("2026-04-01 09:00"))


def used_ten(tenant, *, pay_in_advance=True, threshold="", continues=False, **agreed):
    """A subscription of 30.00 a month and 1.00 for each call, billed for April, of which 10 calls came on the 5th at noon."""
    customer, meter = make_customer(tenant), make_meter(tenant)
    calls = seats("1.00", code="calls", name="Calls", meter="calls", pay_in_advance=pay_in_advance)
    plan = make_plan(
        tenant, flat("30.00"), calls, rules=RULES | ({"usage_after_change": "continue"} if continues else {})
    )
    if threshold:
        add_threshold(
            organisation=tenant, actor=CLERK, plan_id=plan.pk, amount=Money(threshold, "INR"), recurring=False
        )
    subscription = subscribe(customer, plan, **agreed)
    run(tenant)
    turn(tenant, local("2026-04-05 13:00"))
    use(customer, meter, "10", local("2026-04-05 12:00"))
    return subscription, meter


def foreseen(subscription, count):
    found = preview.preview_action(organisation=subscription.organisation, subscription_id=subscription.pk, count=count)
    assert found.credits == ()
    return [(one.at, f"{one.priced.net:.2f}") for one in found.invoices]


def happened(subscription, since):
    assert list(credit_notes_of(subscription)) == []
    return [(one.created_at, f"{one.net.amount:.2f}") for one in invoices_of(subscription) if one.created_at >= since]


def live(tenant, *days):
    for day in days:
        turn(tenant, local(day))
        run(tenant)
        interim.invoice_passed(organisation=tenant)


@pytest.mark.parametrize(
    ("agreed", "then"),
    [
        (MONTHLY, [("2026-05-01 00:00", "30.00")]),
        (MID_MONTH, []),
        (MONTH_END, []),
    ],
)
def test_usage_in_advance_of_a_last_period_is_invoiced_soon_and_once(tenant, agreed, then):
    subscription, _ = used_ten(tenant, **agreed)
    now = local("2026-04-05 13:00")

    said = foreseen(subscription, count=3)
    assert interim.invoice_passed(organisation=tenant) == 1
    assert interim.invoice_passed(organisation=tenant) == 0
    live(tenant, "2026-04-20 15:00", "2026-05-01 00:00", "2026-06-01 00:00")

    expected = [(now, "10.00"), *((local(at), net) for at, net in then)]
    assert said == expected
    assert happened(subscription, now) == expected
    assert fresh(subscription).status == "expired"


def test_the_end_charges_what_was_used_since_only(tenant):
    subscription, meter = used_ten(tenant, **MID_MONTH)
    assert interim.invoice_passed(organisation=tenant) == 1
    turn(tenant, local("2026-04-19 10:00"))
    use(subscription.customer, meter, "7", local("2026-04-19 09:00"))
    live(tenant, "2026-04-20 15:00")

    mine = invoices_of(subscription)
    assert amounts(mine) == ["20.00", "10.00", "7.00"]  # 20 of 30 days
    assert lines_of(mine[2]) == [("Calls", "17.00"), ("Billed already: Calls", "-10.00")]
    assert list(credit_notes_of(subscription)) == []


@pytest.mark.parametrize("agreed", [MONTHLY, MID_MONTH, MONTH_END])
def test_a_threshold_holds_in_a_last_period(tenant, agreed):
    subscription, _ = used_ten(tenant, pay_in_advance=False, threshold="9.00", **agreed)

    said = foreseen(subscription, count=1)
    assert interim.invoice_passed(organisation=tenant) == 1

    assert said == happened(subscription, local("2026-04-05 13:00")) == [(local("2026-04-05 13:00"), "10.00")]


def test_an_end_that_is_due_comes_first(tenant):
    """The job for ends stood still: what was used after the end is not charged by an invoice in mid-period."""
    subscription, meter = used_ten(tenant, **MID_MONTH)
    turn(tenant, local("2026-04-20 18:00"))
    use(subscription.customer, meter, "5", local("2026-04-20 17:00"))

    assert interim.invoice_passed(organisation=tenant) == 0
    assert changes.apply_due(organisation=tenant) == 1
    run_billing(organisation=tenant)
    assert interim.invoice_passed(organisation=tenant) == 0

    assert amounts(invoices_of(subscription)) == ["20.00", "10.00"]
    assert list(credit_notes_of(subscription)) == []


@pytest.mark.parametrize(("ours", "theirs"), [(False, True), (True, True)])
def test_usage_that_goes_on_under_a_planned_plan_is_looked_at_again_when_it_begins(tenant, ours, theirs):
    """10 calls at 1.00; from the 16th on a plan of another price for them, which charges the whole month's in advance."""
    subscription, _ = used_ten(tenant, pay_in_advance=ours, continues=True)
    dearer = seats("3.00", code="calls", name="Calls", meter="calls", pay_in_advance=theirs)
    plan = make_plan(tenant, flat("30.00"), dearer, rules={"usage_in_advance_hours": 0})
    acting.change(
        organisation=tenant, subscription_id=subscription.pk, actor=CLERK, on=local("2026-04-16 10:00"),
        version=changing.version_for(organisation=tenant, plan_id=plan.pk),
    )  # fmt: skip

    said = foreseen(subscription, count=3)
    interim.invoice_passed(organisation=tenant)
    live(tenant, "2026-04-16 10:00", "2026-05-01 00:00", "2026-06-01 00:00")

    now, then = local("2026-04-05 13:00"), local("2026-04-16 10:00")
    first = [(now, "10.00"), (then, "20.00")] if ours else [(then, "30.00")]
    expected = [*first, (local("2026-05-01 00:00"), "30.00"), (local("2026-06-01 00:00"), "30.00")]
    assert happened(subscription, now) == expected
    assert said == expected[:3]
