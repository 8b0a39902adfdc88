"""Reconciliation exceptions: opened once per cause, closed when the cause is gone, taken on by a person, never deleted."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models import Q
from moneyed import Money

from billing import clock
from billing.context import Actor
from billing.errors import InvalidInput, NotFound, PermissionRefused
from billing.models import Membership, Organisation, User
from billing.services import audit
from payments import matching
from payments.exception_classes import CLASSES
from payments.models import ReconciliationException

log = structlog.get_logger(__name__)

CAUSE_GONE = "cause_gone"
MAX_HOLIDAYS = 400
Status = ReconciliationException.Status


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that does not agree.

    ``source_type``: payment, refund, dispute, settlement, settlement_line, bank_line, payout (a settlement that may not be
    stored yet) or gateway_account.
    """

    kind: str
    source_type: str
    source_id: uuid.UUID
    amount: Money
    explanation: str
    details: dict[str, Any] = field(default_factory=dict)


@transaction.atomic
def open_exceptions(*, organisation: Organisation, findings: Iterable[Finding], at: datetime | None = None) -> int:
    """Open what is not open yet; return how many are new. What a person has resolved is not opened again."""
    findings = list(findings)
    unknown = {finding.kind for finding in findings} - CLASSES.keys()
    if unknown:
        raise InvalidInput(
            f"'{min(unknown)}' is no class of exceptions; see payments/exception_classes.py.", field="kind"
        )
    decided = set(
        ReconciliationException.objects.of(organisation)
        .filter(source_id__in=[finding.source_id for finding in findings])
        .filter(Q(status=Status.OPEN) | ~Q(resolution=CAUSE_GONE))
        .values_list("kind", "source_type", "source_id")
    )
    wanted = {(finding.kind, finding.source_type, finding.source_id): finding for finding in findings}
    at = at or clock.now(organisation)
    rows = [_row(organisation, finding, at) for key, finding in wanted.items() if key not in decided]
    ReconciliationException.objects.bulk_create(rows, ignore_conflicts=True, batch_size=1000)
    return len(rows)


@transaction.atomic
def assign(
    *, organisation: Organisation, exception_id: uuid.UUID, actor: Actor, owner: User | None = None
) -> ReconciliationException:
    """Put an exception on somebody's name (the actor's when no owner is given)."""
    if not actor.may("reconciliation.work"):
        raise PermissionRefused(permission="reconciliation.work")
    exception = locked(organisation=organisation, exception_id=exception_id)
    chosen = owner or User.objects.filter(pk=actor.id).first() if actor.type == "user" or owner else None
    if chosen is None or not (chosen.is_superuser or Membership.objects.of(organisation).filter(user=chosen).exists()):
        raise InvalidInput("Give a member of this organisation as owner.", field="owner")
    before = {"owner": str(exception.owner_id or "")}
    exception.owner = chosen
    exception.save(update_fields=["owner"])
    audit.record(actor=actor, action="reconciliation.exception_assigned", target=exception, before=before,
                 after={"owner": str(chosen.pk)})  # fmt: skip
    return exception


def locked(*, organisation: Organisation | uuid.UUID, exception_id: uuid.UUID) -> ReconciliationException:
    """The exception, locked until the caller's transaction ends; raises ``NotFound``."""
    found = (
        ReconciliationException.objects.of(organisation).select_for_update(of=("self",)).filter(pk=exception_id).first()
    )
    if found is None:
        raise NotFound
    return found


_GONE = """
UPDATE payments_reconciliationexception AS x
SET status = 'resolved', resolved_at = %(at)s, resolution = 'cause_gone', reason = 'The cause has gone: both sides agree now.'
WHERE x.organisation_id = %(organisation)s AND x.status = 'open' AND (
    (x.source_type = 'settlement_line' AND EXISTS (
        SELECT 1 FROM payments_settlementline l WHERE l.id = x.source_id AND l.state IN ('matched', 'returned')))
 OR (x.source_type = 'bank_line' AND EXISTS (
        SELECT 1 FROM payments_bankline b WHERE b.id = x.source_id AND b.state = 'matched'))
 OR (x.kind = 'missing_in_bank' AND x.source_type = 'settlement' AND EXISTS (
        SELECT 1 FROM payments_settlement s WHERE s.id = x.source_id AND s.status IN ('in_bank', 'failed')))
 OR (x.kind = 'amount_differs' AND x.source_type = 'settlement' AND EXISTS (
        SELECT 1 FROM payments_settlement s WHERE s.id = x.source_id AND (s.unexplained = 0 OR s.status = 'failed')))
 OR (x.kind = 'missing_in_gateway' AND x.source_type = 'payment' AND EXISTS (
        SELECT 1 FROM payments_settlementline l WHERE l.payment_id = x.source_id AND l.kind = 'payment' AND l.state = 'matched'))
 OR (x.kind = 'dispute_unanswered' AND x.source_type = 'dispute' AND EXISTS (
        SELECT 1 FROM payments_dispute d WHERE d.id = x.source_id AND d.status <> 'open'))
 OR (x.kind = 'gateway_misconfigured' AND EXISTS (
        SELECT 1 FROM payments_paymentattempt a WHERE a.gateway_account_id = x.source_id AND a.started_at > x.opened_at
        AND (a.status IN ('captured', 'authorized', 'processing', 'requires_action')
             OR a.status = 'declined' AND a.decline_class <> 'config')))
 OR (x.kind = 'request_refused' AND EXISTS (
        SELECT 1 FROM payments_payment p WHERE p.id = x.source_id AND p.status IN ('succeeded', 'cancelled')))
 OR (x.kind = 'settlement_set_aside' AND EXISTS (
        SELECT 1 FROM payments_settlement s WHERE s.organisation_id = x.organisation_id AND s.lines_complete
        AND s.gateway_account_id::text = x.details ->> 'gateway_account' AND s.gateway_ref = x.details ->> 'gateway_ref'))
)
"""


def close_gone(*, organisation: Organisation, at: datetime) -> int:
    """Resolve open exceptions whose cause has disappeared; return how many."""
    with connection.cursor() as cursor:
        cursor.execute(_GONE, {"organisation": organisation.pk, "at": at})
        return cursor.rowcount


def close_handled(*, organisation_id: uuid.UUID, kind: str, source_id: uuid.UUID, actor: Actor, reason: str) -> int:
    """Resolve what is open about a source as handled: what it asked for was done there. Returns how many."""
    mine = ReconciliationException.objects.of(organisation_id).filter(
        kind=kind, source_id=source_id, status=Status.OPEN
    )
    found = list(mine.select_for_update(of=("self",)).order_by("pk"))
    for exception in found:
        exception.resolve(at=clock.now(organisation_id), resolution="handled", reason=reason[:500])
        exception.save(update_fields=["status", "resolved_at", "resolution", "reason"])
        audit.record(
            actor=actor, action="reconciliation.exception_resolved", target=exception, before={"status": "open"},
            after={"resolution": "handled", "amount": str(exception.amount.amount)}, reason=reason[:500],
        )  # fmt: skip
    return len(found)


def check_choices(organisation: Organisation, value: Any) -> dict[str, Any]:
    """``settings["reconciliation"]`` as it may be chosen: ``bank_holidays``, a list of days."""
    if not isinstance(value, Mapping) or set(value) - {"bank_holidays"}:
        raise InvalidInput('Expected an object such as {"bank_holidays": ["2026-08-15"]}.')
    stated = value.get("bank_holidays", [])
    try:
        if not isinstance(stated, list) or len(stated) > MAX_HOLIDAYS:
            raise ValueError
        days = {date.fromisoformat(day) for day in stated}
    except (TypeError, ValueError) as exc:
        raise InvalidInput(f"bank_holidays is a list of at most {MAX_HOLIDAYS} days such as 2026-08-15.") from exc
    return {"bank_holidays": [day.isoformat() for day in sorted(days)]}


def bank_holidays(organisation: Organisation) -> frozenset[date]:
    """Days on which the organisation's banks are closed, from its settings (``reconciliation.bank_holidays``)."""
    stated = (organisation.settings.get("reconciliation") or {}).get("bank_holidays") or []
    try:
        return frozenset(date.fromisoformat(day) for day in stated)
    except (TypeError, ValueError):
        log.warning(
            "reconciliation.bank_holidays_unreadable", organisation=organisation.code, expected="a list of ISO days"
        )
        return frozenset()


def banking_day(organisation: Organisation, day: date, count: int) -> date:
    """The banking day ``count`` banking days after ``day`` where the organisation banks."""
    return matching.add_banking_days(day, count, country=organisation.country, holidays=bank_holidays(organisation))


def _row(organisation: Organisation, finding: Finding, at: datetime) -> ReconciliationException:
    known = CLASSES[finding.kind]
    today = at.astimezone(clock.zone(organisation)).date()
    return ReconciliationException(
        organisation=organisation,
        kind=finding.kind,
        source_type=finding.source_type,
        source_id=finding.source_id,
        amount=finding.amount,
        explanation=finding.explanation[:300],
        next_step=known.next_step[:200],
        details=finding.details,
        opened_at=at,
        due_on=banking_day(organisation, today, known.due_days),
    )
