"""Test clocks: a year in steps, each day's work once, whatever stops in between."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from rest_framework.test import APIClient

from billing import clock as house_clock
from billing import tasks
from billing.models import AuditRecord, Customer, Event, EventHandling, Organisation, TestClock
from billing.services import clock_jobs, customers, outbox, test_clocks
from billing.services.organisations import SYSTEM
from tests.billing.conftest import START

Clients = Callable[..., APIClient]
DAY = timedelta(days=1)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def jobs() -> Iterator[Callable[..., Any]]:
    """Only the jobs of the test."""
    before = dict(clock_jobs._jobs)
    clock_jobs._jobs.clear()
    yield clock_jobs.register
    clock_jobs._jobs.clear()
    clock_jobs._jobs.update(before)


def begin(organisation: Organisation, to: datetime, **more: Any) -> TestClock:
    assert organisation.test_clock is not None
    return test_clocks.advance(clock_id=organisation.test_clock.pk, to=to, actor=SYSTEM, **more)


def test_time_is_the_clocks(organisation: Organisation, other: Organisation) -> None:
    assert house_clock.now(organisation) == START
    assert house_clock.today(organisation).isoformat() == "2026-04-01"
    assert abs(house_clock.now(other) - house_clock.wall_now()) < timedelta(seconds=5)


def test_each_step_runs_every_job_and_what_follows_from_it(
    organisation: Organisation, jobs: Callable[..., Any], listening: Callable[..., Any]
) -> None:
    lived: list[tuple[str, str]] = []

    @jobs(name="second", order=20)
    def second(owner: Organisation) -> int:
        lived.append(("second", house_clock.now(owner).isoformat()))
        return 0

    @jobs(name="first", order=10)
    def first(owner: Organisation) -> int:
        lived.append(("first", house_clock.now(owner).isoformat()))
        customers.create_customer(organisation=owner, external_id=f"c-{len(lived)}", name="Daily")
        return 2

    listening("customer.created", consumer="t")(lambda event: lived.append(("heard", event.occurred_at.isoformat())))
    started = begin(organisation, START + timedelta(days=2, hours=6))

    assert (started.status, started.progress["steps_total"]) == ("advancing", 3)
    ended = test_clocks.turn(started.pk)

    days = [(START + DAY * n).isoformat() for n in (1, 2)] + [(START + DAY * 2 + timedelta(hours=6)).isoformat()]
    assert lived == [row for at in days for row in (("first", at), ("heard", at), ("second", at))]
    assert (ended.status, ended.target, ended.held_until) == ("ready", None, None)
    assert ended.now.isoformat() == days[-1]
    assert ended.progress == {"at": days[-1], "steps_done": 3, "steps_total": 3, "jobs": {"first": 6}}
    assert AuditRecord.objects.filter(action="test_clock.advanced").count() == 1


def test_within_a_step_back_off_does_not_wait_for_the_wall_clock(
    organisation: Organisation, jobs: Callable[..., Any], listening: Callable[..., Any]
) -> None:
    """Eight attempts take eleven minutes; a step is a day. What heals heals on its day, what does not is a dead letter."""
    lived: list[tuple[str, str]] = []
    tries: dict[str, int] = {}

    @jobs(name="daily", order=10)
    def daily(owner: Organisation) -> int:
        customers.create_customer(organisation=owner, external_id=f"c-{house_clock.now(owner):%d}", name="Daily")
        return 1

    @listening("customer.created", consumer="shaky")
    def shaky(event: Event) -> None:
        known = Customer.objects.get(pk=event.aggregate_id).external_id
        tries[known] = tries.get(known, 0) + 1
        if known == "c-03" or tries[known] < 3:
            raise RuntimeError("stumbles")
        lived.append((known, f"{house_clock.now(organisation):%d}"))

    ended = test_clocks.turn(begin(organisation, START + DAY * 3).pk)

    assert (ended.status, ended.now) == ("ready", START + DAY * 3)
    assert lived == [("c-02", "02"), ("c-04", "04")]
    assert tries == {"c-02": 3, "c-03": 8, "c-04": 3}
    assert EventHandling.objects.get(status="dead").event.payload["customer_id"] == str(
        Customer.objects.get(external_id="c-03").pk
    )


def test_between_two_advances_and_for_calls_outside_back_off_runs_on_the_wall_clock(
    organisation: Organisation, jobs: Callable[..., Any], listening: Callable[..., Any]
) -> None:
    tries: list[str] = []

    def fail(event: Event) -> None:
        tries.append("x")
        raise RuntimeError("away")

    listening("customer.created", consumer="inside")(fail)
    customers.create_customer(organisation=organisation, external_id="c-1", name="C")
    outbox.dispatch(organisation.pk)
    outbox.dispatch(organisation.pk)
    assert len(tries) == 1
    EventHandling.objects.all().delete()
    listening("test.outside", consumer="outside", atomic=False)(fail)
    customer = Customer.objects.get()
    outbox.publish("test.outside", customer)
    tries.clear()

    test_clocks.turn(begin(organisation, START + DAY).pk)

    assert len(tries) == 1
    assert EventHandling.objects.get(consumer="outside").status == "failed"


def test_forward_only_one_at_a_time_and_not_for_ever(organisation: Organisation, jobs: Callable[..., Any]) -> None:
    with pytest.raises(test_clocks.NotForward):
        begin(organisation, START)
    with pytest.raises(test_clocks.NotForward):
        begin(organisation, START - DAY)
    with pytest.raises(test_clocks.TooManySteps):
        begin(organisation, datetime(9999, 12, 31, tzinfo=UTC))

    begin(organisation, START + DAY)

    with pytest.raises(test_clocks.ClockIsAdvancing):
        begin(organisation, START + DAY * 2)


def test_a_failing_job_stops_the_clock_and_the_advance_goes_on_where_it_stopped(
    organisation: Organisation, jobs: Callable[..., Any]
) -> None:
    lived: list[str] = []
    cured: list[bool] = []

    @jobs(name="before", order=1)
    def before(owner: Organisation) -> int:
        lived.append(f"{house_clock.now(owner):%d}")
        return 0

    @jobs(name="broken", order=2)
    def broken(owner: Organisation) -> int:
        if house_clock.now(owner) >= START + DAY * 2 and not cured:
            raise RuntimeError("the bank is closed")
        return 0

    clock = test_clocks.turn(begin(organisation, START + DAY * 3).pk)

    assert (clock.status, clock.now) == ("failed", START + DAY * 2)
    assert clock.error == "JobFailed: broken for acme: RuntimeError: the bank is closed"
    assert lived == ["02", "03"]

    cured.append(True)
    clock = test_clocks.turn(begin(organisation, START + DAY * 3).pk)
    assert (clock.status, clock.now, lived) == ("ready", START + DAY * 3, ["02", "03", "03", "04"])


def test_a_clock_that_is_held_is_left_alone_and_an_abandoned_one_is_found(
    organisation: Organisation, jobs: Callable[..., Any]
) -> None:
    clock = begin(organisation, START + DAY)
    assert test_clocks.abandoned() == [clock.pk]

    TestClock.objects.update(held_until=house_clock.wall_now() + timedelta(seconds=10))
    assert test_clocks.abandoned() == []
    assert test_clocks.turn(clock.pk).status == "advancing"

    TestClock.objects.update(held_until=house_clock.wall_now() - timedelta(seconds=1))
    assert tasks.sweep_test_clocks() == 1
    tasks.turn_test_clock(str(clock.pk))
    assert TestClock.objects.get().now == START + DAY


def test_a_day_on_which_nothing_is_due_is_cheap(
    organisation: Organisation, jobs: Callable[..., Any], django_assert_max_num_queries: Any
) -> None:
    jobs(name="idle", order=1)(lambda owner: 0)
    while outbox.dispatch(organisation.pk):
        pass
    clock = begin(organisation, START + DAY * 100)

    with django_assert_max_num_queries(100 * 3 + 15):
        test_clocks.turn(clock.pk)


def test_the_clock_through_the_api(organisation: Organisation, client_of: Clients, jobs: Callable[..., Any]) -> None:
    client = client_of(organisation)
    path = f"/api/v1/test-clocks/{organisation.test_clock_id}"

    accepted = client.post(f"{path}/advance", {"to": "2026-04-03T06:30:00Z"})
    assert (accepted.status_code, accepted.json()["status"]) == (202, "advancing")
    assert client.post(f"{path}/advance", {"to": "2026-04-03T06:30:00Z"}).json()["code"] == "test_clock_advancing"

    test_clocks.turn(organisation.test_clock_id)  # type: ignore[arg-type]

    body = client.get(path).json()
    assert (body["status"], body["now"], body["progress"]["steps_done"]) == ("ready", "2026-04-03T06:30:00Z", 2)
    for wrong in (
        {"to": "0001-01-01T00:00:00+14:00"},
        {"to": "9999-12-31T23:59:59-12:00"},
        {"to": "x"},
        {},
        {"to": None},
    ):
        assert client.post(f"{path}/advance", wrong).status_code == 422
    assert client.post(f"{path}/advance", {"to": "2026-05-01T00:00:00Z", "step_hours": 10**30}).status_code == 422


CHILD = """
import os, sys, time, django
django.setup()
from billing.models import Customer
from billing.services import clock_jobs, customers, test_clocks
from billing import clock as house_clock
clock_jobs._jobs.clear()

@clock_jobs.register(name="daily", order=1)
def daily(owner):
    day = f"{house_clock.now(owner):%Y-%m-%d}"
    if Customer.objects.of(owner).filter(external_id=day).exists():
        return 0
    customers.create_customer(organisation=owner, external_id=day, name="Daily")
    return 1

@clock_jobs.register(name="slow", order=2)
def slow(owner):
    time.sleep(0.02)
    return 0

test_clocks.turn(sys.argv[1])
"""


@pytest.mark.django_db(transaction=True)
def test_a_killed_worker_is_followed_by_another_that_finishes(make_organisation: Callable[..., Organisation]) -> None:
    clock = TestClock.objects.create(name="April", now=START)
    organisation = make_organisation(test_clock=clock)
    begin(organisation, START + DAY * 60)
    host = connection.settings_dict["HOST"]
    url = f"postgres://{connection.settings_dict['USER']}@/{connection.settings_dict['NAME']}?host={host}"
    if not str(host).startswith("/"):
        password, port = connection.settings_dict["PASSWORD"], connection.settings_dict["PORT"] or 5432
        url = (
            f"postgres://{connection.settings_dict['USER']}:{password}@{host}:{port}/{connection.settings_dict['NAME']}"
        )
    environment = os.environ | {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "config.settings_test"}

    kills = 0
    for attempt in range(4):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(clock.pk)], cwd=ROOT, env=environment)
        if attempt < 1:
            before = TestClock.objects.get().now
            deadline = time.monotonic() + 30
            while (
                TestClock.objects.get().now < before + DAY * 5 and child.poll() is None and time.monotonic() < deadline
            ):
                time.sleep(0.01)
            child.send_signal(signal.SIGKILL)
            kills += child.wait() == -signal.SIGKILL
            TestClock.objects.update(held_until=house_clock.wall_now())  # its hold runs out
        elif child.wait(timeout=60) == 0:
            break

    clock.refresh_from_db(fields=["now", "progress", "held_until"])
    assert kills == 1
    assert (TestClock.objects.get().status, clock.now) == ("ready", START + DAY * 60)
    days = [f"{START + DAY * n:%Y-%m-%d}" for n in range(1, 61)]
    assert sorted(Customer.objects.values_list("external_id", flat=True)) == days
