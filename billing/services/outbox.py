"""The outbox: facts written with the change they report, handed to each registered consumer once.

Publish inside the transaction of the change. After commit the dispatcher is woken; what a crash loses is found by
the sweeper. Consumers are idempotent; per consumer an event is recorded as handled in the transaction of its handler.
"""

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import models, transaction

from billing import clock
from billing.context import correlation_id
from billing.ids import uuid7
from billing.models import Event

Handler = Callable[["Event"], None]


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """A named handler. ``atomic``: run in one transaction with its record; False for handlers that call outside."""

    name: str
    run: Handler
    atomic: bool = True


_consumers: dict[str, list[Consumer]] = defaultdict(list)


def handles(*event_types: str, consumer: str, atomic: bool = True) -> Callable[[Handler], Handler]:
    """Register a handler for event types. Consumers must tolerate events they already know, in any order."""

    def register(run: Handler) -> Handler:
        for event_type in event_types:
            _consumers[event_type].append(Consumer(name=consumer, run=run, atomic=atomic))
        return run

    return register


def consumers_of(event_type: str) -> list[Consumer]:
    """Who wants this type of event, in order of registration; ``*`` consumers last."""
    return [*_consumers.get(event_type, ()), *_consumers.get("*", ())]


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
    occurred_at = at or clock.now(organisation_id)
    events = Event.objects.bulk_create(
        [
            Event(
                uid=uuid7(),
                organisation_id=organisation_id,
                type=fact.type,
                aggregate_type=fact.aggregate_type,
                aggregate_id=fact.aggregate_id,
                payload=fact.payload,
                occurred_at=occurred_at,
                correlation_id=correlation_id(),
            )
            for fact in facts
        ],
        batch_size=2000,
    )
    if events:
        transaction.on_commit(lambda: _wake(organisation_id), robust=True)
    return events


def _wake(organisation_id: uuid.UUID) -> None:
    """Tell a worker that there is something to hand over. Losing the message loses nothing: the sweeper finds it."""
    from billing.tasks import dispatch_outbox

    dispatch_outbox.delay(str(organisation_id))
