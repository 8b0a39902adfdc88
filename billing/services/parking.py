"""Events that cannot be taken in yet: kept as they came, tried again when what they name appears."""

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction

from billing import clock
from billing.context import Actor
from billing.errors import Conflict, NotFound
from billing.measurements import Rejected
from billing.models import Organisation, ParkedUsage
from billing.services import audit

MAX_PAYLOAD = 8000
Status = ParkedUsage.Status


class NotWaiting(Conflict):
    """The parked event was settled already."""

    code = "parked_event_settled"
    message = "This event does not wait any more: it is {status}."


def park(
    *, organisation: Organisation, events: Sequence[Any], waiting: Mapping[int, Rejected], now: datetime
) -> set[int]:
    """Keep the events at these positions; returns the positions that are kept. One that waits already stays one row."""
    kept = {n: problem for n, problem in waiting.items() if _storable(events[n])}
    ParkedUsage.objects.bulk_create(
        [
            ParkedUsage(
                organisation=organisation,
                event_id=events[n]["event_id"],
                payload=events[n],
                field=problem.field[:60],
                reason=problem.reason[:300],
                parked_at=now,
            )
            for n, problem in sorted(kept.items(), key=lambda item: events[item[0]]["event_id"])
        ],
        ignore_conflicts=True,
    )
    return set(kept)


@transaction.atomic
def dismiss(*, organisation: Organisation, parked_id: uuid.UUID, reason: str, actor: Actor) -> ParkedUsage:
    """Decide that a parked event is not wanted. Raises ``NotFound``, ``NotWaiting``."""
    row = ParkedUsage.objects.of(organisation).select_for_update().filter(pk=parked_id).first()
    if row is None:
        raise NotFound("No such parked event in this organisation.", field="id")
    if row.status != Status.WAITING:
        raise NotWaiting(status=row.status)
    row.status, row.settled_at = Status.DISMISSED, clock.now(organisation)
    row.save(update_fields=["status", "settled_at"])
    audit.record(
        actor=actor, action="parked_usage.dismissed", target=row, before={"event_id": row.event_id}, reason=reason
    )
    return row


def _storable(event: Any) -> bool:
    """Whether PostgreSQL can keep the event as JSON."""
    try:
        text = json.dumps(event, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (ValueError, UnicodeEncodeError):
        return False
    return "\\u0000" not in text and len(text) <= MAX_PAYLOAD
