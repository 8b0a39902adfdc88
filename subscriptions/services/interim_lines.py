"""What interim invoices of open usage windows billed, for many subscriptions in one query."""

import json
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from django.db import connection

from billing.arrays import array_of, array_of_times
from invoices.drafts import LineInput
from subscriptions.models import Subscription
from subscriptions.progressive import Earlier
from subscriptions.services.coupon_book import discount_in

NOBODY = uuid.UUID(int=0)
WindowKey = tuple[uuid.UUID, datetime | None]
"""A usage window: the subscription and ``usage_from``."""
OPEN = """
SELECT i.subscription_id, i.usage_from, l.code, l.description, l.tax_category, l.given, l.invoice_id, l.currency, l.details::text
FROM unnest(%s::uuid[], %s::timestamptz[]) AS w (subscription_id, usage_from)
JOIN subscriptions_interiminvoice i ON i.subscription_id = w.subscription_id AND i.usage_from = w.usage_from
JOIN invoices_invoice v ON v.id = i.invoice_id AND v.status <> 'void'
JOIN invoices_invoiceline l ON l.invoice_id = i.invoice_id
WHERE NOT EXISTS (
    SELECT FROM invoices_creditnote n WHERE n.invoice_id = v.id GROUP BY n.invoice_id HAVING sum(n.total) >= v.total
)
ORDER BY i.subscription_id, i.usage_from, i.number, l.position
"""


class Before(NamedTuple):
    """What interim invoices of a window came to: usage that a threshold asked for, and when the last one was issued."""

    used: Decimal
    issued_at: datetime | None


NOTHING = Before(Decimal(0), None)


def foresee(subscription: Subscription, lines: Iterable[LineInput], *, before: Before) -> None:
    """Let a row in memory know an interim invoice that only a preview has issued: what it charged is taken off.

    ``before`` is what the window's interim invoices came to, this one included.
    """
    known = list(interim_foreseen(subscription))
    known += [
        Earlier(one.code, one.description, one.tax_category, one.amount.amount, NOBODY, subscription.currency,
                discount_in(one.details))
        for one in lines
    ]  # fmt: skip
    subscription.interim_foreseen = (subscription.usage_from, known, before)  # type: ignore[attr-defined]


def interim_foreseen(subscription: Subscription) -> Sequence[Earlier]:
    """What ``foresee`` has noted for the row's present usage window."""
    since, lines, _ = getattr(subscription, "interim_foreseen", (None, (), NOTHING))
    return lines if since == subscription.usage_from else ()


def before_foreseen(subscription: Subscription) -> Before:
    """What the interim invoices that ``foresee`` has noted for the present window came to."""
    since, _, before = getattr(subscription, "interim_foreseen", (None, (), NOTHING))
    return before if since == subscription.usage_from else NOTHING


def lines_to_take_off(windows: Iterable[WindowKey]) -> dict[WindowKey, list[Earlier]]:
    """Lines of the interim invoices of each window; what was annulled does not count."""
    asked = [window for window in windows if window[1] is not None]
    found: dict[WindowKey, list[Earlier]] = defaultdict(list)
    if not asked:
        return found
    with connection.cursor() as cursor:
        cursor.execute(OPEN, [array_of(pk for pk, _ in asked), array_of_times(since for _, since in asked)])
        for subscription_id, since, code, description, tax_category, given, invoice_id, currency, details in cursor:
            off = discount_in(json.loads(details))
            found[subscription_id, since].append(
                Earlier(code, description, tax_category, given, invoice_id, currency, off)
            )
    return found
