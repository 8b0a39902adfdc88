"""The story of a payment: its attempts, events and decisions in one order."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from billing.models import AuditRecord, Event
from payments.models import Payment


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that happened."""

    at: datetime
    what: str
    details: str
    who: str
    correlation_id: str


def of_payment(payment: Payment) -> list[Step]:
    """Events and decisions about the payment, its refunds and its disputes, oldest first."""
    ids = [payment.pk, *payment.refunds.values_list("pk", flat=True), *payment.disputes.values_list("pk", flat=True)]
    events = Event.objects.filter(organisation_id=payment.organisation_id, aggregate_id__in=ids)
    audits = AuditRecord.objects.filter(
        Q(target_id__in=[str(row_id) for row_id in ids]), organisation_id=payment.organisation_id
    )
    steps = [
        Step(at=row.occurred_at, what=row.type, details=_told(row.payload), who="", correlation_id=row.correlation_id)
        for row in events
    ]
    steps += [
        Step(at=row.occurred_at, what=row.action, details=row.reason, who=row.actor_label or row.actor_type,
             correlation_id=row.correlation_id)
        for row in audits
    ]  # fmt: skip
    return sorted(steps, key=lambda step: step.at)


_TOLD = ("amount", "currency", "decline_class", "decline_code", "next_attempt_at", "error", "reason")


def _told(payload: dict[str, object]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {payload[name]}" for name in _TOLD if payload.get(name))
