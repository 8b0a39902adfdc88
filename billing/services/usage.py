"""Taking in measurements: many at once, each with its own verdict, each event id once."""

import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from billing import clock, measurements
from billing.expressions import InvalidExpression, parse
from billing.measurements import Declared, Known, MeterSpec, Rejected, Row
from billing.models import Meter, Organisation
from billing.services import parking
from billing.services.usage_policy import PARK, UsagePolicy, policy_of

ACCEPTED, DUPLICATE, REJECTED, PARKED = "accepted", "duplicate", "rejected", "parked"

# Where the rows of a batch wait for the statement below; emptied by every commit.
STAGE = """
CREATE TEMPORARY TABLE IF NOT EXISTS usage_staged (
    n integer, key uuid, event_id text, meter_id uuid, customer_id uuid, subscription_ref uuid, quantity numeric,
    amount numeric, subject text, properties jsonb, occurred_at timestamptz
) ON COMMIT DELETE ROWS;
DELETE FROM usage_staged
"""
COPY = "COPY usage_staged FROM STDIN"

# Keys come first and in order: senders who repeat each other's events wait in one order, and never for each other. An event
# whose key is taken is left out, whatever month it is of. A trigger adds the new ones to their hours.
INSERT = """
WITH incoming AS MATERIALIZED (
    SELECT nextval('billing_usageevent_ref') AS id, s.* FROM usage_staged s
), fresh AS (
    INSERT INTO billing_usagekey (key, event_ref, occurred_at)
    SELECT key, id, occurred_at FROM incoming ORDER BY key
    ON CONFLICT DO NOTHING RETURNING event_ref
), added AS (
    INSERT INTO billing_usageevent (id, organisation_id, event_id, meter_id, customer_id, subscription_ref, quantity, amount,
                                    subject, properties, occurred_at, recorded_at)
    SELECT id, %s, event_id, meter_id, customer_id, subscription_ref, quantity, amount, subject, properties, occurred_at, now()
    FROM incoming JOIN fresh ON event_ref = id
)
SELECT n FROM incoming JOIN fresh ON event_ref = id
"""

# An event is too late when every billed window that it falls into has been closed for late usage.
TOO_LATE = """
SELECT asked.n
FROM unnest(%s::int[], %s::uuid[], %s::uuid[], %s::uuid[], %s::timestamptz[])
     AS asked (n, customer_id, meter_id, subscription_ref, occurred_at)
JOIN billing_usagewindow w ON w.customer_id = asked.customer_id AND w.meter_id = asked.meter_id
     AND w.ends_at > asked.occurred_at AND w.starts_at <= asked.occurred_at
     AND asked.subscription_ref IN (w.subscription_ref, '00000000-0000-0000-0000-000000000000')
GROUP BY asked.n
HAVING bool_and(w.closed_at IS NOT NULL OR w.ends_at < %s)
"""

Finder = Callable[[Organisation, Collection[str]], Mapping[str, tuple[uuid.UUID, uuid.UUID]]]
_finders: list[Finder] = []


@dataclass(frozen=True)
class Verdict:
    """What became of one event.

    ``accepted``, ``duplicate`` (known already, counted once), ``parked`` (kept until what it names appears), or ``rejected``
    and why.
    """

    event_id: str
    status: str
    field: str = ""
    reason: str = ""


def find_subscriptions_with(finder: Finder) -> None:
    """Register how names of subscriptions are looked up: (organisation, names) to {name: (subscription, customer)}."""
    _finders.append(finder)


def ingest(*, organisation: Organisation, events: Sequence[Any], park: bool | None = None) -> list[Verdict]:
    """Take in ``{event_id, meter, customer, quantity, occurred_at, properties, subscription, amount}``; verdicts in order.

    ``meter`` is a code, ``customer`` and ``subscription`` an external id or id, ``quantity`` a decimal string or whole number
    (1 if left out), ``occurred_at`` an ISO 8601 time with offset. The same event id counts once, under any concurrency.
    ``park``: whether what cannot be taken in yet is kept; by default the organisation's choice.
    """
    policy = policy_of(organisation)
    now = clock.now(organisation)
    rows, problems = examine(organisation=organisation, events=events, policy=policy, now=now)
    with transaction.atomic():
        fresh = _insert(organisation.pk, rows)
        parked = _park(organisation, events, problems, policy, now, park=park)
    return [_verdict(n, event, problems, fresh, parked) for n, event in enumerate(events)]


def examine(
    *, organisation: Organisation, events: Sequence[Any], policy: UsagePolicy, now: datetime
) -> tuple[dict[int, Row], dict[int, Rejected]]:
    """The rows of the events that can be taken in and the refusals of the others, by position. Writes nothing."""
    known = _known(organisation, events, policy, now)
    rows: dict[int, Row] = {}
    problems: dict[int, Rejected] = {}
    row_of = measurements.row_of
    for n, event in enumerate(events):
        try:
            rows[n] = row_of(event, known)
        except Rejected as exc:
            problems[n] = exc
    for n in _too_late(rows, policy, now):
        del rows[n]
        problems[n] = Rejected(
            "occurred_at", "Its time was billed, and late usage is not taken in any more.", waits=True
        )
    return rows, problems


def known_keys(rows: Mapping[int, Row]) -> set[str]:
    """Keys of ``rows`` that are taken already."""
    if not rows:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT replace(key::text, '-', '') FROM billing_usagekey WHERE key = ANY(%s::uuid[])",
            [[row.key for row in rows.values()]],
        )
        return {key for (key,) in cursor.fetchall()}


def spec_of(meter: Meter) -> MeterSpec:
    """What ingestion knows of a meter."""
    try:
        expression = parse(meter.expression) if meter.expression else None
    except InvalidExpression:  # was checked when it was written
        expression = None
    declared = {one["name"]: Declared(one["name"], one.get("required", False), one.get("kind", "text"))
                for one in meter.properties}  # fmt: skip
    return MeterSpec(
        id=str(meter.pk),
        aggregation=meter.aggregation,
        recurring=meter.recurring,
        expression=expression,
        unique_property=meter.unique_property,
        declared=declared,
    )


def _known(organisation: Organisation, events: Iterable[Any], policy: UsagePolicy, now: datetime) -> Known:
    whole = [event for event in events if isinstance(event, Mapping)]
    customers = _customers(organisation, _names(whole, "customer"))
    subscriptions: dict[str, tuple[str, str]] = {}
    if named := _names(whole, "subscription"):
        for find in _finders:
            found = find(organisation, named)
            subscriptions |= {name: (str(one), str(customer)) for name, (one, customer) in found.items()}
    return Known(
        key_prefix=f"{organisation.pk}:",
        meters={meter.code: spec_of(meter) for meter in Meter.objects.of(organisation)},
        customers=customers,
        subscriptions=subscriptions,
        naming=_naming(organisation, set(customers.values())),
        earliest=policy.earliest(now),
        latest=now + measurements.AHEAD,
    )


def _names(events: Iterable[Mapping[str, Any]], field: str) -> set[str]:
    wanted = {value for event in events if isinstance(value := event.get(field), str)}
    return {value for value in wanted if 0 < len(value) <= 100 and value.isprintable()}


# Many names go as one text: an array of as many parameters costs more than the look-up itself. Names are printable.
CUSTOMERS = """
SELECT external_id, id::text FROM billing_customer
WHERE organisation_id = %s AND external_id = ANY (string_to_array(%s, chr(31)))
"""
CUSTOMERS_BY_ID = """
SELECT id::text FROM billing_customer WHERE organisation_id = %s AND id = ANY (string_to_array(%s, chr(31))::uuid[])
"""
NAMING = """
SELECT customer_id::text, meter_id::text FROM billing_usagenaming
WHERE organisation_id = %s AND customer_id = ANY (string_to_array(%s, chr(31))::uuid[])
"""
SEPARATOR = "\x1f"


def _customers(organisation: Organisation, names: set[str]) -> dict[str, str]:
    """Ids by external id and by id as it was written; an external id wins."""
    if not names:
        return {}
    ids = {name: str(found) for name in names if (found := _uuid(name))}
    named: dict[str, str] = {}
    with connection.cursor() as cursor:
        if ids:
            cursor.execute(CUSTOMERS_BY_ID, [organisation.pk, SEPARATOR.join(ids.values())])
            there = {pk for (pk,) in cursor.fetchall()}
            named = {name: pk for name, pk in ids.items() if pk in there}
        cursor.execute(CUSTOMERS, [organisation.pk, SEPARATOR.join(names)])
        return named | dict(cursor.fetchall())


def _naming(organisation: Organisation, customers: set[str]) -> frozenset[tuple[str, str]]:
    if not customers:
        return frozenset()
    with connection.cursor() as cursor:
        cursor.execute(NAMING, [organisation.pk, SEPARATOR.join(customers)])
        return frozenset(cursor.fetchall())


def _too_late(rows: Mapping[int, Row], policy: UsagePolicy, now: datetime) -> list[int]:
    """Positions of the events whose window is closed. Only what is older than the lateness can be: no query for the rest."""
    bound = now - policy.lateness
    old = [(n, row) for n, row in rows.items() if row.occurred_at < bound]
    if not old:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            TOO_LATE,
            [
                [n for n, _ in old],
                [row.customer_id for _, row in old],
                [row.meter_id for _, row in old],
                [row.subscription_id for _, row in old],
                [row.occurred_at for _, row in old],
                bound,
            ],
        )
        return [n for (n,) in cursor.fetchall()]


def _insert(organisation_id: uuid.UUID, rows: Mapping[int, Row]) -> set[int]:
    """Positions of the rows that were new."""
    if not rows:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(STAGE)
        _copy(cursor, rows)
        cursor.execute(INSERT, [organisation_id])
        return {n for (n,) in cursor.fetchall()}


def _copy(cursor: CursorWrapper, rows: Mapping[int, Row]) -> None:
    lines = []
    for n, row in rows.items():
        key, event_id, meter, customer, subscription, quantity, amount, subject, properties, at = row
        if "\\" in event_id or "\\" in properties or "\\" in subject:
            event_id, subject, properties = _escaped(event_id), _escaped(subject), _escaped(properties)
        fields = (
            str(n),
            key,
            event_id,
            meter,
            customer,
            subscription,
            quantity,
            amount or r"\N",
            subject,
            properties,
            at.isoformat(),
        )
        lines.append("\t".join(fields))
    with connection.wrap_database_errors, cursor.copy(COPY) as copy:
        copy.write("\n".join(lines))


def _escaped(text: str) -> str:
    """Backslashes as COPY reads them; tabs and line ends cannot occur."""
    return text.replace("\\", "\\\\")


def _park(
    organisation: Organisation,
    events: Sequence[Any],
    problems: Mapping[int, Rejected],
    policy: UsagePolicy,
    now: datetime,
    *,
    park: bool | None,
) -> set[int]:
    def keeps(problem: Rejected) -> bool:
        chosen = policy.too_late if problem.field == "occurred_at" else policy.unknown
        return problem.waits and (chosen == PARK if park is None else park)

    waiting = {n: problem for n, problem in problems.items() if keeps(problem)}
    return parking.park(organisation=organisation, events=events, waiting=waiting, now=now) if waiting else set()


def _verdict(n: int, event: Any, problems: Mapping[int, Rejected], fresh: set[int], parked: set[int]) -> Verdict:
    if n in fresh:
        return Verdict(event["event_id"], ACCEPTED)
    problem = problems.get(n)
    if problem is None:
        return Verdict(event["event_id"], DUPLICATE)
    name = event.get("event_id") if isinstance(event, Mapping) else ""
    name = name[:100] if isinstance(name, str) else ""
    return Verdict(name, PARKED if n in parked else REJECTED, problem.field, problem.reason)


def _uuid(value: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(value) if len(value) in (32, 36) else None
    except ValueError:
        return None
