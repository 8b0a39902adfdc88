"""What is paid: payments and credit are allocated to invoices, taken back, written off.

Whoever moves a customer's credit first locks the customer, then the invoice: credit is read and spent by one at a time.
"""

import uuid
from collections.abc import Iterable
from datetime import datetime

from django.db import transaction
from moneyed import Money

from billing import clock
from billing.context import Actor
from billing.errors import InvalidInput
from billing.models import Customer, JournalEntry
from billing.money import round_money, same_currency, zero
from billing.services import audit, ledger, outbox
from invoices import postings, selectors
from invoices.errors import InvoiceHasPayments, InvoiceNotOpen
from invoices.events import invoice_payload
from invoices.models import Invoice, PaymentAllocation
from payments.models import Payment

Status = Invoice.Status
COLLECTABLE = (Status.OPEN, Status.PARTIALLY_PAID, Status.UNCOLLECTIBLE)
CHANGING = ["status", "paid", "credited", "due", "paid_at", "version"]


def lock_customer(customer_id: uuid.UUID) -> None:
    """Be the only one who spends this customer's credit until the commit."""
    Customer.objects.select_for_update(no_key=True).only("pk").get(pk=customer_id)


def lock_customers(customer_ids: Iterable[uuid.UUID]) -> None:
    """``lock_customer`` for several, always in the same order: who needs two never waits for one who needs the same two."""
    wanted = Customer.objects.select_for_update(no_key=True).only("pk").filter(pk__in=set(customer_ids))
    list(wanted.order_by("pk"))


def lock_invoice(invoice_id: uuid.UUID) -> Invoice:
    """The invoice, locked after its customer. Raises ``Invoice.DoesNotExist``."""
    lock_customer(Invoice.objects.values_list("customer_id", flat=True).get(pk=invoice_id))
    return Invoice.objects.select_for_update(no_key=True).get(pk=invoice_id)


@transaction.atomic
def allocate_payment(
    *, payment_id: uuid.UUID, at: datetime | None = None, waits_for_draft: bool = True
) -> PaymentAllocation | None:
    """Apply a captured payment to the invoice it names; what is more than due stays the customer's credit.

    Safe to repeat: one payment is allocated once, even when nothing was due any more, or when the payer is not the
    invoice's customer, whose credit it would not be (an allocation of zero). Money for a draft waits for its finalisation,
    unless it ``waits_for_draft`` no longer: then it pays nothing of it.
    """
    payment = Payment.objects.get(pk=payment_id)
    invoice_id = selectors.invoice_id_of(payment.reference)
    found = Invoice.objects.of(payment.organisation_id).filter(pk=invoice_id).first() if invoice_id else None
    if found is None or payment.status != Payment.Status.SUCCEEDED:
        return None
    invoice, key = lock_invoice(found.pk), f"payment:{payment.pk}"
    known = PaymentAllocation.objects.of(invoice.organisation_id).filter(key=key).first()
    if known is not None or (invoice.status == Status.DRAFT and waits_for_draft):
        return known
    amount = zero(invoice.currency)
    ours = payment.customer_id == invoice.customer_id and payment.amount.currency == invoice.due.currency
    if ours and invoice.status in COLLECTABLE:
        amount = round_money(min(invoice.due, payment.amount - selectors.refunded(payment)))
    return book(invoice=invoice, amount=amount, payment=payment, key=key, at=at or clock.now(invoice.organisation_id))


@transaction.atomic
def apply_customer_credit(
    *,
    invoice_id: uuid.UUID,
    amount: Money | None = None,
    key: str = "",
    at: datetime | None = None,
    actor: Actor | None = None,
) -> PaymentAllocation | None:
    """Pay an invoice from the customer's free credit: ``amount``, else as much as there is. None when there is none."""
    invoice = lock_invoice(invoice_id)
    if invoice.status not in COLLECTABLE:
        raise InvoiceNotOpen(status=invoice.status, operation="applying credit", expected="open")
    key = key or f"credit:{invoice.pk}:{invoice.version}"
    known = PaymentAllocation.objects.of(invoice.organisation_id).filter(key=key).first()
    if known is not None:
        return known
    usable = usable_credit(invoice)
    if amount is not None:
        same_currency(invoice.due, amount, field="amount")
        if amount > usable:
            raise InvalidInput(f"Only {usable} of credit can be applied to this invoice.", field="amount")
        usable = amount
    if usable.amount <= 0:
        return None
    allocation = book(
        invoice=invoice, amount=usable, payment=None, key=key, at=at or clock.now(invoice.organisation_id)
    )
    if actor is not None:
        audit.record(actor=actor, action="invoice.credit_applied", target=invoice, after={"amount": str(usable.amount)})
    return allocation


def usable_credit(invoice: Invoice) -> Money:
    """How much of the customer's credit the invoice can take. The customer is locked."""
    free = selectors.spendable_credit(
        organisation=invoice.organisation_id, customer_id=invoice.customer_id, currency=invoice.currency
    )
    return round_money(min(free, invoice.due))


@transaction.atomic
def void_invoice(*, invoice_id: uuid.UUID, reason: str, actor: Actor, at: datetime | None = None) -> Invoice:
    """Annul an open invoice that nothing was paid on; its number stays used. Raises ``InvoiceHasPayments``."""
    invoice = lock_invoice(invoice_id)
    if invoice.paid.amount or invoice.credited.amount or invoice.credit_notes.exists():
        raise InvoiceHasPayments
    if invoice.status != Status.OPEN:
        raise InvoiceNotOpen(status=invoice.status, operation="voiding", expected="open")
    at = at or clock.now(invoice.organisation_id)
    for entry in JournalEntry.objects.of(invoice.organisation_id).filter(
        selectors.entries_of(invoice), reversed_by=None
    ):
        ledger.reverse(entry=entry, key=f"voided:{entry.pk}", occurred_at=at, description=f"{invoice.number} void")
    invoice.void()
    _save(invoice, "invoice.voided", at)
    audit.record(actor=actor, action="invoice.voided", target=invoice, reason=reason, after={"number": invoice.number})
    return invoice


@transaction.atomic
def write_off_invoice(*, invoice_id: uuid.UUID, reason: str, actor: Actor, at: datetime | None = None) -> Invoice:
    """Accept the loss of what is still due. Money that comes later takes the write-off back."""
    invoice = lock_invoice(invoice_id)
    if invoice.status not in (Status.OPEN, Status.PARTIALLY_PAID):
        raise InvoiceNotOpen(status=invoice.status, operation="writing off", expected="open or partially paid")
    at = at or clock.now(invoice.organisation_id)
    ledger.post(organisation=invoice.organisation_id, entry=postings.written_off(invoice=invoice, at=at))
    invoice.write_off()
    _save(invoice, "invoice.written_off", at)
    audit.record(
        actor=actor,
        action="invoice.written_off",
        target=invoice,
        reason=reason,
        after={"amount": str(invoice.due.amount)},
    )
    return invoice


def book(*, invoice: Invoice, amount: Money, payment: Payment | None, key: str, at: datetime) -> PaymentAllocation:
    """Write the allocation, its journal entry and the invoice's new state. The customer and the invoice are locked."""
    allocation = PaymentAllocation.objects.create(
        organisation_id=invoice.organisation_id, invoice=invoice, payment=payment, amount=amount, key=key, created_at=at
    )
    if amount.amount:
        if invoice.status == Status.UNCOLLECTIBLE:
            _take_write_off_back(invoice, at)
        entry = postings.allocation(invoice=invoice, amount=amount, key=key, at=at)
        ledger.post(organisation=invoice.organisation_id, entry=entry)
        invoice.paid += amount
        settle_state(invoice, at)
    return allocation


def settle_state(invoice: Invoice, at: datetime) -> None:
    """Give the invoice the state its amounts say, after ``paid`` or ``credited`` changed, and tell the house."""
    before = invoice.status
    invoice.due = invoice.total - invoice.paid - invoice.credited
    if not invoice.due.amount:
        invoice.settle(at=at)
        news = "invoice.paid"
    elif invoice.paid.amount or invoice.credited.amount:
        invoice.pay_partly()
        news = "invoice.reopened" if before == Status.PAID else "invoice.partially_paid"
    else:
        invoice.reopen()
        news = "invoice.reopened"
    _save(invoice, news, at)


def _save(invoice: Invoice, news: str, at: datetime) -> None:
    invoice.version += 1
    invoice.save(update_fields=CHANGING)
    outbox.publish(news, invoice, at=at, **invoice_payload(invoice))


def _take_write_off_back(invoice: Invoice, at: datetime) -> None:
    entry = JournalEntry.objects.of(invoice.organisation_id).get(
        source_id=invoice.pk, kind="invoice_written_off", reversed_by=None
    )
    ledger.reverse(entry=entry, key=f"recovered:{entry.pk}", occurred_at=at, description=invoice.number)
