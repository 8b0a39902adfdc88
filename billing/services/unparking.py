"""Trying parked events again."""

import uuid
from collections.abc import Iterable

from django.db import transaction

from billing import clock
from billing.models import Organisation, ParkedUsage
from billing.services.usage import ACCEPTED, DUPLICATE, ingest

CHUNK = 500
Status = ParkedUsage.Status


def retry_parked(*, organisation_id: uuid.UUID, ids: Iterable[uuid.UUID] | None = None) -> int:
    """Try waiting events again, oldest first; returns how many were taken in. Rows another worker holds are left to it."""
    organisation = Organisation.objects.get(pk=organisation_id)
    taken, after = 0, uuid.UUID(int=0)
    while True:
        with transaction.atomic():
            rows = ParkedUsage.objects.of(organisation).filter(status=Status.WAITING, pk__gt=after)
            if ids is not None:
                rows = rows.filter(pk__in=list(ids))
            chunk = list(rows.select_for_update(skip_locked=True).order_by("pk")[:CHUNK])
            if not chunk:
                return taken
            now, after = clock.now(organisation), chunk[-1].pk
            verdicts = ingest(organisation=organisation, events=[row.payload for row in chunk], park=False)
            for row, verdict in zip(chunk, verdicts, strict=True):
                row.tries += 1
                if verdict.status in (ACCEPTED, DUPLICATE):
                    row.status, row.settled_at = Status.ACCEPTED, now
                    taken += 1
                else:
                    row.field, row.reason = verdict.field[:60], verdict.reason[:300]
            ParkedUsage.objects.bulk_update(chunk, ["tries", "status", "settled_at", "field", "reason"])


def organisations_waiting() -> list[uuid.UUID]:
    """Organisations that have waiting events."""
    found = ParkedUsage.objects.filter(status=Status.WAITING).values_list("organisation", flat=True)
    return list(found.order_by().distinct())


def has_waiting(organisation_id: uuid.UUID) -> bool:
    """Whether the organisation has waiting events."""
    return ParkedUsage.objects.of(organisation_id).filter(status=Status.WAITING).exists()
