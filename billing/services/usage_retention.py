"""Letting go of old measurements: whole months, when nobody keeps them any longer and everything in them is billed."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from django.db import connection, transaction

from billing import clock
from billing.models import Organisation, UsageWindow
from billing.services import usage_partitions
from billing.services.usage_partitions import next_month
from billing.services.usage_policy import policy_of

log = structlog.get_logger(__name__)
Guard = Callable[[UUID], datetime | None]
_guards: list[Guard] = []

# The state of recurring meters at the end of the month, as one event for each set of properties at the first instant after it.
# Ids below zero, in the order of the events they stand for: they come before everything else that happened at that instant.
CARRY = """
WITH state AS (
    SELECT e.organisation_id, e.customer_id, e.meter_id, e.subscription_ref, e.subject, e.properties - 'operation' AS properties,
           CASE WHEN m.aggregation IN ('sum', 'weighted') THEN sum(coalesce(r.quantity, e.quantity))
                ELSE (array_agg(coalesce(r.quantity, e.quantity) ORDER BY e.occurred_at DESC, e.id DESC))[1] END AS quantity,
           max(e.occurred_at) AS last_at, (array_agg(e.id ORDER BY e.occurred_at DESC, e.id DESC))[1] AS last_id
    FROM billing_usageevent e
    JOIN billing_meter m ON m.id = e.meter_id AND m.recurring
    LEFT JOIN billing_usagerevision r ON r.event_ref = e.id AND r.is_current
    WHERE e.occurred_at < %(until)s AND r.kind IS DISTINCT FROM 'void'
    GROUP BY e.organisation_id, e.customer_id, e.meter_id, m.aggregation, e.subscription_ref, e.subject,
             e.properties - 'operation'
    ORDER BY last_at DESC, last_id DESC
    OFFSET 0
)
INSERT INTO billing_usageevent (id, organisation_id, event_id, meter_id, customer_id, subscription_ref, quantity, subject,
                                properties, occurred_at)
SELECT -nextval('billing_usageevent_ref'), organisation_id, 'carried:' || gen_random_uuid(), meter_id, customer_id,
       subscription_ref, quantity, subject, properties, %(until)s
FROM state WHERE quantity <> 0 OR subject = ''
"""


def keep_for(guard: Guard) -> Guard:
    """Register who still needs usage: organisation to the moment since when, or None. Also usable as a decorator."""
    _guards.append(guard)
    return guard


def let_go() -> list[str]:
    """Drop the months that may go, oldest first; stops at the first that may not. Returns them as ``2024-03``."""
    gone = []
    for month in usage_partitions.months_with_events():
        until = next_month(month)
        if until > clock.wall_now() or not all(_may_go(one, until) for one in _organisations(month, until)):
            break
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(CARRY, {"until": until})
            dropped = usage_partitions.drop(month)
            if not dropped:
                transaction.set_rollback(True)
        if not dropped:
            break
        gone.append(f"{month:%Y-%m}")
        log.info("usage.let_go", month=gone[-1])
    return gone


def _organisations(month: datetime, until: datetime) -> list[Organisation]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT organisation_id FROM billing_usageevent WHERE occurred_at >= %s AND occurred_at < %s",
            [month, until],
        )
        ids: list[Any] = [one for (one,) in cursor.fetchall()]
    return list(Organisation.objects.filter(pk__in=ids))


def _may_go(organisation: Organisation, until: datetime) -> bool:
    """Whether the organisation keeps nothing before ``until``: by its choice, by what is unbilled, by windows still open."""
    policy = policy_of(organisation)
    if not policy.retention_months or policy.earliest(clock.now(organisation)) < until:
        return False
    if UsageWindow.objects.of(organisation).filter(closed_at=None, starts_at__lt=until).exists():
        return False
    return all((since := guard(organisation.pk)) is None or since >= until for guard in _guards)
