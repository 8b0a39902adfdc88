"""Handing pending events over.

One dispatcher at a time works for an organisation (advisory lock of the batch's transaction), so that nothing
overtakes within an aggregate. In one transaction a batch runs through its atomic consumers, each call under a
savepoint, together with the records of who has handled what. What failed, what waits behind a failure, what must
call outside and what wants a transaction of its own is noted as owing and worked off one by one (``owing``).

The order of locks: the batch takes customers, then invoices, then payments. Whoever locks anything that comes before a
customer (a dunning case, a subscription, an installment plan) is a consumer that runs ``alone``.
"""

import logging
import uuid
from collections.abc import Iterable

from django.db import connection, transaction
from django.db.utils import OperationalError

from billing.clock import wall_now
from billing.models import Event, EventHandling
from billing.services.outbox import owing
from billing.services.outbox.consumers import Consumer, consumers_of
from billing.services.outbox.waking import quiet, wake_after_commit

BATCH = 250
Key = tuple[str, uuid.UUID]
"""Name of a consumer and id of an aggregate: within it, order is kept."""

HAS_WORK = """
SELECT EXISTS (SELECT FROM billing_event WHERE organisation_id = %(organisation)s AND dispatched_at IS NULL)
    OR EXISTS (SELECT FROM billing_eventhandling h JOIN billing_event e ON e.id = h.event_id
               WHERE h.status = ANY(%(open)s) AND h.next_attempt_at <= %(now)s AND e.organisation_id = %(organisation)s)
"""

logger = logging.getLogger(__name__)


def dispatch(organisation_id: uuid.UUID | str | None = None, limit: int = 500, *, wait: bool = False) -> int:
    """Hand pending events over, of one organisation or of all; returns how many events were handed over or caught up.

    Goes on until nothing is left that can be done now, or ``limit`` is passed (then a worker is woken for the rest).
    When another dispatcher is at work for the organisation, returns 0, or with ``wait`` waits for its turn.
    """
    if organisation_id is None:
        return sum(dispatch(pk, limit, wait=wait) for pk in _with_work())
    owner = uuid.UUID(str(organisation_id))
    if not _has_work(owner):
        return 0
    done = 0
    with quiet():
        while done < limit:
            handed_over = _hand_over(owner, wait=wait)
            if handed_over is None:  # somebody else is at it, and looks again after giving the lock back
                return done
            progress = handed_over + owing.work_off(owner)
            if not progress and not _is_pending(owner):
                return done
            done += progress
            if not _has_work(owner):
                return done
    wake_after_commit(owner)
    return done


def _with_work() -> list[uuid.UUID]:
    pending = Event.objects.filter(dispatched_at=None).order_by().values_list("organisation_id", flat=True).distinct()
    owed = owing.due(wall_now()).order_by().values_list("event__organisation_id", flat=True).distinct()
    return sorted({*pending, *owed})


def _has_work(organisation_id: uuid.UUID) -> bool:
    """Whether an event is pending or something owed is due: one question, as every commit of news leads to it."""
    with connection.cursor() as cursor:
        cursor.execute(HAS_WORK, {"organisation": organisation_id, "now": wall_now(), "open": list(owing.OPEN)})
        row = cursor.fetchone()
        return bool(row and row[0])


def _is_pending(organisation_id: uuid.UUID) -> bool:
    return Event.objects.of(organisation_id).filter(dispatched_at=None).exists()


@transaction.atomic
def _hand_over(organisation_id: uuid.UUID, *, wait: bool) -> int | None:
    """One batch, in one transaction; returns the number of events handed over, None if it is not our turn."""
    if not _lock(organisation_id, wait=wait):
        return None
    events = list(Event.objects.of(organisation_id).filter(dispatched_at=None).order_by("pk")[:BATCH])
    wanted = _wanted(organisation_id, events)
    if wanted:
        blocked = owing.blocked_keys(organisation_id)
        records = [record for consumer, mine in wanted.items() for record in _give(consumer, mine, blocked)]
        EventHandling.objects.bulk_create(records, batch_size=2000)
    Event.objects.filter(pk__in=[event.pk for event in events]).update(dispatched_at=wall_now())
    return len(events)


def _lock(organisation_id: uuid.UUID, *, wait: bool) -> bool:
    """Be the only dispatcher of the organisation until this transaction ends."""
    key = organisation_id.int & (2**63 - 1)
    with connection.cursor() as cursor:
        if wait:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [key])
            return True
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [key])
        row = cursor.fetchone()
        return bool(row and row[0])


def _wanted(organisation_id: uuid.UUID, events: list[Event]) -> dict[Consumer, list[Event]]:
    """Which consumer gets which of ``events``, in order; without those it has already."""
    wanted: dict[Consumer, list[Event]] = {}
    for event in events:
        for consumer in consumers_of(event.type):
            wanted.setdefault(consumer, []).append(event)
    wanted = {c: mine for c, mine in wanted.items() if c.wants is None or c.wants(organisation_id)}
    if not wanted:
        return {}
    known = set(
        EventHandling.objects.filter(event_id__in=[event.pk for event in events]).values_list("event_id", "consumer")
    )
    left = {c: [event for event in mine if (event.pk, c.name) not in known] for c, mine in wanted.items()}
    return {consumer: mine for consumer, mine in left.items() if mine}


def _give(consumer: Consumer, events: list[Event], blocked: set[Key]) -> Iterable[EventHandling]:
    """Let one consumer handle its share of the batch; returns the records of what became of each event."""
    if consumer.alone or not consumer.atomic:
        return _note(consumer, events, blocked)
    free = [event for event in events if (consumer.name, event.aggregate_id) not in blocked]
    if consumer.batch and free and _succeeds(consumer, free) is None:
        done = {event.pk for event in free}
        return [
            _record(consumer, event, EventHandling.Status.DONE if event.pk in done else EventHandling.Status.WAITING)
            for event in events
        ]
    return [_give_one(consumer, event, blocked) for event in events]


def _note(consumer: Consumer, events: list[Event], blocked: set[Key]) -> list[EventHandling]:
    """What is worked off after the batch; what does not concern the consumer is done, unless it waits behind something."""
    concerned = consumer.concerns(events) if consumer.concerns else {event.pk for event in events}
    records = []
    for event in events:
        key = (consumer.name, event.aggregate_id)
        if event.pk in concerned or key in blocked:
            blocked.add(key)
            records.append(_record(consumer, event, EventHandling.Status.WAITING))
        else:
            records.append(_record(consumer, event, EventHandling.Status.DONE))
    return records


def _give_one(consumer: Consumer, event: Event, blocked: set[Key]) -> EventHandling:
    key = (consumer.name, event.aggregate_id)
    if key in blocked:
        return _record(consumer, event, EventHandling.Status.WAITING)
    error = _succeeds(consumer, [event])
    if isinstance(error, OperationalError):  # a deadlock or a lock time-out: the other side is done by now
        error = _succeeds(consumer, [event])
    if error is None:
        return _record(consumer, event, EventHandling.Status.DONE)
    blocked.add(key)
    record = _record(consumer, event, EventHandling.Status.FAILED)
    owing.note_failure(record, error)
    return record


def _succeeds(consumer: Consumer, events: list[Event]) -> Exception | None:
    """Call the consumer under a savepoint; returns what went wrong, if anything did."""
    try:
        with transaction.atomic():
            consumer.call(events)
    except Exception as exc:
        logger.warning("Consumer %s failed on %s: %s", consumer.name, events[0], type(exc).__name__, exc_info=True)
        return exc
    return None


def _record(consumer: Consumer, event: Event, status: str) -> EventHandling:
    waiting = status == EventHandling.Status.WAITING
    return EventHandling(
        event=event,
        consumer=consumer.name,
        status=status,
        attempts=0 if waiting else 1,
        next_attempt_at=wall_now() if waiting else None,
    )
