"""Who listens to which events."""

import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from billing.context import correlated
from billing.models import Event

Handler = Callable[[Any], None]
Concerns = Callable[[Sequence[Event]], Collection[int]]


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """A named handler.

    ``atomic``: runs in one transaction with its record; False for handlers that call outside.
    ``batch``: takes a list of events, in order, rather than one; all of them succeed or none.
    ``wants``: asked once per organisation and batch; an organisation that wants nothing gets no records either.
    ``alone``: each event in a transaction of its own, after the batch. For handlers that lock what others lock before
    customers and invoices (subscriptions, dunning cases, plans): the batch holds customers until it ends.
    ``concerns``: which of the events (ids) are of interest; asked once per batch, so that the rest costs nothing.
    """

    name: str
    run: Handler
    atomic: bool = True
    batch: bool = False
    wants: Callable[[uuid.UUID], bool] | None = None
    alone: bool = False
    concerns: Concerns | None = None

    def call(self, events: Sequence[Event]) -> None:
        """Hand ``events`` over, under the correlation id of the first."""
        with correlated(events[0].correlation_id):
            if self.batch:
                self.run(list(events))
                return
            for event in events:
                self.run(event)


_consumers: dict[str, list[Consumer]] = defaultdict(list)


def handles(
    *event_types: str,
    consumer: str,
    atomic: bool = True,
    batch: bool = False,
    wants: Callable[[uuid.UUID], bool] | None = None,
    alone: bool = False,
    concerns: Concerns | None = None,
) -> Callable[[Handler], Handler]:
    """Register a handler for event types (``"*"``: all); the flags are ``Consumer``'s. It must tolerate events it already
    knows, in any order.

    Per consumer and aggregate events come in order; while one fails, the later ones of its aggregate wait.
    """

    def register(run: Handler) -> Handler:
        found = Consumer(
            name=consumer, run=run, atomic=atomic, batch=batch, wants=wants, alone=alone, concerns=concerns
        )
        for event_type in event_types:
            _consumers[event_type].append(found)
        return run

    return register


def consumers_of(event_type: str) -> list[Consumer]:
    """Who wants this type of event, in order of registration; ``*`` consumers last."""
    return [*_consumers.get(event_type, ()), *_consumers.get("*", ())]


def consumer_named(name: str, event_type: str) -> Consumer | None:
    """The consumer ``name`` of this type of event, unless the code no longer has it."""
    return next((consumer for consumer in consumers_of(event_type) if consumer.name == name), None)
