"""Reads of dunning: which cases are due and for what, and what chasing brought in."""

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import CharField, Count, DecimalField, Exists, F, Func, OuterRef, Q, QuerySet, Sum, Value
from django.db.models.functions import Cast, Concat
from moneyed import Money

from billing import clock
from billing.models import Organisation
from invoices.models import Invoice, Mail, TextMessage
from invoices.selectors import payments_of as invoice_payments
from payments.models import Payment, PaymentAttempt
from subscriptions import dunning_rules as rules
from subscriptions import dunning_waits as waits
from subscriptions.models import DunningCase, DunningPause, DunningPolicy, Subscription

STATUS = DunningCase.Status
COLLECTABLE = (Invoice.Status.OPEN, Invoice.Status.PARTIALLY_PAID)
MAIL_WAITS = (Mail.Status.DUE, Mail.Status.SENDING)
TEXT_WAITS = (TextMessage.Status.DUE, TextMessage.Status.SENDING, TextMessage.Status.UNKNOWN)
SENT = "sent"
ENDED = (Subscription.Status.CANCELLED, Subscription.Status.EXPIRED)
Pauses = Mapping[uuid.UUID, list[tuple[date, date]]]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one case is due for. ``days_overdue`` are real days; grace and pauses only delay the stages."""

    case_id: uuid.UUID
    invoice_number: str
    stage: int
    days_overdue: int
    attempts: int
    actions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class StageRecovery:
    """What came after so many stages: 0 is before the first letter.

    ``reached``: cases that got that far; ``cases``: of them, those that were paid before the next stage, and ``rate`` their
    share, 0 to 1. ``amount``: all that came at this stage, parts of cases that are paid later or never too.
    """

    stage: int
    reached: int
    cases: int
    amount: Money
    rate: Decimal


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """What chasing brought in, in one currency.

    ``collected``: all that was paid, also in part and for cases that go on; ``rate``: of what was claimed by the cases that
    ended (recovered or exhausted), what was paid, 0 to 1.
    """

    currency: str
    opened: int
    open: int
    recovered: int
    exhausted: int
    claimed: Money
    collected: Money
    rate: Decimal
    by_stage: tuple[StageRecovery, ...]


# --- what is due -----------------------------------------------------------------------------------
def due_cases(*, organisation: Organisation, on: date) -> QuerySet[DunningCase]:
    """Open cases that may have reached a stage on the day ``on``, oldest debt first; ``step_of`` decides.

    Of several cases under one anchor only the oldest is chased; the next takes its place when it is settled. A paused
    customer is left alone, and a debit that is under way is waited for.
    """
    cases = DunningCase.objects.of(organisation)
    return (
        cases.filter(Q(next_stage_on__lte=on) | Q(attempts__gte=F("next_stage_attempts")), status=STATUS.OPEN)
        .exclude(Exists(active_pauses(on=on).filter(customer=OuterRef("customer"))))
        .exclude(Exists(debits_under_way()))
        .filter(~Exists(older_of(cases)))
        .select_related("policy", "invoice", "organisation")
        .order_by("overdue_since", "id")
    )


def older_of(cases: QuerySet[DunningCase]) -> QuerySet[DunningCase]:
    """Open cases that go before the case of the query around, under the same anchor."""
    return cases.filter(status=STATUS.OPEN, anchor=OuterRef("anchor")).filter(
        Q(overdue_since__lt=OuterRef("overdue_since"))
        | Q(overdue_since=OuterRef("overdue_since"), id__lt=OuterRef("id"))
    )


def owed_again_on(invoice: Invoice) -> date | None:
    """The day on which an invoice that was paid when it was due fell open again; None where it is simply not paid."""
    if invoice.due_on is None:
        return None
    zone = clock.zone(invoice.organisation)
    due_at = datetime.combine(invoice.due_on + timedelta(days=1), time.min, tzinfo=zone)
    taken_back = invoice.allocations.filter(amount__lt=0, created_at__gte=due_at).order_by("created_at").first()
    paid = invoice.allocations.filter(created_at__lt=due_at).aggregate(sum=Sum("amount"))["sum"]
    credited = invoice.credit_notes.filter(issued_on__lte=invoice.due_on).aggregate(sum=Sum("reduced_due"))["sum"]
    if taken_back is None or _number(paid) + _number(credited) < invoice.total.amount:
        return None
    return taken_back.created_at.astimezone(zone).date()


def debits_under_way() -> QuerySet[Payment]:
    """Payments for the invoice of the case of the query around whose money may be on its way: a bank debit takes days."""
    asked = Concat(Value("invoice:"), Cast(OuterRef("invoice_id"), CharField()))
    return Payment.objects.filter(
        customer=OuterRef("customer"), status=Payment.Status.PROCESSING, reference__startswith=asked
    )


def active_pauses(*, on: date) -> QuerySet[DunningPause]:
    """Pauses in force on the day ``on``."""
    return DunningPause.objects.filter(lifted_on=None, starts_on__lte=on, until__gte=on)


def paused_days_of(customers: Iterable[uuid.UUID]) -> Pauses:
    """The pauses of each customer as (first day, first day after it), in one query."""
    wanted, found = set(customers), defaultdict(list)
    if wanted:
        rows = DunningPause.objects.filter(customer__in=wanted).order_by("starts_on")
        for row in rows:
            found[row.customer_id].append((row.starts_on, row.ends_before))
    return found


def reached_by(case: DunningCase, *, on: date, pauses: Pauses) -> int:
    """How many stages the case has reached on the day ``on``."""
    counted = _counted(case, on, pauses)
    return rules.reached(rules.parse_stages(case.policy.stages), days=counted, attempts=case.attempts)


def _still(case: DunningCase, pauses: Pauses) -> list[tuple[date, date]]:
    """Times in which the case stood still: its customer was paused, or nothing was owed."""
    return rules.merged([*pauses.get(case.customer_id, ()), *case.settled_times])


def days_overdue(case: DunningCase, *, on: date) -> int:
    """Days since the due date on which the invoice was owed, paused or not."""
    times = rules.merged(case.settled_times)
    return (on - case.overdue_since).days - rules.days_within(times, since=case.overdue_since, on=on)


def step_of(case: DunningCase, *, on: date, pauses: Pauses) -> Step | None:
    """What is due for the case as it stands; None when nothing is, has to wait, or nothing is owed any more."""
    stage = reach_of(case, on=on, pauses=pauses).stage
    if stage <= case.stage or case.invoice.status not in COLLECTABLE:
        return None
    return Step(
        case_id=case.pk,
        invoice_number=case.invoice.number,
        stage=stage,
        days_overdue=days_overdue(case, on=on),
        attempts=case.attempts,
        actions=tuple(rules.actions_between(rules.parse_stages(case.policy.stages), case.stage, stage)),
    )


def reach_of(case: DunningCase, *, on: date, pauses: Pauses) -> waits.Reach:
    """How far the case may go on the day ``on``, and which stage it has reached that has to wait."""
    stages, reached = rules.parse_stages(case.policy.stages), reached_by(case, on=on, pauses=pauses)
    if not any(waits.is_final(stage) for stage in stages[case.stage : reached]):
        return waits.Reach(stage=max(reached, case.stage))
    return waits.reach(
        stages,
        _taken(case, pauses),
        taken=case.stage,
        reached=reached,
        days=_counted(case, on, pauses),
        attempts=case.attempts,
    )


def next_step_on(case: DunningCase, *, pauses: Pauses) -> date | None:
    """The day on which time brings the next stage, waits included; None when time brings none."""
    stages = rules.parse_stages(case.policy.stages)
    days = rules.next_day(stages, case.stage)
    if days is None:
        return None
    if waits.is_final(stages[case.stage]):
        _, first = waits.not_before(stages, case.stage + 1, _taken(case, pauses), attempts=case.attempts)
        days = max(days, first or days)
    return day_that_counts(case, days, pauses=pauses)


def day_that_counts(case: DunningCase, days: int, *, pauses: Pauses) -> date:
    """The day on which ``days`` days count for the case."""
    return rules.day_of(
        days=days, overdue_since=case.overdue_since, grace_days=case.policy.grace_days, pauses=_still(case, pauses)
    )


def _counted(case: DunningCase, on: date, pauses: Pauses) -> int:
    return rules.counted_days(
        overdue_since=case.overdue_since, on=on, grace_days=case.policy.grace_days, pauses=_still(case, pauses)
    )


def _taken(case: DunningCase, pauses: Pauses) -> list[waits.Taken]:
    """The steps in the case's history, with the counted days on which they were taken and their letters left."""
    stages, found, before = rules.parse_stages(case.policy.stages), [], 0
    left = _letters_left(case)
    for line in case.history:
        letter = waits.letter_between(stages, before, line["stage"])
        left_on = left.get(line["stage"], date.fromisoformat(line["on"])) if letter else None
        found.append(
            waits.Taken(
                stage=line["stage"],
                days=_counted(case, date.fromisoformat(line["on"]), pauses),
                letter=letter,
                letter_days=None if left_on is None else _counted(case, left_on, pauses),
            )
        )
        before = line["stage"]
    return found


def _letters_left(case: DunningCase) -> dict[int, date | None]:
    """By step: when its letter or text left, None while both still wait. What could not be sent is not in it.

    On a test clock a letter leaves on the day it is written: its worker runs on real time.
    """
    if case.organisation.test_clock_id is not None:
        return {}
    key, zone = f"dunning:{case.pk}:", clock.zone(case.organisation)
    found: dict[int, list[date | None]] = defaultdict(list)
    for model, waiting in ((Mail, MAIL_WAITS), (TextMessage, TEXT_WAITS)):
        rows = model.objects.of(case.organisation_id).filter(key__startswith=key, status__in=(*waiting, SENT))
        for name, status, sent_at in rows.values_list("key", "status", "sent_at"):
            on = sent_at.astimezone(zone).date() if status == SENT and sent_at else None
            found[int(name.removeprefix(key))].append(on)
    return {step: min((on for on in days if on is not None), default=None) for step, days in found.items()}


def chased_invoices(*, invoice_ids: Collection[str]) -> set[str]:
    """Which of these invoices have a case, whatever became of it. One query."""
    found = DunningCase.objects.filter(invoice_id__in=set(invoice_ids)).order_by().values_list("invoice_id", flat=True)
    return {str(pk) for pk in found}


# --- what a case is about --------------------------------------------------------------------------
def subscriptions_billed_by(invoice: Invoice) -> QuerySet[Subscription]:
    """The subscriptions that an invoice is for: the one it names, and all whose periods it bills."""
    mine = Q(billed_periods__invoice=invoice.pk)
    if invoice.subscription_ref is not None:
        mine |= Q(pk=invoice.subscription_ref)
    return Subscription.objects.of(invoice.organisation_id).filter(mine).distinct().order_by("id")


def subscriptions_of(case: DunningCase) -> list[Subscription]:
    """The subscriptions that the case's measures meet, in the order of their ids: those the invoice bills, or all of the customer."""
    if case.policy.scope == DunningPolicy.Scope.CUSTOMER:
        mine = Subscription.objects.of(case.organisation_id).filter(customer_id=case.customer_id)
        return list(mine.exclude(status__in=ENDED).order_by("id"))
    return list(subscriptions_billed_by(case.invoice))


def cases_about(subscription: Subscription) -> QuerySet[DunningCase]:
    """Cases whose measures meet the subscription, whatever became of them."""
    mine = (
        Q(subscription=subscription)
        | Q(invoice__billed_periods__subscription=subscription)
        | Q(customer=subscription.customer_id, policy__scope=DunningPolicy.Scope.CUSTOMER)
    )
    ids = DunningCase.objects.of(subscription.organisation_id).filter(mine).values("pk")
    return DunningCase.objects.filter(pk__in=ids).select_related("policy", "invoice")


def held_measures(subscription: Subscription, *, on: date) -> frozenset[str]:
    """What unpaid debts hold back from the subscription on the day ``on``: restrict, suspend, both or neither.

    Also debts whose chase has ended without money, as long as they are not written off.
    """
    unpaid = Q(status__in=(STATUS.OPEN, STATUS.EXHAUSTED), invoice__status__in=COLLECTABLE)
    cases = list(cases_about(subscription).filter(unpaid))
    pauses = paused_days_of(case.customer_id for case in cases)
    held = (
        rules.level(rules.parse_stages(case.policy.stages), max(case.stage, reached_by(case, on=on, pauses=pauses)))
        for case in cases
    )
    return frozenset().union(*held)


def taken_measures(subscription: Subscription) -> frozenset[str]:
    """What dunning ever took from the subscription: restrict, suspend, both or neither."""
    levels = (rules.level(rules.parse_stages(case.policy.stages), case.stage) for case in cases_about(subscription))
    return frozenset().union(*levels)


def counted_attempts(invoice: Invoice) -> int:
    """Debits for the invoice that the payer's bank refused for now.

    Refusals for good, faults on the way and what a customer tried on a page do not count.
    """
    asked = invoice_payments(organisation=invoice.organisation_id, invoice_id=invoice.pk)
    return PaymentAttempt.objects.filter(
        payment__in=asked,
        status=PaymentAttempt.Status.DECLINED,
        method__isnull=False,
        decline_class__in=rules.COUNTED_DECLINES,
    ).count()


# --- what it brought in ----------------------------------------------------------------------------
def recovery(*, organisation: Organisation, since: datetime, until: datetime) -> list[Recovery]:
    """Figures of the cases opened in [since, until), one for each currency."""
    cases = DunningCase.objects.of(organisation).filter(opened_at__gte=since, opened_at__lt=until)
    ended = Q(status__in=[STATUS.RECOVERED, STATUS.EXHAUSTED])
    totals = (
        cases.values("currency")
        .annotate(
            opened=Count("id"),
            open=Count("id", filter=Q(status=STATUS.OPEN)),
            recovered_cases=Count("id", filter=Q(status=STATUS.RECOVERED)),
            exhausted=Count("id", filter=Q(status=STATUS.EXHAUSTED)),
            claimed_sum=Sum("claimed"),
            ended_sum=Sum("claimed", filter=ended),
            ended_collected=Sum("recovered", filter=ended),
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
            rate=_rate(row["ended_collected"], row["ended_sum"]),
            by_stage=_by_stage(cases, row["currency"]),
        )
        for row in totals
    ]


def _by_stage(cases: QuerySet[DunningCase], currency: str) -> tuple[StageRecovery, ...]:
    mine = cases.filter(currency=currency)
    rows = (
        mine.values(at_stage=F("stage"))
        .annotate(number=Count("id"), paid=Count("id", filter=Q(status=STATUS.RECOVERED)))
        .order_by("at_stage")
    )
    found = {row["at_stage"]: row for row in rows}
    stages = range(max(found, default=-1) + 1)
    sums = mine.aggregate(**{f"at_{stage}": Sum(_came_at(stage)) for stage in stages}) if found else {}
    return tuple(_stage_recovery(stage, found, sums[f"at_{stage}"], currency) for stage in stages)


def _came_at(stage: int) -> Cast:
    amount = Func(F("recovered_by_stage"), Value(str(stage)), function="jsonb_extract_path_text")
    return Cast(amount, DecimalField(max_digits=19, decimal_places=4))


def _stage_recovery(stage: int, found: Mapping[int, Mapping[str, Any]], amount: object, currency: str) -> StageRecovery:
    reached = sum(row["number"] for at_stage, row in found.items() if at_stage >= stage)
    paid = found[stage]["paid"] if stage in found else 0
    return StageRecovery(
        stage=stage,
        reached=reached,
        cases=paid,
        amount=_money(amount, currency),
        rate=_rate(Decimal(paid), Decimal(reached)),
    )


def _number(value: Any) -> Decimal:
    return Decimal(0) if value is None else getattr(value, "amount", value)


def _money(value: object, currency: str) -> Money:
    return Money(_number(value), currency)


def _rate(collected: object, ended: object) -> Decimal:
    base = _number(ended)
    return (_number(collected) / base).quantize(Decimal("0.0001")) if base else Decimal(0)
