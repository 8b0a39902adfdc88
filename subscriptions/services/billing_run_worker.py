"""Workers of the billing run: chunk after chunk until nothing is left that could be claimed."""

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime

from django.db import DataError, IntegrityError, OperationalError, connection, transaction
from django.db.models import QuerySet

from billing.models import Organisation
from subscriptions.models import BillingRun, Subscription
from subscriptions.services.billing_run_claims import claim
from subscriptions.services.billing_run_cycles import Cycles
from subscriptions.services.billing_run_records import record
from subscriptions.services.billing_run_rows import Due, due_subscriptions, refusal
from subscriptions.services.billing_run_writing import Tally, bill_chunk, set_aside

TRIES_ON_DEADLOCK = 4
WAITS_FOR_OTHERS = 20
WAIT_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is."""

    due: int
    billed: int
    invoices: int
    failed: int


ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Effort:
    """What the workers of one process share: what they have done so far, and whether they are to stop."""

    tally: Tally = field(default_factory=Tally)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)


class Worker:
    """Bills what is due of an organisation, or of the named subscriptions."""

    def __init__(
        self,
        *,
        organisation: Organisation,
        at: datetime,
        due_at: datetime,
        due: int,
        run: BillingRun | None,
        only: Sequence[uuid.UUID] | None,
        progress: ProgressCallback | None,
        effort: Effort | None = None,
    ) -> None:
        self.organisation, self.due_at, self.due, self.run, self.only = organisation, due_at, due, run, only
        self.progress = progress
        self.cycles = Cycles(organisation=organisation, at=at)
        self.effort = effort or Effort()

    def work(self, chunk_size: int) -> None:
        """Until nothing is due any more, only what other workers hold for longer than we wait, or until we are stopped."""
        waits = 0
        while waits < WAITS_FOR_OTHERS and not self.effort.stopped.is_set():
            if self._bill(chunk_size, self.only):
                waits = 0
                self._tell()
            elif all_due(self.organisation, self.due_at, self.only).exists():
                waits += 1
                time.sleep(WAIT_SECONDS)
            else:
                return

    def _bill(self, size: int, only: Sequence[uuid.UUID] | None) -> bool:
        """Bill one chunk; returns whether there was one. What the database refuses is searched for by halves."""
        claimed: list[Due] = []
        try:
            done = self._try(size, only, claimed)
        except (DataError, IntegrityError) as exc:
            self.cycles.issuer.forget()
            self._search(claimed, exc)
            return True
        if done is None:
            return False
        self._note(done)
        return True

    def _try(self, size: int, only: Sequence[uuid.UUID] | None, claimed: list[Due]) -> Tally | None:
        for attempt in range(1, TRIES_ON_DEADLOCK + 1):
            try:
                return bill_chunk(
                    organisation=self.organisation,
                    cycles=self.cycles,
                    due_at=self.due_at,
                    size=size,
                    run=self.run,
                    only=only,
                    claimed=claimed,
                )
            except OperationalError as exc:
                self.cycles.issuer.forget()
                if attempt == TRIES_ON_DEADLOCK or not _is_transient(exc):
                    raise
                time.sleep(0.05 * attempt)
        return None

    def _search(self, claimed: Sequence[Due], exc: Exception) -> None:
        """Bill the halves of a refused chunk by themselves; a single one that is refused is set aside.

        A customer's rows stay together as long as there are others to part with.
        """
        if len(claimed) == 1:
            self._set_aside(claimed[0], exc)
            return
        rows = sorted(claimed, key=lambda row: row.customer_id)
        middle = len(rows) // 2
        while middle < len(rows) - 1 and rows[middle].customer_id == rows[middle - 1].customer_id:
            middle += 1
        for half in (rows[:middle], rows[middle:]):
            self._bill(len(half), [row.id for row in half])

    def _set_aside(self, row: Due, exc: Exception) -> None:
        """Mark a row whose lock the failed transaction has let go, unless somebody has changed or taken it since."""
        refused = refusal(row, exc)
        with transaction.atomic():
            if claim(organisation=self.organisation, due_at=self.due_at, size=1, only=[row.id]) != [row]:
                return
            set_aside(self.organisation, [refused], self.run, self.cycles.at)
        self._note(Tally(refusals=[refused]))

    def _note(self, done: Tally) -> None:
        with self.effort.lock:
            self.effort.tally.add(done)
        if self.run is not None:
            record(self.run.pk, done)

    def _tell(self) -> None:
        if self.progress is not None:
            with self.effort.lock:
                self.progress(progress_of(self.due, self.effort.tally))


def work_together(make: Callable[[Effort], Worker], *, connections: int, chunk_size: int) -> Tally:
    """Let so many workers, each with a thread and a connection of its own, do what is due; returns what they have done.

    While the database writes for one, prices are worked out for another. They share no transaction: they are to each other
    what workers of other processes are. A worker that fails stops the others after their chunk, and its error is raised;
    inside a transaction of the caller one works alone, on the caller's connection.
    """
    effort = Effort()
    if connections < 2 or connection.in_atomic_block:
        make(effort).work(chunk_size)
        return effort.tally
    workers = [make(effort) for _ in range(connections)]
    with ThreadPoolExecutor(connections, thread_name_prefix="billing") as pool:
        try:
            for done in [pool.submit(copy_context().run, _in_thread, worker, chunk_size) for worker in workers]:
                done.result()
        finally:
            effort.stopped.set()
    return effort.tally


def _in_thread(worker: Worker, chunk_size: int) -> None:
    try:
        worker.work(chunk_size)
    except BaseException:
        worker.effort.stopped.set()
        raise
    finally:
        connection.close()


def all_due(organisation: Organisation, due_at: datetime, only: Sequence[uuid.UUID] | None) -> QuerySet[Subscription]:
    """What is due, of the whole organisation or of the named subscriptions."""
    due = due_subscriptions(organisation, due_at)
    return due if only is None else due.filter(pk__in=only)


def progress_of(due: int, tally: Tally) -> Progress:
    """How far ``tally`` is on the way to ``due``."""
    return Progress(due=due, billed=tally.billed, invoices=tally.invoices, failed=len(tally.refusals))


def _is_transient(exc: OperationalError) -> bool:
    """Deadlock or serialisation failure: the same work succeeds when tried again."""
    return getattr(exc.__cause__, "sqlstate", "") in {"40001", "40P01"}
