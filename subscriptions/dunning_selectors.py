"""Reads of dunning: which cases are due, and what chasing brought in."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Sum
from moneyed import Money

from billing.models import Organisation
from subscriptions.models import DunningCase

STATUS = DunningCase.Status


@dataclass(frozen=True, kw_only=True)
class StageRecovery:
    """Cases that were paid after so many stages: 0 is before the first letter."""

    stage: int
    cases: int
    amount: Money


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """What chasing brought in, in one currency. ``rate``: recovered / claimed of the cases that ended, 0 to 1."""

    currency: str
    opened: int
    open: int
    recovered: int
    exhausted: int
    claimed: Money
    collected: Money
    rate: Decimal
    by_stage: tuple[StageRecovery, ...]


def due_cases(*, organisation: Organisation, on: date) -> QuerySet[DunningCase]:
    """Open cases whose next stage is reached on the day ``on``, oldest debt first.

    Of several cases of one subscription only the oldest is chased; the next takes its place when it is settled.
    """
    cases = DunningCase.objects.of(organisation)
    older = cases.filter(status=STATUS.OPEN, subscription=OuterRef("subscription")).filter(
        Q(overdue_since__lt=OuterRef("overdue_since"))
        | Q(overdue_since=OuterRef("overdue_since"), id__lt=OuterRef("id"))
    )
    return (
        cases.filter(~Exists(older), status=STATUS.OPEN, next_stage_on__lte=on)
        .select_related("policy", "invoice")
        .order_by("overdue_since", "id")
    )


def chased_invoices(*, invoice_ids: Collection[str]) -> set[str]:
    """Which of these invoices have a case, whatever became of it. One query."""
    found = DunningCase.objects.filter(invoice_id__in=set(invoice_ids)).order_by().values_list("invoice_id", flat=True)
    return {str(pk) for pk in found}


def recovery(*, organisation: Organisation, since: datetime, until: datetime) -> list[Recovery]:
    """Figures of the cases opened in [since, until), one for each currency."""
    cases = DunningCase.objects.of(organisation).filter(opened_at__gte=since, opened_at__lt=until)
    totals = (
        cases.values("currency")
        .annotate(
            opened=Count("id"),
            open=Count("id", filter=Q(status=STATUS.OPEN)),
            recovered_cases=Count("id", filter=Q(status=STATUS.RECOVERED)),
            exhausted=Count("id", filter=Q(status=STATUS.EXHAUSTED)),
            claimed_sum=Sum("claimed"),
            ended_sum=Sum("claimed", filter=Q(status__in=[STATUS.RECOVERED, STATUS.EXHAUSTED])),
            collected=Sum("recovered"),
        )
        .order_by("currency")
    )
    return [
        Recovery(
            currency=row["currency"],
            opened=row["opened"],
            open=row["open"],
            recovered=row["recovered_cases"],
            exhausted=row["exhausted"],
            claimed=_money(row["claimed_sum"], row["currency"]),
            collected=_money(row["collected"], row["currency"]),
            rate=_rate(row["collected"], row["ended_sum"]),
            by_stage=_by_stage(cases, row["currency"]),
        )
        for row in totals
    ]


def _by_stage(cases: QuerySet[DunningCase], currency: str) -> tuple[StageRecovery, ...]:
    rows = (
        cases.filter(currency=currency, status=STATUS.RECOVERED)
        .values(at_stage=F("stage"))
        .annotate(number=Count("id"), amount=Sum("recovered"))
        .order_by("at_stage")
    )
    return tuple(
        StageRecovery(stage=row["at_stage"], cases=row["number"], amount=_money(row["amount"], currency))
        for row in rows
    )


def _number(value: Any) -> Decimal:
    return Decimal(0) if value is None else getattr(value, "amount", value)


def _money(value: object, currency: str) -> Money:
    return Money(_number(value), currency)


def _rate(collected: object, ended: object) -> Decimal:
    base = _number(ended)
    return (_number(collected) / base).quantize(Decimal("0.0001")) if base else Decimal(0)
