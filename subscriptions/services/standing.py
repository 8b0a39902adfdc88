"""Whether a subscription is in good standing follows from its invoices: overdue ones make it past due, none make it well."""

import uuid

from django.db import transaction

from billing.context import Actor
from invoices.models import Invoice
from subscriptions.models import Subscription
from subscriptions.services import lifecycle
from subscriptions.services.rows import Status

UNPAID = (Invoice.Status.OPEN, Invoice.Status.PARTIALLY_PAID)


@transaction.atomic
def note_overdue(*, organisation_id: uuid.UUID, invoice_id: uuid.UUID) -> Subscription | None:
    """Past due, if the invoice is a subscription's and still unpaid. Safe to repeat, and in any order with payments."""
    invoice = Invoice.objects.of(organisation_id).filter(pk=invoice_id, status__in=UNPAID).first()
    subscription = _subscription_of(organisation_id, invoice)
    return lifecycle.fall_behind(subscription_id=subscription.pk) if subscription else None


@transaction.atomic
def note_settled(*, organisation_id: uuid.UUID, invoice_id: uuid.UUID, actor: Actor) -> Subscription | None:
    """Active again, if no other invoice of the subscription is overdue and unpaid. Safe to repeat."""
    invoice = Invoice.objects.of(organisation_id).filter(pk=invoice_id).first()
    subscription = _subscription_of(organisation_id, invoice)
    if subscription is None:
        return None
    locked = Subscription.objects.select_for_update().get(pk=subscription.pk)
    if locked.status not in (Status.PAST_DUE, Status.SUSPENDED) or has_overdue(locked):
        return None
    return lifecycle.recover(subscription_id=locked.pk, actor=actor)


def has_overdue(subscription: Subscription) -> bool:
    """Whether an invoice of the subscription is overdue and unpaid."""
    return (
        Invoice.objects.of(subscription.organisation_id)
        .filter(subscription_ref=subscription.pk, status__in=UNPAID, overdue_at__isnull=False)
        .exists()
    )


def _subscription_of(organisation_id: uuid.UUID, invoice: Invoice | None) -> Subscription | None:
    if invoice is None or invoice.subscription_ref is None:
        return None
    return Subscription.objects.of(organisation_id).filter(pk=invoice.subscription_ref).first()
