"""Deferred revenue: schedules of what is earned when, and the postings on their days."""

from datetime import date, datetime
from decimal import Decimal

from django.db import transaction
from django.db.models import Exists, F, OuterRef
from moneyed import Money

from billing import clock
from billing.models import Organisation
from billing.money import allocate
from billing.services import ledger
from invoices import postings
from invoices.models import Invoice, InvoiceLine, RecognitionEntry
from invoices.recognition import DEFERRED, earnings

BATCH = 500
FINAL = [
    Invoice.Status.OPEN,
    Invoice.Status.PARTIALLY_PAID,
    Invoice.Status.PAID,
    Invoice.Status.UNCOLLECTIBLE,
]


def recognise_revenue(*, organisation: Organisation, at: datetime | None = None) -> int:
    """Schedule new deferred lines, then move to revenue what was earned up to today. Returns how many months moved."""
    at = at or clock.now(organisation)
    while _schedule(organisation):
        pass
    day, done = at.astimezone(clock.zone(organisation)).date(), 0
    while moved := _earn(organisation, day, at):
        done += moved
    return done


@transaction.atomic
def _schedule(organisation: Organisation) -> int:
    """Write the schedules of up to a batch of deferred lines that have none."""
    scheduled = RecognitionEntry.objects.filter(line=OuterRef("pk"))
    lines = list(
        InvoiceLine.objects.of(organisation)
        .select_related("invoice")
        .filter(~Exists(scheduled), revenue_account=DEFERRED, invoice__status__in=FINAL)
        .filter(period_end__gte=F("period_start"))
        .order_by("pk")[:BATCH]
    )
    RecognitionEntry.objects.bulk_create([entry for line in lines for entry in _entries(line)], ignore_conflicts=True)
    return len(lines)


@transaction.atomic
def _earn(organisation: Organisation, day: date, at: datetime) -> int:
    """A batch. The invoices are locked as well, so that none is voided while what it earned is being posted."""
    due = list(
        RecognitionEntry.objects.of(organisation)
        .select_for_update(skip_locked=True, of=("self", "line__invoice"))
        .select_related("line__invoice")
        .filter(posted_at=None, due_on__lte=day)
        .exclude(line__invoice__status=Invoice.Status.VOID)
        .order_by("due_on", "pk")[:BATCH]
    )
    entries = [
        postings.earned(entry_id=row.pk, amount=row.amount, at=at, description=row.line.invoice.number)
        for row in due
        if row.amount.amount
    ]
    if entries:
        ledger.post_many(organisation=organisation, entries=entries)
    RecognitionEntry.objects.filter(pk__in=[row.pk for row in due]).update(posted_at=at)
    return len(due)


def take_back(*, invoice: Invoice, position: int, account: str, amount: Decimal) -> list[tuple[str, Decimal]]:
    """Accounts to debit when ``amount`` of a line is credited: unearned months shrink first, then revenue.

    The caller holds the invoice's lock and posts the result.
    """
    if account != DEFERRED:
        return [(account, amount)]
    line = invoice.lines.get(position=position)
    RecognitionEntry.objects.bulk_create(_entries(line), ignore_conflicts=True)
    waiting = list(RecognitionEntry.objects.select_for_update().filter(line=line, posted_at=None).order_by("number"))
    unearned = sum((row.amount.amount for row in waiting), Decimal(0))
    taken = min(amount, unearned) if amount >= 0 else max(amount, unearned)
    if taken:
        _shrink(waiting, Money(unearned - taken, invoice.currency))
    return [pair for pair in ((DEFERRED, taken), ("revenue", amount - taken)) if pair[1]]


def _shrink(waiting: list[RecognitionEntry], left: Money) -> None:
    """Spread what is left over the months that wait, in proportion."""
    parts = allocate(left, [abs(row.amount.amount) for row in waiting])
    for row, part in zip(waiting, parts, strict=True):
        row.amount = part
    RecognitionEntry.objects.bulk_update(waiting, ["amount"])


def _entries(line: InvoiceLine) -> list[RecognitionEntry]:
    if line.period_start is None or line.period_end is None or line.period_end < line.period_start:
        return []
    parts = earnings(amount=line.amount, start=line.period_start, end=line.period_end)
    return [
        RecognitionEntry(
            organisation_id=line.organisation_id,
            line=line,
            number=part.number,
            due_on=part.due_on,
            amount=part.amount,
        )
        for part in parts
    ]
