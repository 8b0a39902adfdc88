"""One process that bills on several connections: as one does, and never anything twice."""

import threading
import time
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import connection, transaction

from bench import population
from billing.models import Event, JournalEntry, TestClock
from invoices.models import Invoice
from subscriptions.models import BilledPeriod, BillingRun
from subscriptions.services import billing_run, billing_run_worker
from subscriptions.services.billing_run import run_billing

pytestmark = pytest.mark.django_db(transaction=True)

AUGUST = datetime(2026, 8, 1, 6, 0, tzinfo=UTC)


@pytest.fixture
def works(transactional_db):
    """Twenty customers of whom three months are due."""
    built = population.build(customers=20, code="works")
    TestClock.objects.filter(pk=built.test_clock_id).update(now=AUGUST)
    built.refresh_from_db()
    return built


@pytest.fixture
def used(monkeypatch):
    """The connections that billed a chunk; the second waits for the first, so that no one does all the work."""
    seen, both = set(), threading.Event()
    original = billing_run_worker.bill_chunk

    def bill_chunk(**options):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            seen.add(cursor.fetchone()[0])
        done = original(**options)
        if len(seen) > 1:
            both.set()
        both.wait(0.5)
        return done

    monkeypatch.setattr(billing_run_worker, "bill_chunk", bill_chunk)
    return seen


def test_two_connections_bill_everything_once(works, used):
    foreseen = run_billing(organisation=works, dry_run=True)
    told = []

    report = run_billing(organisation=works, chunk_size=3, connections=2, progress=told.append)

    assert len(used) == 2
    assert (report.billed, report.invoices, report.totals) == (60, 60, foreseen.totals)
    assert sorted(one.billed for one in told) == [one.billed for one in told]
    assert (told[-1].billed, told[-1].due) == (60, 20)
    rows = BilledPeriod.objects.values_list("subscription", "starts_at")
    assert len(rows) == len(set(rows)) == 60
    numbers = sorted(Invoice.objects.of(works).values_list("number", flat=True))
    assert [number[-5:] for number in numbers] == [f"{n:05d}" for n in range(1, 61)]
    assert sum(Invoice.objects.of(works).values_list("total", flat=True), Decimal(0)) == foreseen.totals["INR"]
    assert JournalEntry.objects.of(works).count() == 60
    assert Event.objects.filter(type="invoice.finalized").count() == 60
    run = BillingRun.objects.get()
    assert (run.status, run.billed_count, run.invoice_count) == ("done", 60, 60)


def test_a_connection_that_fails_stops_the_other_and_the_run_says_so(works, monkeypatch):
    original, calls = billing_run_worker.bill_chunk, []

    def bill_chunk(**options):
        calls.append(threading.get_ident())
        if len(calls) == 3:
            raise ZeroDivisionError("the third chunk")
        time.sleep(0.05)
        return original(**options)

    monkeypatch.setattr(billing_run_worker, "bill_chunk", bill_chunk)
    with pytest.raises(ZeroDivisionError, match="the third chunk"):
        run_billing(organisation=works, chunk_size=1, connections=2)

    run = BillingRun.objects.get()
    assert (run.status, run.error) == ("failed", "ZeroDivisionError: the third chunk")
    assert run.billed_count == BilledPeriod.objects.count() == Invoice.objects.of(works).count() == len(calls) - 1 < 6
    assert run_billing(organisation=works, connections=2).billed == 60 - run.billed_count


def test_inside_a_transaction_of_the_caller_one_works_alone(works, used):
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            own = cursor.fetchone()[0]
        assert run_billing(organisation=works, chunk_size=20, connections=2).billed == 60
        transaction.set_rollback(True)
    assert used == {own}
    assert not BilledPeriod.objects.exists()


def test_where_much_is_due_two_connections_are_taken(works, used, monkeypatch):
    monkeypatch.setattr(billing_run, "WORTH_A_CONNECTION", 10)
    run_billing(organisation=works, chunk_size=10)
    assert len(used) == 2


def test_where_little_is_due_one_is_enough(works, used, monkeypatch):
    monkeypatch.setattr(billing_run, "WORTH_A_CONNECTION", 11)
    run_billing(organisation=works, chunk_size=20)
    assert len(used) == 1
