"""What this app does when it hears an event or the clock."""

import uuid

from billing.models import Event, Organisation
from billing.services import clock_jobs
from billing.services.outbox import handles
from invoices.services import installments, overdue, recognition, settling


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
    settling.take_back_refunded(refund_id=event.aggregate_id, at=event.occurred_at)


@handles("refund.failed", consumer="invoices.restore")
def restore(event: Event) -> None:
    """A refund that came back pays the invoice again."""
    settling.restore_after_failed_refund(refund_id=event.aggregate_id, at=event.occurred_at)


@handles("invoice.paid", consumer="invoices.installments")
def complete_plan(event: Event) -> None:
    """The last paid installment completes its plan."""
    installments.complete_if_paid(invoice_id=uuid.UUID(event.payload["invoice_id"]))
