"""Workers of the billing run die at any moment, and work side by side: nothing is lost, nothing is doubled."""

import json
import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.conf import settings
from django.db import connection

pytestmark = [pytest.mark.serial, pytest.mark.django_db]

ROOT = Path(__file__).resolve().parents[2]
SUBSCRIPTIONS = 400
PERIODS = 3
KILLS = 20
AUGUST = datetime(2026, 8, 1, 6, 0, tzinfo=UTC)
CHECKS = {
    "periods": "SELECT count(*), count(DISTINCT (subscription_id, starts_at)) FROM subscriptions_billedperiod b "
    "JOIN billing_organisation o ON o.id = b.organisation_id WHERE o.code = %s",
    "each": "SELECT min(n), max(n) FROM (SELECT count(*) AS n FROM subscriptions_billedperiod b "
    "JOIN billing_organisation o ON o.id = b.organisation_id WHERE o.code = %s GROUP BY subscription_id) AS per",
    "numbers": "SELECT count(*), min(right(number, 5)::int), max(right(number, 5)::int), count(DISTINCT number) "
    "FROM invoices_invoice i JOIN billing_organisation o ON o.id = i.organisation_id WHERE o.code = %s",
    "next": "SELECT next_number FROM invoices_numberseries n JOIN billing_organisation o ON o.id = n.organisation_id "
    "WHERE o.code = %s",
    "lines": "SELECT count(*) FROM invoices_invoiceline l JOIN billing_organisation o ON o.id = l.organisation_id "
    "WHERE o.code = %s",
    "unsummed": "SELECT count(*) FROM invoices_invoice i JOIN billing_organisation o ON o.id = i.organisation_id "
    "WHERE o.code = %s AND i.net <> (SELECT sum(amount) FROM invoices_invoiceline l WHERE l.invoice_id = i.id)",
    "ledger": "SELECT count(DISTINCT e.id), sum(CASE p.side WHEN 'D' THEN p.amount ELSE -p.amount END), "
    "sum(p.amount) FILTER (WHERE p.side = 'D') FROM billing_posting p JOIN billing_journalentry e ON e.id = p.entry_id "
    "JOIN billing_organisation o ON o.id = p.organisation_id WHERE o.code = %s",
    "total": "SELECT sum(total) FROM invoices_invoice i JOIN billing_organisation o ON o.id = i.organisation_id "
    "WHERE o.code = %s",
    "events": "SELECT count(*) FILTER (WHERE type = 'invoice.finalized'), count(*) FILTER (WHERE type = 'subscription.renewed') "
    "FROM billing_event e JOIN billing_organisation o ON o.id = e.organisation_id WHERE o.code = %s",
    "stands": "SELECT min(period_number), max(period_number), count(*) FILTER (WHERE failure <> '') "
    "FROM subscriptions_subscription s JOIN billing_organisation o ON o.id = s.organisation_id WHERE o.code = %s",
    "runs": "SELECT sum(billed_count), sum(invoice_count) FROM subscriptions_billingrun r "
    "JOIN billing_organisation o ON o.id = r.organisation_id WHERE o.code = %s",
}


class House:
    """A database of its own with two organisations, and worker processes on it."""

    def __init__(self, name: str) -> None:
        self.name = name
        parts = urlsplit(os.environ["DATABASE_URL"])
        self.environment = os.environ | {
            "DATABASE_URL": urlunsplit(parts._replace(path=f"/{name}")),
            "DJANGO_SETTINGS_MODULE": "config.settings_test",
        }
        self.environment.pop("MUNIM_TEST_DB", None)

    def connect(self, name: str) -> psycopg.Connection:
        given = settings.DATABASES["default"]
        return psycopg.connect(
            host=given["HOST"] or None, port=given["PORT"] or None, user=given["USER"] or None,
            password=given["PASSWORD"] or None, dbname=name, autocommit=True,
        )  # fmt: skip

    def ask(self, check: str, code: str) -> tuple:
        with self.connect(self.name) as database:
            return database.execute(CHECKS[check], [code]).fetchone()

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close_the_runs_of_the_dead(self) -> None:
        """What beat does minutes later: their runs are taken up, find nothing to do, and count what they have done."""
        with self.connect(self.name) as database:
            database.execute("UPDATE subscriptions_billingrun SET heartbeat_at = heartbeat_at - interval '1 day'")
        self.manage(
            "shell",
            "-c",
            "from subscriptions.services import billing_run, billing_run_records; "
            "[billing_run.work_on(run_id=pk) for pk in billing_run_records.waiting_runs()]",
        )

    def figures(self, code: str, *arguments: str) -> dict:
        return json.loads(self.manage("run_billing", "--organisation", code, "--json", *arguments))


@pytest.fixture(scope="module")
def house(django_db_setup, django_db_blocker):
    """A copy of the empty test database, filled with two organisations of which three periods are due."""
    with django_db_blocker.unblock():
        template = connection.settings_dict["NAME"]
        connection.close()
    house = House(f"{template}_kill")
    with house.connect("postgres") as database:
        database.execute(f'DROP DATABASE IF EXISTS "{house.name}" WITH (FORCE)')
        database.execute(f'CREATE DATABASE "{house.name}" TEMPLATE "{template}"')
    build = (
        "from bench import population; from datetime import datetime; at = datetime.fromisoformat('{at}'); "
        "[population.build(customers={n}, code=code, now=at, events_each=2) for code in ('killed', 'shared')]"
    )
    house.manage("shell", "-c", build.format(at=AUGUST.isoformat(), n=SUBSCRIPTIONS))
    yield house
    with house.connect("postgres") as database:
        database.execute(f'DROP DATABASE "{house.name}" WITH (FORCE)')


@pytest.fixture
def workers(house):
    """Start a worker by ``workers(code, chunk_size)``; returns its pid."""
    pool = subprocess.Popen(
        [sys.executable, "-m", "tests.subscriptions.billing_workers"], cwd=ROOT, env=house.environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert pool.stdout.readline() == "ready\n"

    def start(code: str, chunk_size: int) -> int:
        pool.stdin.write(f"{code} {chunk_size}\n")
        pool.stdin.flush()
        return int(pool.stdout.readline())

    yield start
    pool.stdin.close()
    pool.wait(timeout=10)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(pid: int) -> None:
    deadline = time.monotonic() + 120
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(pid), "the worker hangs"


def let_it_bill(database: psycopg.Connection, *, chunks: int) -> None:
    """Wait until workers have committed so many chunks more."""
    count = "SELECT count(*) FROM subscriptions_billedperiod"
    wanted = database.execute(count).fetchone()[0] + 7 * chunks
    deadline = time.monotonic() + 20
    while database.execute(count).fetchone()[0] < wanted:
        assert time.monotonic() < deadline, "the worker does nothing"
        time.sleep(0.002)


def assert_billed_exactly_once(house, code):
    count = SUBSCRIPTIONS * PERIODS
    assert house.ask("periods", code) == (count, count)
    assert house.ask("each", code) == (PERIODS, PERIODS)
    assert house.ask("numbers", code) == (count, 1, count, count)
    assert house.ask("next", code) == (count + 1,)
    assert house.ask("lines", code) == (SUBSCRIPTIONS * (2 * PERIODS + 1),)
    assert house.ask("unsummed", code) == (0,)
    entries, difference, debits = house.ask("ledger", code)
    assert (entries, difference) == (count, 0)
    assert house.ask("total", code) == (debits,)
    assert house.ask("events", code) == (count, count)
    assert house.ask("stands", code) == (PERIODS, PERIODS, 0)
    house.close_the_runs_of_the_dead()
    assert house.ask("runs", code) == (count, count)


def test_a_run_killed_twenty_times_bills_everything_once(house, workers):
    seed = int(os.environ.get("KILL_SEED", time.time_ns() % 10**6))
    print(f"KILL_SEED={seed}")
    chance = random.Random(seed)
    foreseen = house.figures("killed", "--dry-run")
    assert house.ask("periods", "killed") == (0, 0)

    cut_off = 0
    with house.connect(house.name) as database:
        for _ in range(KILLS):
            pid = workers("killed", 7)
            let_it_bill(database, chunks=chance.randrange(4))
            time.sleep(chance.uniform(0, 0.03))  # anywhere within the next chunk
            cut_off += is_alive(pid)
            if is_alive(pid):
                os.kill(pid, 9)
            wait_for(pid)
        interrupted_at = house.ask("periods", "killed")[0]
    wait_for(workers("killed", 100))

    assert cut_off == KILLS, "some workers had finished before they were killed"
    assert 0 < interrupted_at < SUBSCRIPTIONS * PERIODS
    assert_billed_exactly_once(house, "killed")
    billed = house.ask("total", "killed")[0]
    assert foreseen["totals"] == {"INR": str(billed.quantize(billed.__class__("0.01")))}
    assert (foreseen["billed"], foreseen["invoices"], foreseen["failed"]) == (1200, 1200, 0)


def test_three_workers_share_the_work(house, workers):
    pids = [workers("shared", 20) for _ in range(3)]
    for pid in pids:
        wait_for(pid)

    assert_billed_exactly_once(house, "shared")
    after = house.figures("shared")
    assert (after["due"], after["billed"]) == (0, 0)


ROUNDS = 4
PREPARE = """
from datetime import datetime, timedelta
from bench import population
from billing.context import Actor
from billing.models import Organisation, TestClock
from moneyed import Money
from subscriptions.models import Plan, Subscription
from subscriptions.services import draft_finalizing, interim
from subscriptions.services.billing_terms import set_terms
from subscriptions.services.thresholds import add_threshold

works = population.build(customers=60, code="mixed", now=datetime.fromisoformat("2026-05-29T06:00:00+00:00"))
actor = Actor.system("tests")
set_terms(organisation=works, actor=actor, consolidate=True, grace_days=1)
add_threshold(organisation=works, actor=actor, plan_id=Plan.objects.get(organisation=works).pk, amount=Money(10, "INR"))
for one in list(Subscription.objects.of(works)):
    one.pk, one.external_id, one._state.adding = None, one.external_id + "-b", True
    one.id = Subscription._meta.pk.get_default()
    one.usage_from = None
    one.save(force_insert=True)
"""
MIXED = {
    "interim": "SELECT count(*), count(DISTINCT subscription_id) FROM subscriptions_interiminvoice i WHERE organisation_id = %s",
    "invoices": "SELECT count(*), count(*) FILTER (WHERE status = 'draft'), count(DISTINCT number) - min((number = '')::int) "
    "FROM invoices_invoice WHERE organisation_id = %s",
    "cycles": "SELECT count(*), count(*) FILTER (WHERE finalized_at IS NULL), count(*) FILTER (WHERE failure <> '') "
    "FROM subscriptions_draftcycle WHERE organisation_id = %s",
    "net": "SELECT sum(net) FROM invoices_invoice WHERE organisation_id = %s",
    "ledger": "SELECT count(DISTINCT entry_id), sum(CASE side WHEN 'D' THEN amount ELSE -amount END) "
    "FROM billing_posting WHERE organisation_id = %s",
    "events": "SELECT count(*), count(DISTINCT aggregate_id) FROM billing_event "
    "WHERE type = 'invoice.finalized' AND organisation_id = %s",
}


def test_killed_between_thresholds_a_consolidated_run_and_the_end_of_the_grace(house, workers):
    """Sixty customers with two subscriptions each: interim invoices, then shared drafts, then these are finalised."""
    chance = random.Random(int(os.environ.get("KILL_SEED", time.time_ns() % 10**6)))
    house.manage("shell", "-c", PREPARE)
    with house.connect(house.name) as database:
        owner = database.execute("SELECT id FROM billing_organisation WHERE code = 'mixed'").fetchone()[0]

        def ask(name: str) -> tuple:
            return database.execute(MIXED[name], [owner]).fetchone()

        for day in ("2026-05-29 06:00+00", "2026-06-01 06:00+00", "2026-06-02 06:00+00"):
            database.execute(
                "UPDATE billing_testclock c SET now = %s FROM billing_organisation o "
                "WHERE o.test_clock_id = c.id AND o.id = %s",
                [day, owner],
            )
            for _ in range(ROUNDS):
                pids = [workers("mixed", 0), workers("mixed", 0)]
                time.sleep(chance.uniform(0, 0.25))
                for pid in pids:
                    if is_alive(pid):
                        os.kill(pid, 9)
                    wait_for(pid)
            wait_for(workers("mixed", 0))
            if day.startswith("2026-06-01"):
                assert ask("cycles")[1] == 120, "everything is billed, and waits"

        assert ask("interim") == (59, 59)  # the first customer's 40 calls cost less than the threshold
        assert ask("invoices") == (119, 0, 119)  # an interim and a shared one for each customer
        assert ask("cycles") == (120, 0, 0)
        assert ask("ledger") == (119, 0)
        assert ask("events") == (119, 119)
        seats = sum(1 + n % 20 for n in range(60))
        calls = [5 * (7 + 13 * n) + 5 for n in range(60)]
        used = sum(Decimal(min(one, 1000)) / 10 + Decimal(max(one - 1000, 0)) / 20 for one in calls)
        assert ask("net")[0] == Decimal(2 * 60 * 499) + Decimal("149.50") * 2 * seats + used
