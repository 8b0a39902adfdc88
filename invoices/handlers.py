"""What this app does when it hears an event or the clock."""

import uuid
from collections.abc import Sequence

from billing import clock
from billing.context import Actor
from billing.models import Event, Organisation
from billing.services import clock_jobs
from billing.services.outbox import handles
from invoices import choices as _choices  # noqa: F401 - registers them
from invoices import selectors
from invoices.models import CreditNote
from invoices.services import (
    collecting,
    installments,
    mailing,
    overdue,
    recognition,
    refunding,
    settling,
    taking_back,
)

ACTOR = Actor.system("invoices")


@clock_jobs.register(name="invoices.installments", order=15)
def issue_installments(organisation: Organisation) -> int:
    """Invoice the installments whose day has come."""
    return installments.issue_due(organisation=organisation)


@clock_jobs.register(name="invoices.mark_overdue", order=40)
def mark_overdue(organisation: Organisation) -> int:
    """Note what was due until yesterday."""
    return overdue.mark_overdue(organisation=organisation)


@clock_jobs.register(name="invoices.recognise_revenue", order=85)
def recognise_revenue(organisation: Organisation) -> int:
    """Earn the deferred revenue of the months that ended."""
    return recognition.recognise_revenue(organisation=organisation)


@handles("payment.captured", consumer="invoices.allocate")
def allocate(event: Event) -> None:
    """A captured payment pays the invoice it names."""
    settling.allocate_payment(payment_id=event.aggregate_id, at=event.occurred_at)


@handles("refund.succeeded", consumer="invoices.take_back")
def take_back(event: Event) -> None:
    """Refunded money no longer pays the invoice, unless credit covers it."""
    taking_back.take_back_refunded(refund_id=event.aggregate_id, at=event.occurred_at)


@handles("refund.failed", consumer="invoices.restore")
def restore(event: Event) -> None:
    """A refund that came back pays the invoice again."""
    taking_back.restore_after_failed_refund(refund_id=event.aggregate_id, at=event.occurred_at)


@handles("dispute.lost", consumer="invoices.lost_dispute")
def lose_dispute(event: Event) -> None:
    """What a bank gave back for good no longer pays, as far as the organisation claims it again."""
    taking_back.follow_lost_dispute(dispute_id=event.aggregate_id, at=event.occurred_at)


def _of_installments(events: Sequence[Event]) -> set[int]:
    known = selectors.installment_invoices(_invoices(events))
    return {event.pk for event in events if event.aggregate_id in known}


@handles("invoice.paid", consumer="invoices.installments", alone=True, concerns=_of_installments)
def complete_plan(event: Event) -> None:
    """The last paid installment completes its plan."""
    installments.complete_if_paid(invoice_id=uuid.UUID(event.payload["invoice_id"]))


# --- Collecting ---------------------------------------------------------------------------------------------------


@handles("invoice.finalized", consumer="invoices.collect", batch=True)
def collect(events: Sequence[Event]) -> None:
    """Credit pays first, the payments app is asked for the rest."""
    collecting.collect_invoices(organisation=events[0].organisation, invoice_ids=_invoices(events))


@handles("invoice.partially_paid", consumer="invoices.adjust")
def adjust(event: Event) -> None:
    """Less is due than an open payment asks for."""
    collecting.adjust_collection(invoice_id=event.aggregate_id)


@handles("payment.cancelled", consumer="invoices.follow_cancelled")
def follow_cancelled(event: Event) -> None:
    """The rest is asked for once the payment over too much is out of the way."""
    collecting.follow_cancelled(payment_id=event.aggregate_id)


@handles("invoice.paid", "invoice.voided", "invoice.written_off", consumer="invoices.stop_collecting")
def stop_collecting(event: Event) -> None:
    """Nobody is debited for an invoice that is settled otherwise."""
    collecting.stop_collection(invoice_id=event.aggregate_id)


@handles("credit_note.refund_due", consumer="invoices.refund", atomic=False)
def refund(event: Event) -> None:
    """A credit note was issued with the money back: what became credit goes back where it came from."""
    refunding.refund_credit(organisation_id=event.organisation_id, credit_note_id=event.aggregate_id, actor=ACTOR)


# --- Letters ------------------------------------------------------------------------------------------------------


@handles("invoice.finalized", consumer="invoices.mail", batch=True)
def mail_invoices(events: Sequence[Event]) -> None:
    """Every invoice goes to its customer."""
    mailing.announce_invoices(organisation=events[0].organisation, invoice_ids=_invoices(events))


@handles("payment.captured", consumer="invoices.receipt")
def mail_receipt(event: Event) -> None:
    """Money that came in is acknowledged."""
    payload = event.payload
    invoice = selectors.invoice_of(organisation=event.organisation_id, reference=payload["reference"])
    mailing.queue_mail(
        organisation=event.organisation,
        customer_id=uuid.UUID(payload["customer_id"]),
        kind="receipt",
        key=f"receipt:{event.aggregate_id}",
        invoice_id=invoice.pk if invoice else None,
        context={
            "amount": {"amount": payload["amount"], "currency": payload["currency"]},
            "paid_on": event.occurred_at.astimezone(clock.zone(event.organisation)).date().isoformat(),
        },
    )


@handles("payment.requires_action", consumer="invoices.action_required")
def mail_action(event: Event) -> None:
    """The customer has to confirm a payment on a page."""
    payload = event.payload
    mailing.queue_mail(
        organisation=event.organisation,
        customer_id=uuid.UUID(payload["customer_id"]),
        kind="action_required",
        key=f"action_required:{event.uid}",
        context={
            "amount": {"amount": payload["amount"], "currency": payload["currency"]},
            "action_url": payload.get("action_url", ""),
        },
    )


@handles("payment_method.expiring", consumer="invoices.expiry_notice")
def mail_expiry(event: Event) -> None:
    """A card or mandate is about to end."""
    payload = event.payload
    mailing.queue_mail(
        organisation=event.organisation,
        customer_id=uuid.UUID(payload["customer_id"]),
        kind="expiry_notice",
        key=f"expiring:{event.aggregate_id}:{payload.get('expires_on', '')}",
        context={"method": payload.get("shown", ""), "expires_on": payload.get("expires_on", "")},
    )


@handles("credit_note.issued", consumer="invoices.mail_credit_note")
def mail_credit_note(event: Event) -> None:
    """A credit note goes to its customer."""
    note = CreditNote.objects.select_related("invoice").get(pk=event.aggregate_id)
    mailing.queue_mails(organisation=event.organisation, letters=[mailing.credit_note_mail(note)])


def _invoices(events: Sequence[Event]) -> list[uuid.UUID]:
    return [event.aggregate_id for event in events]
