"""Asking the payments app for what invoices are due, and no longer asking when they are not.

A payment is over one amount. When what is due changes (credit note, part payment) the open payment is cancelled and
the rest is asked for under a new reference ``invoice:<id>:<version>``; while the old one is under way nothing new is
asked for, so that nobody is debited twice.
"""

import uuid
from collections.abc import Sequence

from django.db import transaction

from billing.models import Organisation
from invoices import selectors
from invoices.events import reference
from invoices.models import Invoice, PaymentAllocation
from invoices.services import settling
from payments.models import Payment
from payments.services import collection
from payments.services.collection import PaymentRequest

OPEN = (Invoice.Status.OPEN, Invoice.Status.PARTIALLY_PAID)
CLOSED = (Payment.Status.SUCCEEDED, Payment.Status.CANCELLED)


@transaction.atomic
def collect_invoices(*, organisation: Organisation, invoice_ids: Sequence[uuid.UUID]) -> int:
    """After finalisation: what was paid on the draft and the customer's free credit pay first, the rest is asked for once.

    Safe to repeat.
    """
    invoices = list(Invoice.objects.of(organisation).filter(pk__in=invoice_ids).order_by("customer_id", "pk"))
    holders = selectors.customers_with_credit(
        organisation=organisation, customer_ids={invoice.customer_id for invoice in invoices}
    )
    for invoice in invoices:
        if (invoice.customer_id, invoice.currency) in holders:
            _apply_what_came_early(invoice)
    fresh = _never_asked_for(organisation, invoice_ids)
    if organisation.settings.get("apply_credit_automatically", True):
        for invoice in fresh:
            if (invoice.customer_id, invoice.currency) in holders:
                settling.apply_customer_credit(invoice_id=invoice.pk, key=f"credit:{invoice.pk}:finalized")
        fresh = _never_asked_for(organisation, invoice_ids) if holders else fresh
    taken = _taken(organisation, [invoice.pk for invoice in fresh])
    requests = [_request(invoice, _name_of(invoice, taken)) for invoice in fresh]
    if requests:
        collection.request_payments(organisation=organisation, requests=requests)
    return len(requests)


@transaction.atomic
def adjust_collection(*, invoice_id: uuid.UUID) -> Payment | None:
    """What is due has changed: open payments over another amount are cancelled, the rest is asked for."""
    invoice = settling.lock_invoice(invoice_id)
    stale = [payment for payment in _open_payments(invoice) if payment.amount != invoice.due]
    for payment in stale:
        collection.cancel_payment(organisation_id=invoice.organisation_id, reference=payment.reference)
    return _ask_for_rest(invoice) if stale else None


@transaction.atomic
def follow_cancelled(*, payment_id: uuid.UUID) -> Payment | None:
    """A payment over an amount that is no longer due has ended: ask for the rest. Others stay cancelled."""
    payment = Payment.objects.get(pk=payment_id)
    invoice_id = selectors.invoice_id_of(payment.reference)
    known = invoice_id and Invoice.objects.of(payment.organisation_id).filter(pk=invoice_id).exists()
    invoice = settling.lock_invoice(invoice_id) if invoice_id and known else None
    if invoice is None or payment.amount == invoice.due:
        return None
    return _ask_for_rest(invoice)


@transaction.atomic
def stop_collection(*, invoice_id: uuid.UUID) -> int:
    """Nothing is to be paid any more: every open payment of the invoice is cancelled."""
    invoice = Invoice.objects.get(pk=invoice_id)
    if invoice.status in OPEN:
        return 0
    payments = _open_payments(invoice)
    for payment in payments:
        collection.cancel_payment(organisation_id=invoice.organisation_id, reference=payment.reference)
    return len(payments)


def _apply_what_came_early(invoice: Invoice) -> None:
    """Payments that name the invoice and were captured while it was a draft: what is more than due is free credit then."""
    named = selectors.payments_of(organisation=invoice.organisation_id, invoice_id=invoice.pk)
    for payment in named.filter(status=Payment.Status.SUCCEEDED):
        settling.allocate_payment(payment_id=payment.pk)


def _never_asked_for(organisation: Organisation, invoice_ids: Sequence[uuid.UUID]) -> list[Invoice]:
    taken = _taken(organisation, invoice_ids)
    invoices = Invoice.objects.of(organisation).filter(pk__in=invoice_ids, status__in=OPEN)
    in_order = invoices.order_by("customer_id", "pk")  # of locks: two batches take customers the same way round
    return [one for one in in_order if reference(one.pk) not in taken or _was_paid_unasked(one)]


def _taken(organisation: Organisation, invoice_ids: Sequence[uuid.UUID]) -> set[str]:
    """First references of invoices that a payment has already."""
    payments = Payment.objects.of(organisation).filter(reference__in=[reference(pk) for pk in invoice_ids])
    return set(payments.values_list("reference", flat=True))


def _was_paid_unasked(invoice: Invoice) -> bool:
    """Whether all its payments are money that came (on the draft, over the counter), and none of it went back."""
    named = selectors.payments_of(organisation=invoice.organisation_id, invoice_id=invoice.pk)
    if named.exclude(status=Payment.Status.SUCCEEDED).exists():
        return False
    return not PaymentAllocation.objects.filter(invoice=invoice, amount__lt=0).exists()


def _name_of(invoice: Invoice, taken: set[str]) -> str:
    first = reference(invoice.pk)
    return f"{first}:{invoice.version}" if first in taken else first


def _open_payments(invoice: Invoice) -> list[Payment]:
    asked = selectors.payments_of(organisation=invoice.organisation_id, invoice_id=invoice.pk)
    return list(asked.exclude(status__in=CLOSED))


def _ask_for_rest(invoice: Invoice) -> Payment | None:
    if invoice.status not in OPEN or not invoice.due.amount or _open_payments(invoice):
        return None
    wanted = _request(invoice, f"{reference(invoice.pk)}:{invoice.version}")
    return collection.request_payments(organisation=invoice.organisation_id, requests=[wanted])[0]


def _request(invoice: Invoice, name: str) -> PaymentRequest:
    return PaymentRequest(
        customer_id=invoice.customer_id,
        amount=invoice.due,
        reference=name,
        description=f"Invoice {invoice.number}",
        method_id=invoice.method_ref,
        automatic=invoice.collect_automatically,
    )
