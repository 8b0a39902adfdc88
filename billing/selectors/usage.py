"""What was used: many windows of customer, meter and time, in one query."""

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from django.db import connection

from billing.metering import MeterRule, Reading, Segment, Used, Window, parts, quantity_of

__all__ = ["Segment", "Used", "Window", "aggregate", "aggregate_parts"]

# Each event is read once. Where the split needs no single events they are added up here, else they come one by one:
# a weighted meter needs their times, ``with_values`` their quantities, unique and latest the last one.
READINGS = """
WITH asked AS MATERIALIZED (
    SELECT a.*, m.aggregation, m.recurring, m.rounding, m.rounding_decimals, naming.first_ref,
           CASE WHEN m.recurring THEN '-infinity' ELSE a.starts_at END AS reads_from
    FROM unnest(%s::uuid[], %s::uuid[], %s::timestamptz[], %s::timestamptz[], %s::uuid[], %s::text[], %s::boolean[])
         WITH ORDINALITY AS a (customer_id, meter_id, starts_at, ends_at, subscription_ref, split_by, one_by_one, n)
    JOIN billing_meter m ON m.id = a.meter_id
    LEFT JOIN billing_usagenaming naming ON naming.customer_id = a.customer_id AND naming.meter_id = a.meter_id
)
SELECT w.n, w.aggregation, w.recurring, w.rounding, w.rounding_decimals, u.*
FROM asked w
CROSS JOIN LATERAL (
    SELECT e.split, e.subject, e.earlier, count(*), sum(e.quantity), max(e.quantity),
           (array_agg(e.quantity ORDER BY e.occurred_at DESC, e.id DESC) FILTER (WHERE w.aggregation IN ('unique', 'latest')))[1],
           max(e.occurred_at),
           (array_agg(e.id ORDER BY e.occurred_at DESC, e.id DESC) FILTER (WHERE w.aggregation IN ('unique', 'latest')
                                                                      OR e.single IS NOT NULL))[1],
           coalesce(sum(e.amount), 0)
    FROM (
        SELECT e.id, e.occurred_at, e.amount, coalesce(r.quantity, e.quantity) AS quantity,
               e.occurred_at < w.starts_at AS earlier,
               CASE WHEN w.split_by = '[]' THEN '{}'
                    ELSE ARRAY(SELECT coalesce(e.properties ->> name, '')
                               FROM jsonb_array_elements_text(w.split_by::jsonb) AS name) END AS split,
               CASE WHEN w.aggregation = 'unique' THEN e.subject ELSE '' END AS subject,
               CASE WHEN (w.one_by_one OR w.aggregation = 'weighted') AND e.occurred_at >= w.starts_at THEN e.id END AS single
        FROM billing_usageevent e
        LEFT JOIN billing_usagerevision r ON r.event_ref = e.id AND r.is_current
        WHERE e.customer_id = w.customer_id AND e.meter_id = w.meter_id
          AND e.occurred_at >= w.reads_from AND e.occurred_at < w.ends_at
          AND r.kind IS DISTINCT FROM 'void'
          AND (w.subscription_ref IS NULL OR e.subscription_ref = w.subscription_ref
               OR (e.subscription_ref = '00000000-0000-0000-0000-000000000000'
                   AND coalesce(w.first_ref, w.subscription_ref) = w.subscription_ref))
    ) e
    GROUP BY e.split, e.subject, e.earlier, e.single
) u
"""
_ZERO = Decimal(0)


def aggregate(windows: Iterable[Window]) -> dict[Window, Decimal]:
    """Quantity of each whole window by its meter's aggregation, rounding included; windows without anything are left out.

    The caller takes customer and meter from rows of its organisation; events of other customers are never touched.
    """
    whole = {window: window._replace(segments=(), group_by=(), with_values=False) for window in windows}
    found = _readings(list(dict.fromkeys(whole.values())))
    quantities = {}
    for window, plain in whole.items():
        rule, readings = found.get(plain, (None, []))
        if rule is not None:
            quantity = quantity_of(plain, rule, readings)
            if quantity or any(not reading.earlier for reading in readings):
                quantities[window] = quantity
    return quantities


def aggregate_parts(windows: Iterable[Window]) -> dict[Window, tuple[Used, ...]]:
    """Usage of each window by its segments and groups, in one statement; windows without anything are left out."""
    found = _readings(list(dict.fromkeys(windows)))
    split = {window: parts(window, rule, readings) for window, (rule, readings) in found.items()}
    return {window: used for window, used in split.items() if used}


def _readings(asked: Sequence[Window]) -> dict[Window, tuple[MeterRule, list[Reading]]]:
    if not asked:
        return {}
    found: dict[Window, tuple[MeterRule, list[Reading]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(READINGS, _columns(asked))
        for n, aggregation, recurring, rounding, decimals, *values in cursor.fetchall():
            window = asked[n - 1]
            if window not in found:
                found[window] = MeterRule(aggregation, recurring, rounding, decimals), []
            found[window][1].append(_reading(values))
    return found


def _columns(asked: Sequence[Window]) -> list[list[Any]]:
    return [
        [window.customer_id for window in asked],
        [window.meter_id for window in asked],
        [window.start for window in asked],
        [window.end for window in asked],
        [window.subscription_id for window in asked],
        [json.dumps(window.split_by) for window in asked],
        [window.with_values for window in asked],
    ]


def _reading(values: Sequence[Any]) -> Reading:
    split, subject, earlier, events, total, greatest, last, last_at, last_id, amount = values
    return Reading(
        tuple(split),
        subject,
        earlier,
        events,
        total,
        greatest,
        total if last is None else last,
        last_at,
        last_id or 0,
        amount,
    )
