"""Billing run: invoices a second beside the same rows by one set-based statement."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from django.db import connection

from bench import population
from bench.database import analyze, connect
from bench.limits import bill_set_based
from bench.measuring import ROUNDS, Line, compare, rate
from billing.models import Organisation
from subscriptions.services.billing_run import run_billing

TABLES = ("invoices_invoice", "invoices_invoiceline", "invoices_invoicetax", "billing_journalentry", "billing_posting",
          "billing_event", "subscriptions_billedperiod")  # fmt: skip


SMALL, GROWN = 4000, 10_000
MUCH = 50_000  # from here on one round says enough, and two workers are left out
EVENTS = 50


def measure(scale: float) -> Iterator[Line]:
    """Flat plans and plans with usage, one worker and two; then the cost of an invoice as their number grows."""
    customers = int(SMALL * scale)
    yield _one_worker(customers, events=0)
    yield _one_worker(customers, events=EVENTS)
    if customers < MUCH:
        yield _two_workers(customers)
        yield _growth(max(GROWN, customers))


def _one_worker(customers: int, *, events: int) -> Line:
    kind = f"usage ({events} events each)" if events else "flat plans"
    what = {"customers": customers, "events_each": events, "metered": events > 0}

    def limit(number: int) -> float:
        code = f"limit-{events}-{number}"
        population.build(code=code, **what)
        analyze()
        with connect() as plain:
            return rate(lambda: bill_set_based(plain, code))

    def product(number: int) -> float:
        code = f"product-{events}-{number}"
        organisation = population.build(code=code, **what)
        run_billing(organisation=population.build(customers=2, code=f"warmed-{events}-{number}"))
        analyze()
        reached = rate(lambda: run_billing(organisation=organisation).invoices)
        _must_be_equal(f"limit-{events}-{number}", code)
        return reached

    return compare(
        name=f"billing run, {kind}, {customers:,} subscriptions, 1 worker",
        unit="invoices/s",
        limit_is="the same rows by one INSERT … SELECT statement",
        aim=0.3 if events else 0.5,
        product=product,
        limit=limit,
        rounds=1 if customers >= MUCH else ROUNDS,
    )


def _growth(customers: int) -> Line:
    """Invoices a second of many subscriptions beside a quarter of them: 1 is a cost per invoice that does not grow."""

    def billed(code: str, many: int) -> float:
        organisation = population.build(customers=many, events_each=0, metered=False, code=code)
        analyze()
        return rate(lambda: run_billing(organisation=organisation).invoices)

    return compare(
        name=f"billing run, cost of an invoice at {customers:,} beside {customers // 4:,}",
        unit="invoices/s",
        limit_is=f"the product itself at {customers // 4:,} subscriptions",
        aim=0.8,
        product=lambda number: billed(f"grown-{number}", customers),
        limit=lambda number: billed(f"small-{number}", customers // 4),
    )


def _two_workers(customers: int) -> Line:
    def limit(number: int) -> float:
        codes = [f"two-limits-{number}-{half}" for half in (1, 2)]
        for code in codes:
            population.build(customers=customers // 2, code=code)
        analyze()

        def bill(code: str) -> int:
            with connect() as plain:
                return bill_set_based(plain, code)

        with ThreadPoolExecutor(2) as pool:
            return rate(lambda: sum(pool.map(bill, codes)))

    def product(number: int) -> float:
        code = f"two-workers-{number}"
        population.build(customers=customers, code=code)
        analyze()
        workers = [_Worker(f"warm-{number}-{which}") for which in (1, 2)]
        reached = rate(lambda: _together(workers, code))
        for worker in workers:
            worker.end()
        return reached

    return compare(
        name="billing run, 2 workers on one organisation",
        unit="invoices/s",
        limit_is="two such statements at once, an organisation each",
        aim=0.3,
        product=product,
        limit=limit,
    )


class _Worker:
    """A process that is ready to bill."""

    def __init__(self, warm_up: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.billing_worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        population.build(customers=2, code=warm_up)
        self.ask(warm_up)
        self.answer()

    def ask(self, code: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(code + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def _together(workers: list[_Worker], code: str) -> int:
    for worker in workers:
        worker.ask(code)
    return sum(int(worker.answer()) for worker in workers)


def _must_be_equal(one: str, other: str) -> None:
    """The statement and the product wrote the same number of rows, and the same money."""
    assert _figures(one) == _figures(other), (_figures(one), _figures(other))


def _figures(code: str) -> list[tuple[str, object]]:
    owner = Organisation.objects.get(code=code).pk
    found: list[tuple[str, object]] = []
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(
                f"SELECT count(*) FROM {table} WHERE organisation_id = %s AND %s <> 'billing_run.finished'",  # noqa: S608
                [owner, table],
            )
            found.append((table, cursor.fetchone()[0] - (table == "billing_event" and _has_run(cursor, owner))))
        cursor.execute(
            "SELECT sum(net), sum(tax), sum(total) FROM invoices_invoice WHERE organisation_id = %s", [owner]
        )
        found.append(("money", cursor.fetchone()))
        cursor.execute("SELECT sum(amount) FROM billing_posting WHERE organisation_id = %s AND side = 'D'", [owner])
        found.append(("posted", cursor.fetchone()))
    return found


def _has_run(cursor: object, owner: object) -> int:
    cursor.execute(  # type: ignore[attr-defined]
        "SELECT count(*) FROM billing_event WHERE organisation_id = %s AND type = 'billing_run.finished'", [owner]
    )
    return int(cursor.fetchone()[0])  # type: ignore[attr-defined]
