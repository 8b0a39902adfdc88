"""The row of a billing run: begun, told how far it is, finished. Nothing of it is locked while a chunk is written."""

import json
import uuid
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from django.db import connection, transaction
from django.db.models import Q

from billing import clock
from billing.models import Organisation
from billing.services import outbox
from subscriptions.models import BilledPeriod, BillingRun, FailedCycle
from subscriptions.services.billing_run_writing import Tally

log = structlog.get_logger(__name__)
RUN = BillingRun.Status
STALE_AFTER = timedelta(minutes=5)
KEPT_FAILURES = 50
# Figures are added where the run is still going; numeric text keeps its decimals.
ADD = """
UPDATE subscriptions_billingrun SET
    billed_count = billed_count + %(billed)s, invoice_count = invoice_count + %(invoices)s,
    draft_count = draft_count + %(drafts)s, failed_count = failed_count + %(failed)s, heartbeat_at = %(now)s,
    failures = jsonb_path_query_array(failures || %(failures)s::jsonb, '$[0 to 49]'),
    totals = (SELECT coalesce(jsonb_object_agg(code, amount::text), '{}')
              FROM (SELECT key AS code, sum(value::numeric) AS amount
                    FROM (SELECT * FROM jsonb_each_text(totals) UNION ALL SELECT * FROM jsonb_each_text(%(totals)s::jsonb)) AS parts
                    GROUP BY key ORDER BY key) AS sums)
WHERE id = %(run)s AND status = 'running'
"""
# What the run's own rows say: the truth after a worker died between its chunk and its report.
RECOUNT = """
WITH documents AS (SELECT DISTINCT invoice_id FROM subscriptions_billedperiod WHERE run_id = %(run)s AND invoice_id IS NOT NULL),
sums AS (
    SELECT i.currency, count(*) AS invoices, sum(i.total) AS total FROM documents d JOIN invoices_invoice i ON i.id = d.invoice_id
    GROUP BY i.currency
)
SELECT (SELECT count(*) FROM documents),
       (SELECT count(DISTINCT c.invoice_id) FROM subscriptions_draftcycle c JOIN documents d ON d.invoice_id = c.invoice_id),
       (SELECT coalesce(jsonb_object_agg(currency, total::text), '{}') FROM sums)
"""


def run_row(
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


def record(run_id: uuid.UUID, tally: Tally) -> None:
    """Add what a chunk did to its run, so that progress is seen as it is made. After the chunk's commit."""
    noted = [{"subscription": one.external_id, "reason": one.reason} for one in tally.refusals[:KEPT_FAILURES]]
    with connection.cursor() as cursor:
        cursor.execute(
            ADD,
            {
                "run": run_id, "billed": tally.billed, "invoices": tally.invoices, "drafts": tally.drafts,
                "failed": len(tally.refusals), "now": clock.wall_now(), "failures": json.dumps(noted),
                "totals": json.dumps(tally.texts()),
            },
        )  # fmt: skip


def finish(run: BillingRun) -> None:
    """Close a run that found nothing more to do, and tell the house."""
    with transaction.atomic():
        run = _lock(run.pk)
        if run.status != RUN.RUNNING:
            return
        _settle(run)
        run.finish(at=clock.now(run.organisation))
        run.save()
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


def fail(run: BillingRun | None, exc: Exception) -> None:
    """Say on the row why the run stopped; what it billed stays billed."""
    if run is None:
        return
    log.error("billing_run.failed", run=str(run.pk), error=type(exc).__name__)
    with transaction.atomic():
        run = _lock(run.pk)
        if run.status == RUN.RUNNING:
            _settle(run)
            run.fail(at=clock.now(run.organisation), error=f"{type(exc).__name__}: {exc}"[:2000])
            run.save()


def waiting_runs() -> list[uuid.UUID]:
    """Runs that were asked for and whose message was lost, or whose worker died."""
    now = clock.wall_now()
    lost = Q(status=RUN.PENDING, recorded_at__lt=now - STALE_AFTER)
    died = Q(status=RUN.RUNNING, heartbeat_at__lt=now - STALE_AFTER)
    return list(BillingRun.objects.filter(lost | died).values_list("pk", flat=True))


def _give_up_stale(organisation: Organisation, run_id: uuid.UUID | None) -> None:
    """Close runs whose workers died. Nothing is lost: what they had not billed is still due, and this run bills it."""
    stale = BillingRun.objects.of(organisation).filter(
        status=RUN.RUNNING, heartbeat_at__lt=clock.wall_now() - STALE_AFTER
    )
    for run in stale.exclude(pk=run_id) if run_id else stale:
        fail(run, RuntimeError("The worker stopped; a later run took over what was left."))


def _lock(run_id: uuid.UUID) -> BillingRun:
    found: BillingRun = BillingRun.objects.select_for_update(of=("self",)).select_related("organisation").get(pk=run_id)
    return found


def _settle(run: BillingRun) -> None:
    """Set the figures to what the run's own periods say, where a report was lost."""
    billed = BilledPeriod.objects.filter(run=run).count()
    failed = FailedCycle.objects.filter(run=run).count()
    if (billed, failed) == (run.billed_count, run.failed_count):
        return
    with connection.cursor() as cursor:
        cursor.execute(RECOUNT, {"run": run.pk})
        invoices, drafts, totals = cursor.fetchone()
    run.billed_count, run.failed_count, run.invoice_count, run.draft_count = billed, failed, invoices, drafts
    sums: dict[str, str] = json.loads(totals) if isinstance(totals, str) else totals
    run.totals = Tally(totals={code: Decimal(total) for code, total in sums.items()}).texts()
