"""An organisation without a test clock lives by beat alone: every job of the clock has a place in the schedule, and works there."""

import dataclasses
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.core.cache import cache

from billing import clock
from billing.models import Organisation
from billing.services import clock_jobs
from billing.services.usage import ingest
from config import celery, schedule
from invoices.models import Mail
from subscriptions.services import billing_run, lifecycle
from subscriptions.services.catalog import PriceInput
from tests.invoices.smtp import Post, Server
from tests.subscriptions.house import (
    CLERK,
    amounts,
    flat,
    invoices_of,
    local,
    make_customer,
    make_meter,
    make_organisation,
    make_plan,
    subscribe,
)

OF_ITS_OWN = {
    "subscriptions.plan_migrations"
}  # beat starts a task for each migration instead of one for each organisation


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tasks run where they are called, as soon as they are called."""
    celery.app.loader.import_default_modules()
    celery.app.conf.task_always_eager = celery.app.conf.task_eager_propagates = True
    monkeypatch.setattr(
        celery.app, "send_task", lambda name, args=(), kwargs=None, **_: celery.app.tasks[name].apply(args, kwargs)
    )
    cache.clear()
    yield
    celery.app.conf.task_always_eager = celery.app.conf.task_eager_propagates = False
    cache.clear()


def beat() -> None:
    """One round of everything that is scheduled."""
    for name in schedule.TASKS:
        celery.app.tasks[name].apply(throw=True)


@pytest.fixture
def seller(db: None) -> Organisation:
    return make_organisation(clock.wall_now(), code="real", test_clock=None)


@pytest.mark.usefixtures("_at_once", "seller")
def test_beat_runs_every_job_of_the_clock_for_organisations_on_real_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    make_organisation(clock.wall_now(), code="turned")
    seen: list[tuple[str, str]] = []

    def noting(job: clock_jobs.ClockJob) -> clock_jobs.ClockJob:
        def run(organisation: Organisation) -> int:
            seen.append((job.name, organisation.code))
            return 0

        return dataclasses.replace(job, run=run)

    monkeypatch.setattr(clock_jobs, "_jobs", {job.name: noting(job) for job in clock_jobs.jobs()})
    monkeypatch.setattr(billing_run, "workers_wanted", lambda **_: 1)  # as if something were due

    beat()

    expected = {job.name for job in clock_jobs.jobs()} - OF_ITS_OWN
    assert sorted(seen) == sorted((name, "real") for name in expected)


@pytest.mark.usefixtures("_at_once")
@pytest.mark.django_db(transaction=True)
def test_a_subscription_is_billed_mailed_and_chased_by_beat_alone(settings: Any) -> None:
    post = Post()
    with Server(settings, post), time_machine.travel(local("2026-04-01 09:00")):
        seller = make_organisation(clock.wall_now(), code="real", test_clock=None)
        subscription = subscribe(make_customer(seller), make_plan(seller, flat("100")), net_days=40)
    for day in ("2026-04-01 09:01", "2026-05-01 09:00", "2026-05-14 09:00"):
        with Server(settings, post), time_machine.travel(local(day)):
            beat()  # a letter that this round asks for goes out with the next
            beat()

    assert [f"{one.issued_on} {one.total.amount:.2f} {one.status}" for one in invoices_of(subscription)] == [
        "2026-04-01 100.00 open",
        "2026-05-01 100.00 open",
    ]
    sent = Mail.objects.filter(status="sent").order_by("sent_at", "kind").values_list("kind", "sent_at__date")
    assert [f"{kind} {day}" for kind, day in sent] == [
        "invoice 2026-04-01",
        "invoice 2026-05-01",
        "reminder_1 2026-05-14",
    ]
    assert len(post.taken) == Mail.objects.count() == 3


@pytest.mark.usefixtures("_at_once")
@pytest.mark.django_db(transaction=True)
def test_late_usage_of_what_has_ended_is_invoiced_by_beat_alone() -> None:
    with time_machine.travel(local("2026-04-01 09:00")):
        seller = make_organisation(clock.wall_now(), code="real", test_clock=None)
        make_meter(seller)
        calls = PriceInput(
            code="calls", name="Calls", currency="INR", model="per_unit", unit_price=Decimal(2), meter="calls"
        )
        customer = make_customer(seller)
        subscription = subscribe(customer, make_plan(seller, flat("100"), calls))
        beat()
    with time_machine.travel(local("2026-04-10 09:00")):
        lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK)
        beat()
        late = {"event_id": "late", "meter": "calls", "customer": customer.external_id, "quantity": "4"}
        ingest(organisation=seller, events=[late | {"occurred_at": local("2026-04-05 12:00").isoformat()}])
        before = amounts(invoices_of(subscription))
        beat()
        beat()

    assert (before, amounts(invoices_of(subscription))) == (["100.00"], ["100.00", "8.00"])


@pytest.mark.usefixtures("_at_once", "seller")
def test_a_job_that_fails_holds_up_no_other_and_shows_its_task_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    make_organisation(clock.wall_now(), code="second", test_clock=None)
    ran: list[tuple[str, str]] = []

    def run(name: str, organisation: Organisation) -> int:
        ran.append((name, organisation.code))
        if (name, organisation.code) == ("invoices.installments", "real"):
            raise ZeroDivisionError("no shares")
        return 1

    monkeypatch.setattr(clock_jobs, "run", run)
    celery.app.conf.task_eager_propagates = False
    result = celery.app.tasks["invoices.tasks.mark_overdue"].apply()

    assert len(ran) == len(set(ran)) == 6
    assert result.status == "FAILURE"
    assert str(result.result) == "invoices.installments of real: ZeroDivisionError: no shares"
    assert celery.app.conf.task_store_errors_even_if_ignored  # or nobody would see it in the console
