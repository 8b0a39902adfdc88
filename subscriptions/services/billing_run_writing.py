"""The writing half of a billing run: one chunk, one transaction. Killed anywhere, it has happened whole or not at all."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from django.db import connection, transaction

from billing import clock
from billing.ids import uuid7
from billing.models import Organisation
from billing.money import quantize
from billing.services.bulk import FreshEvent, publish_fresh
from billing.services.copying import copy_rows
from subscriptions.events import subscription_payload
from subscriptions.models import BilledPeriod, BillingRun
from subscriptions.services.billing_run_cycles import Cycle, Cycles, Due, Refusal, due_subscriptions, mrr_of

AGGREGATE_TYPE = "subscriptions.subscription"
KEPT_FAILURES = 50
PERIOD = (
    "id", "recorded_at", "organisation_id", "subscription_id", "starts_at", "ends_at", "kind", "invoice_id", "run_id", "billed_at",
)  # fmt: skip
ADVANCE = """
UPDATE subscriptions_subscription s
SET period_number = u.number, period_start = u.starts_at, period_end = u.ends_at, next_billing_at = u.next_at,
    usage_from = u.usage_from, usage_version_id = NULL, earlier_terms = '[]', version = s.version + 1
FROM unnest(%s::uuid[], %s::int[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[])
     AS u (id, number, starts_at, ends_at, next_at, usage_from)
WHERE s.id = u.id
"""


@dataclass(slots=True)
class Tally:
    """What was billed: periods, invoices, totals per currency, and what was set aside."""

    billed: int = 0
    invoices: int = 0
    totals: dict[str, Decimal] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)

    def count(self, cycles: Iterable[Cycle], refusals: Iterable[Refusal] = ()) -> None:
        """Add priced cycles and refusals."""
        self.refusals += refusals
        for cycle in cycles:
            self.billed += 1
            if cycle.invoice is not None:
                self.invoices += 1
                currency = cycle.row.currency
                self.totals[currency] = self.totals.get(currency, Decimal(0)) + cycle.invoice.total

    def add(self, other: "Tally") -> None:
        """Add what another part of the run has done."""
        self.billed += other.billed
        self.invoices += other.invoices
        self.refusals += other.refusals
        for currency, total in other.totals.items():
            self.totals[currency] = self.totals.get(currency, Decimal(0)) + total

    def texts(self) -> dict[str, str]:
        """Totals as decimal strings, for JSON."""
        return {currency: f"{quantize(total, currency):f}" for currency, total in sorted(self.totals.items())}


def claim(
    *, organisation: Organisation, due_at: datetime, size: int, only: Sequence[uuid.UUID] | None = None
) -> list[Due]:
    """Lock the next due subscriptions that no other worker holds, oldest first."""
    due = due_subscriptions(organisation, due_at)
    if only is not None:
        due = due.filter(pk__in=only)
    locked = due.select_for_update(skip_locked=True, no_key=True, of=("self",)).order_by("next_billing_at", "id")
    return [Due(*row) for row in locked.values_list(*Due._fields)[:size]]


def write(*, organisation: Organisation, cycles: Cycles, rows: Sequence[Due], run: BillingRun | None) -> Tally:
    """Bill claimed rows in the caller's transaction."""
    priced, refusals = cycles.price(rows)
    tally = Tally()
    tally.count(priced, refusals)
    set_aside(refusals)
    if priced:
        _advance(priced)
        _write_periods(organisation, priced, run, cycles.at)
        publish_fresh(
            organisation_id=organisation.pk,
            events=[_renewed(cycle) for cycle in priced if cycle.row.period_start is not None],
            at=cycles.at,
        )
        cycles.issuer.issue([cycle.invoice for cycle in priced if cycle.invoice is not None])
    return tally


def set_aside(refusals: Sequence[Refusal]) -> None:
    """Note on each subscription why it was not billed; the run leaves it out until somebody clears the note."""
    if not refusals:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE subscriptions_subscription s SET failure = u.reason, version = s.version + 1 "
            "FROM unnest(%s::uuid[], %s::text[]) AS u (id, reason) WHERE s.id = u.id",
            [[one.subscription_id for one in refusals], [one.reason for one in refusals]],
        )


def record(run_id: uuid.UUID, tally: Tally) -> None:
    """Add what a chunk did to its run, so that progress is seen as it is made. Last, because workers share the row."""
    run = BillingRun.objects.select_for_update().get(pk=run_id)
    run.billed_count += tally.billed
    run.invoice_count += tally.invoices
    run.failed_count += len(tally.refusals)
    sums = Tally(totals={currency: Decimal(total) for currency, total in run.totals.items()})
    sums.add(Tally(totals=tally.totals))
    run.totals = sums.texts()
    noted = [{"subscription": one.external_id, "reason": one.reason} for one in tally.refusals]
    run.failures = [*run.failures, *noted][:KEPT_FAILURES]
    run.heartbeat_at = clock.wall_now()
    run.save(update_fields=["billed_count", "invoice_count", "failed_count", "totals", "failures", "heartbeat_at"])


def bill_chunk(
    *,
    organisation: Organisation,
    cycles: Cycles,
    due_at: datetime,
    size: int,
    run: BillingRun | None,
    only: Sequence[uuid.UUID] | None,
    claimed: list[Due],
) -> Tally | None:
    """Claim and bill one chunk in one transaction; None when there is nothing to claim.

    ``claimed`` is told the rows, so that the caller knows which they were when the database refuses them.
    """
    with transaction.atomic():
        claimed[:] = claim(organisation=organisation, due_at=due_at, size=size, only=only)
        if not claimed:
            return None
        tally = write(organisation=organisation, cycles=cycles, rows=claimed, run=run)
        if run is not None:
            record(run.pk, tally)
        return tally


def _advance(cycles: Sequence[Cycle]) -> None:
    """Move the subscriptions to the period that was billed, in one statement."""
    moments = [cycle.moment for cycle in cycles]
    with connection.cursor() as cursor:
        cursor.execute(
            ADVANCE,
            [
                [cycle.row.id for cycle in cycles],
                [moment.number for moment in moments],
                [moment.start for moment in moments],
                [moment.end for moment in moments],
                [moment.next_billing_at for moment in moments],
                [moment.at for moment in moments],
            ],
        )


def _write_periods(
    organisation: Organisation, cycles: Sequence[Cycle], run: BillingRun | None, billed_at: datetime
) -> None:
    """Say that each period was billed; the table refuses to hear it twice."""
    recorded_at, run_id = clock.wall_now(), run.pk if run is not None else None
    copy_rows(
        BilledPeriod,
        PERIOD,
        (
            (uuid7(), recorded_at, organisation.pk, cycle.row.id, cycle.moment.at, cycle.moment.end, "cycle",
             cycle.invoice.id if cycle.invoice is not None else None, run_id, billed_at)
            for cycle in cycles
        ),
    )  # fmt: skip


def _renewed(cycle: Cycle) -> FreshEvent:
    row = cycle.row
    payload = subscription_payload(
        subscription_id=row.id,
        external_id=row.external_id,
        customer_id=row.customer_id,
        plan=cycle.book.plan_code,
        quantity=row.quantity,
        status=row.status,
        mrr=mrr_of(cycle.book, row.quantity, row.status),
    )
    return FreshEvent("subscription.renewed", AGGREGATE_TYPE, row.id, payload)
