"""Progressive billing: usage whose price passes a threshold is invoiced in mid-period; the period's end takes it off."""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import structlog
from django.db import transaction
from django.db.models import Q
from moneyed import Money

from billing import clock
from billing.models import Organisation
from billing.services import outbox
from invoices.drafts import LineInput
from invoices.services.bulk import PreparedInvoice
from subscriptions.models import InterimInvoice, Subscription, UsageThreshold
from subscriptions.periods import local_date
from subscriptions.progressive import Threshold, passed, take_off
from subscriptions.services.billing_run_cycles import BILLED_STATUSES, Cycle, Cycles, Due
from subscriptions.services.interim_lines import lines_to_take_off

log = structlog.get_logger(__name__)
CHUNK = 500
ZERO = Decimal(0)


class Passed(NamedTuple):
    """A subscription whose current usage has passed a threshold."""

    cycle: Cycle
    threshold: Decimal
    used: Decimal
    lines: Sequence[LineInput]


class Thresholds:
    """The thresholds of an organisation: a subscription's own ones, else its plan's."""

    def __init__(self, organisation: Organisation) -> None:
        self._of: dict[tuple[uuid.UUID, str], list[Threshold]] = defaultdict(list)
        rows: Any = UsageThreshold.objects.of(organisation).filter(ended_at=None)
        for plan, subscription, currency, amount, recurring in rows.values_list(
            "plan", "subscription", "currency", "amount", "recurring"
        ):
            self._of[plan or subscription, currency].append(Threshold(amount, recurring))

    def __bool__(self) -> bool:
        return bool(self._of)

    def subjects(self) -> set[uuid.UUID]:
        """Ids of the plans and subscriptions that have any."""
        return {subject for subject, _ in self._of}

    def of(self, subscription_id: uuid.UUID, plan_id: uuid.UUID, currency: str) -> list[Threshold]:
        """What holds for one subscription."""
        return self._of.get((subscription_id, currency)) or self._of.get((plan_id, currency)) or []


def invoice_passed(*, organisation: Organisation) -> int:
    """Invoice the usage so far of every subscription that has passed a threshold; returns how many invoices were issued.

    Usage of all subscriptions of a chunk is read in one query; only those that passed are locked, and priced again.
    A period that is over is left to the billing run.
    """
    thresholds = Thresholds(organisation)
    if not thresholds:
        return 0
    cycles = Cycles(organisation=organisation, at=clock.now(organisation))
    after, issued = None, 0
    while page := _page(organisation, cycles.at, thresholds, after):
        after = page[-1][0].id
        candidates = [one.cycle.row.id for one in _passed(cycles, page, thresholds)]
        if candidates:
            issued += _issue(organisation, cycles, thresholds, candidates)
    return issued


def _eligible(organisation: Organisation, at: datetime, thresholds: Thresholds) -> Any:
    subjects = thresholds.subjects()
    return Subscription.objects.of(organisation).filter(
        Q(pk__in=subjects) | Q(plan_version__plan__in=subjects),
        status__in=BILLED_STATUSES, failure="", usage_from__lt=at, next_billing_at__gt=at,
    )  # fmt: skip


def _page(
    organisation: Organisation, at: datetime, thresholds: Thresholds, after: uuid.UUID | None
) -> list[tuple[Due, uuid.UUID]]:
    rows = _eligible(organisation, at, thresholds).order_by("id")
    return _read(rows.filter(pk__gt=after) if after else rows, CHUNK)


def _read(rows: Any, limit: int | None = None) -> list[tuple[Due, uuid.UUID]]:
    columns = rows.values_list(*Due._fields, "plan_version__plan")[:limit]
    return [(Due(*row[:-1]), row[-1]) for row in columns]


def _passed(cycles: Cycles, rows: Sequence[tuple[Due, uuid.UUID]], thresholds: Thresholds) -> list[Passed]:
    """Which rows have passed a threshold that no interim invoice of their window has reached. Reads only."""
    plans = {row.id: plan_id for row, plan_id in rows}
    billed = _billed(plans)
    found = []
    for cycle, lines in cycles.usage_so_far([row for row, _ in rows]):
        row, used = cycle.row, sum((line.amount.amount for line in lines), ZERO)
        before = billed.get((row.id, row.usage_from), ZERO)
        threshold = passed(thresholds.of(row.id, plans[row.id], row.currency), used=used, billed=before)
        if threshold is not None:
            found.append(Passed(cycle, threshold, used, lines))
    return found


def _billed(subscription_ids: Any) -> dict[tuple[uuid.UUID, datetime | None], Decimal]:
    """Usage that the last interim invoice of each window has reached."""
    found: dict[tuple[uuid.UUID, datetime | None], Decimal] = {}
    rows: Any = InterimInvoice.objects.filter(subscription__in=list(subscription_ids)).exclude(invoice__status="void")
    for subscription_id, usage_from, used in rows.values_list("subscription_id", "usage_from", "used"):
        key = (subscription_id, usage_from)
        found[key] = max(found.get(key, ZERO), used)
    return found


@transaction.atomic
def _issue(organisation: Organisation, cycles: Cycles, thresholds: Thresholds, candidates: Sequence[uuid.UUID]) -> int:
    """Lock the candidates that nobody holds, price them again as they stand, and invoice what they used."""
    locked = (
        _eligible(organisation, cycles.at, thresholds)
        .filter(pk__in=candidates)
        .select_for_update(skip_locked=True, no_key=True, of=("self",))
        .order_by("id")
    )
    ready = _passed(cycles, _read(locked), thresholds)
    earlier = lines_to_take_off((one.cycle.row.id, one.cycle.row.usage_from) for one in ready)
    cycles.issuer.meet(one.cycle.row.customer_id for one in ready)
    prepared: list[tuple[Passed, PreparedInvoice]] = []
    for one in ready:
        lines = take_off(one.lines, earlier.get(one.cycle.row.id, ())).lines
        if sum((line.amount.amount for line in lines), ZERO) <= 0:
            continue
        try:
            prepared.append((one, cycles.issuer.prepare(_draft(cycles, one, lines))))
        except Exception as exc:  # the billing run will meet the same and set it aside
            log.warning("interim.refused", subscription=str(one.cycle.row.id), error=type(exc).__name__)
    cycles.issuer.issue([invoice for _, invoice in prepared])
    _note(organisation, cycles.at, prepared)
    return len(prepared)


def _draft(cycles: Cycles, one: Passed, lines: Sequence[LineInput]) -> Any:
    usage_from = one.cycle.row.usage_from
    assert usage_from is not None
    draft = cycles.draft([one.cycle], lines)
    return replace(draft, period_start=local_date(usage_from, cycles.zone), period_end=cycles.today)


def _note(organisation: Organisation, at: datetime, issued: Sequence[tuple[Passed, PreparedInvoice]]) -> None:
    ids = [one.cycle.row.id for one, _ in issued]
    numbers: dict[tuple[uuid.UUID, Any], int] = defaultdict(int)
    for key in InterimInvoice.objects.filter(subscription__in=ids).values_list("subscription_id", "usage_from"):
        numbers[key] += 1
    interim = [
        InterimInvoice(
            organisation=organisation, subscription_id=one.cycle.row.id, usage_from=one.cycle.row.usage_from or at,
            usage_until=at, number=numbers[one.cycle.row.id, one.cycle.row.usage_from] + 1,
            threshold=Money(one.threshold, one.cycle.row.currency), used=Money(one.used, one.cycle.row.currency),
            invoice_id=invoice.id, issued_at=at,
        )
        for one, invoice in issued
    ]  # fmt: skip
    InterimInvoice.objects.bulk_create(interim)
    for row in interim:
        outbox.publish(
            "subscription.usage_threshold_passed",
            row,
            at=at,
            subscription_id=str(row.subscription_id),
            invoice_id=str(row.invoice_id),
            threshold=f"{row.threshold.amount:f}",
            used=f"{row.used.amount:f}",
            currency=row.currency,
        )
