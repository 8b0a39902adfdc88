"""Mail: a row is committed first, then a worker claims it, talks to the SMTP server and records what it said.

A crash between the server's 250 and our commit sends the letter a second time, under the same Message-ID; nothing
else doubles or loses one.
"""

import smtplib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.core.mail import get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction
from django.db.models import Q

from billing import clock
from billing.errors import NotFound
from billing.models import Customer, Organisation
from billing.services import outbox
from invoices.errors import MailRefused
from invoices.mail.letters import letter, message_id
from invoices.mail.words import KINDS
from invoices.models import CreditNote, Invoice, Mail

BATCH = 20
MAX_ATTEMPTS = 6
CLAIM = timedelta(minutes=10)  # longer than a batch may take: 20 letters of 20 seconds
BACK_OFF = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 240))
log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A letter to be queued. ``key`` is its natural key: the same letter is sent once."""

    customer_id: uuid.UUID
    kind: str
    key: str
    invoice_id: uuid.UUID | None = None
    credit_note_id: uuid.UUID | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    send_after: datetime | None = None


@transaction.atomic
def queue_mail(
    *,
    organisation: Organisation,
    customer_id: uuid.UUID,
    kind: str,
    key: str,
    invoice_id: uuid.UUID | None = None,
    credit_note_id: uuid.UUID | None = None,
    context: Mapping[str, Any] | None = None,
    send_after: datetime | None = None,
) -> Mail:
    """Queue one letter, once per ``key``; sent after ``send_after`` on the organisation's clock, now when None."""
    wanted = Letter(
        customer_id=customer_id,
        kind=kind,
        key=key,
        invoice_id=invoice_id,
        credit_note_id=credit_note_id,
        context=context or {},
        send_after=send_after,
    )
    queue_mails(organisation=organisation, letters=[wanted])
    return Mail.objects.of(organisation).get(key=key)


@transaction.atomic
def queue_mails(*, organisation: Organisation, letters: Sequence[Letter], at: datetime | None = None) -> int:
    """Queue many letters in one statement. A customer without an address gets a failed row, not an error.

    Customers, invoices and credit notes must be the organisation's own; raises ``NotFound`` and then queues none.
    """
    unknown = {letter.kind for letter in letters} - KINDS
    if unknown:
        raise MailRefused(f"There is no letter of the kind '{min(unknown)}'.", field="kind")
    now = at or clock.now(organisation)
    wanted = {letter.customer_id for letter in letters}
    addresses = dict(Customer.objects.of(organisation).filter(pk__in=wanted).values_list("pk", "email"))
    if wanted - addresses.keys():
        raise NotFound("No such customer in this organisation.", field="customer")
    _must_own(organisation, Invoice, {letter.invoice_id for letter in letters}, "invoice")
    _must_own(organisation, CreditNote, {letter.credit_note_id for letter in letters}, "credit_note")
    Mail.objects.bulk_create(
        [_row(organisation, letter, addresses[letter.customer_id], now) for letter in letters],
        ignore_conflicts=True,
        batch_size=1000,
    )
    return len(letters)


def _must_own(
    organisation: Organisation, model: type[Invoice] | type[CreditNote], ids: set[uuid.UUID | None], field: str
) -> None:
    wanted = {one for one in ids if one is not None}
    if wanted and model.objects.of(organisation).filter(pk__in=wanted).count() != len(wanted):
        raise NotFound(f"No such {field.replace('_', ' ')} in this organisation.", field=field)


def send_due(*, limit: int = 200) -> int:
    """Send what is due, batch by batch over one SMTP connection each; several workers may run at once."""
    done = 0
    while done < limit:
        batch = _claim(min(BATCH, limit - done))
        if not batch:
            return done
        _send_batch(batch)
        done += len(batch)
    return done


@transaction.atomic
def _claim(count: int) -> list[Mail]:
    """Take letters nobody else has. A claim ends by itself, so that what a dead worker held is taken up again."""
    wall = clock.wall_now()
    mails = list(
        Mail.objects.select_for_update(of=("self",), skip_locked=True)
        .select_related("organisation__party", "customer", "invoice", "credit_note")
        .filter(clock.has_come("send_after", wall=wall), status__in=[Mail.Status.DUE, Mail.Status.SENDING])
        .filter(Q(next_attempt_at=None) | Q(next_attempt_at__lte=wall))
        .order_by("send_after", "pk")[:count]
    )
    for mail in mails:
        mail.begin(message_id=message_id(mail), until=wall + CLAIM)
    Mail.objects.bulk_update(mails, ["status", "attempts", "message_id", "next_attempt_at"])
    return mails


def _send_batch(batch: Sequence[Mail]) -> None:
    """Letter by letter; who is told of them is woken once, after the last one (a dead worker's are found by the sweeper)."""
    connection = get_connection()
    try:
        with outbox.quiet():
            for mail in batch:
                _send(mail, connection)
    finally:
        _close(connection)
        for organisation_id in {mail.organisation_id for mail in batch}:
            outbox.wake_after_commit(organisation_id)


def _send(mail: Mail, connection: BaseEmailBackend) -> None:
    """One letter, outside of any transaction; whatever happens is recorded and concerns no other letter."""
    try:
        message = letter(mail, connection)
        connection.open()
        message.send()
    except (smtplib.SMTPException, OSError) as exc:
        _close(connection)
        _record(mail, error=_said(exc), final=_is_final(exc))
    except Exception as exc:  # a letter that cannot be written must not stop the others
        log.exception("mail.not_written", mail_id=str(mail.pk))
        _record(mail, error=f"{type(exc).__name__}: {exc}", final=False)
    else:
        _record(mail, error="", final=True)


@transaction.atomic
def _record(claimed: Mail, *, error: str, final: bool) -> None:
    """Write down how it went, unless the claim ran out and another worker has taken the letter."""
    mail = Mail.objects.select_for_update().filter(pk=claimed.pk, attempts=claimed.attempts).first()
    if mail is None or mail.status != Mail.Status.SENDING:
        return
    now, wall = clock.now(mail.organisation_id), clock.wall_now()
    if not error:
        mail.done(at=now)
    elif final or mail.attempts >= MAX_ATTEMPTS:
        mail.fail(error=error[:300])
    else:
        mail.postpone(until=wall + BACK_OFF[min(mail.attempts, len(BACK_OFF)) - 1], error=error[:300])
    mail.save()
    if mail.status in (Mail.Status.SENT, Mail.Status.FAILED):
        outbox.publish(f"mail.{mail.status}", mail, at=now, **_payload(mail))


def _payload(mail: Mail) -> dict[str, Any]:
    return {
        "mail_id": str(mail.pk),
        "kind": mail.kind,
        "customer_id": str(mail.customer_id),
        "invoice_id": str(mail.invoice_id) if mail.invoice_id else None,
    }


def _row(organisation: Organisation, wanted: Letter, address: str, now: datetime) -> Mail:
    return Mail(
        organisation=organisation,
        customer_id=wanted.customer_id,
        kind=wanted.kind,
        key=wanted.key,
        invoice_id=wanted.invoice_id,
        credit_note_id=wanted.credit_note_id,
        recipient=address,
        context=dict(wanted.context),
        status=Mail.Status.DUE if address else Mail.Status.FAILED,
        error="" if address else "The customer has no e-mail address.",
        send_after=wanted.send_after or now,
        created_at=now,
    )


def _is_final(exc: Exception) -> bool:
    """Whether the server said no for good (5xx) to this letter; everything else may pass."""
    if isinstance(exc, smtplib.SMTPRecipientsRefused):
        return all(500 <= code < 600 for code, _ in exc.recipients.values())
    codes = (smtplib.SMTPDataError, smtplib.SMTPSenderRefused)
    return isinstance(exc, codes) and 500 <= exc.smtp_code < 600


def _said(exc: Exception) -> str:
    """What the server said, without the recipient's address."""
    if isinstance(exc, smtplib.SMTPRecipientsRefused):
        code, answer = next(iter(exc.recipients.values()))
        return f"{code} {_plain(answer)}"
    if isinstance(exc, smtplib.SMTPResponseException):
        return f"{exc.smtp_code} {_plain(exc.smtp_error)}"
    return f"{type(exc).__name__}: {exc}"


def _plain(answer: bytes | str) -> str:
    return answer.decode(errors="replace") if isinstance(answer, bytes) else answer


def _close(connection: BaseEmailBackend) -> None:
    try:
        connection.close()
    except (smtplib.SMTPException, OSError):
        log.info("mail.connection_lost")


def credit_note_mail(note: CreditNote) -> Letter:
    """The letter that carries a credit note."""
    return Letter(
        customer_id=note.invoice.customer_id, kind="credit_note", key=f"credit_note:{note.pk}", credit_note_id=note.pk
    )


@transaction.atomic
def announce_invoices(*, organisation: Organisation, invoice_ids: Sequence[uuid.UUID]) -> int:
    """Queue the letters of freshly finalised invoices; none for an invoice of nothing, or when the setting says so."""
    if not organisation.settings.get("mail_invoices", True):
        return 0
    invoices = Invoice.objects.of(organisation).filter(pk__in=invoice_ids).exclude(total=0).order_by("pk")
    letters = [
        Letter(customer_id=invoice.customer_id, kind="invoice", key=f"invoice:{invoice.pk}", invoice_id=invoice.pk)
        for invoice in invoices
    ]
    return queue_mails(organisation=organisation, letters=letters) if letters else 0
