"""What a preview and a dry run foresee over several periods, where earlier usage has changed since it was billed."""

import pytest

from billing.services import usage, usage_revisions
from subscriptions.services import acting, changing, interim, preview
from subscriptions.services.billing_run import run_billing
from tests.subscriptions.house import (
    CLERK,
    amounts,
    flat,
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
    use,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


def plan_with_calls(tenant, fee):
    return make_plan(tenant, flat(fee), seats("1.00", code="calls", name="Calls", meter="calls"), interval="week")


def send(customer, event, quantity):
    """Calls of 2 April."""
    sent = {"event_id": event, "meter": "calls", "customer": customer.external_id, "quantity": quantity,
            "occurred_at": local("2026-04-02 12:00").isoformat()}  # fmt: skip
    [verdict] = usage.ingest(organisation=customer.organisation, events=[sent])
    assert verdict.status == "accepted", verdict


@pytest.fixture
def billed(tenant):
    """100 calls of its first week are billed, on 8 April; a call more, or all of them less, are to be corrected."""
    customer = make_customer(tenant)
    make_meter(tenant)
    subscription = subscribe(customer, plan_with_calls(tenant, "30.00"))
    run(tenant)
    turn(tenant, local("2026-04-03 09:00"))
    send(customer, "a", "100")
    turn(tenant, local("2026-04-08 09:00"))
    run(tenant)
    assert amounts(invoices_of(subscription)) == ["30.00", "130.00"]
    return subscription


def more(subscription):
    send(subscription.customer, "late", "10")


def less(subscription):
    usage_revisions.void_event(
        organisation=subscription.organisation, event_id="a", actor=CLERK, reason="Counted by mistake"
    )


def nets(found):
    return [f"{one.priced.net:.2f}" for one in found.invoices]


COMING = [(more, ["40.00", "30.00", "30.00", "30.00", "30.00"]), (less, ["0.00", "0.00", "0.00", "20.00", "30.00"])]
"""110 calls: 10 more on the next invoice. None: 100 back, which take the fees of three weeks and 10 of the fourth's."""


@pytest.mark.parametrize(("corrected", "expected"), COMING)
def test_coming_invoices_bear_a_correction_once(tenant, billed, corrected, expected):
    corrected(billed)

    found = preview.preview_action(organisation=tenant, subscription_id=billed.pk, count=5)
    live(tenant, local("2026-05-14 09:00"))

    assert nets(found) == expected
    assert amounts(invoices_of(billed)[2:]) == expected


@pytest.mark.parametrize(("corrected", "expected"), COMING)
def test_a_dry_run_over_several_periods_equals_the_run(tenant, billed, corrected, expected):
    corrected(billed)
    turn(tenant, local("2026-05-21 09:00"))

    dry, real = run_billing(organisation=tenant, dry_run=True), run_billing(organisation=tenant)

    assert (dry.billed, dry.invoices, dry.totals) == (real.billed, real.invoices, real.totals)
    assert (real.billed, f"{real.totals['INR']:.2f}") == (6, {more: "190.00", less: "80.00"}[corrected])


@pytest.mark.parametrize("corrected", [more, less])
def test_a_change_of_plan_bears_it_once(tenant, billed, corrected):
    corrected(billed)
    turn(tenant, local("2026-04-10 09:00"))
    version = changing.version_for(organisation=tenant, plan_id=plan_with_calls(tenant, "37.00").pk)
    asked = {"organisation": tenant, "subscription_id": billed.pk, "version": version}

    found = preview.preview_action(action="change", count=3, **asked)
    acting.change(actor=CLERK, **asked)
    live(tenant, local("2026-05-21 09:00"))

    assert nets(found) == amounts(invoices_of(billed)[2:6])


@pytest.fixture
def ahead(tenant):
    """10 calls at 1.00, charged in advance, were invoiced on 3 April at 13:00; 5 more came a minute later."""
    customer, meter = make_customer(tenant), make_meter(tenant)
    plan = make_plan(
        tenant, flat("30.00"), seats("1.00", code="calls", name="Calls", meter="calls", pay_in_advance=True)
    )
    subscription = subscribe(customer, plan)
    run(tenant)
    turn(tenant, local("2026-04-03 13:00"))
    use(customer, meter, "10", local("2026-04-03 12:00"))
    assert interim.invoice_passed(organisation=tenant) == 1
    turn(tenant, local("2026-04-03 13:10"))
    use(customer, meter, "5", local("2026-04-03 13:01"))
    assert interim.invoice_passed(organisation=tenant) == 0
    return subscription


def foreseen(subscription, action="", **options):
    found = preview.preview_action(
        organisation=subscription.organisation, subscription_id=subscription.pk, action=action, **options
    )
    return [(one.at, f"{one.priced.net:.2f}") for one in found.invoices]


def test_usage_in_advance_that_is_held_back_is_foreseen_at_its_time(tenant, ahead):
    assert foreseen(ahead, count=2) == [
        (local("2026-04-04 13:00"), "5.00"), (local("2026-05-01 00:00"), "30.00"),
    ]  # fmt: skip

    turn(tenant, local("2026-04-04 12:59"))
    assert interim.invoice_passed(organisation=tenant) == 0
    turn(tenant, local("2026-04-04 13:00"))
    assert interim.invoice_passed(organisation=tenant) == 1
    turn(tenant, local("2026-05-01 00:00"))
    run(tenant)
    assert amounts(invoices_of(ahead)) == ["30.00", "10.00", "5.00", "30.00"]


def test_the_periods_end_comes_before_what_is_held_back_longer(tenant, ahead):
    tenant.settings["subscriptions"] = {"usage_in_advance_hours": 24 * 28}
    tenant.save()

    assert foreseen(ahead, count=2) == [(local("2026-05-01 00:00"), "35.00"), (local("2026-06-01 00:00"), "30.00")]


def test_a_change_that_settles_the_usage_leaves_nothing_to_hold_back(tenant, ahead):
    plan = make_plan(
        tenant, flat("60.00"), seats("1.00", code="calls", name="Calls", meter="calls", pay_in_advance=True)
    )
    asked = {"version": changing.version_for(organisation=tenant, plan_id=plan.pk)}

    found = foreseen(ahead, "change", count=1, **asked)
    acting.change(organisation=tenant, subscription_id=ahead.pk, actor=CLERK, **asked)
    for day in ("2026-04-04 13:00", "2026-05-01 00:00"):
        turn(tenant, local(day))
        run(tenant)
        interim.invoice_passed(organisation=tenant)

    assert found == [
        (local("2026-04-03 13:10"), "33.00"),
        (local("2026-05-01 00:00"), "60.00"),
    ]  # 28 of 30 days, 5 calls
    assert amounts(invoices_of(ahead)) == ["30.00", "10.00", "33.00", "60.00"]


def test_a_pause_before_its_time_leaves_nothing_to_hold_back(ahead):
    found = foreseen(ahead, "pause", count=1, on=local("2026-04-04 09:00"), credit="none")

    assert found == [(local("2026-04-04 09:00"), "5.00")]
