"""Matching: settlement rows with payments, refunds and disputes; settlements with bank lines; the rest becomes exceptions."""

import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, time, timedelta
from typing import Any, NamedTuple

import structlog
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q

from billing import clock
from billing.models import Organisation
from billing.services import ledger, outbox
from payments.matching import REFERENCE, RETURNED, Candidate, Decisions, arrival_window, decide
from payments.models import (
    BankAccount,
    BankLine,
    Dispute,
    Payment,
    PaymentAttempt,
    Provider,
    Settlement,
    SettlementLine,
)
from payments.services import exceptions, findings, healing, matching_sql
from payments.services.exceptions import Finding
from payments.services.settlements import wire_of

log = structlog.get_logger(__name__)

BATCH = 5000
BANK_BATCH = 500
NO_ID = uuid.UUID(int=0)
ANSWER_AHEAD = timedelta(days=3)  # so long before its last day an unanswered dispute is put before a person
LATE_IN_GATEWAY = 7  # banking days after capture in which a payment must be in a settlement (international: T+7)


@dataclass(kw_only=True)
class MatchReport:
    """What a run did. ``lines`` are rows of settlements, ``bank`` lines of statements."""

    payments: int = 0
    refunds: int = 0
    disputes: int = 0
    recorded: int = 0
    set_aside: int = 0
    bank: int = 0
    offline: int = 0
    exceptions_opened: int = 0
    exceptions_closed: int = 0

    def as_dict(self) -> dict[str, int]:
        """For commands and logs."""
        return asdict(self)

    @property
    def total(self) -> int:
        """How much was matched."""
        return self.payments + self.refunds + self.disputes + self.bank + self.offline


def run_matching(*, organisation: Organisation, dry_run: bool = False) -> MatchReport:
    """Walk everything open down the ladder. Safe to repeat and to run twice at once.

    A dry run does the same work and takes it back, so it tells the same figures, except for what only the gateway knows.
    """
    if dry_run:
        with transaction.atomic():
            report = _run(organisation, ask=False)
            transaction.set_rollback(True)
            return report
    return _run(organisation, ask=True)


def _run(organisation: Organisation, *, ask: bool) -> MatchReport:
    report = MatchReport()
    now = clock.now(organisation)
    is_open = _open_work(organisation)
    found: list[Finding] = []
    decisions = Decisions()
    if is_open.rows:
        _match_rows(organisation, report)
        report.recorded = healing.record_settled(organisation, ask=ask)
        if report.recorded:
            _match_rows(organisation, report)
        found += _set_aside_rows(organisation, report)
    if is_open.bank_lines:
        decisions = _match_bank_lines(organisation, report)
        report.offline = _match_offline(organisation)
        found += _bank_findings(organisation, decisions, now)
    found += _overdue(organisation, now)
    if found:
        report.exceptions_opened = exceptions.open_exceptions(organisation=organisation, findings=found, at=now)
    report.exceptions_closed = exceptions.close_gone(organisation=organisation, at=now)
    return report


class _Open(NamedTuple):
    rows: bool
    bank_lines: bool


def _open_work(organisation: Organisation) -> _Open:
    """What a run has to look at: most runs of an hour find nothing new and end after one look."""
    with connection.cursor() as cursor:
        cursor.execute(matching_sql.OPEN_WORK, {"organisation": organisation.pk})
        return _Open(*cursor.fetchone())


# --- rows of settlements ---------------------------------------------------------------------------


def _match_rows(organisation: Organisation, report: MatchReport) -> None:
    report.payments += _batches(matching_sql.PAYMENTS, organisation, ["payment"])
    report.refunds += _batches(matching_sql.REFUNDS, organisation, ["refund"])
    report.disputes += _batches(matching_sql.DISPUTES, organisation, ["dispute", "dispute_reversal"])
    with connection.cursor() as cursor:
        cursor.execute(matching_sql.FEES, {"organisation": organisation.pk})


def _batches(statement: str, organisation: Organisation, kinds: list[str]) -> int:
    """Run one step batch by batch, each in its own transaction; return how many rows matched."""
    after, matched = NO_ID, 0
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement, {"organisation": organisation.pk, "kinds": kinds, "after": after, "size": BATCH})
            size, last, done = cursor.fetchone()
        matched += done
        if size < BATCH:
            return matched
        after = last


@transaction.atomic
def _set_aside_rows(organisation: Organisation, report: MatchReport) -> list[Finding]:
    """Rows that nothing fits: each becomes an exception with what is known about it."""
    with connection.cursor() as cursor:
        cursor.execute(matching_sql.LEFT_OVER, {"organisation": organisation.pk, "size": BATCH})
        left_over = cursor.fetchall()
    found = {row[0]: findings.of_settlement_row(row) for row in left_over}
    SettlementLine.objects.filter(pk__in=found).update(state=SettlementLine.State.EXCEPTION)
    report.set_aside = len(found)
    return list(found.values())


# --- settlements and bank lines --------------------------------------------------------------------


def _match_bank_lines(organisation: Organisation, report: MatchReport) -> Decisions:
    decisions = decide(candidates(organisation))
    pairs = list(decisions.matched.items())
    for start in range(0, len(pairs), BANK_BATCH):
        with transaction.atomic():
            report.bank += match_pairs(organisation=organisation, pairs=dict(pairs[start : start + BANK_BATCH]))
    return decisions


def candidates(organisation: Organisation) -> list[Candidate]:
    """Open bank lines and settlements that have a reference, or amount and days, in common."""
    holidays = exceptions.bank_holidays(organisation)
    waiting = Settlement.objects.of(organisation).filter(status=Settlement.Status.PAID).values_list("pk", "settled_on")
    windows = [(pk, *arrival_window(day, country=organisation.country, holidays=holidays)) for pk, day in waiting]
    with connection.cursor() as cursor:
        cursor.execute(matching_sql.CANDIDATES, {
            "organisation": organisation.pk, "ids": [pk for pk, _, _ in windows],
            "first_days": [first for _, first, _ in windows], "last_days": [last for _, _, last in windows],
        })  # fmt: skip
        rows = cursor.fetchall()
    return [
        Candidate(line=line, settlement=settlement, reference_agrees=named, amount_agrees=equal, in_window=bool(within),
                  arrived=arrived, reverse=reverse, order=(booked_on, row_number))
        for line, settlement, named, equal, within, arrived, reverse, booked_on, row_number in rows
    ]  # fmt: skip


def match_pairs(*, organisation: Organisation, pairs: dict[uuid.UUID, tuple[uuid.UUID, str]]) -> int:
    """Match bank lines with settlements (line → settlement and rule) in the caller's transaction; post and tell.

    Pairs of which one side was taken meanwhile are left out. Returns how many were matched.
    """
    lines = {line.pk: line for line in BankLine.objects.of(organisation).select_for_update(of=("self",)).select_related("bank_account")
             .filter(pk__in=pairs, state__in=_OPEN).order_by("pk")}  # fmt: skip
    settlements = {row.pk: row for row in Settlement.objects.of(organisation).select_for_update(of=("self",))
                   .select_related("gateway_account").filter(pk__in=[pk for pk, _ in pairs.values()]).order_by("pk")}  # fmt: skip
    entries, matched = [], []
    for line_id, (settlement_id, rule) in pairs.items():
        line, settlement = lines.get(line_id), settlements.get(settlement_id)
        if line is None or settlement is None or not _may_meet(line, settlement, rule):
            continue
        line.match(rule=rule)
        line.settlement = settlement
        line.save(update_fields=["state", "rule", "settlement"])
        if settlement.status == Settlement.Status.PAID:
            settlement.arrive()
            settlement.save(update_fields=["status"])
        entries.append(_in_bank(organisation, line, settlement, rule))
        matched.append(settlement)
    ledger.post_many(organisation=organisation, entries=entries)
    for settlement in matched:
        outbox.publish("settlement.matched", settlement, **wire_of(settlement))
    return len(matched)


def _may_meet(line: BankLine, settlement: Settlement, rule: str) -> bool:
    """A paid payout meets its line; one that failed since meets by its reference the line that came, and the one that left."""
    if line.amount.currency != settlement.amount.currency:
        return False
    if settlement.status == Settlement.Status.FAILED:
        return rule in (REFERENCE, RETURNED)
    return settlement.status == Settlement.Status.PAID and rule != RETURNED


_OPEN = (BankLine.State.UNMATCHED, BankLine.State.EXCEPTION)


def _in_bank(organisation: Organisation, line: BankLine, settlement: Settlement, rule: str) -> ledger.Entry:
    """The money left transit; what a person allowed to differ from the settlement's amount is a bank charge."""
    expected = -settlement.amount if rule == RETURNED else settlement.amount
    return ledger.Entry(
        kind="settlement_in_bank", source_type="settlement", source_id=settlement.pk, occurred_at=booked_at(organisation, line),
        key=f"settlement:{settlement.pk}:{'returned' if rule == RETURNED else 'in_bank'}",
        description=f"Settlement {settlement.gateway_ref} on the statement of {line.booked_on}",
        lines=[
            ledger.debit(f"bank:{line.bank_account.code}", line.amount),
            ledger.debit("bank_charges", expected - line.amount),
            ledger.credit(f"settlement_in_transit:{settlement.gateway_account.code}", expected),
        ],
    )  # fmt: skip


def booked_at(organisation: Organisation, line: BankLine) -> datetime:
    """Noon of the day of booking where the organisation is: statements tell days, the ledger wants moments."""
    return datetime.combine(line.booked_on, time(12), tzinfo=clock.zone(organisation))


# --- offline payments ------------------------------------------------------------------------------


@transaction.atomic
def _match_offline(organisation: Organisation) -> int:
    with connection.cursor() as cursor:
        cursor.execute(matching_sql.OFFLINE, {"organisation": organisation.pk})
        fitting = {line: payments for line, payments in cursor.fetchall() if len(payments) == 1}
    uses = Counter(payments[0] for payments in fitting.values())
    pairs = {line: payments[0] for line, payments in fitting.items() if uses[payments[0]] == 1}
    lines = BankLine.objects.of(organisation).select_for_update(of=("self",)).select_related("bank_account")
    entries = []
    for line in lines.filter(pk__in=pairs, state__in=_OPEN).order_by("pk"):
        payment = Payment.objects.select_related("gateway_account").get(pk=pairs[line.pk])
        line.match(rule="our_reference")
        line.payment = payment
        line.save(update_fields=["state", "rule", "payment"])
        entries.append(_offline_in_bank(organisation, line, payment))
    ledger.post_many(organisation=organisation, entries=entries)
    return len(entries)


def _offline_in_bank(organisation: Organisation, line: BankLine, payment: Payment) -> ledger.Entry:
    attempt = payment.attempts.select_related("gateway_account").get(status=PaymentAttempt.Status.CAPTURED)
    return ledger.Entry(
        kind="offline_payment_in_bank", source_type="payment", source_id=payment.pk, occurred_at=booked_at(organisation, line),
        key=f"payment:{payment.pk}:in_bank", description=f"Payment {payment.reference} on the statement of {line.booked_on}",
        lines=[
            ledger.debit(f"bank:{line.bank_account.code}", line.amount),
            ledger.credit(f"gateway_clearing:{attempt.gateway_account.code}", line.amount),
        ],
    )  # fmt: skip


# --- what stays open -------------------------------------------------------------------------------


@transaction.atomic
def _bank_findings(organisation: Organisation, decisions: Decisions, now: datetime) -> list[Finding]:
    """Bank lines the ladder could not decide, and lines that nothing explains after a banking day."""
    today = now.astimezone(clock.zone(organisation)).date()
    patient_until = exceptions.banking_day(organisation, today, -1)
    undecided = decisions.differing.keys() | decisions.duplicate.keys() | decisions.ambiguous.keys()
    waiting = (
        BankLine.objects.of(organisation)
        .select_for_update(of=("self",), skip_locked=True)
        .filter(Q(pk__in=undecided) | Q(amount__lt=0) | Q(booked_on__lte=patient_until), state=BankLine.State.UNMATCHED)
    )
    settlements = Settlement.objects.of(organisation).in_bulk(
        [
            *decisions.differing.values(),
            *decisions.duplicate.values(),
            *(pk for many in decisions.ambiguous.values() for pk in many),
        ]
    )
    found = [
        findings.of_undecided(line, decisions, settlements) if line.pk in undecided else findings.of_unknown(line)
        for line in waiting.order_by("pk")
    ]
    BankLine.objects.filter(pk__in=[finding.source_id for finding in found]).update(state=BankLine.State.EXCEPTION)
    return found


def _overdue(organisation: Organisation, now: datetime) -> Iterable[Finding]:
    """Payouts that are not on a statement in time, payments in no settlement in time, payouts that rows do not explain."""
    today = now.astimezone(clock.zone(organisation)).date()
    with_bank = BankAccount.objects.of(organisation).values("currency")
    waiting = Settlement.objects.of(organisation).filter(status=Settlement.Status.PAID, currency__in=with_bank)
    named = {line.details.get("settlement") for line in _open_exceptions_of_lines(organisation)}
    for settlement in waiting.filter(settled_on__lt=today - timedelta(days=4)):
        last = arrival_window(
            settlement.settled_on, country=organisation.country, holidays=exceptions.bank_holidays(organisation)
        )[1]
        if today > last and str(settlement.pk) not in named:
            yield findings.of_missing_in_bank(settlement, last)
    for settlement in (
        Settlement.objects.of(organisation).filter(lines_complete=True).exclude(unexplained=0).exclude(status="failed")
    ):
        yield findings.of_unexplained(settlement)
    yield from map(findings.of_missing_in_gateway, _unsettled_payments(organisation, today))
    unanswered = Dispute.objects.of(organisation).filter(status=Dispute.Status.OPEN, respond_by__lt=now + ANSWER_AHEAD)
    yield from map(findings.of_unanswered, unanswered.order_by("respond_by"))


def _open_exceptions_of_lines(organisation: Organisation) -> Any:
    model = exceptions.ReconciliationException
    return model.objects.of(organisation).filter(
        status=model.Status.OPEN, source_type="bank_line", kind="amount_differs"
    )


def _unsettled_payments(organisation: Organisation, today: Any) -> Any:
    """Captured payments that should have been settled and are in no row of a settlement."""
    limit = exceptions.banking_day(organisation, today, -LATE_IN_GATEWAY)
    settled = SettlementLine.objects.filter(payment=OuterRef("pk"), kind="payment", state="matched")
    before = datetime.combine(limit, time(0), tzinfo=clock.zone(organisation))
    return (
        Payment.objects.of(organisation)
        .filter(status=Payment.Status.SUCCEEDED, captured_at__lt=before)
        .exclude(gateway_account__provider=Provider.OFFLINE)
        .exclude(gateway_account=None)
        .filter(~Exists(settled))
        .order_by("captured_at")[:BATCH]
    )
