"""What a billing run hands from step to step: the due row, its billing moment with the lines, the refusal. And what is due."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

import structlog
from django.db.models import F, Q, QuerySet
from moneyed import Money

from billing.errors import Conflict, DomainError
from billing.models import Organisation
from billing.selectors.usage import Window
from invoices.drafts import LineInput
from invoices.services.bulk import PreparedInvoice
from subscriptions import recurring
from subscriptions.lines import Moment, PriceBook
from subscriptions.models import Subscription
from subscriptions.progressive import Earlier
from subscriptions.services import late_usage as late

log = structlog.get_logger(__name__)
BILLED_STATUSES = (Subscription.Status.ACTIVE, Subscription.Status.PAST_DUE)
ALONE = (Subscription.Status.INCOMPLETE,)  # its first invoice is waited for: it is neither shared nor a draft
FIRST_INVOICE = Q(status=Subscription.Status.INCOMPLETE, period_start=None)


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
    time_zone: str
    proration: str


@dataclass(slots=True)
class Cycle:
    """One billing moment of one subscription: its lines, and the invoice they are on; None when there is nothing to invoice.

    ``usage_book`` prices what is charged afterwards, ``windows`` is what it asks of the meters. ``lines`` are what is charged;
    ``earlier`` is what interim invoices billed of it, ``excess`` what they billed beyond what it costs now (``settled``).
    ``grace_days`` says how long the invoice stays a draft.
    """

    row: Due
    moment: Moment
    book: PriceBook
    usage_book: PriceBook
    windows: dict[str, Window] = field(default_factory=dict)
    lines: Sequence[LineInput] = ()
    earlier: Sequence[Earlier] = ()
    excess: dict[str, Decimal] = field(default_factory=dict)
    invoice: PreparedInvoice | None = None
    grace_days: int = 0
    reading: late.Reading | None = None
    least: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def waits(self) -> bool:
        """Whether it is looked at again when the grace ends: it has a draft, or late usage may make one."""
        return self.grace_days > 0 and (self.invoice is not None or bool(self.windows))

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
    moment: datetime | None = None

    @property
    def code(self) -> str:
        """Name of the error."""
        return self.reason.partition(":")[0][:60]


def due_subscriptions(organisation: Organisation, due_at: datetime) -> "QuerySet[Subscription]":
    """What a run may bill now: due, in good order, and with no planned change to come first."""
    return (
        Subscription.objects.of(organisation)
        .filter(next_billing_at__lte=due_at, failure="")
        .filter(Q(status__in=BILLED_STATUSES) | FIRST_INVOICE)
        .filter(Q(next_change_at=None) | Q(next_change_at__gt=F("next_billing_at")))
    )


def refusal(row: Due, exc: Exception) -> Refusal:
    """Why ``row`` was not billed; what nobody foresaw is logged with its trace."""
    if isinstance(exc, DomainError):
        return Refusal(row.id, row.external_id, f"{exc.code}: {exc}"[:300], row.next_billing_at)
    log.error("billing_run.unexpected", subscription=str(row.id), exc_info=exc)
    return Refusal(row.id, row.external_id, f"unexpected: {type(exc).__name__}: {exc}"[:300], row.next_billing_at)


@lru_cache(maxsize=4096)
def mrr_of(book: PriceBook, quantity: int, status: str) -> Money:
    """Monthly recurring revenue as events carry it; many subscriptions of a run share it."""
    return recurring.mrr(book=book, quantity=quantity, status=status)
