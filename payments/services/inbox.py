"""The inbox of webhooks: verified on the raw body, stored under the gateway's event id, then processed by a task.

Processing never trusts a message about anything that can change again: it asks the gateway for the object as it stands.
So the same message twice, late, or before its cause leads to the same end.
"""

import logging
import uuid
from collections.abc import Mapping
from datetime import timedelta

from django.db import models, transaction

from billing.clock import wall_now
from billing.context import Actor, correlated
from billing.errors import Conflict
from billing.ids import uuid7
from billing.services import audit
from payments.errors import UnknownSender
from payments.gateways.base import ChargeResult, EventKind, Gateway, GatewayEvent
from payments.gateways.faults import GatewayOutcomeUnknown, GatewayRejected, GatewayUnavailable, InvalidSignature
from payments.gateways.registry import gateway_for
from payments.models import GatewayAccount, InboundWebhook, PaymentAttempt
from payments.services import charging, disputes, methods, refunds, requests, waking

logger = logging.getLogger(__name__)

PROCESS_TASK = "payments.tasks.process_webhook"
SETTLEMENTS_TASK = "payments.tasks.fetch_settlements_of"
LEASE = timedelta(minutes=5)
MAX_ATTEMPTS = 10
EARLY_ATTEMPTS = 6  # a message before its cause is waited for so often


class NotReplayable(Conflict):
    code = "webhook_not_replayable"
    message = "The message is {status}; only a dead or ignored one can be replayed."


class TooEarly(Exception):
    """The message is about something that is not known here yet."""


# --- taking in ------------------------------------------------------------------------------------
def receive(*, provider: str, account_id: uuid.UUID, body: bytes, headers: Mapping[str, str]) -> InboundWebhook:
    """Verify and store one message; a known one is returned as it stands. Raises ``UnknownSender``, ``InvalidSignature``."""
    account = GatewayAccount.objects.filter(pk=account_id, provider=provider).first()
    if account is None:
        raise UnknownSender
    event = gateway_for(account).parse_webhook(body=body, headers=headers)
    if not _is_storable(event.id, 120) or not _is_storable(event.type, 80):
        raise InvalidSignature("The message is not an event that can be read.")
    return _store(account, event, body)


def _is_storable(text: str, length: int) -> bool:
    return 0 < len(text) <= length and text.isprintable()


@transaction.atomic
def _store(account: GatewayAccount, event: GatewayEvent, body: bytes) -> InboundWebhook:
    row = InboundWebhook(
        id=uuid7(),
        organisation_id=account.organisation_id,
        gateway_account=account,
        event_id=event.id,
        type=event.type,
        body=body.decode("utf-8"),
        received_at=wall_now(),
    )
    InboundWebhook.objects.bulk_create([row], ignore_conflicts=True)
    stored: InboundWebhook = InboundWebhook.objects.get(gateway_account=account, event_id=event.id)
    if stored.pk == row.pk:
        waking.after_commit(PROCESS_TASK, str(row.pk))
    return stored


# --- processing -----------------------------------------------------------------------------------
def process(webhook_id: uuid.UUID) -> InboundWebhook:
    """Process one stored message, unless it is done or somebody does it. Failures are noted and come again, then rest."""
    if not _claim(webhook_id):
        return _get(webhook_id)
    webhook = _get(webhook_id)
    with correlated():
        try:
            ignored = _work(webhook)
        except (GatewayUnavailable, GatewayOutcomeUnknown, TooEarly) as exc:
            return _later(webhook, exc)
        except Exception as exc:
            logger.exception("Webhook %s failed", webhook_id)
            return _later(webhook, exc)
        return _finish(webhook, ignored)


def _get(webhook_id: uuid.UUID) -> InboundWebhook:
    found: InboundWebhook = InboundWebhook.objects.select_related("gateway_account").get(pk=webhook_id)
    return found


def _claim(webhook_id: uuid.UUID) -> bool:
    """Take the message for a while: one of many wins."""
    now = wall_now()
    mine = InboundWebhook.objects.filter(pk=webhook_id, status=InboundWebhook.Status.RECEIVED).filter(
        models.Q(next_attempt_at=None) | models.Q(next_attempt_at__lte=now)
    )
    return bool(mine.update(attempts=models.F("attempts") + 1, next_attempt_at=now + LEASE))


@transaction.atomic
def _finish(webhook: InboundWebhook, ignored: str) -> InboundWebhook:
    row: InboundWebhook = InboundWebhook.objects.select_for_update(of=("self",)).get(pk=webhook.pk)
    if row.status == InboundWebhook.Status.RECEIVED:
        if ignored:
            row.ignore(why=ignored)
        else:
            row.done(at=wall_now())
        row.next_attempt_at = None
        row.save()
    return row


@transaction.atomic
def _later(webhook: InboundWebhook, exc: Exception) -> InboundWebhook:
    row: InboundWebhook = InboundWebhook.objects.select_for_update(of=("self",)).get(pk=webhook.pk)
    if row.status != InboundWebhook.Status.RECEIVED:
        return row
    row.error = f"{type(exc).__name__}: {exc}"[:500]
    row.next_attempt_at = wall_now() + timedelta(seconds=5 * 2 ** min(row.attempts, 10))
    if isinstance(exc, TooEarly) and row.attempts >= EARLY_ATTEMPTS:
        row.ignore(why=str(exc))
    elif row.attempts >= MAX_ATTEMPTS:
        row.bury(error=row.error)
    row.save()
    return row


def _work(webhook: InboundWebhook) -> str:
    """Do what the message is about; why it was ignored, or nothing."""
    account = webhook.gateway_account
    gateway = gateway_for(account)
    event = gateway.read_event(webhook.body.encode(), webhook.event_id)
    match event.kind:
        case EventKind.CHARGE:
            return _charge(account, gateway, event)
        case EventKind.REFUND:
            return _refund(account, gateway, event)
        case EventKind.DISPUTE:
            if disputes.follow_gateway(account=account, dispute_ref=event.dispute_ref) is None:
                raise TooEarly("The disputed charge is not one of ours.")
        case EventKind.METHOD:
            found = methods.refresh_token(account=account, token=event.token) if event.token else None
            return "" if found else "No payment method of ours."
        case EventKind.SETTLEMENT:
            waking.send(SETTLEMENTS_TASK, str(account.organisation_id))
        case _:
            return "Nothing to do for this type of message."
    return ""


def _refund(account: GatewayAccount, gateway: Gateway, event: GatewayEvent) -> str:
    if refunds.follow_gateway(account=account, refund_ref=event.refund_ref, charge_ref=event.charge_ref) is not None:
        return ""
    if event.order_ref and _checked_a_method(gateway, event.order_ref):
        return "What was held to check a new payment method went back."
    raise TooEarly("The refunded charge is not one of ours.")


def _checked_a_method(gateway: Gateway, order_ref: str) -> bool:
    try:
        return gateway.is_setup(order_ref)
    except GatewayRejected:  # it knows no such order: it may be about something that is not known here yet
        return False


def _charge(account: GatewayAccount, gateway: Gateway, event: GatewayEvent) -> str:
    attempt = locate(account, event)
    if attempt is None:
        return "No payment attempt of ours."
    result = event.charge or _as_it_stands(gateway, attempt, event)
    if result is not None:
        charging.go_on(charging.settle(attempt.pk, result))
    return ""


def _as_it_stands(gateway: Gateway, attempt: PaymentAttempt, event: GatewayEvent) -> ChargeResult | None:
    """Ask again: the page or the attempt's own charge; the charge of the message where they differ."""
    loaded = charging.load(attempt.pk)
    if not loaded.is_page and event.charge_ref and event.charge_ref != loaded.gateway_ref:
        return gateway.fetch(order_ref=event.order_ref, charge_ref=event.charge_ref)
    return gateway.find(requests.charge_request(loaded))


def locate(account: GatewayAccount, event: GatewayEvent) -> PaymentAttempt | None:
    """The attempt a message is about: by our id in its notes, by the charge, by the order (newest first)."""
    mine = PaymentAttempt.objects.filter(gateway_account=account)
    try:
        by_id = mine.filter(pk=uuid.UUID(event.attempt_id)).first() if event.attempt_id else None
    except ValueError:
        by_id = None
    found: PaymentAttempt | None = by_id
    if found is None and event.charge_ref:
        found = mine.filter(gateway_ref=event.charge_ref).first()
    if found is None and event.order_ref:
        found = mine.filter(gateway_order_ref=event.order_ref).order_by("-number").first()
    return found


# --- care -----------------------------------------------------------------------------------------
def stuck(*, limit: int = 500) -> list[uuid.UUID]:
    """Messages that wait for their next try, or whose worker was lost."""
    now = wall_now()
    lost = models.Q(next_attempt_at=None, received_at__lt=now - timedelta(minutes=1))
    found = InboundWebhook.objects.filter(
        lost | models.Q(next_attempt_at__lte=now), status=InboundWebhook.Status.RECEIVED
    )
    return list(found.order_by("received_at").values_list("pk", flat=True)[:limit])


@transaction.atomic
def replay(*, webhook_id: uuid.UUID, actor: Actor, reason: str = "") -> InboundWebhook:
    """Process a dead or ignored message once more. Raises ``NotReplayable``."""
    row: InboundWebhook = InboundWebhook.objects.select_for_update(of=("self",)).get(pk=webhook_id)
    if row.status not in (InboundWebhook.Status.DEAD, InboundWebhook.Status.IGNORED):
        raise NotReplayable(status=row.status)
    row.replay()
    row.save()
    audit.record(actor=actor, action="webhook.replayed", target=row, reason=reason)
    waking.after_commit(PROCESS_TASK, str(row.pk))
    return row
