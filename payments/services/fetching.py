"""Settlements are fetched from the gateways, each for itself: one that cannot be stored is set aside and holds up no other.

Where the next fetch begins follows from what is stored: never after a settlement whose rows are missing or that was set aside.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import structlog
from django.db import DataError, IntegrityError
from django.db.models import Max, Min
from django_fsm import TransitionNotAllowed

from billing import clock
from billing.errors import DomainError
from billing.models import Organisation
from billing.money import zero
from payments.gateways.base import (
    Gateway,
    SettlementLineRecord,
    SettlementRecord,
    SettlementStatus,
    UnreadableSettlement,
)
from payments.gateways.faults import GatewayMisconfigured, GatewayUnavailable
from payments.gateways.reading import UNREADABLE, why_unreadable
from payments.gateways.registry import gateway_for
from payments.models import GatewayAccount, PaymentAttempt, Provider, ReconciliationException, Settlement
from payments.services import exceptions, findings, misconfigured
from payments.services.settlements import PATIENCE, Recorded, record_settlement

log = structlog.get_logger(__name__)

OVERLAP = timedelta(days=12)  # asked again, for settlements that changed their state meanwhile
FIRST_LOOK_BACK = timedelta(days=60)
CHUNK = 100  # settlements looked up at once
SILENCES = 3  # so many times in a row a gateway may not answer before it is left alone for this pass
SET_ASIDE = "settlement_set_aside"
NOT_STORED = (*UNREADABLE, DataError, IntegrityError, TransitionNotAllowed)
"""Faults of one settlement. Others (no database, a task that has to stop) end the pass."""
Status = Settlement.Status


@dataclass(kw_only=True)
class FetchReport:
    """What a fetch did: settlements seen, new, changed; rows new; what was set aside; accounts that could not be asked."""

    seen: int = 0
    new: int = 0
    changed: int = 0
    lines: int = 0
    set_aside: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For commands and logs."""
        return {"seen": self.seen, "new": self.new, "changed": self.changed, "lines": self.lines,
                "set_aside": self.set_aside, "errors": self.errors}  # fmt: skip

    def count(self, done: Recorded) -> None:
        """Add what storing one settlement did."""
        self.new += done.created
        self.changed += done.changed
        self.lines += done.lines


def fetch_settlements(
    *, organisation: Organisation, since: datetime | None = None, until: datetime | None = None, dry_run: bool = False
) -> FetchReport:
    """Ask every gateway account for its settlements and store what is new. Safe to repeat.

    Stopped accounts too: what they captured is still paid out, and refunded or disputed months later.
    ``since`` defaults to twelve days before the newest one known, or the oldest one that is not complete. A gateway that
    cannot be asked is reported in ``errors`` and does not hold up the others. Each settlement is stored for itself; one that
    cannot be is in ``set_aside`` with the reason, and before a person as an exception. Nothing is called inside a transaction.
    """
    report = FetchReport()
    now = clock.now(organisation)
    accounts = GatewayAccount.objects.of(organisation).exclude(provider=Provider.OFFLINE)
    for account in accounts.order_by("pk"):
        try:
            start = since or _since(account, now)
            taking = _Pass(
                account=account, gateway=gateway_for(account), since=start, now=now, report=report, dry_run=dry_run
            )
            taking.run(until=until or now + timedelta(seconds=1))
        except DomainError as exc:
            report.errors[account.code] = str(exc)
            if isinstance(exc, GatewayMisconfigured) and not dry_run:
                misconfigured.tell(account=account, refusal=exc)
            log.warning("settlements.fetch_failed", account=account.code, code=exc.code)
    return report


@dataclass(kw_only=True)
class _Pass:
    """One account asked once."""

    account: GatewayAccount
    gateway: Gateway
    since: datetime
    now: datetime
    report: FetchReport
    dry_run: bool
    silent: list[SettlementRecord] = field(default_factory=list)

    def run(self, *, until: datetime) -> None:
        told = iter(self.gateway.settlements(since=self.since, until=until))
        while records := list(islice(told, CHUNK)):
            refs = [record.gateway_ref for record in records]
            rows = Settlement.objects.filter(gateway_account=self.account, gateway_ref__in=refs)
            known = {row.gateway_ref: row for row in rows}
            for record in records:
                self._take(record, known)

    def _take(self, record: SettlementRecord | UnreadableSettlement, known: Mapping[str, Settlement]) -> None:
        row = known.get(record.gateway_ref)
        if isinstance(record, UnreadableSettlement):
            self._set_aside(record, f"it cannot be read: {record.reason}")
            return
        if row is None or not row.lines_complete:
            lines, why = self._lines(record)
        elif _says_something_new(row, record):
            lines, why = None, ""
        else:
            return
        self.report.seen += 1
        stored = self._store(record, lines)
        if why and stored:
            self._set_aside(record, why)

    def _lines(self, record: SettlementRecord) -> tuple[list[SettlementLineRecord] | None, str]:
        """All rows of a settlement, else None, and why it is to be set aside.

        A gateway that does not answer is waited for; it is the settlement that has a fault where others are answered.
        """
        if len(self.silent) >= SILENCES:
            return None, ""
        try:
            lines = list(self.gateway.settlement_lines(record))
        except GatewayUnavailable as exc:
            self.silent.append(record)
            self.report.errors[self.account.code] = str(exc)
            return None, "the gateway does not give its rows" if self.now - record.created_at >= PATIENCE else ""
        except GatewayMisconfigured:
            raise  # a fault of the account, not of this settlement
        except NOT_STORED as exc:
            return None, f"its rows cannot be read: {_why(exc)}"
        for earlier in self.silent:
            self._set_aside(earlier, "the gateway does not give its rows, but those of others")
        self.silent.clear()
        return lines, ""

    def _store(self, record: SettlementRecord, lines: list[SettlementLineRecord] | None) -> bool:
        if self.dry_run:
            return True
        try:
            self.report.count(record_settlement(account=self.account, record=record, lines=lines, at=self.now))
        except NOT_STORED as exc:
            self._set_aside(record, _why(exc))
            return False
        return True

    def _set_aside(self, record: SettlementRecord | UnreadableSettlement, why: str) -> None:
        """Put it before a person, once; it is asked for again with every pass."""
        self.report.set_aside[record.gateway_ref] = why
        log.error("settlements.set_aside", account=self.account.code, settlement=record.gateway_ref, why=why)
        if self.dry_run:
            return
        known = Settlement.objects.filter(gateway_account=self.account, gateway_ref=record.gateway_ref).first()
        amount = record.amount if isinstance(record, SettlementRecord) else zero(self.account.organisation.currency)
        finding = findings.of_set_aside(
            account=self.account, gateway_ref=record.gateway_ref, why=why, created_at=record.created_at or self.since,
            source_id=known.pk if known else uuid.uuid5(self.account.pk, record.gateway_ref),
            amount=amount,
        )  # fmt: skip
        exceptions.open_exceptions(organisation=self.account.organisation, findings=[finding], at=self.now)


def _why(exc: Exception) -> str:
    return "the database refuses it" if isinstance(exc, DataError | IntegrityError) else why_unreadable(exc)


def _says_something_new(known: Settlement, record: SettlementRecord) -> bool:
    same = {Status.CREATED: SettlementStatus.CREATED, Status.PAID: SettlementStatus.PAID,
            Status.IN_BANK: SettlementStatus.PAID, Status.FAILED: SettlementStatus.FAILED}  # fmt: skip
    return same[Status(known.status)] != record.status or (bool(record.utr) and known.utr != record.utr)


def _since(account: GatewayAccount, now: datetime) -> datetime:
    """Where the fetch begins: before the newest one known, and before everything that is not stored in full."""
    mine = Settlement.objects.filter(gateway_account=account)
    newest = mine.aggregate(at=Max("created_at"))["at"]
    held = [datetime.fromisoformat(moment) for moment in _set_aside_of(account)]
    if newest is not None:
        unsure = mine.filter(lines_complete=False).aggregate(at=Min("created_at"))["at"]
        return min([newest, unsure or newest, *held]) - OVERLAP
    first = PaymentAttempt.objects.filter(gateway_account=account).aggregate(at=Min("started_at"))["at"]
    return min([first or now, now, *held]) - FIRST_LOOK_BACK


def _set_aside_of(account: GatewayAccount) -> list[str]:
    """When the gateway made what is set aside, as ISO moments."""
    open_ones = ReconciliationException.objects.of(account.organisation_id).filter(
        kind=SET_ASIDE, status=ReconciliationException.Status.OPEN, details__gateway_account=str(account.pk)
    )
    return list(open_ones.values_list("details__created_at", flat=True))
