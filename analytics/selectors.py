"""Figures for dashboards and the API: reads only, one query each, never a sum over mixed currencies."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Count, DecimalField, F, Q, Sum
from django.db.models.functions import TruncMonth

from analytics import mrr
from analytics.models import MrrMovement
from billing import clock
from billing.models import Customer, Organisation
from invoices.models import Invoice
from payments.models import Payment, PaymentAttempt
from subscriptions.models import Subscription

MONEY = DecimalField(max_digits=19, decimal_places=4)


@dataclass(frozen=True, kw_only=True)
class CollectionRow:
    """Invoices issued in a month, in one currency: how much of them was collected, and how their payments went."""

    month: date
    currency: str
    invoiced: Decimal
    collected: Decimal
    credited: Decimal
    written_off: Decimal
    outstanding: Decimal

    @property
    def collection_rate(self) -> Decimal | None:
        """Collected of what was invoiced less credit notes, percent."""
        return mrr.percent(self.collected, self.invoiced - self.credited)


@dataclass(frozen=True, kw_only=True)
class PaymentFigures:
    """Payments of a span: how many succeeded, at once or after a refusal, and why attempts were refused."""

    payments: int
    succeeded: int
    recovered: int
    failed: int
    attempts: int
    declined_attempts: int
    declines: list[tuple[str, int]]

    @property
    def success_rate(self) -> Decimal | None:
        """Succeeded payments of all that ended, percent."""
        return mrr.percent(Decimal(self.succeeded), Decimal(self.succeeded + self.failed))

    @property
    def first_attempt_rate(self) -> Decimal | None:
        """Captured attempts of all attempts that ended, percent."""
        return mrr.percent(Decimal(self.attempts - self.declined_attempts), Decimal(self.attempts))


def mrr_table(*, organisation: Organisation, months: int = 13) -> dict[str, list[mrr.MonthRow]]:
    """Month rows by currency for the last ``months`` months up to the organisation's present one."""
    last = clock.today(organisation).replace(day=1)
    first = last
    for _ in range(months - 1):
        first = (first - timedelta(days=1)).replace(day=1)
    moves: dict[str, list[tuple[UUID, mrr.Movement]]] = defaultdict(list)
    rows = MrrMovement.objects.of(organisation).order_by("occurred_at", "id")
    for customer, kind, amount, currency, at, month in rows.values_list(
        "customer_id", "kind", "amount", "currency", "occurred_at", "month"
    ):
        moves[currency].append((customer, mrr.Movement(kind=kind, amount=_number(amount), at=at, month=month)))
    return {currency: mrr.month_rows(found, first=first, last=last) for currency, found in sorted(moves.items())}


def collection_by_month(
    *, organisation: Organisation, since: date | None = None, until: date | None = None
) -> list[CollectionRow]:
    """Invoices by month of issue and currency, without drafts and void ones."""
    invoices = Invoice.objects.of(organisation).exclude(status__in=["draft", "void"])
    if since:
        invoices = invoices.filter(issued_on__gte=since)
    if until:
        invoices = invoices.filter(issued_on__lte=until)
    rows = (
        invoices.annotate(of_month=TruncMonth("issued_on"))
        .values("of_month", "currency")
        .annotate(
            invoiced_sum=Sum(F("total"), output_field=MONEY),
            collected_sum=Sum(F("paid"), output_field=MONEY),
            credited_sum=Sum(F("credited"), output_field=MONEY),
            lost_sum=Sum(F("due"), filter=Q(status="uncollectible"), output_field=MONEY),
            open_sum=Sum(F("due"), filter=~Q(status="uncollectible"), output_field=MONEY),
        )
        .order_by("of_month", "currency")
    )
    return [
        CollectionRow(
            month=row["of_month"],
            currency=row["currency"],
            invoiced=_number(row["invoiced_sum"]),
            collected=_number(row["collected_sum"]),
            credited=_number(row["credited_sum"]),
            written_off=_number(row["lost_sum"]),
            outstanding=_number(row["open_sum"]),
        )
        for row in rows
    ]


def payment_figures(
    *, organisation: Organisation, since: datetime | None = None, until: datetime | None = None
) -> PaymentFigures:
    """How the payments created from ``since`` to ``until`` went."""
    span = Q()
    if since:
        span &= Q(created_at__gte=since)
    if until:
        span &= Q(created_at__lt=until)
    payments = Payment.objects.of(organisation).filter(span)
    figures = payments.aggregate(
        all=Count("pk"),
        succeeded=Count("pk", filter=Q(status="succeeded")),
        recovered=Count("pk", filter=Q(status="succeeded", attempts_made__gt=1)),
        failed=Count("pk", filter=Q(status="failed")),
    )
    attempts = PaymentAttempt.objects.of(organisation).filter(payment__in=payments, status__in=["captured", "declined"])
    tried = attempts.aggregate(all=Count("pk"), declined=Count("pk", filter=Q(status="declined")))
    declines = (
        attempts.filter(status="declined")
        .values_list("decline_code")
        .annotate(times=Count("pk"))
        .order_by("-times", "decline_code")[:8]
    )
    return PaymentFigures(
        payments=figures["all"],
        succeeded=figures["succeeded"],
        recovered=figures["recovered"],
        failed=figures["failed"],
        attempts=tried["all"],
        declined_attempts=tried["declined"],
        declines=[(code or "unknown", times) for code, times in declines],
    )


def counts(*, organisation: Organisation) -> dict[str, Any]:
    """Customers, subscriptions by status and invoices by status."""
    subscriptions = Subscription.objects.of(organisation).values_list("status").annotate(times=Count("pk"))
    invoices = Invoice.objects.of(organisation).values_list("status").annotate(times=Count("pk"))
    return {
        "customers": Customer.objects.of(organisation).filter(archived_at=None).count(),
        "subscriptions": dict(sorted(subscriptions)),
        "invoices": dict(sorted(invoices)),
    }


def _number(value: Any) -> Decimal:
    return Decimal(0) if value is None else getattr(value, "amount", value)
