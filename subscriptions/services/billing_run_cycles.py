"""The reading half of a billing run: what is due, and what each billing moment comes to. Writes nothing."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import structlog
from django.db.models import F, Q, QuerySet
from moneyed import Money

from billing import clock
from billing.errors import Conflict, DomainError
from billing.models import Organisation
from billing.selectors.usage import Used, Window, aggregate_parts
from invoices.drafts import LineInput
from invoices.services.bulk import Issuer, PreparedInvoice
from subscriptions import recurring
from subscriptions.arrears import arrears_lines, elapsed
from subscriptions.lines import Moment, Payer, PriceBook, billing_moment, draft_of, lines_in_advance
from subscriptions.metering import by_component, windows_of
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
    add_ons: Mapping[str, int]
    status: str
    method_id: uuid.UUID | None
    collect_automatically: bool
    net_days: int
    anchor_on: date
    period_number: int
    period_start: datetime | None
    period_end: datetime | None
    next_billing_at: datetime
    next_change_at: datetime | None
    usage_from: datetime | None
    earlier_terms: Sequence[Mapping[str, Any]]
    ends_at: datetime | None


@dataclass(slots=True)
class Cycle:
    """One billing moment of one subscription; ``invoice`` is None when there is nothing to invoice.

    ``usage_book`` prices what is charged afterwards, ``windows`` is what it asks of the meters.
    """

    row: Due
    moment: Moment
    book: PriceBook
    usage_book: PriceBook
    windows: dict[str, Window] = field(default_factory=dict)
    invoice: PreparedInvoice | None = None

    def after(self) -> Due:
        """The row as billing this moment leaves it."""
        return self.row._replace(
            period_number=self.moment.number,
            period_start=self.moment.start,
            period_end=self.moment.end,
            next_billing_at=self.moment.next_billing_at,
            usage_from=self.moment.at,
            usage_version_id=None,
            earlier_terms=(),
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
        used = aggregate_parts(window for cycle in cycles for window in cycle.windows.values())
        priced = []
        for cycle in cycles:
            try:
                cycle.invoice = self._invoice(cycle, used)
                priced.append(cycle)
            except Exception as exc:
                refusals.append(refusal(cycle.row, exc))
        return priced, refusals

    def _read_books(self, rows: Sequence[Due]) -> None:
        wanted = {row.plan_version_id for row in rows} | {row.usage_version_id for row in rows if row.usage_version_id}
        wanted |= {uuid.UUID(noted["version"]) for row in rows for noted in row.earlier_terms}
        if missing := wanted - self._books.keys():
            self._books |= dict.fromkeys(missing, price_books(self.organisation, missing))

    def _book(self, version_id: uuid.UUID, currency: str, add_ons: Mapping[str, int] | None = None) -> PriceBook:
        return self._books[version_id].get(version_id, currency, add_ons)

    def _cycle(self, row: Due) -> Cycle:
        book = self._book(row.plan_version_id, row.currency, row.add_ons)
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
        old = row.usage_version_id
        cycle = Cycle(row, moment, book, self._book(old, row.currency) if old else book)
        if moment.usage_start is not None and moment.usage_end is not None:
            cycle.windows = windows_of(
                book=cycle.usage_book, customer_id=row.customer_id, subscription_id=row.id, start=moment.usage_start,
                end=moment.usage_end,
            )  # fmt: skip
        return cycle

    def _invoice(self, cycle: Cycle, used: Mapping[Window, Sequence[Used]]) -> PreparedInvoice | None:
        row, moment = cycle.row, cycle.moment
        lines = lines_in_advance(
            moment=moment, book=cycle.book, quantity=row.quantity, is_first=row.period_start is None
        )
        lines += self._arrears(cycle, used)
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

    def _arrears(self, cycle: Cycle, used: Mapping[Window, Sequence[Used]]) -> list[LineInput]:
        """What is charged afterwards: usage, components in arrears, minimums."""
        row, moment, book = cycle.row, cycle.moment, cycle.usage_book
        if moment.usage_end is None:
            return []
        past = elapsed(
            row=row,
            book=book,
            book_with=lambda version_id, add_ons: self._book(version_id, row.currency, add_ons),
            until=moment.usage_end,
            zone=self.zone,
        )
        return arrears_lines(elapsed=past, book=book, used=by_component(cycle.windows, used))


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
