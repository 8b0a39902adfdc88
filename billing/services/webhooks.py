"""Outgoing webhooks: the tenants' applications hear of events, signed as Standard Webhooks says.

Each event makes one delivery per endpoint that wants it. A delivery is claimed before the call, tried with growing
pauses for about three days, then dead until somebody replays it. Its id stays the same, so that receivers can dedupe.
"""

import json
import logging
import random
import uuid
from collections.abc import Sequence
from datetime import timedelta

from celery import current_app
from django.db import transaction
from django.db.models import F
from django.utils.functional import partition

from billing import outgoing, signing
from billing.clock import wall_now
from billing.context import Actor
from billing.errors import Conflict, InvalidInput
from billing.models import Event, Organisation, WebhookDelivery, WebhookEndpoint
from billing.services import audit

TASK = "billing.tasks.deliver_webhooks"
WAITS = tuple(timedelta(seconds=s) for s in (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400))
LEASE = timedelta(minutes=3)
OVERLAP = timedelta(hours=24)
MAX_ENDPOINTS = 20
GONE = 410

logger = logging.getLogger(__name__)


class TooManyEndpoints(Conflict):
    code = "too_many_webhook_endpoints"
    message = "An organisation has at most {limit} webhook endpoints; delete one that is not used."


class NotReplayable(Conflict):
    code = "webhook_delivery_pending"
    message = "This delivery is still being tried; the next attempt is at {at}."


@transaction.atomic
def create_endpoint(
    *, organisation: Organisation, url: str, event_types: Sequence[str] = (), actor: Actor
) -> WebhookEndpoint:
    """Begin to send events to ``url``; its secret is in the result. Raises ``AddressRefused``, ``TooManyEndpoints``."""
    outgoing.check_url(url)
    Organisation.objects.select_for_update().get(pk=organisation.pk)
    if WebhookEndpoint.objects.of(organisation).count() >= MAX_ENDPOINTS:
        raise TooManyEndpoints(limit=MAX_ENDPOINTS)
    endpoint = WebhookEndpoint.objects.create(
        organisation=organisation, url=url, event_types=_clean_types(event_types), secret=signing.new_secret()
    )
    audit.record(actor=actor, action="webhook_endpoint.created", target=endpoint, after={"url": url})
    return endpoint


@transaction.atomic
def update_endpoint(
    *,
    organisation: Organisation,
    endpoint_id: uuid.UUID,
    actor: Actor,
    url: str | None = None,
    event_types: Sequence[str] | None = None,
    active: bool | None = None,
) -> WebhookEndpoint:
    """Change address, wanted types or whether anything is sent at all."""
    endpoint = WebhookEndpoint.objects.of(organisation).select_for_update().get(pk=endpoint_id)
    before = {"url": endpoint.url, "event_types": endpoint.event_types, "active": endpoint.active}
    if url is not None:
        outgoing.check_url(url)
        endpoint.url = url
    if event_types is not None:
        endpoint.event_types = _clean_types(event_types)
    if active is not None:
        endpoint.active = active
        endpoint.disabled_reason = "" if active else "Switched off."
    endpoint.save()
    after = {"url": endpoint.url, "event_types": endpoint.event_types, "active": endpoint.active}
    audit.record(actor=actor, action="webhook_endpoint.updated", target=endpoint, before=before, after=after)
    return endpoint


@transaction.atomic
def delete_endpoint(*, organisation: Organisation, endpoint_id: uuid.UUID, actor: Actor) -> None:
    """Stop sending; the endpoint's deliveries go with it."""
    endpoint = WebhookEndpoint.objects.of(organisation).select_for_update().get(pk=endpoint_id)
    audit.record(actor=actor, action="webhook_endpoint.deleted", target=endpoint, before={"url": endpoint.url})
    endpoint.delete()


@transaction.atomic
def rotate_secret(*, organisation: Organisation, endpoint_id: uuid.UUID, actor: Actor) -> WebhookEndpoint:
    """A new secret; for 24 hours messages are signed with the old one as well."""
    endpoint = WebhookEndpoint.objects.of(organisation).select_for_update().get(pk=endpoint_id)
    endpoint.previous_secret, endpoint.previous_secret_until = endpoint.secret, wall_now() + OVERLAP
    endpoint.secret = signing.new_secret()
    endpoint.save()
    audit.record(actor=actor, action="webhook_endpoint.secret_rotated", target=endpoint)
    return endpoint


@transaction.atomic
def replay(*, organisation_id: uuid.UUID, delivery_id: uuid.UUID, actor: Actor, reason: str = "") -> WebhookDelivery:
    """Send a delivered or dead message once more, from the first attempt. Raises ``NotReplayable``."""
    delivery = WebhookDelivery.objects.of(organisation_id).select_for_update(of=("self",)).get(pk=delivery_id)
    if delivery.status == WebhookDelivery.Status.PENDING:
        raise NotReplayable(at=delivery.next_attempt_at.isoformat())
    delivery.status, delivery.attempts = WebhookDelivery.Status.PENDING, 0
    delivery.next_attempt_at, delivery.error, delivery.delivered_at = wall_now(), "", None
    delivery.save()
    audit.record(actor=actor, action="webhook_delivery.replayed", target=delivery, reason=reason)
    _wake_after_commit()
    return delivery


def has_endpoints(organisation_id: uuid.UUID) -> bool:
    """Whether anybody listens at all."""
    return WebhookEndpoint.objects.of(organisation_id).filter(active=True).exists()


def enqueue(events: Sequence[Event]) -> None:
    """One delivery per event and endpoint that wants it, in the caller's transaction; known ones stay as they are."""
    organisation_id = events[0].organisation_id
    endpoints = list(WebhookEndpoint.objects.of(organisation_id).filter(active=True))
    now = wall_now()
    deliveries = [
        WebhookDelivery(organisation_id=organisation_id, endpoint=endpoint, event=event, next_attempt_at=now)
        for endpoint in endpoints
        for event in events
        if not endpoint.event_types or event.type in endpoint.event_types
    ]
    WebhookDelivery.objects.bulk_create(deliveries, ignore_conflicts=True, batch_size=1000)
    if deliveries:
        _wake_after_commit()


def deliver_due(limit: int = 200) -> int:
    """Send what is due; several workers share the work. Returns the number of deliveries attempted."""
    attempted = 0
    while attempted < limit:
        delivery = _claim()
        if delivery is None:
            break
        _settle(delivery, *_send(delivery))
        attempted += 1
    return attempted


@transaction.atomic
def _claim() -> WebhookDelivery | None:
    """The next delivery that is due, held for the time of one call; a crash lets it come again."""
    delivery = (
        WebhookDelivery.objects.select_for_update(skip_locked=True, of=("self",))
        .select_related("endpoint", "event")
        .filter(status=WebhookDelivery.Status.PENDING, next_attempt_at__lte=wall_now())
        .order_by("next_attempt_at")
        .first()
    )
    if delivery is not None:
        held = wall_now() + LEASE
        WebhookDelivery.objects.filter(pk=delivery.pk).update(attempts=F("attempts") + 1, next_attempt_at=held)
        delivery.attempts += 1
    return delivery


def body_of(event: Event) -> bytes:
    """The message: the same bytes at every attempt."""
    message = {
        "type": event.type,
        "timestamp": event.occurred_at.isoformat(),
        "id": str(event.uid),
        "data": {"object": event.aggregate_type.split(".")[-1], "object_id": str(event.aggregate_id), **event.payload},
    }
    return json.dumps(message, separators=(",", ":"), sort_keys=True).encode()


def _send(delivery: WebhookDelivery) -> tuple[int | None, str]:
    """Status of the answer, or None and why there was none."""
    endpoint, body = delivery.endpoint, body_of(delivery.event)
    now = wall_now()
    secrets = [endpoint.secret]
    if endpoint.previous_secret and endpoint.previous_secret_until and endpoint.previous_secret_until > now:
        secrets.append(endpoint.previous_secret)
    headers = signing.headers(
        secrets, message_id=f"msg_{delivery.event.uid}", timestamp=int(now.timestamp()), body=body
    )
    try:
        return outgoing.post(endpoint.url, body=body, headers=headers), ""
    except (outgoing.CallFailed, outgoing.AddressRefused) as exc:
        return None, str(exc)


@transaction.atomic
def _settle(delivery: WebhookDelivery, status: int | None, error: str) -> None:
    delivery.response_status, delivery.error = status, error[:300]
    if status is not None and 200 <= status < 300:
        delivery.status, delivery.delivered_at = WebhookDelivery.Status.DELIVERED, wall_now()
    elif delivery.attempts > len(WAITS) or status == GONE or not delivery.endpoint.active:
        delivery.status = WebhookDelivery.Status.DEAD
    else:
        wait = WAITS[delivery.attempts - 1] * random.uniform(0.9, 1.2)  # noqa: S311 - jitter, not a secret
        delivery.next_attempt_at = wall_now() + wait
    delivery.save()
    if status == GONE:
        WebhookEndpoint.objects.filter(pk=delivery.endpoint_id).update(
            active=False, disabled_reason="The receiver answered 410 Gone."
        )


def _wake_after_commit() -> None:
    transaction.on_commit(_wake, robust=True)


def _wake() -> None:
    try:
        current_app.send_task(TASK, retry=False, ignore_result=True)
    except Exception:
        logger.warning("The broker did not take the wake-up call for webhooks; the sweeper will.", exc_info=True)


def _clean_types(values: Sequence[str]) -> list[str]:
    bad, good = partition(lambda value: 0 < len(value) <= 60 and value.isprintable(), values)
    if bad or len(good) > 100:
        raise InvalidInput("Expected up to 100 event types such as 'invoice.paid'.", field="event_types")
    return sorted(set(good))
