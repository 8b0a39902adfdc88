"""Reading files of measurements, chunk by chunk: progress is seen as it is made, and nothing is read twice or left out."""

import uuid
from datetime import timedelta
from typing import Any

import structlog
from celery import current_app
from django.db import transaction
from django.db.models import BinaryField, F, Q, Value
from django.db.models.functions import Substr

from billing import clock, parties, usage_csv
from billing.context import Actor
from billing.errors import InvalidInput
from billing.models import Organisation, UsageImport, UsageImportError
from billing.services import audit, usage
from billing.services.usage import ACCEPTED, DUPLICATE, PARKED, REJECTED, Verdict
from billing.services.usage_policy import policy_of
from billing.usage_csv import Line

log = structlog.get_logger(__name__)
TASK = "billing.tasks.read_usage_import"
MAX_SIZE = 20 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024
CHUNK_LINES = 1000
ABANDONED = timedelta(minutes=2)
Status = UsageImport.Status
COUNTERS = {ACCEPTED: "accepted", DUPLICATE: "duplicates", PARKED: "parked", REJECTED: "rejected"}


@transaction.atomic
def begin_import(
    *,
    organisation: Organisation,
    file_name: str,
    content: bytes,
    actor: Actor,
    dry_run: bool = False,
    wake_worker: bool = True,
) -> UsageImport:
    """Take in a file; a worker reads it, unless the caller does (``read_on``). ``dry_run``: tell what would happen and take nothing in.

    Raises ``InvalidInput`` for a file that is empty or too large, ``NoUsageFile`` for one without the right heading.
    """
    if not 0 < len(content) <= MAX_SIZE:
        raise InvalidInput(f"Expected a file of 1 to {MAX_SIZE} bytes.", field="content")
    heading = usage_csv.heading_of(content)
    row = UsageImport.objects.create(
        organisation=organisation,
        file_name=parties.clean_text(file_name, field="file_name", limit=200, required=True),
        content=content,
        size=len(content),
        position=heading.size,
        lines=1,
        dry_run=dry_run,
        made_by=actor.label[:200] or actor.type,
        made_at=clock.now(organisation),
    )
    after = {"file_name": row.file_name, "size": row.size, "dry_run": dry_run}
    audit.record(actor=actor, action="usage_import.begun", target=row, after=after)
    if wake_worker:
        transaction.on_commit(lambda: wake(row.pk))
    return row


def read_on(*, import_id: uuid.UUID) -> UsageImport:
    """Read until the end of the file, one transaction a chunk; when another worker reads it, that one goes on alone."""
    while _read_chunk(import_id):
        pass
    return UsageImport.objects.defer("content").get(pk=import_id)


def abandoned() -> list[uuid.UUID]:
    """Imports that wait, or whose worker has not been heard of for a while."""
    silent = Q(heartbeat_at=None, recorded_at__lt=clock.wall_now() - ABANDONED) | Q(
        heartbeat_at__lt=clock.wall_now() - ABANDONED
    )
    rows = UsageImport.objects.filter(silent, status__in=(Status.WAITING, Status.RUNNING))
    return list(rows.order_by("pk").values_list("pk", flat=True))


def _read_chunk(import_id: uuid.UUID) -> bool:
    """Read one chunk; whether there is more. Events, errors and the new position are one transaction."""
    with transaction.atomic():
        rows = UsageImport.objects.select_for_update(of=("self",), skip_locked=True).select_related("organisation")
        row = rows.defer("content").filter(pk=import_id, status__in=(Status.WAITING, Status.RUNNING)).first()
        if row is None:
            return False
        heading = usage_csv.heading_of(_bytes(row, 0, usage_csv.MAX_LINE))
        chunk = _bytes(row, row.position, CHUNK_BYTES)
        is_last = row.position + len(chunk) >= row.size
        found: list[Line] = []
        for line in usage_csv.lines(heading, chunk, position=row.position, number=row.lines, is_last=is_last):
            found.append(line)
            if len(found) == CHUNK_LINES:
                break
        if not found and not is_last:
            row.status, row.failure = Status.FAILED, f"A row is longer than {CHUNK_BYTES} bytes."
            row.save(update_fields=["status", "failure"])
            return False
        _take_in(row, found)
        row.position, row.lines = (found[-1].end, found[-1].number) if found else (row.size, row.lines)
        is_done = row.position >= row.size
        row.status, row.heartbeat_at = Status.DONE if is_done else Status.RUNNING, clock.wall_now()
        row.finished_at = clock.now(row.organisation) if is_done else None
        row.save(update_fields=["position", "lines", "status", "heartbeat_at", "finished_at", *COUNTERS.values()])
        return not is_done


def _take_in(row: UsageImport, found: list[Line]) -> None:
    good = [line for line in found if not line.problem]
    verdicts = _verdicts(row, [line.event for line in good])
    outcome = {line.number: verdict for line, verdict in zip(good, verdicts, strict=True)}
    errors = []
    for line in found:
        verdict = outcome.get(line.number) or Verdict("", REJECTED, "row", line.problem)
        counter = COUNTERS[verdict.status]
        setattr(row, counter, getattr(row, counter) + 1)
        if verdict.status in (REJECTED, PARKED):
            errors.append(
                UsageImportError(
                    usage_import=row,
                    line=line.number,
                    event_id=_printable(verdict.event_id)[:100],
                    field=_printable(verdict.field)[:60],
                    reason=_printable(verdict.reason)[:300],
                )
            )
    UsageImportError.objects.bulk_create(errors)


def _verdicts(row: UsageImport, events: list[Any]) -> list[Verdict]:
    if not row.dry_run:
        return usage.ingest(organisation=row.organisation, events=events)
    organisation = row.organisation
    now = clock.now(organisation)
    rows, problems = usage.examine(organisation=organisation, events=events, policy=policy_of(organisation), now=now)
    seen = usage.known_keys(rows)
    verdicts = []
    for n, event in enumerate(events):
        if n in problems:
            name = event.get("event_id", "")[:100]
            verdicts.append(Verdict(name, REJECTED, problems[n].field, problems[n].reason))
        else:
            verdicts.append(Verdict(rows[n].event_id, DUPLICATE if rows[n].key in seen else ACCEPTED))
            seen.add(rows[n].key)
    return verdicts


def _bytes(row: UsageImport, start: int, count: int) -> bytes:
    """A part of the file, without reading the whole."""
    part = Substr(F("content"), Value(start + 1), Value(count), output_field=BinaryField())
    return bytes(UsageImport.objects.filter(pk=row.pk).values_list(part, flat=True).get())


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def wake(import_id: uuid.UUID) -> None:
    """Tell a worker. Losing the message loses nothing: ``abandoned`` finds the import."""
    try:
        current_app.send_task(TASK, args=[str(import_id)], retry=False, ignore_result=True)
    except Exception:
        log.warning("usage_import.not_woken", usage_import=str(import_id), exc_info=True)
