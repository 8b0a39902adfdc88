"""What a plan can charge by, as invoices show it: arrears, minimums, filters, groups, add-ons, one-off charges."""

from decimal import Decimal

import pytest

from billing.models import UsageEvent
from invoices.rendering.lines import tier_notes
from subscriptions import errors
from subscriptions.models import Subscription
from subscriptions.services import add_ons, changing, lifecycle, preview
from subscriptions.services.billing_run import run_billing
from subscriptions.services.catalog import FilterInput, PriceInput
from tests.subscriptions.house import (
    CLERK,
    SEQUENCE,
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
    run,
    seats,
    subscribe,
    turn,
)  # fmt: skip

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 00:00"))


def metered(model="per_unit", **extra):
    return PriceInput(
        code=extra.pop("code", "calls"), name=extra.pop("name", "Calls"), currency="INR", model=model, meter="calls", **extra
    )  # fmt: skip


def measure(customer, meter, quantity, at, **extra):
    UsageEvent.objects.create(
        organisation=customer.organisation, event_id=f"m-{next(SEQUENCE)}", meter=meter, customer=customer,
        quantity=Decimal(quantity), occurred_at=local(at), **extra,
    )  # fmt: skip


def test_seats_in_arrears_are_charged_when_the_month_is_over_by_what_was_in_force(tenant):
    plan = make_plan(tenant, flat("100.00"), seats("30.00", pay_in_advance=False))
    subscription = subscribe(make_customer(tenant), plan, quantity=2)
    run(tenant)
    live(tenant, local("2026-04-11 12:00"))
    changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=5)
    live(tenant, local("2026-05-01 00:00"))

    first, second = invoices_of(subscription)
    assert lines_of(first) == [("Base fee", "100.00")]
    assert lines_of(second) == [
        ("Base fee", "100.00"), ("Seats (10 of 30 days)", "20.00"), ("Seats (20 of 30 days)", "100.00"),
    ]  # fmt: skip
    assert [(line.period_start.day, line.period_end.day) for line in second.lines.all()][1:] == [(1, 10), (11, 30)]
    assert fresh(subscription).earlier_terms == []


def test_a_quantity_changed_at_the_boundary_does_not_reach_back(tenant):
    plan = make_plan(tenant, seats("30.00", pay_in_advance=False))
    subscription = subscribe(make_customer(tenant), plan, quantity=2)
    run(tenant)
    turn(tenant, local("2026-04-20 00:00"))
    changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=5, when="period_end")
    live(tenant, local("2026-06-01 00:00"))

    assert [lines_of(one) for one in invoices_of(subscription)] == [[("Seats", "60.00")], [("Seats", "150.00")]]


def test_a_component_in_arrears_that_is_not_prorated_costs_the_whole_price(tenant):
    plan = make_plan(tenant, flat("90.00", pay_in_advance=False, prorated=False))
    subscription = subscribe(make_customer(tenant), plan, start_at=local("2026-04-01 00:00"))
    run(tenant)
    turn(tenant, local("2026-04-15 12:00"))
    lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK)

    assert [lines_of(one) for one in invoices_of(subscription)] == [[("Base fee", "90.00")]]


def test_a_minimum_of_the_plan_is_made_up_for_and_counts_what_was_paid_in_advance(tenant):
    meter = make_meter(tenant)
    plan = make_plan(
        tenant,
        flat("100.00", tax_category="saas"),
        metered(unit_price=Decimal("1.00")),
        min_commitment={"INR": "500.00"},
    )
    customer = make_customer(tenant)
    subscription = subscribe(customer, plan)
    run(tenant)
    measure(customer, meter, "150", "2026-04-10 00:00")
    measure(customer, meter, "450", "2026-05-10 00:00")
    live(tenant, local("2026-06-01 00:00"))

    first, second, third = invoices_of(subscription)
    assert lines_of(first) == [("Base fee", "100.00")]
    assert lines_of(second) == [("Base fee", "100.00"), ("Calls", "150.00"), ("Plan: up to the minimum", "250.00")]
    assert lines_of(third) == [("Base fee", "100.00"), ("Calls", "450.00")]
    [line] = [line for line in second.lines.all() if line.code == "minimum-commitment"]
    assert line.tax_rate == 18


def test_a_minimum_is_prorated_when_the_subscription_ends(tenant):
    make_meter(tenant)
    plan = make_plan(
        tenant, metered(unit_price=Decimal("1.00"), min_commitment=Decimal("300.00")), min_commitment={"INR": "600.00"}
    )
    subscription = subscribe(make_customer(tenant), plan)
    run(tenant)
    turn(tenant, local("2026-04-10 12:00"))
    lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK)

    [invoice] = invoices_of(subscription)
    assert lines_of(invoice) == [
        ("Calls: up to the minimum (10 of 30 days)", "100.00"), ("Plan: up to the minimum (10 of 30 days)", "100.00"),
    ]  # fmt: skip


def test_filters_and_groups_make_a_line_each(tenant):
    meter = make_meter(tenant)
    plan = make_plan(
        tenant,
        metered(
            unit_price=Decimal("1.00"), group_by=["team"],
            filters=[
                FilterInput(key="eu", name="Calls in Europe", conditions={"region": ["eu"]}, unit_price=Decimal(2)),
                FilterInput(
                    key="eu-gold", name="Gold calls in Europe", conditions={"region": ["eu"], "grade": ["gold"]},
                    unit_price=Decimal(3),
                ),
            ],
        ),
    )  # fmt: skip
    customer = make_customer(tenant)
    subscription = subscribe(customer, plan)
    run(tenant)
    for quantity, properties in [
        ("1", {}), ("10", {"region": "eu", "team": "a"}), ("100", {"region": "eu", "grade": "gold", "team": "a"}),
        ("1000", {"region": "us", "team": "b"}), ("5", {"region": "eu", "grade": "tin", "team": "b"}),
    ]:  # fmt: skip
        measure(customer, meter, quantity, "2026-04-10 00:00", properties=properties)
    live(tenant, local("2026-05-01 00:00"))

    [invoice] = invoices_of(subscription)
    assert sorted(lines_of(invoice)) == [
        ("Calls", "1.00"), ("Calls (b)", "1000.00"), ("Calls in Europe (a)", "20.00"), ("Calls in Europe (b)", "10.00"),
        ("Gold calls in Europe (a)", "300.00"),
    ]  # fmt: skip


def test_each_metered_model_is_billed(tenant):
    meter = make_meter(tenant)
    percent = {"rate": "2.5", "fixed_fee": "0.30", "free_events": "1", "max_per_event": "20"}
    tiers = [{"up_to": "100", "unit_price": "1"}, {"up_to": None, "unit_price": "0.5", "flat_fee": "3"}]
    rates = [{"up_to": "1000", "rate": "2"}, {"up_to": None, "rate": "1"}]
    plan = make_plan(
        tenant,
        metered("volume", code="volume", name="Volume", tiers=tiers),
        metered("package", code="packs", name="Packs", unit_price=Decimal(7), properties={"package_size": "250"}),
        metered("percentage", code="fees", name="Fees", properties=percent),
        metered("graduated_percentage", code="rates", name="Rates", tiers=rates),
        metered("dynamic", code="dynamic", name="Dynamic"),
    )
    customer = make_customer(tenant)
    subscription = subscribe(customer, plan)
    run(tenant)
    for quantity, at in [("100", "2026-04-02"), ("1000", "2026-04-03"), ("400", "2026-04-04")]:
        measure(customer, meter, quantity, f"{at} 00:00", amount=Decimal("1.005"))
    turn(tenant, local("2026-05-01 00:00"))
    planned = run_billing(organisation=tenant, dry_run=True)
    run(tenant)

    [invoice] = invoices_of(subscription)
    assert lines_of(invoice) == [
        ("Volume", "753.00"),  # 1500 × 0.5 + 3
        ("Packs", "42.00"),  # 6 packages
        ("Fees", "30.30"),  # the first is free, the second is cut at 20, the third 10.30
        ("Rates", "25.00"),  # 20 + 5
        ("Dynamic", "3.02"),  # 3.015
    ]
    assert planned.totals == {"INR": invoice.total.amount}


def test_add_ons_have_a_quantity_of_their_own_and_setup_is_charged_once(tenant):
    plan = make_plan(
        tenant, flat("100.00"), seats("10.00", code="storage", name="Extra storage", kind="add_on"),
        flat("500.00", code="setup", name="Setup", kind="one_off"),
    )  # fmt: skip
    customer = make_customer(tenant)
    subscription = subscribe(customer, plan, quantity=4, add_ons={"storage": 3})
    [shown] = preview.preview_change(organisation=tenant, subscription_id=subscription.pk, count=1).invoices
    run(tenant)
    live(tenant, local("2026-05-01 00:00"))

    first, second = invoices_of(subscription)
    assert lines_of(first) == [("Base fee", "100.00"), ("Extra storage", "30.00"), ("Setup", "500.00")]
    assert lines_of(second) == [("Base fee", "100.00"), ("Extra storage", "30.00")]
    assert shown.priced.net == first.net.amount
    assert amounts([first, second]) == ["630.00", "130.00"]


def test_another_quantity_of_an_add_on_is_charged_by_the_day(tenant):
    storage = seats("30.00", code="storage", name="Extra storage", kind="add_on")
    plan = make_plan(tenant, flat("100.00"), storage)
    subscription = subscribe(make_customer(tenant), plan, add_ons={"storage": 1})
    run(tenant)
    turn(tenant, local("2026-04-16 00:00"))
    seen = preview.preview_action(
        organisation=tenant, subscription_id=subscription.pk, action="add_ons", add_ons={"storage": 3}, count=1
    )
    assert [one.priced.net for one in seen.invoices] == [30, 190]
    assert fresh(subscription).add_ons == {"storage": 1}
    add_ons.set_add_ons(organisation=tenant, subscription_id=subscription.pk, add_ons={"storage": 3}, actor=CLERK)
    turn(tenant, local("2026-04-21 00:00"))
    dropped = add_ons.set_add_ons(
        organisation=tenant, subscription_id=subscription.pk, add_ons={"storage": 0}, actor=CLERK
    )
    live(tenant, local("2026-05-01 00:00"))

    first, second, third = invoices_of(subscription)
    assert lines_of(first) == [("Base fee", "100.00"), ("Extra storage", "30.00")]
    assert lines_of(second) == [
        ("Unused: Extra storage (15 of 30 days)", "-15.00"), ("Extra storage (15 of 30 days)", "45.00"),
    ]  # fmt: skip
    assert sum(note.net.amount for note in dropped.issued.credit_notes) == 30  # 10 of 30 days of three
    assert lines_of(third) == [("Base fee", "100.00")]
    assert [level for news, level in events_of(subscription) if news == "changed"] == ["190.00", "100.00"]


@pytest.mark.parametrize(
    ("wanted", "refused"),
    [({"nothing": 1}, errors.AddOnNotOffered), ({"storage": 1}, errors.NothingToChange),
     ({"storage": -1}, errors.InvalidSubscription), ({"base": 1}, errors.AddOnNotOffered)],
)  # fmt: skip
def test_what_no_add_on_can_be_is_refused_and_changes_nothing(tenant, wanted, refused):
    plan = make_plan(tenant, flat("100.00"), seats("30.00", code="storage", kind="add_on"))
    subscription = subscribe(make_customer(tenant), plan, add_ons={"storage": 1})
    run(tenant)

    with pytest.raises(refused):
        add_ons.set_add_ons(organisation=tenant, subscription_id=subscription.pk, add_ons=wanted, actor=CLERK)

    assert fresh(subscription).add_ons == {"storage": 1}
    assert len(invoices_of(subscription)) == 1
    with pytest.raises(errors.AddOnNotOffered):
        subscribe(make_customer(tenant), plan, add_ons={"more": 1})


def test_without_proration_a_part_of_a_period_costs_and_commits_to_the_whole_once(tenant):
    make_meter(tenant)
    plan = make_plan(
        tenant,
        seats("90.00", pay_in_advance=False),
        metered(unit_price=Decimal("1.00")),
        min_commitment={"INR": "150.00"},
    )
    subscription = subscribe(make_customer(tenant), plan)
    Subscription.objects.filter(pk=subscription.pk).update(proration="none")
    run(tenant)
    turn(tenant, local("2026-04-10 12:00"))
    lifecycle.pause(subscription_id=subscription.pk, actor=CLERK)
    turn(tenant, local("2026-04-20 12:00"))
    lifecycle.resume(subscription_id=subscription.pk, actor=CLERK)
    live(tenant, local("2026-05-01 00:00"))

    [invoice] = invoices_of(subscription)
    assert lines_of(invoice) == [("Seats", "90.00"), ("Plan: up to the minimum", "60.00")]


def test_an_invoice_says_what_packages_and_percentages_come_from(tenant):
    meter = make_meter(tenant)
    percent = {"rate": "2.5", "fixed_fee": "3", "max_per_event": "50"}
    plan = make_plan(
        tenant,
        metered("package", code="packs", name="Packs", unit_price=Decimal(7), properties={"package_size": "250"}),
        metered("percentage", code="fees", name="Fees", properties=percent),
    )
    customer = make_customer(tenant)
    subscription = subscribe(customer, plan)
    run(tenant)
    measure(customer, meter, "1000", "2026-04-02 00:00")
    measure(customer, meter, "4000", "2026-04-03 00:00")
    live(tenant, local("2026-05-01 00:00"))

    [invoice] = invoices_of(subscription)
    notes = [tier_notes(line.details, "INR", "en") for line in invoice.lines.all()]
    fees = ["5,000 × 2.5 % = 125.00", "2 × 3.00 = 6.00", "Limits per event: −53.00"]
    assert notes == [["20 packages × 7.00 = 140.00"], fees]


@pytest.mark.parametrize("bounds", [{}, {"max_per_event": "1000"}])
def test_a_refund_gives_the_rate_back_and_pays_no_fee(tenant, bounds):
    meter = make_meter(tenant)
    percent = {"rate": "2.5", "fixed_fee": "3", **bounds}
    plan = make_plan(tenant, metered("percentage", code="fees", name="Fees", properties=percent))
    customer = make_customer(tenant)
    subscription = subscribe(customer, plan)
    run(tenant)
    for quantity, at in [("1000", "2026-04-02"), ("4000", "2026-04-03"), ("-1000", "2026-04-04")]:
        measure(customer, meter, quantity, f"{at} 00:00")
    live(tenant, local("2026-05-01 00:00"))

    [invoice] = invoices_of(subscription)
    assert lines_of(invoice) == [("Fees", "106.00")]  # 2.5 % of 4,000, and two fees


@pytest.mark.parametrize(("quantity", "said"), [("1", "1 package × 4.00 = 4.00"), ("3", "3 packages × 4.00 = 12.00")])
def test_one_package_is_no_packages(quantity, said):
    amount = str(Decimal(quantity) * 4)
    part = {"kind": "share_of_price", "label": "package", "quantity": quantity, "unit_price": "4", "amount": amount}
    assert tier_notes([part], "INR", "en") == [said]
