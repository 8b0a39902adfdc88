"""Writing events."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import models

from billing import clock
from billing.context import correlation_id
from billing.ids import uuid7
from billing.models import Event
from billing.services.outbox.waking import wake_after_commit


@dataclass(frozen=True, kw_only=True)
class Fact:
    """An event to be published in bulk."""

    type: str
    aggregate_type: str
    aggregate_id: uuid.UUID
    payload: dict[str, Any] = field(default_factory=dict)


def publish(event_type: str, aggregate: models.Model, *, at: datetime | None = None, **payload: Any) -> Event:
    """Write one event about ``aggregate`` (a row of a tenant) in the caller's transaction."""
    fact = Fact(type=event_type, aggregate_type=aggregate._meta.label_lower, aggregate_id=aggregate.pk, payload=payload)
    organisation_id = getattr(aggregate, "organisation_id", None) or aggregate.pk
    return publish_many(organisation_id=organisation_id, facts=[fact], at=at)[0]


def publish_many(*, organisation_id: uuid.UUID, facts: Iterable[Fact], at: datetime | None = None) -> list[Event]:
    """Write many events in one statement; wake the dispatcher after commit."""
    facts = list(facts)
    if not facts:
        return []
    occurred_at = at or clock.now(organisation_id)
    events = Event.objects.bulk_create([_row(organisation_id, fact, occurred_at) for fact in facts], batch_size=2000)
    wake_after_commit(organisation_id)
    return events


def _row(organisation_id: uuid.UUID, fact: Fact, occurred_at: datetime) -> Event:
    return Event(
        uid=uuid7(),
        organisation_id=organisation_id,
        type=fact.type,
        aggregate_type=fact.aggregate_type,
        aggregate_id=fact.aggregate_id,
        payload=fact.payload,
        occurred_at=occurred_at,
        correlation_id=correlation_id(),
    )
