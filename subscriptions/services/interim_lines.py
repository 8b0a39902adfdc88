"""What interim invoices of open usage windows billed, for many subscriptions in one query."""

import uuid
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from django.db import connection

from billing.arrays import array_of, array_of_times
from subscriptions.progressive import Earlier

OPEN = """
SELECT i.subscription_id, l.code, l.description, l.tax_category, l.given, l.invoice_id, l.currency
FROM unnest(%s::uuid[], %s::timestamptz[]) AS w (subscription_id, usage_from)
JOIN subscriptions_interiminvoice i ON i.subscription_id = w.subscription_id AND i.usage_from = w.usage_from
JOIN invoices_invoice v ON v.id = i.invoice_id AND v.status <> 'void'
JOIN invoices_invoiceline l ON l.invoice_id = i.invoice_id
WHERE NOT EXISTS (
    SELECT FROM invoices_creditnote n WHERE n.invoice_id = v.id GROUP BY n.invoice_id HAVING sum(n.total) >= v.total
)
ORDER BY i.subscription_id, i.number, l.position
"""


def lines_to_take_off(windows: Iterable[tuple[uuid.UUID, datetime | None]]) -> dict[uuid.UUID, list[Earlier]]:
    """Lines of the interim invoices of the windows (subscription, usage_from); what was annulled does not count."""
    asked = [window for window in windows if window[1] is not None]
    found: dict[uuid.UUID, list[Earlier]] = defaultdict(list)
    if not asked:
        return found
    with connection.cursor() as cursor:
        cursor.execute(OPEN, [array_of(pk for pk, _ in asked), array_of_times(since for _, since in asked)])
        for subscription_id, *columns in cursor.fetchall():
            found[subscription_id].append(Earlier(*columns))
    return found
