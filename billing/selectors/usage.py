"""What was used: many windows of customer, meter and time, in one statement."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import zip_longest
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


def _asked(given: str = "", names: str = "") -> str:
    return f"""unnest(%s::int[], %s::uuid[], %s::uuid[], %s::uuid[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[]{given})
     AS w (n, customer_id, meter_id, subscription_ref, starts_at, since, until{names})
LEFT JOIN billing_usagenaming naming ON naming.customer_id = w.customer_id AND naming.meter_id = w.meter_id"""


# Whole hours, added up when their events came in.
HOURS = f"""
SELECT w.n, u.*
FROM {_asked()}
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

# The events of a window as they stand, each read once. What was said about some of them later is looked up once for the window,
# by id: the new quantity, or null for what does not count.
STANDING = f"""(
        SELECT jsonb_object_agg(r.event_ref, CASE WHEN r.kind <> 'void' THEN r.quantity END) AS later
        FROM billing_usagerevision r
        WHERE r.customer_id = w.customer_id AND r.meter_id = w.meter_id
          AND r.occurred_at >= w.since AND r.occurred_at < w.until AND r.is_current
    ) said
    CROSS JOIN LATERAL (
        SELECT row.id, row.occurred_at, row.amount, row.subject, row.properties,
               CASE WHEN said.later IS NULL THEN row.quantity
                    ELSE coalesce((said.later ->> row.id::text)::numeric, row.quantity) END AS quantity
        FROM billing_usageevent row
        WHERE row.customer_id = w.customer_id AND row.meter_id = w.meter_id
          AND row.occurred_at >= w.since AND row.occurred_at < w.until
          AND row.occurred_at >= %s AND row.occurred_at < %s
          AND (said.later IS NULL OR said.later -> row.id::text IS DISTINCT FROM 'null') AND {OF_THE_WINDOW}
    ) e"""  # noqa: S608 - words of this module

# Added up by what splits them. The names of properties are columns: an event costs no look into a list.
SUMS = f"""
SELECT w.n, u.*
FROM {_asked("{given}", "{names}")}
CROSS JOIN LATERAL (
    SELECT {{split}} AS split, '' AS subject, e.occurred_at < w.starts_at AS earlier, count(*) AS events,
           sum(e.quantity) AS total, max(e.quantity) AS greatest, NULL::numeric AS last, max(e.occurred_at) AS last_at,
           NULL::bigint AS last_id, coalesce(sum(e.amount), 0) AS amount
    FROM {STANDING}
    GROUP BY {{keys}}e.occurred_at < w.starts_at
) u
"""  # noqa: S608 - words of this module

# The last word on each subject, or one by one where times or values are asked for.
WORDS = f"""
SELECT w.n, u.*
FROM {_asked(", %s::boolean[], %s::boolean[]{given}", ", by_subject, one_by_one{names}")}
CROSS JOIN LATERAL (
    SELECT s.split, s.subject, s.earlier, count(*) AS events, sum(s.quantity) AS total, max(s.quantity) AS greatest,
           (array_agg(s.quantity ORDER BY s.occurred_at DESC, s.id DESC))[1] AS last, max(s.occurred_at) AS last_at,
           (array_agg(s.id ORDER BY s.occurred_at DESC, s.id DESC))[1] AS last_id, coalesce(sum(s.amount), 0) AS amount
    FROM (
        SELECT e.id, e.occurred_at, e.quantity, e.amount, {{split}} AS split, e.occurred_at < w.starts_at AS earlier,
               CASE WHEN w.by_subject THEN e.subject ELSE '' END AS subject,
               CASE WHEN w.one_by_one AND e.occurred_at >= w.starts_at THEN e.id END AS single
        FROM {STANDING}
    ) s
    GROUP BY s.split, s.subject, s.earlier, s.single
) u
"""  # noqa: S608 - words of this module

# How often anything in the window changed: hours count their own changes, edges are counted by row.
CHANGES = f"""
SELECT w.n, coalesce(sum(u.changes), 0)
FROM {_asked()}
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
        found.setdefault(window, (rules[window.meter_id], []))[1].append(_reading(values, len(window.split_by)))
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
    words = [span for span in events if _by_word(span.window, rules[span.window.meter_id])]
    sums = [span for span in events if not _by_word(span.window, rules[span.window.meter_id])]
    statements, values = [], []
    if hours:
        statements.append(HOURS)
        values += _columns(hours)
    if sums:
        _of_events(SUMS, sums, [], statements, values)
    if words:
        asked = [(span.window, rules[span.window.meter_id]) for span in words]
        ways = [[rule.aggregation == "unique" for _, rule in asked], [_one_by_one(*one) for one in asked]]
        _of_events(WORDS, words, ways, statements, values)
    if not statements:
        return []
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(statements), values)
        return cursor.fetchall()


def _of_events(
    statement: str, spans: Sequence[Span], ways: Sequence[list[bool]], statements: list[str], values: list[Any]
) -> None:
    """Add a statement over events with its values. Windows that are split by fewer properties than others leave the rest empty."""
    columns = [list(column) for column in zip_longest(*(span.window.split_by for span in spans))]
    names = [f"p{n}" for n in range(len(columns))]
    keys = [f"""coalesce(e.properties ->> w.{name}, '') COLLATE "C" """ for name in names]
    statements.append(
        statement.format(
            split=f"ARRAY[{', '.join(keys)}]::text[]",
            keys="".join(f"{key}, " for key in keys),
            names="".join(f", {name}" for name in names),
            given=", %s::text[]" * len(names),
        )
    )
    # The bounds are said once more as constants, so that other partitions are not planned for.
    bounds = [min(span.since for span in spans), max(span.until for span in spans)]
    values += [*_columns(spans), *ways, *columns, *bounds]


def _by_word(window: Window, rule: MeterRule) -> bool:
    """Whether single events decide, by their order or each for itself; others are only added up."""
    return rule.aggregation in ("unique", "latest") or _one_by_one(window, rule)


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


def _reading(values: Sequence[Any], properties: int) -> Reading:
    split, subject, earlier, events, total, greatest, last, last_at, last_id, amount = values
    last = total if last is None else last
    return Reading(
        tuple(split[:properties]), subject, earlier, events, total, greatest, last, last_at, last_id or 0, amount
    )


def _floor(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _ceil(moment: datetime) -> datetime:
    whole = _floor(moment)
    return whole if whole == moment else whole + HOUR
