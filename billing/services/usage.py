"""Taking in measurements: many at once, each with its own verdict, each event id once."""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from django.db import connection, transaction
from django.utils.dateparse import parse_datetime

from billing import clock
from billing.models import Customer, Meter, Organisation

MAX_QUANTITY = Decimal(10) ** 17
MAX_PROPERTIES = 2000
EARLIEST_YEAR = 2000
AHEAD = timedelta(hours=1)
"""How far a sender's clock may be ahead of the organisation's."""

FIELDS = frozenset({"event_id", "meter", "customer", "quantity", "occurred_at", "properties"})

INSERT = """
INSERT INTO billing_usageevent
       (organisation_id, event_id, meter_id, customer_id, quantity, properties, occurred_at, recorded_at)
SELECT %s, row.event_id, row.meter_id, row.customer_id, row.quantity, coalesce(row.properties, '{}'), row.occurred_at, now()
FROM jsonb_to_recordset(%s::jsonb) AS row (event_id text, meter_id uuid, customer_id uuid, quantity numeric,
                                    properties jsonb, occurred_at timestamptz)
ORDER BY row.event_id  -- senders who repeat each other's events wait in one order, and never for each other
ON CONFLICT (organisation_id, event_id) DO NOTHING
RETURNING event_id
"""


@dataclass(frozen=True)
class Verdict:
    """What became of one event: ``accepted``, ``duplicate`` (known already, counted once), or ``rejected`` and why."""

    event_id: str
    status: str
    field: str = ""
    reason: str = ""


class Rejected(Exception):
    """An event that is not taken in; the others of its batch are."""

    def __init__(self, field: str, reason: str) -> None:
        self.field, self.reason = field, reason
        super().__init__(reason)


@dataclass(frozen=True)
class Known:
    """What the events of one batch refer to."""

    meters: Mapping[str, uuid.UUID]
    customers: Mapping[str, uuid.UUID]
    latest: datetime


def ingest(*, organisation: Organisation, events: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """Take in ``{event_id, meter, customer, quantity, occurred_at, properties}``; one verdict per event, in order.

    ``meter`` is a code, ``customer`` an external id or id, ``quantity`` a decimal string or whole number (1 if left
    out), ``occurred_at`` an ISO 8601 time with offset. The same event id counts once, under any concurrency.
    """
    known = _known(organisation, events)
    rows: list[dict[str, Any]] = []
    problems: dict[int, Rejected] = {}
    for index, event in enumerate(events):
        try:
            rows.append(_row(event, known))
        except Rejected as exc:
            problems[index] = exc
    fresh = _insert(organisation.pk, rows)
    return list(_verdicts(events, problems, fresh))


def _known(organisation: Organisation, events: Iterable[Any]) -> Known:
    wanted = [event.get("customer") for event in events if isinstance(event, Mapping)]
    texts = {value for value in wanted if isinstance(value, str) and 0 < len(value) <= 100 and value.isprintable()}
    ids = {found for found in map(_uuid, texts) if found}
    customers = Customer.objects.of(organisation)
    found = dict(customers.filter(external_id__in=texts).values_list("external_id", "pk"))
    if ids:
        found |= {str(pk): pk for pk in customers.filter(pk__in=ids).values_list("pk", flat=True)}
    meters = dict(Meter.objects.of(organisation).values_list("code", "pk"))
    return Known(meters, found, clock.now(organisation) + AHEAD)


def _row(event: Any, known: Known) -> dict[str, Any]:
    if not isinstance(event, Mapping):
        raise Rejected("event", "Expected an object.")
    unknown = event.keys() - FIELDS
    if unknown:
        raise Rejected(min(map(str, unknown))[:60], "This field is not known here.")
    customer = _text(event, "customer", 100)
    meter = known.meters.get(_text(event, "meter", 60))
    customer_id = known.customers.get(customer) or known.customers.get(str(_uuid(customer)))
    if meter is None:
        raise Rejected("meter", "There is no meter with this code.")
    if customer_id is None:
        raise Rejected("customer", "There is no customer with this id or external id.")
    return {
        "event_id": _text(event, "event_id", 100),
        "meter_id": str(meter),
        "customer_id": str(customer_id),
        "quantity": _quantity(event.get("quantity", 1)),
        "properties": _properties(event.get("properties")),
        "occurred_at": _moment(event.get("occurred_at"), known.latest),
    }


def _text(event: Mapping[str, Any], field: str, limit: int) -> str:
    value = event.get(field)
    if not isinstance(value, str) or not 1 <= len(value) <= limit:
        raise Rejected(field, f"Expected a text of 1 to {limit} characters.")
    if not value.isprintable():
        raise Rejected(field, "Control characters are not accepted.")
    return value


def _quantity(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Rejected("quantity", "Give the quantity as a decimal string such as '12.5'.")
    try:
        number = Decimal(value)
    except InvalidOperation as exc:
        raise Rejected("quantity", "This is not a decimal number.") from exc
    if not number.is_finite() or not 0 <= number < MAX_QUANTITY:
        raise Rejected("quantity", f"Expected a number from 0 to below {MAX_QUANTITY:f}.")
    if -number.as_tuple().exponent > 12 and number != round(number, 12):  # type: ignore[operator]
        raise Rejected("quantity", "At most 12 decimals.")
    return f"{number:f}"


def _properties(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Rejected("properties", "Expected an object.")
    text = json.dumps(value)
    if len(text) > MAX_PROPERTIES:
        raise Rejected("properties", f"At most {MAX_PROPERTIES} characters of JSON.")
    if "\\u0000" in text or "\\ud" in text.lower() or "NaN" in text or "Infinity" in text:
        _must_be_storable(value)
    return value


def _must_be_storable(value: Any) -> None:
    """PostgreSQL keeps neither NUL nor half characters nor NaN in JSON."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (ValueError, UnicodeEncodeError) as exc:
        raise Rejected("properties", "Numbers must be finite and texts valid Unicode.") from exc
    if "\\u0000" in text:
        raise Rejected("properties", "Control characters are not accepted.")


def _moment(value: Any, latest: datetime) -> str:
    try:
        moment = parse_datetime(value) if isinstance(value, str) and len(value) <= 40 else None
    except ValueError:
        moment = None
    if moment is None or moment.utcoffset() is None:
        raise Rejected("occurred_at", "Expected a time with offset such as 2026-04-01T12:00:00Z.")
    if moment.year < EARLIEST_YEAR or moment.year > 9000:
        raise Rejected("occurred_at", f"Expected a time since {EARLIEST_YEAR}.")
    if moment > latest:
        raise Rejected("occurred_at", "This is in the future.")
    return moment.isoformat()


@transaction.atomic
def _insert(organisation_id: uuid.UUID, rows: list[dict[str, Any]]) -> set[str]:
    if not rows:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(INSERT, [organisation_id, json.dumps(rows)])
        return {event_id for (event_id,) in cursor.fetchall()}


def _verdicts(events: Sequence[Any], problems: Mapping[int, Rejected], fresh: set[str]) -> Iterable[Verdict]:
    for index, event in enumerate(events):
        problem = problems.get(index)
        event_id: Any = event.get("event_id") if isinstance(event, Mapping) else ""
        if problem:
            name = event_id if isinstance(event_id, str) else ""
            yield Verdict(name[:100], "rejected", problem.field, problem.reason)
        elif event_id in fresh:
            fresh.discard(event_id)
            yield Verdict(event_id, "accepted")
        else:
            yield Verdict(event_id, "duplicate")


def _uuid(value: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(value) if len(value) in (32, 36) else None
    except ValueError:
        return None
