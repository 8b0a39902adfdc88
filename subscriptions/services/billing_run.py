"""The billing run: what is due becomes invoices, each period exactly once.

Chunks of due subscriptions are claimed with ``FOR UPDATE SKIP LOCKED`` and billed in one transaction each. Any number of
workers may run at once; one that is killed loses its chunk's transaction and nothing else, and the next run goes on. Several
periods that are overdue are billed one after the other, each on its own invoice. A subscription that cannot be billed is set
aside with the reason in ``Subscription.failure``, and the run goes on.
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from celery import current_app
from django.db import transaction
from django.db.models import Q, QuerySet

from billing import clock
from billing.context import Actor
from billing.errors import InvalidInput
from billing.models import Organisation
from billing.services import audit
from subscriptions.models import BillingRun, Subscription
from subscriptions.services import changes
from subscriptions.services.billing_run_cycles import Cycles
from subscriptions.services.billing_run_records import fail, finish, run_row
from subscriptions.services.billing_run_rows import Due, Refusal, due_subscriptions
from subscriptions.services.billing_run_worker import (
    Progress,
    ProgressCallback,
    Worker,
    all_due,
    progress_of,
    work_together,
)
from subscriptions.services.billing_run_writing import Tally
from subscriptions.services.plan_migrations_ahead import MovedRows

__all__ = [
    "BillingRunReport",
    "DueInFuture",
    "DueTooFar",
    "Progress",
    "bill_everything",
    "run_billing",
    "start_run",
    "work_on",
]

log = structlog.get_logger(__name__)
CHUNK = 1000
CONNECTIONS, WORTH_A_CONNECTION = 2, 2000
"""Connections of one process at a run, where each has so many subscriptions to bill."""


class DueInFuture(InvalidInput):
    """A run that writes bills what is due now, not what will be."""

    code = "due_in_future"
    message = "due_at {due_at} is later than now; only a dry run looks ahead."


class DueTooFar(InvalidInput):
    """A run looks over some years back and a dry run over some months ahead."""

    code = "due_too_far"
    message = "due_at must be within ten years back and 400 days ahead."


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
    drafts: int
    totals: dict[str, Decimal]
    failures: tuple[Refusal, ...]

    @property
    def failed(self) -> int:
        """How many subscriptions were set aside."""
        return len(self.failures)


TASK = "subscriptions.tasks.work_on_run"
LOOKS_BACK, LOOKS_AHEAD = timedelta(days=3660), timedelta(days=400)


def run_billing(
    *,
    organisation: Organisation,
    due_at: datetime | None = None,
    dry_run: bool = False,
    chunk_size: int = CHUNK,
    progress: ProgressCallback | None = None,
    subscription_ids: Sequence[uuid.UUID] | None = None,
    run_id: uuid.UUID | None = None,
    connections: int | None = None,
) -> BillingRunReport:
    """Bill what is due at ``due_at`` (now), of the whole organisation or of the named subscriptions.

    A dry run writes nothing and shows the same figures, by the prices that plan migrations will have brought by then.
    ``connections``: how many this process uses at once; by itself two where much is due, and one inside a transaction of the
    caller. ``run_id`` joins a run that was started (``start_run``); otherwise one is noted when something is due.
    A planned change is never jumped over: a subscription is billed up to it, then
    ``changes.apply_due`` has its turn (the clock job takes turns). Raises ``DueInFuture``.
    """
    at = clock.now(organisation)
    due_at = due_at or at
    _check(due_at, at, dry_run=dry_run)
    if dry_run:
        return _dry_run(organisation, at, due_at, chunk_size, progress, subscription_ids)
    due = all_due(organisation, due_at, subscription_ids).count()
    run = run_row(organisation, due_at, due, at, run_id) if subscription_ids is None else None
    tally = Tally()
    try:
        if due:
            tally = work_together(
                lambda effort: Worker(
                    organisation=organisation, at=at, due_at=due_at, due=due, run=run, only=subscription_ids,
                    progress=progress, effort=effort,
                ),
                connections=connections or min(CONNECTIONS, due // WORTH_A_CONNECTION),
                chunk_size=chunk_size,
            )  # fmt: skip
    except Exception as exc:
        fail(run, exc)
        raise
    if run is not None:
        finish(run)
    return _report(organisation, run.pk if run else None, due_at, due, tally, dry_run=False)


@transaction.atomic
def start_run(*, organisation: Organisation, due_at: datetime | None = None, actor: Actor) -> BillingRun:
    """Note that a run is wanted; a worker takes it up by its id. Raises ``DueInFuture``."""
    at = clock.now(organisation)
    due_at = due_at or at
    _check(due_at, at, dry_run=False)
    due = all_due(organisation, due_at, None).count()
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
    changes.apply_due(
        organisation=organisation
    )  # what begins today is billed today, and with what it shares an invoice
    while True:
        billed += run_billing(organisation=organisation).billed
        if not changes.apply_due(organisation=organisation):
            return billed


def workers_wanted(*, organisation: Organisation) -> int:
    """How many workers share the work of an organisation: one for each 2,000 due subscriptions, at most 4; 0 for none."""
    due = due_subscriptions(organisation, clock.now(organisation)).count()
    return min(-(-due // 2000), 4)


def work_on(*, run_id: uuid.UUID) -> BillingRunReport:
    """Do a run that was started before; several workers may share it."""
    run = BillingRun.objects.select_related("organisation").get(pk=run_id)
    return run_billing(organisation=run.organisation, due_at=run.due_at, run_id=run_id)


def _dry_run(
    organisation: Organisation,
    at: datetime,
    due_at: datetime,
    chunk_size: int,
    progress: ProgressCallback | None,
    only: Sequence[uuid.UUID] | None,
) -> BillingRunReport:
    """Price everything that a run would bill, period after period, in memory: no more of it than a page."""
    due = all_due(organisation, due_at, only)
    cycles, tally, count = Cycles(organisation=organisation, at=at), Tally(), due.count()
    moved = MovedRows(organisation, now=at, due_at=due_at)
    for page in _pages(due, chunk_size, cycles):
        rows = page
        while rows:
            rows = moved.of(rows)
            rows.sort(key=lambda row: (row.next_billing_at, row.id))  # as the run takes them
            priced, refusals = cycles.price(rows)
            tally.count(priced, refusals)
            cycles.foresee(priced)
            refused = {one.subscription_id for one in refusals}
            done = {cycle.row.id: cycle.after() for cycle in priced}
            rows = [
                row for row in (done.get(row.id, row) for row in rows if row.id not in refused) if _is_due(row, due_at)
            ]
        cycles.forget()
        if progress is not None:
            progress(progress_of(count, tally))
    return _report(organisation, None, due_at, count, tally, dry_run=True)


def _pages(due: QuerySet[Subscription], size: int, cycles: Cycles) -> Iterator[list[Due]]:
    """What is due, ``size`` rows at a time, customer by customer; who shares something between subscriptions comes whole."""
    ahead = due
    while page := _rows(ahead, size):
        last = page[-1]
        if len(page) == size and cycles.in_order(last.customer_id):
            page += _rows(due.filter(customer=last.customer_id, pk__gt=last.id))
            last = page[-1]
        ahead = due.filter(Q(customer__gt=last.customer_id) | Q(customer=last.customer_id, pk__gt=last.id))
        yield page


def _rows(due: QuerySet[Subscription], limit: int | None = None) -> list[Due]:
    return [Due(*row) for row in due.order_by("customer_id", "id").values_list(*Due._fields)[:limit]]


def _is_due(row: Due, due_at: datetime) -> bool:
    """What ``due_subscriptions`` asks of a row, for one that exists in memory only."""
    change_first = row.next_change_at is not None and row.next_change_at <= row.next_billing_at
    return row.next_billing_at <= due_at and not change_first


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
        drafts=tally.drafts,
        totals=dict(sorted(tally.totals.items())),
        failures=tuple(tally.refusals),
    )
