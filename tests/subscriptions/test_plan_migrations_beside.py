"""Plan migrations and what customers have planned themselves: neither takes the place of the other."""

import pytest

from subscriptions.models import PlanMigration
from subscriptions.services import acting, changing, plan_migrations, preview
from tests.subscriptions.house import (
    CLERK,
    fresh,
    invoices_of,
    lines_of,
    local,
    make_customer,
    make_organisation,
    make_plan,
    run,
    seats,
    subscribe,
    turn,
)
from tests.subscriptions.test_plan_migrations import dearer, statuses

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 00:00"))


@pytest.fixture
def plan(tenant):
    return make_plan(tenant, seats("100.00"))


@pytest.fixture
def subscription(tenant, plan):
    """Eight seats for 100.00 each from April on; it is 16 April, half of the month is left."""
    made = subscribe(make_customer(tenant), plan, quantity=8, external_id="eight")
    run(tenant)
    turn(tenant, local("2026-04-16 00:00"))
    return made


def migrate(tenant, plan, when="renewal"):
    second = plan.versions.filter(number=2).first() or dearer(plan, seats("150.00"))
    made = plan_migrations.plan_migration(
        organisation=tenant, from_plan=plan, to_version=second, actor=CLERK, when=when
    )
    plan_migrations.carry_out(migration_id=made.pk)
    return PlanMigration.objects.get(pk=made.pk)


def ask(subscription, **asked):
    acting.change(organisation=subscription.organisation, subscription_id=subscription.pk, actor=CLERK, **asked)


def next_bill(tenant, subscription):
    """What May costs, as it is foretold on 16 April and as it is billed."""
    [foretold] = preview.preview_action(organisation=tenant, subscription_id=subscription.pk, count=1).invoices
    turn(tenant, local("2026-05-01 00:00"))
    run(tenant)
    billed = invoices_of(subscription)[-1]
    assert foretold.priced.total == billed.total.amount
    return lines_of(billed)


@pytest.mark.parametrize("first", ["customer", "house"])
@pytest.mark.parametrize("asked", [{"when": "period_end"}, {"on": local("2026-05-01 00:00")}])
def test_fewer_seats_and_new_prices_at_one_renewal_both_take_hold(tenant, plan, subscription, first, asked):
    steps = [lambda: ask(subscription, quantity=3, **asked), lambda: migrate(tenant, plan)]
    for step in steps if first == "customer" else reversed(steps):
        step()

    assert next_bill(tenant, subscription) == [("Seats", "450.00")]
    assert (fresh(subscription).quantity, fresh(subscription).plan_version.number) == (3, 2)


def test_seats_changed_now_cost_the_old_price_until_the_renewal_and_the_new_one_from_then_on(
    tenant, plan, subscription
):
    migrate(tenant, plan)

    ask(subscription, quantity=10)

    assert lines_of(invoices_of(subscription)[-1]) == [
        ("Unused: Seats (15 of 30 days)", "-400.00"),
        ("Seats (15 of 30 days)", "500.00"),
    ]
    assert next_bill(tenant, subscription) == [("Seats", "1500.00")]


def test_a_migration_now_leaves_the_seats_that_are_planned(tenant, plan, subscription):
    ask(subscription, quantity=3, when="period_end")

    migrate(tenant, plan, when="now")

    assert fresh(subscription).plan_version.number == 2
    assert next_bill(tenant, subscription) == [("Seats", "450.00")]


def test_who_has_planned_another_plan_gets_it_and_not_the_new_prices(tenant, plan, subscription):
    other = make_plan(tenant, seats("70.00"))
    ask(subscription, version=changing.version_for(organisation=tenant, plan_id=other.pk), when="period_end")

    migration = migrate(tenant, plan)

    assert statuses(migration) == {"eight": "refused"}
    assert migration.items.get().reason.startswith("changes_plan_anyway: ")
    assert next_bill(tenant, subscription) == [("Seats", "560.00")]


def test_who_chooses_another_plan_afterwards_gets_it(tenant, plan, subscription):
    migrate(tenant, plan)
    other = make_plan(tenant, seats("70.00"))

    ask(subscription, version=changing.version_for(organisation=tenant, plan_id=other.pk), when="period_end")

    assert next_bill(tenant, subscription) == [("Seats", "560.00")]
