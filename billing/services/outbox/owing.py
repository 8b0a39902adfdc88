"""What consumers still owe: failed events with back-off, events that wait behind them, and calls outside.

Per consumer and aggregate the oldest open event goes first; the next one follows when it is done or dead.
"""

import logging
import random
import uuid
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.db.utils import OperationalError

from billing.clock import wall_now
from billing.context import Actor
from billing.errors import Conflict
from billing.models import EventHandling
from billing.services import audit
from billing.services.outbox.consumers import Consumer, consumer_named

MAX_ATTEMPTS = 8
FIRST_WAIT = timedelta(seconds=5)
LEASE = timedelta(minutes=10)
"""For how long a consumer that calls outside holds its event; after a crash it is taken up again then."""

OPEN = (EventHandling.Status.FAILED, EventHandling.Status.WAITING)

logger = logging.getLogger(__name__)


class NotDead(Conflict):
    code = "not_a_dead_letter"
    message = "Only dead letters are replayed; this one is '{status}'."


def due(now: datetime) -> "QuerySet[EventHandling]":
    """Open handlings whose time has come, oldest event first."""
    return EventHandling.objects.filter(status__in=OPEN, next_attempt_at__lte=now).order_by("event_id", "pk")


def blocked_keys(organisation_id: uuid.UUID) -> set[tuple[str, uuid.UUID]]:
    """Consumers and aggregates with something open: later events wait behind it."""
    return set(
        EventHandling.objects.filter(status__in=OPEN, event__organisation_id=organisation_id)
        .order_by()
        .values_list("consumer", "event__aggregate_id")
    )


def work_off(organisation_id: uuid.UUID) -> int:
    """Try what is due, oldest event first; returns how many handlings came to an end (done or dead)."""
    now = wall_now()
    rows = (
        EventHandling.objects.filter(status__in=OPEN, event__organisation_id=organisation_id)
        .order_by("event_id", "pk")
        .values_list("consumer", "event__aggregate_id", "pk", "next_attempt_at")
    )
    ended, stopped = 0, set()
    for consumer, aggregate_id, pk, next_attempt_at in rows:
        key = (consumer, aggregate_id)
        if key in stopped:
            continue
        if next_attempt_at is None or next_attempt_at > now or not _attempt(pk):
            stopped.add(key)
        else:
            ended += 1
    return ended


def hurry(organisation_id: uuid.UUID) -> int:
    """End the back-off of what failed; returns of how much. For a clock that is turned: a step is longer than all waits.

    Consumers that call outside keep theirs: what they call lives on the wall clock, and may be at work just now.
    """
    failed = EventHandling.objects.filter(
        status=EventHandling.Status.FAILED, event__organisation_id=organisation_id, next_attempt_at__gt=wall_now()
    ).select_related("event")
    inside = [one.pk for one in failed if (found := consumer_named(one.consumer, one.event.type)) and found.atomic]
    return EventHandling.objects.filter(pk__in=inside, status=EventHandling.Status.FAILED).update(
        next_attempt_at=wall_now()
    )


@transaction.atomic
def replay(*, handling_id: int, actor: Actor, reason: str = "") -> EventHandling:
    """Give a dead letter another round of attempts; raises ``NotDead``. A worker takes it up at the next sweep."""
    handling = EventHandling.objects.select_for_update(of=("self",)).select_related("event").get(pk=handling_id)
    if handling.status != EventHandling.Status.DEAD:
        raise NotDead(status=handling.status)
    handling.status, handling.attempts, handling.next_attempt_at = EventHandling.Status.WAITING, 0, wall_now()
    handling.save()
    audit.record(
        actor=actor,
        action="event.replayed",
        target=handling.event,
        after={"consumer": handling.consumer, "error": handling.error[:200]},
        reason=reason,
    )
    return handling


def note_failure(handling: EventHandling, error: Exception) -> None:
    """Set back-off or death on ``handling`` (not saved); its ``attempts`` include the one that failed."""
    handling.error = f"{type(error).__name__}: {error}"[:1000]
    if handling.attempts >= MAX_ATTEMPTS:
        handling.status, handling.next_attempt_at = EventHandling.Status.DEAD, None
        return
    wait = FIRST_WAIT * 2 ** (handling.attempts - 1)
    handling.status = EventHandling.Status.FAILED
    handling.next_attempt_at = wall_now() + wait * random.uniform(1, 1.3)  # noqa: S311 - jitter, not a secret


def _attempt(handling_id: int) -> bool:
    """One attempt, if nobody else is at it; returns whether the handling came to an end."""
    with transaction.atomic():
        handling = _claim(handling_id)
        if handling is None:
            return False
        consumer = consumer_named(handling.consumer, handling.event.type)
        if consumer is None:
            return _finish(handling, LookupError(f"No code listens as '{handling.consumer}' any more."), last=True)
        handling.attempts += 1
        if consumer.atomic:
            return _finish(handling, _call_in_savepoint(consumer, handling))
        handling.status, handling.next_attempt_at = EventHandling.Status.FAILED, wall_now() + LEASE
        handling.error = "Taken up; not answered yet."
        handling.save()
    return _finish(handling, _call(consumer, handling))


def _claim(handling_id: int) -> EventHandling | None:
    handling: Any = (
        EventHandling.objects.select_for_update(skip_locked=True, of=("self",))
        .select_related("event")
        .filter(pk=handling_id, status__in=OPEN, next_attempt_at__lte=wall_now())
        .first()
    )
    if handling is None or _waits_behind_another(handling):
        return None
    return handling


def _waits_behind_another(handling: EventHandling) -> bool:
    return EventHandling.objects.filter(
        status__in=OPEN,
        consumer=handling.consumer,
        event__aggregate_id=handling.event.aggregate_id,
        event_id__lt=handling.event_id,
    ).exists()


def _call_in_savepoint(consumer: Consumer, handling: EventHandling) -> Exception | None:
    error = _call_once(consumer, handling)
    if isinstance(error, OperationalError):  # a deadlock or a lock time-out: the other side is done by now
        error = _call_once(consumer, handling)
    return error


def _call_once(consumer: Consumer, handling: EventHandling) -> Exception | None:
    try:
        with transaction.atomic():
            consumer.call([handling.event])
    except Exception as exc:
        return exc
    return None


def _call(consumer: Consumer, handling: EventHandling) -> Exception | None:
    try:
        consumer.call([handling.event])
    except Exception as exc:
        return exc
    return None


def _finish(handling: EventHandling, error: Exception | None, *, last: bool = False) -> bool:
    if error is None:
        handling.status, handling.next_attempt_at, handling.error = EventHandling.Status.DONE, None, ""
    else:
        logger.warning("Consumer %s failed on event %s (attempt %s)", handling.consumer, handling.event_id,
                       handling.attempts, exc_info=error)  # fmt: skip
        handling.attempts = MAX_ATTEMPTS if last else handling.attempts
        note_failure(handling, error)
    handling.save()
    return handling.status in (EventHandling.Status.DONE, EventHandling.Status.DEAD)
