"""Workers of dunning die at any moment, and work side by side: every stage is taken once, with all that belongs to it."""

import os
import random
import time
from datetime import UTC, datetime

import pytest
from django.db import connection

from tests.subscriptions.test_kill import House, is_alive, wait_for, workers  # noqa: F401

pytestmark = [pytest.mark.serial, pytest.mark.django_db]
CUSTOMERS = 60
KILLS = 8
DUN = -1
DUE = datetime(2026, 6, 1, 6, 0, tzinfo=UTC)
BUILD = """
from datetime import datetime, timedelta
from bench import population
from billing.context import Actor
from billing.models import TestClock
from billing.services import outbox
from invoices.services.overdue import mark_overdue
from subscriptions.services.billing_run import run_billing
from subscriptions.services.dunning_policies import create_policy
works = population.build(customers={n}, code='{code}', now=datetime.fromisoformat('{at}'), metered=False)
stages = [{{"after_days": 20, "actions": ["mail:final_notice", "suspend", "cancel", "write_off"]}}]
create_policy(organisation=works, code="own", stages=stages, is_default=True, actor=Actor.system("test"))
run_billing(organisation=works)
outbox.dispatch(works.pk, wait=True)
TestClock.objects.filter(pk=works.test_clock_id).update(now=datetime.fromisoformat('{at}') + timedelta(days=21))
mark_overdue(organisation=works)
outbox.dispatch(works.pk, wait=True)
"""
MINE = "FROM {table} t JOIN billing_organisation o ON o.id = t.organisation_id WHERE o.code = %s"
TAKEN = {
    "cases": "SELECT count(*), min(stage), max(stage), max(jsonb_array_length(history)), "
    "count(*) FILTER (WHERE status = 'exhausted') " + MINE.format(table="subscriptions_dunningcase"),
    "letters": "SELECT count(*), count(DISTINCT key) "
    + MINE.format(table="invoices_mail")
    + " AND key LIKE 'dunning:%%'",
    "invoices": "SELECT count(*) FILTER (WHERE status = 'uncollectible') " + MINE.format(table="invoices_invoice"),
    "ended": "SELECT count(*) FILTER (WHERE status = 'cancelled') " + MINE.format(table="subscriptions_subscription"),
    "losses": "SELECT count(*), count(DISTINCT source_id) "
    + MINE.format(table="billing_journalentry")
    + " AND kind = 'invoice_written_off'",
    "told": "SELECT count(*) FILTER (WHERE type = 'dunning.stage'), count(*) FILTER (WHERE type = 'subscription.cancelled') "
    + MINE.format(table="billing_event"),
}
EXPECTED = {
    "cases": (CUSTOMERS, 1, 1, 1, CUSTOMERS),
    "letters": (CUSTOMERS, CUSTOMERS),
    "invoices": (CUSTOMERS,),
    "ended": (CUSTOMERS,),
    "losses": (CUSTOMERS, CUSTOMERS),
    "told": (CUSTOMERS, CUSTOMERS),
}


@pytest.fixture(scope="module")
def house(django_db_setup, django_db_blocker):
    """A copy of the empty test database with two organisations whose customers are 21 days late: a letter and the end at once."""
    with django_db_blocker.unblock():
        template = connection.settings_dict["NAME"]
        connection.close()
    house = House(f"{template}_dunning")
    with house.connect("postgres") as database:
        database.execute(f'DROP DATABASE IF EXISTS "{house.name}" WITH (FORCE)')
        database.execute(f'CREATE DATABASE "{house.name}" TEMPLATE "{template}"')
    for code in ("killed", "shared"):
        house.manage("shell", "-c", BUILD.format(at=DUE.isoformat(), n=CUSTOMERS, code=code))
    yield house
    with house.connect("postgres") as database:
        database.execute(f'DROP DATABASE "{house.name}" WITH (FORCE)')


def taken(house, code):
    with house.connect(house.name) as database:
        return {name: database.execute(query, [code]).fetchone() for name, query in TAKEN.items()}


def test_killed_at_any_moment_takes_every_stage_once(house, workers):  # noqa: F811
    seed = int(os.environ.get("KILL_SEED", time.time_ns() % 10**6))
    print(f"KILL_SEED={seed}")
    chance = random.Random(seed)
    count = "SELECT count(*) FROM subscriptions_dunningcase WHERE stage > 0"
    cut_off = 0
    with house.connect(house.name) as database:
        for _ in range(KILLS):
            before = database.execute(count).fetchone()[0]
            pid = workers("killed", DUN)
            deadline = time.monotonic() + 30
            while database.execute(count).fetchone()[0] == before:
                assert time.monotonic() < deadline, "the worker does nothing"
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.06))  # anywhere within the next cases
            cut_off += is_alive(pid)
            if is_alive(pid):
                os.kill(pid, 9)
            wait_for(pid)
    assert cut_off == KILLS, "some workers had finished before they were killed"
    half_way = taken(house, "killed")
    assert half_way["cases"][4] == half_way["letters"][0] == half_way["ended"][0] == half_way["losses"][0] < CUSTOMERS

    wait_for(workers("killed", DUN))

    assert taken(house, "killed") == EXPECTED


def test_three_workers_at_once_take_every_stage_once(house, workers):  # noqa: F811
    for pid in [workers("shared", DUN) for _ in range(3)]:
        wait_for(pid)

    assert taken(house, "shared") == EXPECTED
