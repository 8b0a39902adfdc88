"""The writing half of a billing run: one chunk, one transaction. Killed anywhere, it has happened whole or not at all."""

import contextlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from django.db import connection, transaction

from billing import clock
from billing.arrays import array_of, array_of_times
from billing.ids import uuid7
from billing.models import Organisation
from billing.money import quantize
from billing.services.bulk import FreshEvent, publish_fresh
from billing.services.copying import copy_rows
from invoices.services.bulk import PreparedInvoice
from subscriptions.events import subscription_payload
from subscriptions.models import BilledPeriod, BillingRun, FailedCycle
from subscriptions.services import draft_cycles, excess_credits, late_usage
from subscriptions.services.billing_run_claims import claim
from subscriptions.services.billing_run_cycles import Cycles
from subscriptions.services.billing_run_rows import Cycle, Due, Refusal, mrr_of

AGGREGATE_TYPE = "subscriptions.subscription"
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
    """What was billed: periods, invoices (``drafts`` of them are drafts), totals per currency, and what was set aside."""

    billed: int = 0
    invoices: int = 0
    drafts: int = 0
    totals: dict[str, Decimal] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)

    def count(self, cycles: Sequence[Cycle], refusals: Iterable[Refusal] = ()) -> None:
        """Add priced cycles and refusals; an invoice of several cycles counts once."""
        self.refusals += refusals
        self.billed += len(cycles)
        counted: set[uuid.UUID] = set()
        for cycle in cycles:
            invoice = cycle.invoice
            if invoice is not None and invoice.id not in counted:
                counted.add(invoice.id)
                self.drafts += cycle.grace_days > 0
                currency = cycle.row.currency
                self.totals[currency] = self.totals.get(currency, Decimal(0)) + invoice.total
        self.invoices += len(counted)

    def add(self, other: "Tally") -> None:
        """Add what another part of the run has done."""
        self.billed += other.billed
        self.invoices += other.invoices
        self.drafts += other.drafts
        self.refusals += other.refusals
        for currency, total in other.totals.items():
            self.totals[currency] = self.totals.get(currency, Decimal(0)) + total

    def texts(self) -> dict[str, str]:
        """Totals as decimal strings, for JSON."""
        return {currency: f"{quantize(total, currency):f}" for currency, total in sorted(self.totals.items())}


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
    with transaction.atomic(), _forgetting(cycles):
        claimed[:] = claim(organisation=organisation, due_at=due_at, size=size, only=only, terms=cycles.terms)
        if not claimed:
            return None
        return write(organisation=organisation, cycles=cycles, rows=claimed, run=run)


@contextlib.contextmanager
def _forgetting(cycles: Cycles) -> Iterator[None]:
    """Keep in memory no more coupons than a chunk's, whether it was billed or not."""
    try:
        yield
    finally:
        cycles.forget()


def write(*, organisation: Organisation, cycles: Cycles, rows: Sequence[Due], run: BillingRun | None) -> Tally:
    """Bill claimed rows in the caller's transaction."""
    cycles.coupons.lock(row.customer_id for row in rows)
    priced, refusals = cycles.price(rows)
    tally = Tally()
    tally.count(priced, refusals)
    set_aside(organisation, refusals, run, cycles.at)
    if priced:
        _advance(priced)
        _mended(priced, cycles.at)
        drafts = [cycle for cycle in priced if cycle.waits]
        cycles.issuer.write_drafts(_invoices(drafts))
        periods = _write_periods(organisation, priced, run, cycles.at)
        draft_cycles.note(organisation=organisation, cycles=drafts, periods=periods, at=cycles.at)
        publish_fresh(
            organisation_id=organisation.pk,
            events=[_renewed(cycle) for cycle in priced if cycle.row.period_start is not None],
            at=cycles.at,
        )
        over = [cycle for cycle in priced if cycle.excess and not cycle.grace_days]
        excess_credits.lock(cycle.row.customer_id for cycle in over)
        cycles.coupons.write({one.id: one.draft.currency for one in _invoices(priced)}, at=cycles.at)
        late_usage.settle(organisation=organisation, readings=readings_of(priced), at=cycles.at)
        # from here on other workers of the organisation wait for its numbers
        cycles.issuer.issue(_invoices(cycle for cycle in priced if not cycle.grace_days))
        for cycle in over:
            excess_credits.issue(row=cycle.row, excess=cycle.excess, at=cycles.at)
    return tally


def readings_of(cycles: Iterable[Cycle]) -> list[tuple[late_usage.Reading, uuid.UUID | None]]:
    """What was read to bill the cycles, each with its invoice; those that wait are read again when their grace ends."""
    return [
        (cycle.reading, cycle.invoice.id if cycle.invoice is not None else None)
        for cycle in cycles
        if cycle.reading is not None and not cycle.waits
    ]


def _invoices(cycles: Iterable[Cycle]) -> list[PreparedInvoice]:
    """The invoices of the cycles, each once."""
    return list({cycle.invoice.id: cycle.invoice for cycle in cycles if cycle.invoice is not None}.values())


def set_aside(organisation: Organisation, refusals: Sequence[Refusal], run: BillingRun | None, at: datetime) -> None:
    """Note on each subscription, and as a failed cycle, why it was not billed; runs leave it out until the note is cleared."""
    if not refusals:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE subscriptions_subscription s SET failure = u.reason, version = s.version + 1 "
            "FROM unnest(%s::uuid[], %s::text[]) AS u (id, reason) WHERE s.id = u.id",
            [[one.subscription_id for one in refusals], [one.reason for one in refusals]],
        )
    FailedCycle.objects.bulk_create(
        FailedCycle(
            organisation=organisation,
            subscription_id=one.subscription_id,
            run=run,
            starts_at=one.moment or at,
            code=one.code,
            reason=one.reason,
            failed_at=at,
        )
        for one in refusals
    )


def _advance(cycles: Sequence[Cycle]) -> None:
    """Move the subscriptions to the period that was billed, in one statement."""
    moments = [cycle.moment for cycle in cycles]
    with connection.cursor() as cursor:
        cursor.execute(
            ADVANCE,
            [
                array_of(cycle.row.id for cycle in cycles),
                array_of(moment.number for moment in moments),
                array_of_times(moment.start for moment in moments),
                array_of_times(moment.end for moment in moments),
                array_of_times(moment.next_billing_at for moment in moments),
                array_of_times(moment.at for moment in moments),
            ],
        )


def _mended(cycles: Sequence[Cycle], at: datetime) -> None:
    """What was set aside before and is billed now has not failed any more."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE subscriptions_failedcycle SET retried_at = %s WHERE retried_at IS NULL AND subscription_id = ANY(%s::uuid[])",
            [at, array_of(cycle.row.id for cycle in cycles)],
        )


def _write_periods(
    organisation: Organisation, cycles: Sequence[Cycle], run: BillingRun | None, billed_at: datetime
) -> dict[uuid.UUID, uuid.UUID]:
    """Say that each period was billed; the table refuses to hear it twice. Returns their ids by subscription."""
    recorded_at, run_id = clock.wall_now(), run.pk if run is not None else None
    ids = {cycle.row.id: uuid7() for cycle in cycles}
    copy_rows(
        BilledPeriod,
        PERIOD,
        (
            (ids[cycle.row.id], recorded_at, organisation.pk, cycle.row.id, cycle.moment.at, cycle.moment.end, "cycle",
             cycle.invoice.id if cycle.invoice is not None else None, run_id, billed_at)
            for cycle in cycles
        ),
    )  # fmt: skip
    return ids


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
