"""What was used: many windows of customer, meter and time, in one query."""

import uuid
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from django.db import connection

AGGREGATE = """
SELECT w.n,
       CASE m.aggregation WHEN 'count' THEN u.events WHEN 'sum' THEN u.total ELSE u.greatest END
FROM unnest(%s::uuid[], %s::uuid[], %s::timestamptz[], %s::timestamptz[])
     WITH ORDINALITY AS w (customer_id, meter_id, starts_at, ends_at, n)
JOIN billing_meter m ON m.id = w.meter_id
CROSS JOIN LATERAL (
    SELECT count(*) AS events, sum(e.quantity) AS total, max(e.quantity) AS greatest
    FROM billing_usageevent e
    WHERE e.customer_id = w.customer_id AND e.meter_id = w.meter_id
      AND e.occurred_at >= w.starts_at AND e.occurred_at < w.ends_at
) u
WHERE u.events > 0
"""


class Window(NamedTuple):
    """What one customer used of one meter in [starts_at, ends_at)."""

    customer_id: uuid.UUID
    meter_id: uuid.UUID
    starts_at: datetime
    ends_at: datetime


def aggregate(windows: Iterable[Window]) -> dict[Window, Decimal]:
    """Quantity of each window by its meter's aggregation; windows without events are left out.

    The caller takes customer and meter from rows of its organisation; events of other customers are never touched.
    """
    asked = list(dict.fromkeys(windows))
    if not asked:
        return {}
    customers, meters, starts, ends = (list(column) for column in zip(*asked, strict=True))
    with connection.cursor() as cursor:
        cursor.execute(AGGREGATE, [customers, meters, starts, ends])
        return {asked[n - 1]: Decimal(quantity) for n, quantity in cursor.fetchall()}
