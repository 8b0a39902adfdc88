"""Sending a letter once more, because a person asks for it."""

import uuid

from django.db import transaction

from billing.context import Actor
from billing.services import audit
from invoices.errors import InvoiceNotOpen, MailRefused
from invoices.models import Invoice, Mail
from invoices.services import mailing


@transaction.atomic
def send_again(*, invoice_id: uuid.UUID, actor: Actor) -> Mail:
    """Note a new letter with the invoice, to the customer's present address.

    Raises ``InvoiceNotOpen`` for a draft or a void invoice and ``MailRefused`` when the customer has no address.
    """
    invoice = (
        Invoice.objects.select_for_update(of=("self",)).select_related("customer", "organisation").get(pk=invoice_id)
    )
    if invoice.status in (Invoice.Status.DRAFT, Invoice.Status.VOID):
        raise InvoiceNotOpen(status=invoice.status, operation="sending", expected="finalised")
    if not invoice.customer.email:
        raise MailRefused("The customer has no e-mail address; add one to the customer first.", field="email")
    letters = Mail.objects.filter(invoice=invoice, kind="invoice").count()
    mail = mailing.queue_mail(
        organisation=invoice.organisation,
        customer_id=invoice.customer_id,
        kind="invoice",
        key=f"invoice_again:{invoice.pk}:{letters}",
        invoice_id=invoice.pk,
    )
    audit.record(actor=actor, action="invoice.sent_again", target=invoice, after={"mail": str(mail.pk)})
    return mail


@transaction.atomic
def retry_failed(*, mail_id: uuid.UUID, actor: Actor, reason: str = "") -> Mail:
    """Write a failed letter anew, to the customer's present address; the failed row stays."""
    mail = Mail.objects.select_for_update(of=("self",)).select_related("organisation").get(pk=mail_id)
    if mail.status != Mail.Status.FAILED:
        raise MailRefused(f"The letter is {mail.status}; only a failed one is written anew.")
    again = mailing.queue_mail(
        organisation=mail.organisation,
        customer_id=mail.customer_id,
        kind=mail.kind,
        key=f"{mail.key[:120]}:{mail.pk.hex[-12:]}",
        invoice_id=mail.invoice_id,
        credit_note_id=mail.credit_note_id,
        context=mail.context,
    )
    audit.record(actor=actor, action="mail.retried", target=mail, reason=reason, after={"mail": str(again.pk)})
    return again
