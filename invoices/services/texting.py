"""Texts: a row is committed first, then a worker claims it, calls the gateway and records what it said.

The gateway knows no idempotency keys, so a text whose answer was lost, or whose worker died in the call, is looked
for at the gateway before anything else; only what the gateway certainly does not have is sent again.
"""

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Q

from billing import clock
from billing.context import Actor
from billing.errors import InvalidInput, NotFound
from billing.masking import last4
from billing.models import Customer, Organisation
from billing.models.fields import lookup_hash
from billing.services import audit, outbox
from invoices.models import Invoice, TextMessage, TextOptOut
from invoices.rendering import formats
from invoices.sms import words
from invoices.sms.gateway import (
    GatewaySilent,
    NoTextGateway,
    OutcomeUnknown,
    Sent,
    TextGateway,
    TextRefused,
    gateway,
)

BATCH = 20
MAX_ATTEMPTS = 6
CLAIM = timedelta(minutes=10)  # longer than a batch may take: 20 calls of 20 seconds
BACK_OFF = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 240))
ASK_AGAIN = timedelta(minutes=5)
MAX_SEARCH = timedelta(hours=24)
COLLECTABLE = (Invoice.Status.OPEN, Invoice.Status.PARTIALLY_PAID)
Status = TextMessage.Status
log = structlog.get_logger(__name__)


class TextKindUnknown(InvalidInput):
    code = "text_kind_unknown"
    message = "There is no text of the kind '{kind}'."


@transaction.atomic
def queue_text(
    *, organisation: Organisation, customer_id: uuid.UUID, kind: str, key: str, invoice_id: uuid.UUID
) -> TextMessage:
    """Queue one text about an invoice, once per ``key``. Its words are written now, in the customer's language.

    A customer without a number, or whose number wants no texts, gets a failed or skipped row, not an error. Raises
    ``NotFound`` and ``TextKindUnknown``.
    """
    if kind not in words.KINDS:
        raise TextKindUnknown(kind=kind, field="kind")
    customer = Customer.objects.of(organisation).filter(pk=customer_id).first()
    invoice = Invoice.objects.of(organisation).filter(pk=invoice_id).first()
    if customer is None or invoice is None:
        raise NotFound("No such customer or invoice in this organisation.", field="customer")
    now = clock.now(organisation)
    status, error = _may_get(customer)
    TextMessage.objects.bulk_create(
        [
            TextMessage(
                organisation=organisation,
                customer=customer,
                kind=kind,
                key=key,
                invoice=invoice,
                recipient=customer.phone,
                recipient_hash=customer.phone_hash,
                body=_body(organisation, customer, kind, invoice),
                status=status,
                error=error,
                send_after=now,
                created_at=now,
            )
        ],
        ignore_conflicts=True,
    )
    found: TextMessage = TextMessage.objects.of(organisation).get(key=key)
    return found


def _may_get(customer: Customer) -> tuple[str, str]:
    if not customer.phone:
        return Status.FAILED, "The customer has no telephone number."
    if TextOptOut.objects.of(customer.organisation_id).filter(phone_hash=customer.phone_hash).exists():
        return Status.SKIPPED, "The number wants no texts."
    return Status.DUE, ""


def _body(organisation: Organisation, customer: Customer, kind: str, invoice: Invoice) -> str:
    language = words.language_of(customer.language or organisation.language)
    details: Any = organisation.party.details if organisation.party else {}
    return words.body(
        kind,
        language=language,
        seller=str(details.get("name") or organisation.name),
        due=formats.amount(invoice.due, language),
        number=invoice.number,
        due_on=formats.day(invoice.due_on, language, invoice.currency) if invoice.due_on else "–",
    )


# --- sending ---------------------------------------------------------------------------------------
def send_due(*, limit: int = 100) -> int:
    """Send what is due and ask for what is unknown, batch by batch; several workers may run at once."""
    done = 0
    while done < limit:
        batch = _claim(min(BATCH, limit - done))
        if not batch:
            break
        for message in batch:
            _handle(message)
        done += len(batch)
    return done


@transaction.atomic
def _claim(count: int) -> list[TextMessage]:
    """Take texts nobody else has. What a dead worker held comes back as unknown: the call may have been made."""
    wall = clock.wall_now()
    found = list(
        TextMessage.objects.select_for_update(of=("self",), skip_locked=True)
        .select_related("invoice")
        .filter(clock.has_come("send_after", wall=wall), status__in=[Status.DUE, Status.SENDING, Status.UNKNOWN])
        .filter(Q(next_attempt_at=None) | Q(next_attempt_at__lte=wall))
        .order_by("send_after", "pk")[:count]
    )
    for message in found:
        if message.status == Status.DUE:
            message.begin(at=wall, until=wall + CLAIM)
        else:
            message.lose_answer(until=wall + CLAIM, error=message.error)
    TextMessage.objects.bulk_update(found, ["status", "attempts", "called_at", "next_attempt_at"])
    return found


def _handle(message: TextMessage) -> None:
    """One text, outside of any transaction; whatever happens is recorded and concerns no other text."""
    try:
        carrier = gateway()
        if message.status == Status.UNKNOWN:
            _look_for(carrier, message)
        elif _is_stale(message):
            _record(message, lambda row: row.skip(reason="Settled before the text was sent."))
        else:
            sent = carrier.send(to=message.recipient, body=message.body)
            _record(message, partial(_done, sent=sent))
    except NoTextGateway as exc:
        _record(message, partial(_failed, error=str(exc)))
    except TextRefused as exc:
        _refused(message, exc)
    except GatewaySilent as exc:
        _record(message, partial(_silent, error=str(exc)))
    except OutcomeUnknown as exc:
        _record(message, partial(_unknown, error=str(exc)))
    except Exception as exc:  # it may have happened: ask, do not send again
        log.exception("text.not_sent", text_id=str(message.pk))
        _record(message, partial(_unknown, error=f"{type(exc).__name__}: {exc}"))


def _is_stale(message: TextMessage) -> bool:
    """Whether nothing is due any more."""
    return message.invoice is not None and message.invoice.status not in COLLECTABLE


def _look_for(carrier: TextGateway, message: TextMessage) -> None:
    sent = carrier.find(to=message.recipient, body=message.body, since=_called_at(message))
    if sent is not None:
        _record(message, partial(_done, sent=sent))
    else:
        _record(message, partial(_again, error="The gateway does not have it."))


def _refused(message: TextMessage, refusal: TextRefused) -> None:
    if refusal.opted_out:
        _note_opt_out(message)
        _record(message, lambda row: row.skip(reason="The number answered STOP."))
    elif refusal.final:
        _record(message, partial(_failed, error=str(refusal)))
    else:
        _record(message, partial(_again, error=str(refusal)))


@transaction.atomic
def _record(claimed: TextMessage, write: Callable[[TextMessage], None]) -> None:
    """Write down how it went, unless the claim ran out and another worker has taken the text."""
    rows = TextMessage.objects.select_for_update(of=("self",))
    message = rows.filter(pk=claimed.pk, next_attempt_at=claimed.next_attempt_at).first()
    if message is None or message.status not in (Status.SENDING, Status.UNKNOWN):
        return
    write(message)
    message.save()
    if message.status in (Status.SENT, Status.FAILED, Status.SKIPPED):
        outbox.publish(
            f"text.{message.status}",
            message,
            at=clock.now(message.organisation_id),
            text_id=str(message.pk),
            kind=message.kind,
            customer_id=str(message.customer_id),
            invoice_id=str(message.invoice_id) if message.invoice_id else None,
        )


def _done(row: TextMessage, *, sent: Sent) -> None:
    row.done(at=clock.now(row.organisation_id), gateway_ref=sent.gateway_ref)


def _failed(row: TextMessage, *, error: str) -> None:
    row.fail(error=error[:300])


def _again(row: TextMessage, *, error: str) -> None:
    """It was certainly not sent: later once more, a few times."""
    wait = BACK_OFF[min(row.attempts, len(BACK_OFF)) - 1]
    if row.attempts >= MAX_ATTEMPTS:
        row.fail(error=error[:300])
    else:
        row.postpone(until=clock.wall_now() + wait, error=error[:300])


def _silent(row: TextMessage, *, error: str) -> None:
    """No answer: what may have been sent stays unknown, the rest waits."""
    (_unknown if row.status == Status.UNKNOWN else _again)(row, error=error)


def _unknown(row: TextMessage, *, error: str) -> None:
    """It may have been sent: ask, for a day."""
    wall = clock.wall_now()
    if wall - _called_at(row) > MAX_SEARCH:
        row.fail(error=f"Nobody knows whether it was sent: {error}"[:300])
    else:
        row.lose_answer(until=wall + ASK_AGAIN, error=error[:300])


def _called_at(message: TextMessage) -> datetime:
    return message.called_at or message.recorded_at


# --- numbers that want none ------------------------------------------------------------------------
@transaction.atomic
def opt_out(*, organisation: Organisation, customer_id: uuid.UUID, actor: Actor) -> TextOptOut:
    """The customer's present number gets no more texts. Safe to repeat. Raises ``NotFound`` and ``InvalidInput``."""
    customer = Customer.objects.of(organisation).filter(pk=customer_id).first()
    if customer is None:
        raise NotFound("No such customer in this organisation.", field="customer")
    if not customer.phone:
        raise InvalidInput("The customer has no telephone number.", field="customer")
    row, made = TextOptOut.objects.get_or_create(
        organisation=organisation,
        phone_hash=customer.phone_hash,
        defaults={
            "ending": last4(customer.phone),
            "source": TextOptOut.Source.CUSTOMER,
            "created_at": clock.now(organisation),
        },
    )
    if made:
        _skip_waiting(row)
        audit.record(actor=actor, action="texts.opted_out", target=row, after={"customer": str(customer_id)})
    return row


@transaction.atomic
def opt_in(*, opt_out_id: uuid.UUID, actor: Actor, reason: str) -> None:
    """The number's owner wants texts again, and said so."""
    row = TextOptOut.objects.select_for_update().get(pk=opt_out_id)
    audit.record(actor=actor, action="texts.opted_in", target=row, reason=reason, before={"ending": row.ending})
    row.delete()


@transaction.atomic
def _note_opt_out(message: TextMessage) -> None:
    TextOptOut.objects.get_or_create(
        organisation_id=message.organisation_id,
        phone_hash=message.recipient_hash or lookup_hash(message.recipient),
        defaults={
            "ending": last4(message.recipient),
            "source": TextOptOut.Source.GATEWAY,
            "created_at": clock.now(message.organisation_id),
        },
    )


def _skip_waiting(row: TextOptOut) -> None:
    waiting = TextMessage.objects.select_for_update().filter(
        organisation_id=row.organisation_id, recipient_hash=row.phone_hash, status=Status.DUE
    )
    for message in waiting.order_by("pk"):
        message.skip(reason="The number wants no texts.")
        message.save()
