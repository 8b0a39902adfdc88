"""Grace: billed periods whose invoice stays a draft for some days, and is priced again when it is finalised.

A draft keeps the subscription's columns as the run read them; pricing them again by the run's own function gives the same
lines with what was measured since. Edits by hand are made again on top.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from billing import clock
from billing.ids import uuid7
from billing.models import Organisation
from billing.services.copying import copy_rows
from subscriptions.models import DraftCycle
from subscriptions.periods import start_of_day
from subscriptions.services.billing_run_rows import Cycle, Due

COLUMNS = ("id", "recorded_at", "organisation_id", "period_id", "invoice_id", "terms", "finalize_at", "failure")
_TIMES = frozenset({"period_start", "period_end", "next_billing_at", "next_change_at", "usage_from", "ends_at"})
_IDS = frozenset({"id", "customer_id", "plan_version_id", "usage_version_id", "method_id"})


def note(
    *, organisation: Organisation, cycles: Sequence[Cycle], periods: Mapping[uuid.UUID, uuid.UUID], at: datetime
) -> None:
    """Say of billed cycles with grace that they wait; ``periods`` are the billed periods by subscription."""
    if not cycles:
        return
    recorded_at, zone = clock.wall_now(), clock.zone(organisation)
    ends = {days: grace_end(at, days, zone) for days in {cycle.grace_days for cycle in cycles}}
    copy_rows(
        DraftCycle,
        COLUMNS,
        (
            (uuid7(), recorded_at, organisation.pk, periods[cycle.row.id],
             cycle.invoice.id if cycle.invoice is not None else None, dump_terms(cycle.row), ends[cycle.grace_days], "")
            for cycle in cycles
        ),
    )  # fmt: skip


def grace_end(at: datetime, days: int, zone: ZoneInfo) -> datetime:
    """When a grace of so many days ends that begins at ``at``: at the start of a day."""
    return start_of_day(at.astimezone(zone).date() + timedelta(days=days), zone)


def dump_terms(row: Due) -> str:
    """The row as JSON text."""
    return json.dumps(row._asdict(), default=str)


def read_terms(terms: Mapping[str, Any]) -> Due:
    """The row that ``dump_terms`` wrote; columns that came later have their default."""
    values = {name: terms[name] for name in Due._fields if name in terms}
    for name, value in values.items():
        if value is not None and name in _TIMES:
            values[name] = datetime.fromisoformat(value)
        elif value is not None and name in _IDS:
            values[name] = uuid.UUID(value)
    values["anchor_on"] = date.fromisoformat(values["anchor_on"])
    return Due(**values)
