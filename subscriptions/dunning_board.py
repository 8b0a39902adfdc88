"""The dunning board: every debt being chased as a card under the stage it has reached, and the figures above them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, Exists, F, QuerySet, Sum, Window
from django.db.models.functions import RowNumber
from moneyed import Money

from billing import clock
from billing.models import Organisation
from subscriptions import dunning_rules as rules
from subscriptions.dunning_selectors import (
    STATUS,
    Recovery,
    active_pauses,
    days_overdue,
    debits_under_way,
    due_cases,
    older_of,
    recovery,
)
from subscriptions.models import DunningCase, DunningPause

CARDS = 25
FIGURES_OF = timedelta(days=90)


@dataclass(frozen=True, kw_only=True)
class Card:
    """One debt: what it is, how old, and what comes next."""

    case: DunningCase
    days: int
    next_on: date | None
    next_actions: tuple[str, ...]
    next_attempts: int | None
    pause: DunningPause | None
    waits: bool
    debit_under_way: bool
    held_because: str


@dataclass(frozen=True, kw_only=True)
class Column:
    """The debts that have taken ``stage`` stages; ``cards`` are the oldest of ``cases``."""

    stage: int
    cases: int
    sums: tuple[Money, ...]
    cards: tuple[Card, ...]

    @property
    def left_out(self) -> int:
        return self.cases - len(self.cards)


@dataclass(frozen=True, kw_only=True)
class Board:
    """The columns from the first to the furthest stage, and the figures of the last 90 days."""

    today: date
    columns: tuple[Column, ...]
    open: int
    owed: tuple[Money, ...]
    due_today: int
    paused: int
    recovery: tuple[Recovery, ...]


def board(*, organisation: Organisation) -> Board:
    """The board of one organisation, in a fixed number of queries."""
    now = clock.now(organisation)
    today = now.astimezone(clock.zone(organisation)).date()
    cases = DunningCase.objects.of(organisation).filter(status=STATUS.OPEN)
    columns = _columns(organisation, cases, today)
    return Board(
        today=today,
        columns=columns,
        open=sum(column.cases for column in columns),
        owed=_added([amount for column in columns for amount in column.sums]),
        due_today=due_cases(organisation=organisation, on=today).count(),
        paused=active_pauses(on=today).filter(organisation=organisation).count(),
        recovery=tuple(recovery(organisation=organisation, since=now - FIGURES_OF, until=_after(now))),
    )


def _after(now: datetime) -> datetime:
    return now + timedelta(seconds=1)


def _columns(organisation: Organisation, cases: QuerySet[DunningCase], today: date) -> tuple[Column, ...]:
    sums: dict[int, list[Money]] = defaultdict(list)
    counts: dict[int, int] = defaultdict(int)
    for row in cases.values("stage", "invoice__currency").annotate(n=Count("id"), owed=Sum("invoice__due")):
        sums[row["stage"]].append(Money(_number(row["owed"]), row["invoice__currency"]))
        counts[row["stage"]] += row["n"]
    cards = _cards(organisation, cases, today)
    return tuple(
        Column(stage=stage, cases=counts[stage], sums=tuple(sums[stage]), cards=tuple(cards[stage]))
        for stage in range(max(counts, default=-1) + 1)
    )


def _cards(organisation: Organisation, cases: QuerySet[DunningCase], today: date) -> dict[int, list[Card]]:
    place = Window(RowNumber(), partition_by=F("stage"), order_by=[F("overdue_since").asc(), F("id").asc()])
    waits = Exists(older_of(DunningCase.objects.of(organisation)))
    shown = (
        cases.annotate(place=place, waits=waits, debit_under_way=Exists(debits_under_way()))
        .filter(place__lte=CARDS)
        .select_related("invoice", "customer", "policy", "organisation")
        .order_by("overdue_since", "id")
    )
    rows: list[Any] = list(shown)
    pauses = {
        pause.customer_id: pause
        for pause in active_pauses(on=today).filter(customer__in={case.customer_id for case in rows})
    }
    found: dict[int, list[Card]] = defaultdict(list)
    for case in rows:
        found[case.stage].append(_card(case, today, pauses.get(case.customer_id)))
    return found


def _card(case: Any, today: date, pause: DunningPause | None) -> Card:
    stages = rules.parse_stages(case.policy.stages)
    coming = stages[case.stage] if case.stage < len(stages) else None
    return Card(
        case=case,
        days=days_overdue(case, on=today),
        next_on=case.next_stage_on,
        next_actions=coming.actions if coming else (),
        next_attempts=case.next_stage_attempts,
        pause=pause,
        waits=case.waits,
        debit_under_way=case.debit_under_way,
        held_because=case.held_because,
    )


def paused_by(case: DunningCase, *, today: date) -> DunningPause | None:
    """The pause in force for the case's customer."""
    found: DunningPause | None = active_pauses(on=today).filter(customer=case.customer_id).first()
    return found


def _added(amounts: Sequence[Money]) -> tuple[Money, ...]:
    totals: dict[str, Decimal] = defaultdict(Decimal)
    for amount in amounts:
        totals[amount.currency.code] += amount.amount
    return tuple(Money(total, code) for code, total in sorted(totals.items()))


def _number(value: Any) -> Decimal:
    return Decimal(0) if value is None else getattr(value, "amount", value)
