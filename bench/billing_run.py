"""Billing run: invoices a second beside the same rows by one set-based statement."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench import population
from bench.database import analyze, connect, forget_usage
from bench.limits import bill_set_based
from bench.measuring import ROUNDS, Line, compare, rate
from bench.same_rows import differences
from subscriptions.services.billing_run import Progress, run_billing

SMALL, GROWN = 4000, 10_000
MUCH = 50_000  # from here on one round says enough
KINDS: dict[str, dict[str, Any]] = {
    "flat plans": {"events_each": 0, "metered": False},
    "usage (50 events each)": {"events_each": 50},
    "usage, proration, tax and coupons": {"events_each": 50, "mixed": True},
}
AIMS = {"flat plans": 0.5}
AIM = 0.3


def _customers(scale: float) -> int:
    return max(int(SMALL * scale), 20)


def _kind(kind: str) -> Callable[[float], Iterator[Line]]:
    return lambda scale: iter([_one_worker(_customers(scale), kind)])


PARTS: dict[str, Callable[[float], Iterator[Line]]] = {
    "billing-flat": _kind("flat plans"),
    "billing-usage": _kind("usage (50 events each)"),
    "billing-mixed": _kind("usage, proration, tax and coupons"),
    "billing-workers": lambda scale: iter([_two_workers(_customers(scale))]),
    "billing-growth": lambda scale: iter([_growth(max(int(GROWN * min(scale, 1)), _customers(scale)))]),
}
"""Each kind of plan by one worker, two workers, and the cost of an invoice as the number of them grows."""


def measure(scale: float) -> Iterator[Line]:
    """All parts, one after the other."""
    for part in PARTS.values():
        yield from part(scale)


def _rounds(customers: int) -> int:
    return 1 if customers >= MUCH else ROUNDS


def _one_worker(customers: int, kind: str) -> Line:
    word = kind.split()[-1].strip(")")  # of the codes

    def limit(number: int) -> float:
        code = f"limit-{word}-{number}"
        population.build(customers=customers, code=code, **KINDS[kind])
        analyze()
        with connect() as plain:
            return rate(lambda: bill_set_based(plain, code))

    def product(number: int) -> float:
        code = f"product-{word}-{number}"
        organisation = population.build(customers=customers, code=code, **KINDS[kind])
        run_billing(organisation=population.build(customers=2, code=f"warmed-{word}-{number}", **KINDS[kind]))
        analyze()
        reached = rate(lambda: run_billing(organisation=organisation, progress=Shown(kind)).invoices)
        if different := differences(f"limit-{word}-{number}", code):
            raise AssertionError(f"The product and the statement wrote different rows: {different}")
        forget_usage()
        return reached

    return compare(
        name=f"billing run, {kind}, {customers:,} subscriptions, 1 worker",
        unit="invoices/s",
        limit_is="the same rows by one INSERT … SELECT statement",
        aim=AIMS.get(kind, AIM),
        product=product,
        limit=limit,
        rounds=_rounds(customers),
    )


class Shown:
    """Says how far a long run is, every ten thousand subscriptions."""

    EVERY = 10_000

    def __init__(self, what: str) -> None:
        self.what, self.said, self.began = what, 0, time.perf_counter()

    def __call__(self, progress: Progress) -> None:
        if progress.due > self.EVERY and progress.billed >= self.said + self.EVERY:
            self.said = progress.billed
            passed = time.perf_counter() - self.began
            print(f"    {self.what}: {progress.billed:,} of {progress.due:,} in {passed:,.0f} s", flush=True)


def _growth(customers: int) -> Line:
    """Invoices a second of many subscriptions beside a quarter of them: 1 is a cost per invoice that does not grow."""

    def billed(code: str, many: int) -> float:
        organisation = population.build(customers=many, events_each=0, metered=False, code=code)
        analyze()
        return rate(lambda: run_billing(organisation=organisation, progress=Shown(f"{many:,} flat plans")).invoices)

    return compare(
        name=f"billing run, cost per invoice flat as the number grows: {customers:,} beside {customers // 4:,}",
        unit="invoices/s",
        limit_is=f"the product itself at {customers // 4:,} subscriptions",
        aim=0.8,
        product=lambda number: billed(f"grown-{number}", customers),
        limit=lambda number: billed(f"small-{number}", customers // 4),
        rounds=_rounds(customers),
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
        aim=AIM,
        product=product,
        limit=limit,
        rounds=_rounds(customers),
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
