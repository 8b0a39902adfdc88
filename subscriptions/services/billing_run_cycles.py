"""The reading half of a billing run: what is due, and what each billing moment comes to. Writes nothing."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

import structlog
from django.db.models import F, Q, QuerySet
from moneyed import Money

from billing import clock
from billing.errors import Conflict, DomainError
from billing.models import Organisation
from billing.selectors.usage import Window, aggregate
from invoices.services.bulk import Issuer, PreparedInvoice
from subscriptions import recurring
from subscriptions.lines import Moment, Payer, PriceBook, billing_moment, draft_of, lines_for_cycle
from subscriptions.models import Subscription
from subscriptions.selectors import PriceBooks, price_books

log = structlog.get_logger(__name__)
BILLED_STATUSES = (Subscription.Status.ACTIVE, Subscription.Status.PAST_DUE)


class PeriodStandsStill(Conflict):
    """The period that would be billed ends where it begins: billing it would never end."""

    code = "period_stands_still"
    message = "The period at {at} has no length; check anchor and end of the subscription."


class Due(NamedTuple):
    """The columns of a due subscription, in the order in which they are read."""

    id: uuid.UUID
    external_id: str
    customer_id: uuid.UUID
    plan_version_id: uuid.UUID
    usage_version_id: uuid.UUID | None
    currency: str
    quantity: int
    status: str
    method_id: uuid.UUID | None
    collect_automatically: bool
    net_days: int
    anchor_on: date
    period_number: int
    period_start: datetime | None
    next_billing_at: datetime
    next_change_at: datetime | None
    usage_from: datetime | None
    ends_at: datetime | None


@dataclass(slots=True)
class Cycle:
    """One billing moment of one subscription; ``invoice`` is None when there is nothing to invoice."""

    row: Due
    moment: Moment
    book: PriceBook
    invoice: PreparedInvoice | None

    def after(self) -> Due:
        """The row as billing this moment leaves it."""
        return self.row._replace(
            period_number=self.moment.number,
            period_start=self.moment.start,
            next_billing_at=self.moment.next_billing_at,
            usage_from=self.moment.at,
            usage_version_id=None,
        )


class Refusal(NamedTuple):
    """A subscription that cannot be billed, and why."""

    subscription_id: uuid.UUID
    external_id: str
    reason: str


def due_subscriptions(organisation: Organisation, due_at: datetime) -> "QuerySet[Subscription]":
    """What a run may bill now: due, in good order, and with no planned change to come first."""
    return (
        Subscription.objects.of(organisation)
        .filter(next_billing_at__lte=due_at, failure="", status__in=BILLED_STATUSES)
        .filter(Q(next_change_at=None) | Q(next_change_at__gt=F("next_billing_at")))
    )


class Cycles:
    """Prices billing moments; keeps what many subscriptions of one run share."""

    def __init__(self, *, organisation: Organisation, at: datetime) -> None:
        self.organisation = organisation
        self.at = at
        self.zone = clock.zone(organisation)
        self.today = at.astimezone(self.zone).date()
        self.issuer = Issuer(organisation=organisation, at=at)
        self._books: dict[uuid.UUID, PriceBooks] = {}

    def price(self, rows: Sequence[Due]) -> tuple[list[Cycle], list[Refusal]]:
        """What each row owes at its billing moment. A row that cannot be priced is refused by itself."""
        self._read_books(rows)
        self.issuer.meet(row.customer_id for row in rows)
        cycles: list[Cycle] = []
        refusals: list[Refusal] = []
        for row in rows:
            try:
                cycles.append(self._cycle(row))
            except Exception as exc:  # one broken subscription does not stop the others
                refusals.append(refusal(row, exc))
        usage = self._usage(cycles)
        priced = []
        for cycle in cycles:
            try:
                cycle.invoice = self._invoice(cycle, usage)
                priced.append(cycle)
            except Exception as exc:
                refusals.append(refusal(cycle.row, exc))
        return priced, refusals

    def _read_books(self, rows: Sequence[Due]) -> None:
        wanted = {row.plan_version_id for row in rows} | {row.usage_version_id for row in rows if row.usage_version_id}
        if missing := wanted - self._books.keys():
            self._books |= dict.fromkeys(missing, price_books(self.organisation, missing))

    def _book(self, version_id: uuid.UUID, currency: str) -> PriceBook:
        return self._books[version_id].get(version_id, currency)

    def _cycle(self, row: Due) -> Cycle:
        book = self._book(row.plan_version_id, row.currency)
        moment = billing_moment(
            anchor_on=row.anchor_on,
            interval=book.interval,
            interval_count=book.interval_count,
            zone=self.zone,
            next_billing_at=row.next_billing_at,
            period_number=row.period_number,
            usage_from=row.usage_from,
            ends_at=row.ends_at,
        )
        if moment.next_billing_at <= row.next_billing_at:
            raise PeriodStandsStill(at=row.next_billing_at.isoformat())
        return Cycle(row, moment, book, None)

    def _usage_book(self, cycle: Cycle) -> PriceBook:
        version_id = cycle.row.usage_version_id
        return self._book(version_id, cycle.row.currency) if version_id else cycle.book

    def _windows(self, cycle: Cycle) -> Iterable[Window]:
        if cycle.moment.usage_start is None or cycle.moment.usage_end is None:
            return
        for meter_id in self._usage_book(cycle).meter_ids:
            yield Window(cycle.row.customer_id, meter_id, cycle.moment.usage_start, cycle.moment.usage_end)

    def _usage(self, cycles: Iterable[Cycle]) -> dict[Window, Decimal]:
        """Everything the cycles ask for, in one query. A broken usage price is found again, and refused, when priced."""
        windows: list[Window] = []
        for cycle in cycles:
            try:
                windows += self._windows(cycle)
            except DomainError:
                continue
        return aggregate(windows)

    def _invoice(self, cycle: Cycle, usage: dict[Window, Decimal]) -> PreparedInvoice | None:
        row, moment = cycle.row, cycle.moment
        lines = lines_for_cycle(
            moment=moment,
            book=cycle.book,
            quantity=row.quantity,
            zone=self.zone,
            usage={window.meter_id: usage[window] for window in self._windows(cycle) if window in usage},
            usage_book=self._usage_book(cycle),
        )
        if not any(line.amount.amount for line in lines):
            return None
        payer = Payer(
            subscription_id=row.id,
            customer_id=row.customer_id,
            currency=row.currency,
            net_days=row.net_days,
            collect_automatically=row.collect_automatically,
            method_ref=row.method_id,
        )
        draft = draft_of(
            payer=payer, lines=lines, period_start=moment.first_on, period_end=moment.last_on, issued_on=self.today
        )
        return self.issuer.prepare(draft)


def refusal(row: Due, exc: Exception) -> Refusal:
    """Why ``row`` was not billed; what nobody foresaw is logged with its trace."""
    if isinstance(exc, DomainError):
        return Refusal(row.id, row.external_id, f"{exc.code}: {exc}"[:300])
    log.error("billing_run.unexpected", subscription=str(row.id), exc_info=exc)
    return Refusal(row.id, row.external_id, f"unexpected: {type(exc).__name__}: {exc}"[:300])


@lru_cache(maxsize=4096)
def mrr_of(book: PriceBook, quantity: int, status: str) -> Money:
    """Monthly recurring revenue as events carry it; many subscriptions of a run share it."""
    return recurring.mrr(book=book, quantity=quantity, status=status)
