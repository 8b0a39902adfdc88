"""Letting go of what has served its time. Books, documents, events and the audit trail are never among it."""

from datetime import timedelta

from django.db.models import Q

from billing.clock import wall_now
from billing.models import EventHandling, IdempotencyRecord, RefreshToken, WebhookDelivery

KEEP_KEYS = timedelta(days=7)
KEEP_DELIVERIES = timedelta(days=90)


def tidy() -> dict[str, int]:
    """Delete old idempotency keys, ended sign-ins and delivered messages; returns how many of each."""
    now = wall_now()
    old = now - KEEP_DELIVERIES
    stale = {
        "idempotency_keys": IdempotencyRecord.objects.filter(recorded_at__lt=now - KEEP_KEYS),
        "refresh_tokens": RefreshToken.objects.filter(Q(expires_at__lt=now)),
        "deliveries": WebhookDelivery.objects.filter(status=WebhookDelivery.Status.DELIVERED, delivered_at__lt=old),
        "handlings": EventHandling.objects.filter(status=EventHandling.Status.DONE, handled_at__lt=old),
    }
    return {name: rows.delete()[0] for name, rows in stale.items()}
