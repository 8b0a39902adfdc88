"""Invoices in mid-period: usage that is charged in advance, soon after it happens, and usage whose price passes a threshold.

The period's end takes off what they charged. Rows are locked and priced again before an invoice is written, and what was
invoiced is read under that lock: a worker that dies, comes twice or comes late bills nothing twice.
"""

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import structlog
from django.db import transaction
from django.db.models import Q
from moneyed import Money

from billing import clock
from billing.models import Organisation
from billing.services import outbox
from invoices.drafts import InvoiceDraft, LineInput
from invoices.services.bulk import PreparedInvoice
from subscriptions.models import InterimInvoice, Price, Subscription, UsageThreshold
from subscriptions.periods import local_date
from subscriptions.progressive import Threshold, passed, take_off
from subscriptions.rules import rules_of
from subscriptions.services.billing_run_cycles import Cycles
from subscriptions.services.billing_run_lines import books_of
from subscriptions.services.billing_run_rows import BILLED_STATUSES, Cycle, Due
from subscriptions.services.coupon_book import CouponBook
from subscriptions.services.interim_lines import (
    NOTHING,
    Before,
    WindowKey,
    before_foreseen,
    interim_foreseen,
    lines_to_take_off,
)

log = structlog.get_logger(__name__)
CHUNK = 500
ZERO = Decimal(0)


class Reached(NamedTuple):
    """A subscription whose current usage is to be invoiced: ``lines``, what was invoiced and coupons taken off.

    ``threshold`` is the amount that ``used``, what is charged afterwards, has passed; 0: usage in advance, of which ``used`` is.
    """

    cycle: Cycle
    threshold: Decimal
    used: Decimal
    lines: Sequence[LineInput]


class Asked(NamedTuple):
    """A row that is looked at, and its plan."""

    row: Due
    plan_id: uuid.UUID
    plan_rules: Mapping[str, Any]


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
    """Invoice the usage so far of every subscription that is charged for it in advance, or has passed a threshold; returns how
    many invoices were issued.

    Usage of all subscriptions of a chunk is read in one query; only those that owe something are locked, and priced again.
    A period that is over is left to the billing run; a change or an end that is due comes first.
    """
    thresholds = Thresholds(organisation)
    ahead = _versions_in_advance(organisation)
    if not thresholds and not ahead:
        return 0
    cycles = Cycles(organisation=organisation, at=clock.now(organisation))
    eligible = _eligible(organisation, cycles.at, thresholds, ahead)
    after, issued = None, 0
    while page := _read(eligible.filter(pk__gt=after) if after else eligible, CHUNK):
        after = page[-1].row.id
        candidates = [one.cycle.row.id for one in _reached(cycles, page, thresholds)]
        if candidates:
            issued += _issue(organisation, cycles, thresholds, eligible.filter(pk__in=candidates))
    return issued


def foreseen(
    subscription: Subscription, *, at: datetime, coupons: CouponBook
) -> tuple[InvoiceDraft, Sequence[LineInput], Before] | None:
    """The invoice that ``invoice_passed`` would issue now for a row as it stands, its lines, and what those of its window came to
    with it. Reads only."""
    due_at, since = subscription.next_billing_at, subscription.usage_from
    if subscription.status not in BILLED_STATUSES or subscription.failure or since is None or since >= at:
        return None
    if due_at is None or due_at <= at:
        return None
    row = Due(**{name: getattr(subscription, name) for name in Due._fields})
    cycles = Cycles(organisation=subscription.organisation, at=at, coupons=coupons)
    plan = subscription.plan_version.plan
    asked = [Asked(row, plan.pk, plan.rules)]
    cycles.interim = {(row.id, since): interim_foreseen(subscription)}
    before = _before(subscription)
    found = _reached(cycles, asked, Thresholds(subscription.organisation), {(row.id, since): before})
    if not found:
        return None
    one = found[0]
    used = max(before.used, one.used) if one.threshold else before.used
    return _draft(cycles, one), one.lines, Before(used, at)


def held_until(subscription: Subscription) -> datetime | None:
    """When usage of the row's present window that is charged in advance may be invoiced again; None: at once. Reads only."""
    last = _before(subscription).issued_at
    if last is None:
        return None
    return last + _pause_between(subscription.organisation, subscription.plan_version.plan.rules)


def _before(subscription: Subscription) -> Before:
    """What interim invoices of the row's present window came to, those that only a preview has issued included."""
    issued = _billed([subscription.pk]).get((subscription.pk, subscription.usage_from), NOTHING)
    ahead = before_foreseen(subscription)
    return Before(max(issued.used, ahead.used), ahead.issued_at or issued.issued_at)


def _versions_in_advance(organisation: Organisation) -> list[uuid.UUID]:
    """Plan versions that charge usage in advance."""
    prices = Price.objects.of(organisation).filter(meter__isnull=False, pay_in_advance=True)
    return list(prices.order_by().values_list("version", flat=True).distinct())


def _eligible(organisation: Organisation, at: datetime, thresholds: Thresholds, ahead: Sequence[uuid.UUID]) -> Any:
    subjects = thresholds.subjects()
    return Subscription.objects.of(organisation).filter(
        Q(pk__in=subjects) | Q(plan_version__plan__in=subjects) | Q(plan_version__in=ahead),
        Q(next_change_at=None) | Q(next_change_at__gt=at),
        status__in=BILLED_STATUSES, failure="", usage_from__lt=at, next_billing_at__gt=at,
    ).order_by("id")  # fmt: skip


def _read(rows: Any, limit: int | None = None) -> list[Asked]:
    columns = rows.values_list(*Due._fields, "plan_version__plan", "plan_version__plan__rules")[:limit]
    return [Asked(Due(*row[:-2]), *row[-2:]) for row in columns]


def _reached(
    cycles: Cycles,
    asked: Sequence[Asked],
    thresholds: Thresholds,
    known_before: Mapping[WindowKey, Before] | None = None,
) -> list[Reached]:
    """Which rows owe something for their usage so far, by a threshold that no interim invoice of their window has reached, or
    because it is charged in advance and the last such invoice is long enough ago. Reads only."""
    known = {one.row.id: one for one in asked}
    billed = _billed(known) if known_before is None else known_before
    earlier = lines_to_take_off((one.row.id, one.row.usage_from) for one in asked)
    cycles.coupons.meet(one.row.customer_id for one in asked)
    found = []
    for cycle, lines in cycles.usage_so_far([one.row for one in asked]):
        row, ahead = cycle.row, cycle.usage_book.codes_as_used
        used = sum((line.amount.amount for line in lines if line.code not in ahead), ZERO)
        window = row.id, row.usage_from
        before = billed.get(window, NOTHING)
        threshold = passed(thresholds.of(row.id, known[row.id].plan_id, row.currency), used=used, billed=before.used)
        if threshold is None and not _is_time(cycles, known[row.id], before.issued_at):
            continue
        meant = lines if threshold is not None else [line for line in lines if line.code in ahead]
        if threshold is None:
            used = sum((line.amount.amount for line in meant), ZERO)
        discounted = cycles.coupons.take_off(
            meant, customer_id=row.customer_id, currency=row.currency, books=books_of([cycle])
        )
        left = take_off(discounted.lines, [*earlier.get(window, ()), *cycles.interim.get(window, ())]).lines
        if sum((line.amount.amount for line in left), ZERO) > 0:
            found.append(Reached(cycle, threshold or ZERO, used, left))
    return found


def _is_time(cycles: Cycles, asked: Asked, last: datetime | None) -> bool:
    """Whether usage in advance may be invoiced again: not more often than the plan or the organisation chose."""
    return last is None or cycles.at - last >= _pause_between(cycles.organisation, asked.plan_rules)


def _pause_between(organisation: Organisation, plan_rules: Mapping[str, Any]) -> timedelta:
    return timedelta(hours=rules_of(organisation.settings, plan_rules).usage_in_advance_hours)


def _billed(subscription_ids: Any) -> dict[tuple[uuid.UUID, datetime | None], Before]:
    """What interim invoices of each window came to so far."""
    found: dict[tuple[uuid.UUID, datetime | None], Before] = {}
    rows: Any = InterimInvoice.objects.filter(subscription__in=list(subscription_ids)).exclude(invoice__status="void")
    columns = ("subscription_id", "usage_from", "threshold", "used", "issued_at")
    for subscription_id, usage_from, threshold, used, issued_at in rows.order_by("issued_at").values_list(*columns):
        before = found.get((subscription_id, usage_from), NOTHING)
        asked_for = max(before.used, used) if threshold else before.used
        found[subscription_id, usage_from] = Before(asked_for, issued_at)
    return found


@transaction.atomic
def _issue(organisation: Organisation, cycles: Cycles, thresholds: Thresholds, candidates: Any) -> int:
    """Lock the candidates that nobody holds, price them again as they stand, and invoice what they used."""
    locked = candidates.select_for_update(skip_locked=True, no_key=True, of=("self",))
    ready = _reached(cycles, _read(locked), thresholds)
    cycles.issuer.meet(one.cycle.row.customer_id for one in ready)
    prepared: list[tuple[Reached, PreparedInvoice]] = []
    for one in ready:
        try:
            prepared.append((one, cycles.issuer.prepare(_draft(cycles, one))))
        except Exception as exc:  # the billing run will meet the same and set it aside
            log.warning("interim.refused", subscription=str(one.cycle.row.id), error=type(exc).__name__)
    cycles.issuer.issue([invoice for _, invoice in prepared])
    _note(organisation, cycles.at, prepared)
    return len(prepared)


def _draft(cycles: Cycles, one: Reached) -> InvoiceDraft:
    usage_from = one.cycle.row.usage_from
    assert usage_from is not None
    draft = cycles.draft([one.cycle], one.lines)
    return replace(draft, period_start=local_date(usage_from, cycles.zone), period_end=cycles.today)


def _note(organisation: Organisation, at: datetime, issued: Sequence[tuple[Reached, PreparedInvoice]]) -> None:
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
            "subscription.usage_threshold_passed" if row.threshold.amount else "subscription.usage_invoiced",
            row,
            at=at,
            subscription_id=str(row.subscription_id),
            invoice_id=str(row.invoice_id),
            threshold=f"{row.threshold.amount:f}",
            used=f"{row.used.amount:f}",
            currency=row.currency,
        )
