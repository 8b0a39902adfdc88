"""What was used: many windows of customer, meter and time, in one statement."""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from django.db import connection

from billing.arrays import array_of, array_of_times
from billing.metering import MeterRule, Reading, Segment, Used, Window, parts, quantity_of, reads_each
from billing.models import Meter

__all__ = ["Segment", "Used", "Window", "aggregate", "aggregate_parts", "changes_of"]

ADDED_UP = frozenset({"count", "sum", "max"})
"""Aggregations that whole hours are kept for."""
HOUR = timedelta(hours=1)
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_ZERO = Decimal(0)

OF_THE_WINDOW = """(w.subscription_ref IS NULL OR row.subscription_ref = w.subscription_ref
              OR (row.subscription_ref = '00000000-0000-0000-0000-000000000000'
                  AND coalesce(naming.first_ref, w.subscription_ref) = w.subscription_ref))"""
ASKED = """unnest(%s::int[], %s::uuid[], %s::uuid[], %s::uuid[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[])
     AS w (n, customer_id, meter_id, subscription_ref, starts_at, since, until)
LEFT JOIN billing_usagenaming naming ON naming.customer_id = w.customer_id AND naming.meter_id = w.meter_id"""

# Whole hours, added up when their events came in.
HOURS = f"""
SELECT w.n, u.*
FROM {ASKED}
CROSS JOIN LATERAL (
    SELECT '{{}}'::text[] AS split, '' AS subject, row.hour < w.starts_at AS earlier, sum(row.events)::bigint AS events,
           sum(row.total) AS total, max(row.greatest) AS greatest, NULL::numeric AS last, max(row.hour) AS last_at,
           NULL::bigint AS last_id, sum(row.amount) AS amount
    FROM billing_usagehour row
    WHERE row.customer_id = w.customer_id AND row.meter_id = w.meter_id AND row.hour >= w.since AND row.hour < w.until
      AND row.events > 0 AND {OF_THE_WINDOW}
    GROUP BY 3
) u
"""  # noqa: S608 - words of this module

# The events themselves, each read once: added up by what splits them, or one by one where times or values are asked for.
EVENTS = f"""
SELECT w.n, u.*
FROM {ASKED}
JOIN unnest(%s::int[], %s::text[], %s::text[], %s::boolean[]) AS way (n, aggregation, split_by, one_by_one) USING (n)
CROSS JOIN LATERAL (
    SELECT e.split, e.subject, e.earlier, count(*) AS events, sum(e.quantity) AS total, max(e.quantity) AS greatest,
           (array_agg(e.quantity ORDER BY e.occurred_at DESC, e.id DESC)
            FILTER (WHERE way.aggregation IN ('unique', 'latest')))[1] AS last,
           max(e.occurred_at) AS last_at,
           (array_agg(e.id ORDER BY e.occurred_at DESC, e.id DESC)
            FILTER (WHERE way.aggregation IN ('unique', 'latest') OR e.single IS NOT NULL))[1] AS last_id,
           coalesce(sum(e.amount), 0) AS amount
    FROM (
        SELECT row.id, row.occurred_at, row.amount, coalesce(r.quantity, row.quantity) AS quantity,
               row.occurred_at < w.starts_at AS earlier,
               CASE WHEN way.split_by = '[]' THEN '{{}}'
                    ELSE ARRAY(SELECT coalesce(row.properties ->> name, '')
                               FROM jsonb_array_elements_text(way.split_by::jsonb) AS name) END AS split,
               CASE WHEN way.aggregation = 'unique' THEN row.subject ELSE '' END AS subject,
               CASE WHEN way.one_by_one AND row.occurred_at >= w.starts_at THEN row.id END AS single
        FROM billing_usageevent row
        LEFT JOIN billing_usagerevision r ON r.event_ref = row.id AND r.is_current
        WHERE row.customer_id = w.customer_id AND row.meter_id = w.meter_id
          AND row.occurred_at >= w.since AND row.occurred_at < w.until
          AND row.occurred_at >= %s AND row.occurred_at < %s
          AND r.kind IS DISTINCT FROM 'void' AND {OF_THE_WINDOW}
    ) e
    GROUP BY e.split, e.subject, e.earlier, e.single
) u
"""  # noqa: S608 - words of this module

# How often anything in the window changed: hours count their own changes, edges are counted by row.
CHANGES = f"""
SELECT w.n, coalesce(sum(u.changes), 0)
FROM {ASKED}
CROSS JOIN LATERAL (
    SELECT sum(row.changes) AS changes FROM billing_usagehour row
    WHERE row.customer_id = w.customer_id AND row.meter_id = w.meter_id AND row.hour >= w.since AND row.hour < w.until
      AND {OF_THE_WINDOW}
) u
GROUP BY w.n
"""  # noqa: S608 - words of this module


class Span(NamedTuple):
    """A part [since, until) of the time of window ``n`` that is read in one way."""

    n: int
    window: Window
    since: datetime
    until: datetime


def aggregate(windows: Iterable[Window]) -> dict[Window, Decimal]:
    """Quantity of each whole window by its meter's aggregation, rounding included; windows without anything are left out.

    The caller takes customer and meter from rows of its organisation; events of other customers are never touched.
    """
    whole = {window: window._replace(segments=(), group_by=(), with_values=False, at_peak=False) for window in windows}
    found = _readings(list(dict.fromkeys(whole.values())))
    quantities = {}
    for window, plain in whole.items():
        if plain in found:
            rule, readings = found[plain]
            quantity = quantity_of(plain, rule, readings)
            if quantity or any(not reading.earlier for reading in readings):
                quantities[window] = quantity
    return quantities


def aggregate_parts(windows: Iterable[Window]) -> dict[Window, tuple[Used, ...]]:
    """Usage of each window by its segments and groups, in one statement; windows without anything are left out."""
    found = _readings(list(dict.fromkeys(windows)))
    split = {window: parts(window, rule, readings) for window, (rule, readings) in found.items()}
    return {window: used for window, used in split.items() if used}


def changes_of(windows: Iterable[Window]) -> dict[Window, int]:
    """How often the usage of each window changed, by events and revisions: only grows, and stands still when nothing changed.

    Hours that a window shares with its neighbours count whole: a change there may be the neighbour's.
    """
    asked = list(dict.fromkeys(windows))
    if not asked:
        return {}
    rules = _rules(asked)
    spans = [
        Span(n, window, BEGINNING if rules[window.meter_id].recurring else _floor(window.start), _ceil(window.end))
        for n, window in enumerate(asked)
    ]
    with connection.cursor() as cursor:
        cursor.execute(CHANGES, _columns(spans))
        return {asked[n]: int(changes) for n, changes in cursor.fetchall()}


def _readings(asked: Sequence[Window]) -> dict[Window, tuple[MeterRule, list[Reading]]]:
    if not asked:
        return {}
    rules = _rules(asked)
    hours: list[Span] = []
    events: list[Span] = []
    for n, window in enumerate(asked):
        rule = rules[window.meter_id]
        each = window.with_values or reads_each(window, rule)
        if rule.aggregation in ADDED_UP and not window.split_by and not each:
            _by_hours(n, window, rule, hours, events)
        else:
            events.append(Span(n, window, BEGINNING if rule.recurring else window.start, window.end))
    found: dict[Window, tuple[MeterRule, list[Reading]]] = {}
    for n, *values in _read(hours, events, rules):
        window = asked[n]
        found.setdefault(window, (rules[window.meter_id], []))[1].append(_reading(values))
    return found


def _by_hours(n: int, window: Window, rule: MeterRule, hours: list[Span], events: list[Span]) -> None:
    """Whole hours from the table of hours, the rest of the window from its events."""
    first, last = _ceil(window.start), _floor(window.end)
    begin = _floor(window.start) if rule.recurring else window.start
    if rule.recurring:
        hours.append(Span(n, window, BEGINNING, begin))
    if first < last:
        hours.append(Span(n, window, first, last))
    if begin < first:
        events.append(Span(n, window, begin, min(first, window.end)))
    if max(first, last) < window.end:
        events.append(Span(n, window, max(first, last), window.end))


def _read(hours: Sequence[Span], events: Sequence[Span], rules: Mapping[uuid.UUID, MeterRule]) -> list[Any]:
    statements, values = [], []
    if hours:
        statements.append(HOURS)
        values += _columns(hours)
    if events:
        statements.append(EVENTS)
        ways = {span.n: span.window for span in events}
        values += _columns(events)
        values += [
            list(ways),
            [rules[window.meter_id].aggregation for window in ways.values()],
            [json.dumps(window.split_by) for window in ways.values()],
            [_one_by_one(window, rules[window.meter_id]) for window in ways.values()],
            min(
                span.since for span in events
            ),  # said once more as constants, so that other partitions are not planned for
            max(span.until for span in events),
        ]
    if not statements:
        return []
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(statements), values)
        return cursor.fetchall()


def _one_by_one(window: Window, rule: MeterRule) -> bool:
    return window.with_values or rule.aggregation == "weighted" or reads_each(window, rule)


def _rules(asked: Sequence[Window]) -> dict[uuid.UUID, MeterRule]:
    rows = Meter.objects.filter(pk__in={window.meter_id for window in asked})
    return {pk: MeterRule(*rule) for pk, *rule in rows.values_list("pk", *MeterRule._fields)}


def _columns(spans: Sequence[Span]) -> list[Any]:
    return [
        array_of(span.n for span in spans),
        array_of(span.window.customer_id for span in spans),
        array_of(span.window.meter_id for span in spans),
        array_of(span.window.subscription_id for span in spans),
        array_of_times(span.window.start for span in spans),
        array_of_times(span.since for span in spans),
        array_of_times(span.until for span in spans),
    ]


def _reading(values: Sequence[Any]) -> Reading:
    split, subject, earlier, events, total, greatest, last, last_at, last_id, amount = values
    last = total if last is None else last
    return Reading(tuple(split), subject, earlier, events, total, greatest, last, last_at, last_id or 0, amount)


def _floor(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _ceil(moment: datetime) -> datetime:
    whole = _floor(moment)
    return whole if whole == moment else whole + HOUR
