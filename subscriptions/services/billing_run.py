"""The billing run: what is due becomes invoices, each period exactly once.

Chunks of due subscriptions are claimed with ``FOR UPDATE SKIP LOCKED`` and billed in one transaction each. Any number of
workers may run at once; one that is killed loses its chunk's transaction and nothing else, and the next run goes on. Several
periods that are overdue are billed one after the other, each on its own invoice. A subscription that cannot be billed is set
aside with the reason in ``Subscription.failure``, and the run goes on.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from celery import current_app
from django.db import DataError, IntegrityError, OperationalError, transaction
from django.db.models import Q, QuerySet

from billing import clock
from billing.context import Actor
from billing.errors import InvalidInput
from billing.models import Organisation
from billing.services import audit, outbox
from subscriptions.models import BillingRun, Subscription
from subscriptions.services import changes
from subscriptions.services.billing_run_cycles import Cycles, Due, Refusal, due_subscriptions, refusal
from subscriptions.services.billing_run_writing import Tally, bill_chunk, claim, record, set_aside

log = structlog.get_logger(__name__)
CHUNK = 500
STALE_AFTER = timedelta(minutes=5)
TRIES_ON_DEADLOCK = 4
WAITS_FOR_OTHERS = 20
WAIT_SECONDS = 0.1
RUN = BillingRun.Status


class DueInFuture(InvalidInput):
    """A run that writes bills what is due now, not what will be."""

    code = "due_in_future"
    message = "due_at {due_at} is later than now; only a dry run looks ahead."


class DueTooFar(InvalidInput):
    """A run looks over some years back and a dry run over some months ahead."""

    code = "due_too_far"
    message = "due_at must be within ten years back and 400 days ahead."


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is."""

    due: int
    billed: int
    invoices: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingRunReport:
    """What a run billed, or for a dry run would bill. ``totals`` are gross, per currency."""

    organisation: str
    run_id: uuid.UUID | None
    due_at: datetime
    dry_run: bool
    due: int
    billed: int
    invoices: int
    totals: dict[str, Decimal]
    failures: tuple[Refusal, ...]

    @property
    def failed(self) -> int:
        """How many subscriptions were set aside."""
        return len(self.failures)


TASK = "subscriptions.tasks.work_on_run"
LOOKS_BACK, LOOKS_AHEAD = timedelta(days=3660), timedelta(days=400)
ProgressCallback = Callable[[Progress], None]


def run_billing(
    *,
    organisation: Organisation,
    due_at: datetime | None = None,
    dry_run: bool = False,
    chunk_size: int = CHUNK,
    progress: ProgressCallback | None = None,
    subscription_ids: Sequence[uuid.UUID] | None = None,
    run_id: uuid.UUID | None = None,
) -> BillingRunReport:
    """Bill what is due at ``due_at`` (now), of the whole organisation or of the named subscriptions.

    A dry run writes nothing and shows the same figures. ``run_id`` joins a run that was started (``start_run``); otherwise
    one is noted when something is due. A planned change is never jumped over: a subscription is billed up to it, then
    ``changes.apply_due`` has its turn (the clock job takes turns). Raises ``DueInFuture``.
    """
    at = clock.now(organisation)
    due_at = due_at or at
    _check(due_at, at, dry_run=dry_run)
    if dry_run:
        return _dry_run(organisation, at, due_at, chunk_size, progress, subscription_ids)
    due = _due(organisation, due_at, subscription_ids).count()
    run = _run_row(organisation, due_at, due, at, run_id) if subscription_ids is None else None
    worker = _Worker(
        organisation=organisation, at=at, due_at=due_at, due=due, run=run, only=subscription_ids, progress=progress
    )
    try:
        if due:
            worker.work(chunk_size)
    except Exception as exc:
        _fail(run, exc)
        raise
    if run is not None:
        _finish(run)
    return _report(organisation, run.pk if run else None, due_at, due, worker.tally, dry_run=False)


@transaction.atomic
def start_run(*, organisation: Organisation, due_at: datetime | None = None, actor: Actor) -> BillingRun:
    """Note that a run is wanted; a worker takes it up by its id. Raises ``DueInFuture``."""
    at = clock.now(organisation)
    due_at = due_at or at
    _check(due_at, at, dry_run=False)
    due = _due(organisation, due_at, None).count()
    run = BillingRun.objects.create(organisation=organisation, due_at=due_at, due_count=due, started_at=at)
    transaction.on_commit(lambda: _wake(run.pk), robust=True)
    audit.record(
        actor=actor, action="billing_run.started", target=run, after={"due_at": due_at.isoformat(), "due": due}
    )
    return run


def _check(due_at: datetime, at: datetime, *, dry_run: bool) -> None:
    if not at - LOOKS_BACK <= due_at <= at + LOOKS_AHEAD:
        raise DueTooFar(field="due_at")
    if due_at > at and not dry_run:
        raise DueInFuture(due_at=due_at.isoformat(), field="due_at")


def _wake(run_id: uuid.UUID) -> None:
    """Tell a worker that a run waits. Losing the message loses nothing: ``waiting_runs`` finds it."""
    try:
        current_app.send_task(TASK, args=[str(run_id)], retry=False, ignore_result=True)
    except Exception:
        log.warning("billing_run.broker_down", run=str(run_id))


def bill_everything(*, organisation: Organisation) -> int:
    """Bill what is due and apply what was planned, in turns until neither finds anything; returns the periods billed.

    However late it comes, every subscription's time line is walked in order.
    """
    billed = 0
    while True:
        billed += run_billing(organisation=organisation).billed
        if not changes.apply_due(organisation=organisation):
            return billed


def workers_wanted(*, organisation: Organisation) -> int:
    """How many workers share the work of an organisation: one for each 2,000 due subscriptions, at most 4; 0 for none."""
    due = due_subscriptions(organisation, clock.now(organisation)).count()
    return min(-(-due // 2000), 4)


def waiting_runs() -> list[uuid.UUID]:
    """Runs that were asked for and whose message was lost, or whose worker died."""
    now = clock.wall_now()
    lost = Q(status=RUN.PENDING, recorded_at__lt=now - STALE_AFTER)
    died = Q(status=RUN.RUNNING, heartbeat_at__lt=now - STALE_AFTER)
    return list(BillingRun.objects.filter(lost | died).values_list("pk", flat=True))


def work_on(*, run_id: uuid.UUID) -> BillingRunReport:
    """Do a run that was started before; several workers may share it."""
    run = BillingRun.objects.select_related("organisation").get(pk=run_id)
    return run_billing(organisation=run.organisation, due_at=run.due_at, run_id=run_id)


class _Worker:
    """Bills chunk after chunk until nothing is left that could be claimed."""

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
    ) -> None:
        self.organisation, self.due_at, self.due, self.run, self.only = organisation, due_at, due, run, only
        self.progress = progress
        self.cycles = Cycles(organisation=organisation, at=at)
        self.tally = Tally()

    def work(self, chunk_size: int) -> None:
        """Until nothing is due any more, or only what other workers hold for longer than we wait."""
        waits = 0
        while waits < WAITS_FOR_OTHERS:
            if self._bill(chunk_size, self.only):
                waits = 0
                self._tell()
            elif _due(self.organisation, self.due_at, self.only).exists():
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
        self.tally.add(done)
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
        """Bill the halves of a refused chunk by themselves; a single one that is refused is set aside."""
        if len(claimed) == 1:
            self._set_aside(claimed[0], exc)
            return
        middle = len(claimed) // 2
        for half in (claimed[:middle], claimed[middle:]):
            self._bill(len(half), [row.id for row in half])

    def _set_aside(self, row: Due, exc: Exception) -> None:
        """Mark a row whose lock the failed transaction has let go, unless somebody has changed or taken it since."""
        refused = refusal(row, exc)
        tally = Tally(refusals=[refused])
        with transaction.atomic():
            if claim(organisation=self.organisation, due_at=self.due_at, size=1, only=[row.id]) != [row]:
                return
            set_aside([refused])
            if self.run is not None:
                record(self.run.pk, tally)
        self.tally.add(tally)

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(_progress(self.due, self.tally))


def _dry_run(
    organisation: Organisation,
    at: datetime,
    due_at: datetime,
    chunk_size: int,
    progress: ProgressCallback | None,
    only: Sequence[uuid.UUID] | None,
) -> BillingRunReport:
    """Price everything that a run would bill, period after period, in memory."""
    due = _due(organisation, due_at, only)
    cycles, tally, count = Cycles(organisation=organisation, at=at), Tally(), due.count()
    after: uuid.UUID | None = None
    while page := _page(due, after, chunk_size):
        after = page[-1].id
        rows = page
        while rows:
            priced, refusals = cycles.price(rows)
            tally.count(priced, refusals)
            rows = [row for row in (cycle.after() for cycle in priced) if _is_due(row, due_at)]
        if progress is not None:
            progress(_progress(count, tally))
    return _report(organisation, None, due_at, count, tally, dry_run=True)


def _page(due: QuerySet[Subscription], after: uuid.UUID | None, size: int) -> list[Due]:
    rows = due.filter(pk__gt=after) if after else due
    return [Due(*row) for row in rows.order_by("id").values_list(*Due._fields)[:size]]


def _is_due(row: Due, due_at: datetime) -> bool:
    """What ``due_subscriptions`` asks of a row, for one that exists in memory only."""
    change_first = row.next_change_at is not None and row.next_change_at <= row.next_billing_at
    return row.next_billing_at <= due_at and not change_first


def _due(organisation: Organisation, due_at: datetime, only: Sequence[uuid.UUID] | None) -> QuerySet[Subscription]:
    due = due_subscriptions(organisation, due_at)
    return due if only is None else due.filter(pk__in=only)


def _run_row(
    organisation: Organisation, due_at: datetime, due: int, at: datetime, run_id: uuid.UUID | None
) -> BillingRun | None:
    """The row that shows the progress: the one named, else a new one if there is anything to do."""
    if run_id is None and not due:
        return None
    _give_up_stale(organisation, run_id)
    with transaction.atomic():
        if run_id is None:
            run = BillingRun(organisation=organisation, due_at=due_at, due_count=due, started_at=at)
        else:
            run = BillingRun.objects.of(organisation).select_for_update().get(pk=run_id)
            if run.status == RUN.DONE:
                return run
        run.begin(heartbeat_at=clock.wall_now())
        run.save()
        return run


def _give_up_stale(organisation: Organisation, run_id: uuid.UUID | None) -> None:
    """Close runs whose workers died. Nothing is lost: what they had not billed is still due, and this run bills it."""
    stale = BillingRun.objects.of(organisation).filter(
        status=RUN.RUNNING, heartbeat_at__lt=clock.wall_now() - STALE_AFTER
    )
    for run in stale.exclude(pk=run_id) if run_id else stale:
        _fail(run, RuntimeError("The worker stopped; a later run took over what was left."))


def _finish(run: BillingRun) -> None:
    with transaction.atomic():
        run = BillingRun.objects.select_for_update(of=("self",)).select_related("organisation").get(pk=run.pk)
        if run.status != RUN.RUNNING:
            return
        run.finish(at=clock.now(run.organisation))
        run.save(update_fields=["status", "finished_at"])
        outbox.publish(
            "billing_run.finished",
            run,
            run_id=str(run.pk),
            due_at=run.due_at.isoformat(),
            billed=run.billed_count,
            invoices=run.invoice_count,
            failed=run.failed_count,
            totals=run.totals,
        )


def _fail(run: BillingRun | None, exc: Exception) -> None:
    """Say on the row why the run stopped; what it billed stays billed."""
    if run is None:
        return
    log.error("billing_run.failed", run=str(run.pk), error=type(exc).__name__)
    with transaction.atomic():
        run = BillingRun.objects.select_for_update(of=("self",)).select_related("organisation").get(pk=run.pk)
        if run.status == RUN.RUNNING:
            run.fail(at=clock.now(run.organisation), error=f"{type(exc).__name__}: {exc}"[:2000])
            run.save(update_fields=["status", "finished_at", "error"])


def _is_transient(exc: OperationalError) -> bool:
    """Deadlock or serialisation failure: the same work succeeds when tried again."""
    return getattr(exc.__cause__, "sqlstate", "") in {"40001", "40P01"}


def _progress(due: int, tally: Tally) -> Progress:
    return Progress(due=due, billed=tally.billed, invoices=tally.invoices, failed=len(tally.refusals))


def _report(
    organisation: Organisation, run_id: uuid.UUID | None, due_at: datetime, due: int, tally: Tally, *, dry_run: bool
) -> BillingRunReport:
    return BillingRunReport(
        organisation=organisation.code,
        run_id=run_id,
        due_at=due_at,
        dry_run=dry_run,
        due=due,
        billed=tally.billed,
        invoices=tally.invoices,
        totals=dict(sorted(tally.totals.items())),
        failures=tuple(tally.refusals),
    )
