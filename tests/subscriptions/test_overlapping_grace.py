"""Drafts of one subscription that wait together: what one of them bills, no other bills again."""

from datetime import date

import pytest

from billing.models import UsageAdjustment, UsageWindow
from billing.services.usage_policy import change_policy
from invoices.models import CreditNote, Invoice
from subscriptions.models import DraftCycle
from subscriptions.services import acting, interim
from subscriptions.services.billing_run import run_billing
from subscriptions.services.billing_terms import set_terms
from subscriptions.services.draft_finalizing import finalize_due
from subscriptions.services.ended_usage import settle_ended
from tests.subscriptions.house import (
    CLERK,
    amounts,
    flat,
    fresh,
    invoices_of,
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
from tests.subscriptions.test_set_aside import mend, rate_until

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


@pytest.fixture
def customer(tenant):
    return make_customer(tenant)


def calls(**more):
    return seats("2.00", code="calls", name="Calls", meter="calls", **more)


def with_late_usage(tenant, customer, taxed=None, **agreed):
    """A daily subscription whose 1 April was billed at once; the drafts of the next days wait, and 5 calls of 1 April came late."""
    meter, fee = make_meter(tenant), flat("10.00", **(taxed or {}))
    plan = make_plan(tenant, fee, calls(**(taxed or {})), interval="day")
    subscription = subscribe(customer, plan, **agreed)
    run(tenant)
    turn(tenant, local("2026-04-02 09:00"))
    run(tenant)
    set_terms(organisation=tenant, customer_id=customer.pk, actor=CLERK, grace_days=4)
    use(customer, meter, "5", local("2026-04-01 12:00"))
    return subscription


def test_drafts_that_end_together_bill_late_usage_once(tenant, customer):
    subscription = with_late_usage(tenant, customer)
    for day in (3, 4, 5):
        turn(tenant, local(f"2026-04-0{day} 09:00"))
        run(tenant)

    turn(tenant, local("2026-04-12 09:00"))
    finalize_due(organisation=tenant)

    assert amounts(invoices_of(subscription)) == ["10.00", "10.00", "20.00", "10.00", "10.00"]
    assert [f"{one.amount:.2f}" for one in UsageAdjustment.objects.all()] == ["10.00"]


def test_a_cancellation_that_ends_their_grace_bills_late_usage_once(tenant, customer):
    subscription = with_late_usage(tenant, customer)
    for day in (3, 4, 5):
        turn(tenant, local(f"2026-04-0{day} 09:00"))
        run(tenant)

    acting.cancel(organisation=tenant, subscription_id=subscription.pk, actor=CLERK, credit="none")

    assert amounts(invoices_of(subscription)) == ["10.00", "10.00", "20.00", "10.00", "10.00"]


def test_a_waiting_draft_bears_late_usage_and_the_next_one_does_not(tenant, customer):
    subscription = with_late_usage(tenant, customer)
    turn(tenant, local("2026-04-05 09:00"))

    dry = run_billing(organisation=tenant, dry_run=True)
    real = run_billing(organisation=tenant)

    assert amounts(invoices_of(subscription)) == ["10.00", "10.00", "20.00", "10.00", "10.00"]
    assert (dry.billed, dry.drafts, dry.totals) == (real.billed, real.drafts, real.totals)


def test_what_a_draft_that_cannot_be_priced_is_to_bear_is_billed_however_late_that_is_mended(tenant, customer):
    """The subscription has ended, and its usage takes in nothing any more, when the tax rate of its draft is there."""
    change_policy(organisation=tenant, actor=CLERK, late_days=1)
    rate = rate_until(tenant, date(2026, 4, 3))
    subscription = with_late_usage(tenant, customer, taxed={"tax_category": "short"}, ends_at=local("2026-04-04 00:00"))
    for day in (3, 4, 5, 6):
        turn(tenant, local(f"2026-04-0{day} 09:00"))
        run(tenant)
        settle_ended(organisation=tenant)
    assert fresh(subscription).status == "expired"
    assert DraftCycle.objects.get().failure
    assert UsageWindow.objects.get(closed_at=None).ends_at == local("2026-04-02 00:00")

    mend(rate)
    turn(tenant, local("2026-04-08 09:00"))
    finalize_due(organisation=tenant)
    settle_ended(organisation=tenant)

    assert amounts(invoices_of(subscription)) == ["10.00", "10.00", "20.00"]
    assert {one.status for one in invoices_of(subscription)} == {"open"}
    assert not UsageWindow.objects.filter(closed_at=None).exists()


def test_drafts_that_end_together_take_off_each_what_was_charged_in_its_own_days(tenant, customer):
    meter = make_meter(tenant)
    set_terms(organisation=tenant, customer_id=customer.pk, actor=CLERK, grace_days=4)
    plan = make_plan(tenant, flat("10.00"), calls(pay_in_advance=True), interval="day")
    subscribe(customer, plan)
    run(tenant)
    for day, quantity in ((1, "3"), (2, "4")):
        turn(tenant, local(f"2026-04-0{day} 12:00"))
        use(customer, meter, quantity, local(f"2026-04-0{day} 11:00"))
        interim.invoice_passed(organisation=tenant)
        turn(tenant, local(f"2026-04-0{day + 1} 09:00"))
        run(tenant)

    turn(tenant, local("2026-04-12 09:00"))
    finalize_due(organisation=tenant)

    assert sorted(amounts(Invoice.objects.of(tenant))) == ["10.00", "10.00", "10.00", "6.00", "8.00"]
    assert not CreditNote.objects.exists()


def test_a_first_draft_gives_nothing_back_of_what_was_used_while_it_waited(tenant, customer):
    meter = make_meter(tenant)
    set_terms(organisation=tenant, customer_id=customer.pk, actor=CLERK, grace_days=3)
    subscription = subscribe(customer, make_plan(tenant, flat("500.00"), calls(pay_in_advance=True)))
    run(tenant)
    turn(tenant, local("2026-04-03 12:00"))
    use(customer, meter, "3", local("2026-04-03 11:00"))
    interim.invoice_passed(organisation=tenant)

    turn(tenant, local("2026-04-04 09:00"))
    finalize_due(organisation=tenant)

    assert sorted((row.status, f"{row.net.amount:.2f}") for row in invoices_of(subscription)) == [
        ("open", "500.00"), ("open", "6.00"),
    ]  # fmt: skip
    assert not CreditNote.objects.exists()
