"""Invoices become overdue the day after they were due, once."""

from datetime import datetime

from django.db import transaction

from billing import clock
from billing.models import Organisation
from billing.services import outbox
from billing.services.outbox import Fact
from invoices.events import invoice_payload
from invoices.models import Invoice

BATCH = 1000


def mark_overdue(*, organisation: Organisation, at: datetime | None = None) -> int:
    """Note every unpaid invoice whose day has passed and tell the house. Returns how many."""
    at = at or clock.now(organisation)
    done = 0
    while marked := _mark_batch(organisation, at):
        done += marked
    return done


@transaction.atomic
def _mark_batch(organisation: Organisation, at: datetime) -> int:
    day = at.astimezone(clock.zone(organisation)).date()
    invoices = list(
        Invoice.objects.of(organisation)
        .select_for_update(skip_locked=True)
        .filter(status__in=[Invoice.Status.OPEN, Invoice.Status.PARTIALLY_PAID], due_on__lt=day, overdue_at=None)
        .order_by("pk")[:BATCH]
    )
    Invoice.objects.filter(pk__in=[invoice.pk for invoice in invoices]).update(overdue_at=at)
    facts = [
        Fact(
            type="invoice.overdue",
            aggregate_type="invoices.invoice",
            aggregate_id=invoice.pk,
            payload=invoice_payload(invoice),
        )
        for invoice in invoices
    ]
    outbox.publish_many(organisation_id=organisation.pk, facts=facts, at=at)
    return len(invoices)
