"""Plan migrations: what the preview says happens, to each subscription once, and what cannot be moved says why."""

import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from billing.services import clock_jobs
from subscriptions import errors, tasks
from subscriptions.models import PlanMigration, PlanMigrationItem, Subscription
from subscriptions.services import billing_run, catalog, changes, lifecycle, plan_migrations
from subscriptions.services.plan_migration_preview import preview_migration
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
from tests.subscriptions.test_api import API, client_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 00:00"))


def dearer(plan, *prices, **extra):
    return catalog.add_version(plan_id=plan.pk, prices=prices, actor=CLERK, **extra)


def statuses(migration):
    return dict(
        PlanMigrationItem.objects.filter(migration=migration).values_list("subscription__external_id", "status")
    )


def test_subscribers_stay_on_their_prices_until_a_migration_moves_them_at_renewal(tenant):
    plan = make_plan(tenant, seats("100.00"))
    old = [subscribe(make_customer(tenant), plan, quantity=n, external_id=f"old-{n}") for n in (1, 2)]
    run(tenant)
    second = dearer(plan, seats("150.00"))
    new = subscribe(make_customer(tenant), plan, external_id="new")
    live(tenant, local("2026-05-01 00:00"))
    assert [lines_of(invoices_of(one)[-1]) for one in (*old, new)] == [
        [("Seats", "100.00")], [("Seats", "200.00")], [("Seats", "150.00")],
    ]  # fmt: skip

    turn(tenant, local("2026-05-10 00:00"))
    shown = preview_migration(organisation=tenant, from_plan=plan, to_version=second)
    migration = plan_migrations.plan_migration(
        organisation=tenant, from_plan=plan, to_version=second, actor=CLERK, reason="Costs"
    )
    done = plan_migrations.carry_out(migration_id=migration.pk)
    again = plan_migrations.carry_out(migration_id=migration.pk)
    live(tenant, local("2026-06-01 00:00"))

    assert (shown.count, shown.dearer, shown.cheaper, shown.warnings) == (2, 2, 0, ())
    [sums] = shown.sums
    assert (sums.before.amount, sums.after.amount, sums.difference.amount) == (300, 450, 150)
    assert (done.status, done.total_count, done.moved_count, done.failed_count) == ("done", 2, 2, 0)
    assert again.finished_at == done.finished_at
    assert statuses(migration) == {"old-1": "planned", "old-2": "planned"}
    assert [lines_of(invoices_of(one)[-1]) for one in old] == [[("Seats", "150.00")], [("Seats", "300.00")]]
    assert [fresh(one).plan_version_id for one in old] == [second.pk, second.pk]
    moved = list(PlanMigrationItem.objects.order_by("mrr_before").values_list("mrr_before", "mrr_after"))
    assert moved == [(100, 150), (200, 300)]
    assert events_of(old[1])[-2:] == [("changed", "300.00"), ("renewed", "300.00")]


def test_moved_now_with_proration_and_to_another_plan(tenant):
    plan, other = make_plan(tenant, seats("100.00")), make_plan(tenant, seats("160.00"))
    subscription = subscribe(make_customer(tenant), plan)
    run(tenant)
    turn(tenant, local("2026-04-16 00:00"))
    migration = plan_migrations.plan_migration(
        organisation=tenant, from_plan=plan, to_version=other.versions.get(), actor=CLERK, when="now"
    )

    done = plan_migrations.carry_out(migration_id=migration.pk)

    assert done.status == "done"
    assert statuses(migration) == {subscription.external_id: "moved"}
    assert lines_of(invoices_of(subscription)[-1]) == [
        ("Unused: Seats (15 of 30 days)", "-50.00"), ("Seats (15 of 30 days)", "80.00"),
    ]  # fmt: skip


def test_on_a_date_the_clock_carries_it_out(tenant):
    plan = make_plan(tenant, flat("100.00"))
    subscription = subscribe(make_customer(tenant), plan)
    run(tenant)
    second = dearer(plan, flat("120.00"))
    migration = plan_migrations.plan_migration(
        organisation=tenant, from_plan=plan, to_version=second, actor=CLERK, when="date",
        starts_at=local("2026-05-15 00:00"),
    )  # fmt: skip
    assert plan_migrations.carry_out(migration_id=migration.pk).status == "planned"
    assert plan_migrations.due_migrations(tenant) == []
    live(tenant, local("2026-05-15 00:00"))

    assert plan_migrations.due_migrations(tenant) == [migration.pk]
    plan_migrations.carry_out(migration_id=migration.pk)
    live(tenant, local("2026-06-01 00:00"))

    assert [lines_of(one)[0][1] for one in invoices_of(subscription)] == ["100.00", "100.00", "120.00"]


def from_june(tenant, plan, second):
    return plan_migrations.plan_migration(
        organisation=tenant, from_plan=plan, to_version=second, actor=CLERK, when="date",
        starts_at=local("2026-06-01 00:00"),
    )  # fmt: skip


@pytest.mark.parametrize("days_late", [0, 3])
def test_who_renews_at_the_very_moment_of_the_date_pays_the_new_price(tenant, days_late):
    """The run carries the migration out first, however late it comes; who renews later is moved at that renewal."""
    plan = make_plan(tenant, seats("100.00"))
    on_time = subscribe(make_customer(tenant), plan, quantity=2)
    turn(tenant, local("2026-04-20 00:00"))
    later = subscribe(make_customer(tenant), plan)
    run(tenant)
    second = dearer(plan, seats("120.00"))
    migration = from_june(tenant, plan, second)
    live(tenant, local("2026-05-31 00:00"))

    turn(tenant, local("2026-06-01 00:00") + timedelta(days=days_late))
    clock_jobs.run("subscriptions.billing_run", tenant)

    assert PlanMigration.objects.get(pk=migration.pk).status == "done"
    assert lines_of(invoices_of(on_time)[-1]) == [("Seats", "240.00")]
    assert [len(invoices_of(one)) for one in (on_time, later)] == [3, 2]
    live(tenant, local("2026-07-01 00:00"))
    assert amounts(invoices_of(on_time)) == ["200.00", "200.00", "240.00", "240.00"]
    assert amounts(invoices_of(later)) == ["100.00", "100.00", "120.00"]
    assert periods_of(on_time)[2:] == [
        ("2026-06-01", "2026-07-01", "cycle"), ("2026-07-01", "2026-08-01", "cycle"),
    ]  # fmt: skip


def test_a_worker_that_comes_a_month_late_bills_what_began_before_the_date_at_the_old_price(tenant):
    plan = make_plan(tenant, flat("100.00"))
    subscription = subscribe(make_customer(tenant), plan)
    run(tenant)
    from_june(tenant, plan, dearer(plan, flat("120.00")))

    turn(tenant, local("2026-07-02 00:00"))
    clock_jobs.run("subscriptions.billing_run", tenant)

    assert amounts(invoices_of(subscription)) == ["100.00", "100.00", "120.00", "120.00"]


def test_usage_before_the_date_is_charged_at_the_old_price_and_usage_after_it_at_the_new(tenant):
    meter = make_meter(tenant)
    calls = {"code": "calls", "name": "Calls", "currency": "INR", "model": "per_unit", "meter": "calls"}
    plan = make_plan(tenant, catalog.PriceInput(**calls, unit_price=Decimal(2)))
    customer = make_customer(tenant)
    subscription = subscribe(customer, plan)
    run(tenant)
    from_june(tenant, plan, dearer(plan, catalog.PriceInput(**calls, unit_price=Decimal(3))))
    live(tenant, local("2026-05-30 00:00"))
    use(customer, meter, "10", local("2026-05-31 23:59"))
    use(customer, meter, "10", local("2026-06-01 00:00"))

    turn(tenant, local("2026-06-02 00:00"))
    clock_jobs.run("subscriptions.billing_run", tenant)
    live(tenant, local("2026-07-01 00:00"))

    assert amounts(invoices_of(subscription)) == ["20.00", "30.00"]


def test_a_trial_that_ends_at_the_date_is_paid_at_the_new_price(tenant):
    plan = make_plan(tenant, flat("100.00"))
    subscription = subscribe(make_customer(tenant), plan, trial_days=61)
    from_june(tenant, plan, dearer(plan, flat("120.00")))

    turn(tenant, local("2026-06-01 00:00"))
    clock_jobs.run("subscriptions.billing_run", tenant)

    assert amounts(invoices_of(subscription)) == ["120.00"]


def test_a_first_period_is_billed_as_it_was_agreed(tenant):
    plan = make_plan(tenant, flat("100.00"))
    migration = from_june(tenant, plan, dearer(plan, flat("120.00")))
    turn(tenant, local("2026-06-01 00:00"))
    first = plan.versions.get(number=1)
    subscription = subscribe(make_customer(tenant), plan)
    Subscription.objects.filter(pk=subscription.pk).update(plan_version=first)

    clock_jobs.run("subscriptions.billing_run", tenant)
    live(tenant, local("2026-07-01 00:00"))

    assert statuses(migration) == {subscription.external_id: "planned"}
    assert amounts(invoices_of(subscription)) == ["100.00", "120.00"]


def test_a_run_that_a_person_asks_for_and_the_command_move_first_too(tenant):
    plan = make_plan(tenant, flat("100.00"))
    subscription = subscribe(make_customer(tenant), plan)
    run(tenant)
    from_june(tenant, plan, dearer(plan, flat("120.00")))
    live(tenant, local("2026-05-02 00:00"))
    turn(tenant, local("2026-06-01 00:00"))
    asked = billing_run.start_run(organisation=tenant, actor=CLERK)

    tasks.work_on_run(str(asked.pk))
    changes.apply_due(organisation=tenant)
    call_command("run_billing", organisation=tenant.code)

    assert amounts(invoices_of(subscription)) == ["100.00", "100.00", "120.00"]


def test_a_migration_that_fails_does_not_stop_the_billing(tenant, monkeypatch):
    plan = make_plan(tenant, flat("100.00"))
    subscription = subscribe(make_customer(tenant), plan)
    run(tenant)
    migration = from_june(tenant, plan, dearer(plan, flat("120.00")))
    live(tenant, local("2026-05-02 00:00"))
    turn(tenant, local("2026-06-01 00:00"))

    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(plan_migrations, "_mrr", fail)
    clock_jobs.run("subscriptions.billing_run", tenant)

    found = PlanMigration.objects.get(pk=migration.pk)
    assert (found.status, found.error) == ("failed", "ZeroDivisionError: ")
    assert amounts(invoices_of(subscription)) == ["100.00", "100.00", "100.00"]


@pytest.mark.django_db(transaction=True)
def test_a_billing_run_waits_for_what_another_worker_is_moving():
    tenant = make_organisation(local("2026-04-01 00:00"))
    plan = make_plan(tenant, flat("100.00"))
    found = [subscribe(make_customer(tenant), plan) for _ in range(2)]
    run(tenant)
    migration = from_june(tenant, plan, dearer(plan, flat("120.00")))
    live(tenant, local("2026-05-02 00:00"))
    turn(tenant, local("2026-06-01 00:00"))
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
            clock_jobs.run("subscriptions.billing_run", tenant)
        finally:
            connection.close()

    holder, biller = threading.Thread(target=hold), threading.Thread(target=bill)
    holder.start()
    assert held.wait(30)
    biller.start()
    biller.join(1)
    assert [len(invoices_of(one)) for one in found] == [2, 2]
    go_on.set()
    holder.join()
    biller.join()

    assert [amounts(invoices_of(one))[-1] for one in found] == ["120.00", "120.00"]


def test_what_stands_in_the_way_is_previewed_refused_with_a_reason_and_tried_again(tenant):
    make_meter(tenant)
    prices = []
    for currency in ("INR", "USD"):
        calls = catalog.PriceInput(
            code="calls", name="Calls", currency=currency, model="per_unit", unit_price=Decimal(1), meter="calls"
        )
        storage = seats("10.00", code="storage", kind="add_on", currency=currency)
        prices += [flat("100.00", currency=currency), calls, storage]
    plan = make_plan(tenant, *prices)
    plain = subscribe(make_customer(tenant), plan, external_id="plain", add_ons={"storage": 2})
    subscribe(make_customer(tenant), plan, external_id="dollars", currency="USD")
    paused = subscribe(make_customer(tenant), plan, external_id="paused")
    gone = subscribe(make_customer(tenant), plan, external_id="gone")
    run(tenant)
    lifecycle.pause(subscription_id=paused.pk, actor=CLERK)
    second = dearer(plan, flat("90.00"))

    shown = preview_migration(organisation=tenant, from_plan=plan, to_version=second)
    migration = plan_migrations.plan_migration(organisation=tenant, from_plan=plan, to_version=second, actor=CLERK)
    plan_migrations._begin(migration.pk)
    lifecycle.cancel(subscription_id=gone.pk, actor=CLERK)
    done = plan_migrations.carry_out(migration_id=migration.pk)

    assert {one.code: (one.count, one.examples) for one in shown.warnings} == {
        "add_ons_dropped": (1, ("plain",)), "meter_dropped": (3, shown.warnings[1].examples),
        "not_changeable": (1, ("paused",)), "refused": (1, ("dollars",)),
    }  # fmt: skip
    assert (shown.count, shown.cheaper) == (4, 2)
    assert statuses(migration) == {"plain": "planned", "dollars": "refused", "paused": "refused", "gone": "skipped"}
    assert (done.status, done.total_count, done.moved_count, done.failed_count) == ("done", 4, 2, 2)
    reasons = dict(
        PlanMigrationItem.objects.filter(status="refused").values_list("subscription__external_id", "reason")
    )
    assert reasons["dollars"].startswith("missing_price")
    assert reasons["paused"].startswith("transition_refused")

    lifecycle.resume(subscription_id=paused.pk, actor=CLERK)
    plan_migrations.retry_refused(migration_id=migration.pk, actor=CLERK)
    done = plan_migrations.carry_out(migration_id=migration.pk)
    live(tenant, local("2026-05-01 00:00"))

    assert (done.status, done.moved_count, done.failed_count) == ("done", 3, 1)
    assert fresh(plain).add_ons == {}
    assert lines_of(invoices_of(plain)[-1]) == [("Base fee", "90.00")]
    with pytest.raises(errors.MigrationState):
        plan_migrations.cancel_migration(migration_id=migration.pk, actor=CLERK)


def test_senseless_migrations_are_refused(tenant):
    plan, other = make_plan(tenant, flat("1.00")), make_plan(tenant, flat("2.00"))
    version, foreign = plan.versions.get(), make_plan(make_organisation(local("2026-04-01 00:00")), flat("1.00"))
    about = {"organisation": tenant, "actor": CLERK, "from_plan": plan, "to_version": other.versions.get()}
    for wrong, refused in [
        ({"from_version": other.versions.get()}, errors.InvalidPlanMigration),
        ({"from_version": version, "to_version": version}, errors.InvalidPlanMigration),
        ({"when": "date"}, errors.InvalidPlanMigration),
        ({"when": "now", "starts_at": local("2026-05-01 00:00")}, errors.InvalidPlanMigration),
        ({"when": "date", "starts_at": local("2026-03-01 00:00")}, errors.InvalidPlanMigration),
        ({"when": "someday"}, errors.InvalidPlanMigration),
        ({"to_version": foreign.versions.get()}, plan_migrations.NotFound),
    ]:
        with pytest.raises(refused):
            plan_migrations.plan_migration(**{**about, **wrong})
    assert PlanMigration.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_a_migration_that_is_killed_goes_on_and_two_workers_move_each_once():
    tenant = make_organisation(local("2026-04-01 00:00"))
    plan = make_plan(tenant, seats("100.00"))
    found = [subscribe(make_customer(tenant), plan, external_id=f"s-{n}") for n in range(6)]
    run(tenant)
    second = dearer(plan, seats("160.00"))
    turn(tenant, local("2026-04-16 00:00"))
    migration = plan_migrations.plan_migration(
        organisation=tenant, from_plan=plan, to_version=second, actor=CLERK, when="now"
    )
    plan_migrations._begin(migration.pk)
    first = PlanMigrationItem.objects.order_by("id").first()
    assert plan_migrations._move(migration, first.pk) == 1  # then the worker dies

    def work():
        try:
            plan_migrations.carry_out(migration_id=migration.pk)
        finally:
            connection.close()

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    done = plan_migrations.carry_out(migration_id=migration.pk)

    assert (done.status, done.moved_count, done.failed_count) == ("done", 6, 0)
    assert set(statuses(migration).values()) == {"moved"}
    assert [len(invoices_of(one)) for one in found] == [2] * 6
    assert set(Subscription.objects.values_list("plan_version", flat=True)) == {second.pk}


def test_a_migration_through_the_api(tenant):
    client, plan = client_of(tenant), make_plan(tenant, flat("100.00"), code="team")
    subscription = subscribe(make_customer(tenant), plan, external_id="one")
    run(tenant)
    dearer(plan, flat("120.00"))

    shown = client.post(f"{API}/plan-migrations/preview", {"from_plan": "team"}, format="json").json()
    made = client.post(f"{API}/plan-migrations", {"from_plan": "team", "reason": "Costs"}, format="json")
    plan_migrations.carry_out(migration_id=made.json()["id"])
    path = f"{API}/plan-migrations/{made.json()['id']}"

    assert made.status_code == 202, made.content
    assert shown["sums"][0]["difference"] == {"amount": "20.00", "currency": "INR"}
    assert (client.get(path).json()["status"], client.get(path).json()["moved_count"]) == ("done", 1)
    [item] = client.get(f"{path}/items").json()["results"]
    assert (item["subscription"], item["status"], item["mrr_before"], item["mrr_after"]) == (
        subscription.external_id, "planned", "100.0000", "120.0000",
    )  # fmt: skip
    assert client.post(f"{path}/cancel", {}, format="json").json()["code"] == "migration_state"
    assert client.post(f"{path}/retry", {}, format="json").json()["code"] == "migration_state"
    foreign = client_of(make_organisation(local("2026-04-01 09:00")))
    assert foreign.get(path).status_code == 404
    assert foreign.post(f"{API}/plan-migrations", {"from_plan": "team"}, format="json").status_code == 404
    wrong = client.post(f"{API}/plan-migrations/preview", {"from_plan": "team", "to_version": 9}, format="json")
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (404, "to_version")
