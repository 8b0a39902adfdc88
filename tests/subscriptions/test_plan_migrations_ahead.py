"""Plan migrations that are decided for later: previews know of them, and who is billed before the worker came is moved first."""

import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection, transaction

from billing import clock
from billing.services import clock_jobs
from subscriptions.models import PlanMigration, PlanMigrationItem, Subscription
from subscriptions.services import acting, billing_run, catalog, plan_migrations, preview
from subscriptions.services.plan_migrations_ahead import migrations_for
from tests.subscriptions.house import (
    CLERK,
    amounts,
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
)  # fmt: skip
from tests.subscriptions.test_plan_migrations import dearer, from_june, statuses

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 00:00"))


def live(tenant, to):
    """Let time pass day by day, with the jobs in their order: migrations first."""
    at = clock.now(tenant)
    while at < to:
        at = min(at + timedelta(days=1), to)
        turn(tenant, at)
        plan_migrations.settle_due(organisation=tenant)
        run(tenant)


def calls(price):
    return catalog.PriceInput(
        code="calls", name="Calls", currency="INR", model="per_unit", meter="calls", unit_price=Decimal(price)
    )


def foretold(tenant, subscription, count=3, **asked):
    found = preview.preview_action(organisation=tenant, subscription_id=subscription.pk, count=count, **asked)
    return [(one.period_start, one.priced.total) for one in found.invoices]


def billed(subscription):
    return [(one.period_start, one.total.amount) for one in invoices_of(subscription)]


def nets(tenant, subscription, count=3, **asked):
    found = preview.preview_action(organisation=tenant, subscription_id=subscription.pk, count=count, **asked)
    return [f"{one.priced.net:.2f}" for one in found.invoices]


@pytest.mark.parametrize(
    ("begins", "coming"),
    [
        ("2026-04-01", ["120.00", "120.00", "120.00"]),  # renews on 1 June, the moment of the date
        ("2026-04-20", ["100.00", "120.00", "120.00"]),
        ("2026-04-30", ["100.00", "120.00", "120.00"]),  # on 30 May, the last before it
    ],
)
def test_the_next_invoices_are_shown_at_the_prices_they_will_have(tenant, begins, coming):
    plan = make_plan(tenant, seats("100.00"))
    turn(tenant, local(f"{begins} 00:00"))
    subscription = subscribe(make_customer(tenant), plan)
    live(tenant, local("2026-05-10 00:00"))
    from_june(tenant, plan, dearer(plan, seats("120.00")))
    before = len(billed(subscription))

    shown = foretold(tenant, subscription)
    assert nets(tenant, subscription) == coming
    live(tenant, local("2026-08-31 00:00"))

    assert billed(subscription)[before:][:3] == shown
    assert amounts(invoices_of(subscription))[before:][:3] == coming


def test_usage_of_the_period_before_the_date_is_shown_at_the_old_price(tenant):
    meter = make_meter(tenant)
    plan, customer = make_plan(tenant, flat("100.00"), calls(2)), make_customer(tenant)
    subscription = subscribe(customer, plan)
    run(tenant)
    from_june(tenant, plan, dearer(plan, flat("120.00"), calls(3)))
    live(tenant, local("2026-05-30 00:00"))
    use(customer, meter, "10", local("2026-05-29 12:00"))

    shown = foretold(tenant, subscription, 2)
    dry = billing_run.run_billing(organisation=tenant, due_at=local("2026-07-01 00:00"), dry_run=True)
    assert nets(tenant, subscription, 2) == ["140.00", "120.00"]
    live(tenant, local("2026-07-01 00:00"))

    assert billed(subscription)[2:] == shown
    assert (dry.billed, dry.totals) == (2, {"INR": sum(total for _, total in shown)})


def test_a_migration_that_is_cancelled_and_another_organisations_are_in_no_preview(tenant):
    plan = make_plan(tenant, flat("100.00"), code="team")
    subscription = subscribe(make_customer(tenant), plan)
    run(tenant)
    other = make_organisation(local("2026-04-01 00:00"))
    foreign = make_plan(other, flat("100.00"), code="team")
    from_june(other, foreign, dearer(foreign, flat("900.00")))
    live(tenant, local("2026-05-02 00:00"))
    assert migrations_for(fresh(subscription), now=local("2026-05-02 00:00")).waiting == []
    assert nets(tenant, subscription, 1) == ["100.00"]

    migration = from_june(tenant, plan, dearer(plan, flat("120.00")))
    assert nets(tenant, subscription, 1) == ["120.00"]
    plan_migrations.cancel_migration(migration_id=migration.pk, actor=CLERK)

    assert nets(tenant, subscription, 1) == ["100.00"]
    live(tenant, local("2026-06-01 00:00"))
    assert amounts(invoices_of(subscription)) == ["100.00", "100.00", "100.00"]


def test_a_trial_that_ends_then_and_a_new_subscription_that_begins_later_are_shown_at_the_new_price(tenant):
    plan, other = make_plan(tenant, flat("100.00")), make_plan(tenant, flat("120.00"))
    trial = subscribe(make_customer(tenant), plan, trial_days=61)
    later = subscribe(make_customer(tenant), plan, start_at=local("2026-06-10 00:00"))
    from_june(tenant, plan, other.versions.get())

    shown = [foretold(tenant, one, 2) for one in (trial, later)]
    live(tenant, local("2026-07-10 00:00"))

    assert amounts(invoices_of(trial)) == amounts(invoices_of(later)) == ["120.00", "120.00"]
    assert [billed(one) for one in (trial, later)] == shown


def test_a_change_now_is_previewed_with_the_migration_that_follows(tenant):
    plan = make_plan(tenant, seats("100.00"))
    subscription = subscribe(make_customer(tenant), plan)
    live(tenant, local("2026-05-16 00:00"))
    from_june(tenant, plan, dearer(plan, seats("120.00")))

    shown = foretold(tenant, subscription, 2, action="change", quantity=3, when="now")
    acting.change(organisation=tenant, subscription_id=subscription.pk, actor=CLERK, quantity=3, when="now")
    live(tenant, local("2026-07-01 00:00"))

    assert amounts(invoices_of(subscription))[-2:] == ["360.00", "360.00"]
    assert billed(subscription)[2:] == shown


def test_a_migration_that_has_chosen_and_not_moved_yet_and_one_to_another_interval(tenant):
    plan, yearly = make_plan(tenant, flat("100.00")), make_plan(tenant, flat("1000.00"), interval="year")
    subscription = subscribe(make_customer(tenant), plan)
    live(tenant, local("2026-05-02 00:00"))
    migration = from_june(tenant, plan, yearly.versions.get())
    dry = billing_run.run_billing(organisation=tenant, due_at=local("2026-07-01 00:00"), dry_run=True)
    before = foretold(tenant, subscription, 1)
    turn(tenant, local("2026-06-01 00:00"))
    plan_migrations._begin(migration.pk)

    shown = foretold(tenant, subscription, 1)
    live(tenant, local("2026-07-01 00:00"))

    assert amounts(invoices_of(subscription)) == ["100.00", "100.00", "1000.00"]
    assert billed(subscription)[2:] == shown == before
    assert (dry.billed, dry.totals) == (1, {"INR": shown[0][1]})


def test_a_dry_run_ahead_shows_each_period_at_its_price(tenant):
    plan = make_plan(tenant, seats("100.00"))
    found = [subscribe(make_customer(tenant), plan)]
    turn(tenant, local("2026-04-20 00:00"))
    found.append(subscribe(make_customer(tenant), plan, quantity=2))
    live(tenant, local("2026-05-02 00:00"))
    migration = from_june(tenant, plan, dearer(plan, seats("120.00")))
    before = [len(billed(one)) for one in found]

    dry = billing_run.run_billing(organisation=tenant, due_at=local("2026-07-01 00:00"), dry_run=True)
    assert (PlanMigration.objects.get(pk=migration.pk).status, PlanMigrationItem.objects.count()) == ("planned", 0)
    assert set(Subscription.objects.values_list("plan_version__number", flat=True)) == {1}
    live(tenant, local("2026-07-01 00:00"))

    assert [amounts(invoices_of(one)[n:]) for one, n in zip(found, before, strict=True)] == [
        ["120.00", "120.00"], ["200.00", "240.00"],
    ]  # fmt: skip
    came = [total for one, n in zip(found, before, strict=True) for _, total in billed(one)[n:]]
    assert (dry.billed, dry.invoices, dry.totals) == (4, 4, {"INR": sum(came)})


def test_a_dry_run_stops_at_a_pause_that_is_planned_behind_the_migration(tenant):
    plan = make_plan(tenant, flat("100.00"))
    subscription = subscribe(make_customer(tenant), plan)
    live(tenant, local("2026-05-02 00:00"))
    from_june(tenant, plan, dearer(plan, flat("120.00")))
    acting.pause(organisation=tenant, subscription_id=subscription.pk, actor=CLERK, on=local("2026-06-15 00:00"))

    dry = billing_run.run_billing(organisation=tenant, due_at=local("2026-08-01 00:00"), dry_run=True)

    assert dry.billed == 1


# --- who is billed before the worker came ------------------------------------------------------------
def late_by_two_days(tenant, count=1):
    """Subscriptions that renewed on 1 June, when the migration's time came too; it is 3 June and nothing has happened."""
    plan = make_plan(tenant, seats("100.00"))
    found = [subscribe(make_customer(tenant), plan) for _ in range(count)]
    live(tenant, local("2026-05-02 00:00"))
    migration = from_june(tenant, plan, dearer(plan, seats("120.00")))
    turn(tenant, local("2026-06-03 00:00"))
    return migration, found


def test_who_is_billed_before_the_worker_came_is_moved_first_and_once(tenant):
    migration, (first, second) = late_by_two_days(tenant, 2)
    shown = foretold(tenant, first, 1)

    for _ in range(2):
        acting.bill_now(organisation=tenant, subscription_id=first.pk)

    assert billed(first)[2:] == shown
    assert amounts(invoices_of(first)) == ["100.00", "100.00", "120.00"]
    half = PlanMigration.objects.get(pk=migration.pk)
    assert (half.status, half.total_count, half.moved_count) == ("running", 2, 1)
    assert statuses(migration) == {first.external_id: "planned", second.external_id: "pending"}
    clock_jobs.run("subscriptions.billing_run", tenant)
    done = PlanMigration.objects.get(pk=migration.pk)
    assert (done.status, done.moved_count, done.failed_count) == ("done", 2, 0)
    assert [amounts(invoices_of(one)) for one in (first, second)] == [["100.00", "100.00", "120.00"]] * 2


def test_the_last_one_that_is_moved_by_itself_finishes_the_migration(tenant):
    migration, (only,) = late_by_two_days(tenant)

    asked = {"action": "change", "quantity": 2, "when": "now"}
    shown = foretold(tenant, only, 1, **asked)
    acting.change(organisation=tenant, subscription_id=only.pk, actor=CLERK, quantity=2, when="now")

    done = PlanMigration.objects.get(pk=migration.pk)
    assert (done.status, done.total_count, done.moved_count) == ("done", 1, 1)
    assert lines_of(invoices_of(only)[2]) == [("Seats", "120.00")]
    live(tenant, local("2026-07-01 00:00"))
    assert amounts(invoices_of(only))[-1] == "240.00"
    assert billed(only)[2:] == shown


def test_a_migration_of_other_plans_is_not_begun_and_a_foreign_subscription_is_not_found(tenant):
    migration, (moved,) = late_by_two_days(tenant)
    bystander = subscribe(make_customer(tenant), make_plan(tenant, flat("10.00")))
    other = make_organisation(local("2026-06-03 00:00"))

    acting.bill_now(organisation=tenant, subscription_id=bystander.pk)
    with pytest.raises(Subscription.DoesNotExist):
        acting.bill_now(organisation=other, subscription_id=moved.pk)

    assert amounts(invoices_of(bystander)) == ["10.00"]
    assert (PlanMigration.objects.get(pk=migration.pk).status, len(invoices_of(moved))) == ("planned", 2)


def test_a_migration_that_was_cancelled_moves_nobody(tenant):
    migration, (only,) = late_by_two_days(tenant)
    plan_migrations.cancel_migration(migration_id=migration.pk, actor=CLERK)

    acting.bill_now(organisation=tenant, subscription_id=only.pk)

    assert amounts(invoices_of(only)) == ["100.00", "100.00", "100.00"]
    assert PlanMigrationItem.objects.count() == 0


def test_what_is_refused_is_noted_and_billed_as_it_was(tenant):
    plan = make_plan(tenant, flat("100.00"), flat("2.00", currency="USD"))
    only = subscribe(make_customer(tenant), plan)
    live(tenant, local("2026-05-02 00:00"))
    migration = from_june(tenant, plan, dearer(plan, flat("3.00", currency="USD")))
    turn(tenant, local("2026-06-03 00:00"))

    acting.bill_now(organisation=tenant, subscription_id=only.pk)

    assert amounts(invoices_of(only)) == ["100.00", "100.00", "100.00"]
    [item] = PlanMigrationItem.objects.filter(migration=migration)
    assert (item.status, item.reason.partition(":")[0]) == ("refused", "missing_price")
    done = PlanMigration.objects.get(pk=migration.pk)
    assert (done.status, done.moved_count, done.failed_count) == ("done", 0, 1)


def test_what_fails_unforeseen_does_not_stop_who_is_billed_alone(tenant, monkeypatch):
    migration, (only,) = late_by_two_days(tenant)

    def fail(*_):
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(plan_migrations, "_mrr", fail)
        acting.bill_now(organisation=tenant, subscription_id=only.pk)
    assert amounts(invoices_of(only)) == ["100.00", "100.00", "100.00"]
    assert statuses(migration) == {only.external_id: "pending"}

    live(tenant, local("2026-07-01 00:00"))
    assert amounts(invoices_of(only))[-1] == "120.00"


@pytest.mark.django_db(transaction=True)
def test_who_is_billed_alone_waits_for_the_worker_that_moves_it():
    tenant = make_organisation(local("2026-04-01 00:00"))
    migration, (only,) = late_by_two_days(tenant)
    plan_migrations._begin(migration.pk)
    held, go_on = threading.Event(), threading.Event()

    def hold():
        try:
            with transaction.atomic():
                PlanMigrationItem.objects.select_for_update().order_by("id").first()
                held.set()
                go_on.wait(30)
        finally:
            connection.close()

    def bill():
        try:
            acting.bill_now(organisation=tenant, subscription_id=only.pk)
        finally:
            connection.close()

    holder, biller = threading.Thread(target=hold), threading.Thread(target=bill)
    holder.start()
    assert held.wait(30)
    biller.start()
    biller.join(1)
    assert len(invoices_of(only)) == 2
    go_on.set()
    holder.join()
    biller.join()

    assert amounts(invoices_of(only)) == ["100.00", "100.00", "120.00"]
    assert PlanMigrationItem.objects.count() == 1
