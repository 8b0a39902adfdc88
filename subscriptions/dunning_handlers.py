"""What dunning hears: invoices that become overdue, are settled or fall open again, and payments that were refused.

Cases are locked before subscriptions and customers, hence in transactions of their own (``alone``).
"""

from collections.abc import Sequence

from billing.models import Event, Organisation
from billing.services import clock_jobs
from billing.services.outbox import handles
from subscriptions.dunning_selectors import chased_invoices
from subscriptions.services import dunning, dunning_cases, dunning_measures


def _of_chased(events: Sequence[Event]) -> set[int]:
    chased = chased_invoices(invoice_ids=[event.payload["invoice_id"] for event in events])
    return {event.pk for event in events if event.payload["invoice_id"] in chased}


@handles("invoice.overdue", consumer="subscriptions.open_case", alone=True)
def open_case(event: Event) -> None:
    """An overdue invoice is chased."""
    dunning.open_case(invoice_id=event.aggregate_id)


@handles(
    "invoice.paid",
    "invoice.partially_paid",
    "invoice.voided",
    "invoice.written_off",
    "invoice.reopened",
    "credit_note.issued",
    consumer="subscriptions.settle_case",
    alone=True,
    concerns=_of_chased,
)
def follow_invoice(event: Event) -> None:
    """What is owed has changed: the chase notes it, ends, or goes on."""
    dunning_cases.follow_invoice(invoice_id=event.payload["invoice_id"])


@handles("payment.declined", "payment.failed", consumer="subscriptions.ask_for_new_method")
def ask_for_new_method(event: Event) -> None:
    """A refusal for good is not worth a retry: the customer is asked for another method at once."""
    if event.payload.get("decline_class") in dunning_measures.NEEDS_NEW_METHOD:
        dunning_measures.ask_for_new_method(organisation_id=event.organisation_id, payment_id=event.aggregate_id)


@handles("payment.declined", consumer="subscriptions.note_attempt", alone=True)
def note_attempt(event: Event) -> None:
    """Attempts in vain bring the next stage nearer."""
    dunning.note_attempt(organisation_id=event.organisation_id, payment_id=event.aggregate_id)


@clock_jobs.register(name="subscriptions.dunning", order=50)
def run_dunning(organisation: Organisation) -> int:
    """Take the stages that are reached today."""
    return len(dunning.run_dunning(organisation=organisation).steps)
