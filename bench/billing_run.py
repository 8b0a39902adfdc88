"""Billing run: invoices a second beside the same rows by one set-based statement."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from django.db import connection

from bench import population
from bench.database import analyze, connect
from bench.limits import bill_set_based
from bench.measuring import Line, compare, rate
from billing.models import Organisation
from subscriptions.services.billing_run import run_billing

TABLES = ("invoices_invoice", "invoices_invoiceline", "invoices_invoicetax", "billing_journalentry", "billing_posting",
          "billing_event", "subscriptions_billedperiod")  # fmt: skip


def measure(scale: float) -> list[Line]:
    """One worker, then two."""
    customers = int(4000 * scale)
    return [_one_worker(customers), _two_workers(customers)]


def _one_worker(customers: int) -> Line:
    def limit(number: int) -> float:
        code = f"limit-{number}"
        population.build(customers=customers, code=code)
        analyze()
        with connect() as plain:
            return rate(lambda: bill_set_based(plain, code))

    def product(number: int) -> float:
        code = f"product-{number}"
        organisation = population.build(customers=customers, code=code)
        analyze()
        run_billing(organisation=population.build(customers=2, code=f"warm-{number}"))
        reached = rate(lambda: run_billing(organisation=organisation).invoices)
        _must_be_equal(f"limit-{number}", code)
        return reached

    return compare(
        name="billing run, 1 worker",
        unit="invoices/s",
        limit_is="the same rows by one INSERT … SELECT statement",
        aim=0.25,
        product=product,
        limit=limit,
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
