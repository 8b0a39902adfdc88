"""Whether a subscription is in good standing follows from its invoices: overdue ones make it past due, none make it well."""

import uuid
from collections.abc import Collection

from django.db import transaction

from billing.context import Actor
from invoices.models import Invoice
from subscriptions.dunning_rules import WRITE_OFF
from subscriptions.models import DunningCase, Subscription
from subscriptions.services import lifecycle, rows
from subscriptions.services.rows import Status

UNPAID = (Invoice.Status.OPEN, Invoice.Status.PARTIALLY_PAID)
TROUBLED = (Status.PAST_DUE, Status.SUSPENDED)


@transaction.atomic
def note_overdue(*, organisation_id: uuid.UUID, invoice_id: uuid.UUID) -> Subscription | None:
    """Past due, if the invoice is a subscription's and still unpaid. Safe to repeat, and in any order with payments.

    The invoice stays locked until the commit: who settles it afterwards finds the subscription past due.
    """
    invoice = Invoice.objects.of(organisation_id).filter(pk=invoice_id, status__in=UNPAID).first()
    subscription = _subscription_of(organisation_id, invoice)
    if subscription is None:
        return None
    rows.lock(subscription.pk)
    unpaid = Invoice.objects.select_for_update(no_key=True).filter(pk=invoice_id, status__in=UNPAID).first()
    return lifecycle.fall_behind(subscription_id=subscription.pk) if unpaid else None


@transaction.atomic
def note_settled(*, organisation_id: uuid.UUID, invoice_id: uuid.UUID, actor: Actor) -> Subscription | None:
    """Active again, if no other invoice of the subscription is overdue and unpaid. Safe to repeat.

    Nobody pays what was annulled, credited or written off by hand, so that counts as settled. A write-off with which
    dunning ended its chase does not take a suspended subscription up again: that waits for money or for a person.
    """
    invoice = Invoice.objects.of(organisation_id).filter(pk=invoice_id).first()
    subscription = _subscription_of(organisation_id, invoice)
    if subscription is None:
        return None
    locked = rows.lock(subscription.pk)
    if locked.status not in TROUBLED or has_overdue(locked):
        return None
    if locked.status == Status.SUSPENDED and was_given_up(invoice_id=invoice_id):
        return None
    return lifecycle.recover(subscription_id=locked.pk, actor=actor)


def troubled(*, invoice_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Which of these invoices belong to a subscription that is past due or suspended. Two queries."""
    invoices = Invoice.objects.filter(pk__in=invoice_ids, subscription_ref__isnull=False)
    subscription_of = dict(invoices.order_by().values_list("pk", "subscription_ref"))
    found = Subscription.objects.filter(pk__in=set(subscription_of.values()), status__in=TROUBLED)
    in_trouble = set(found.order_by().values_list("pk", flat=True))
    return {invoice_id for invoice_id, subscription_id in subscription_of.items() if subscription_id in in_trouble}


def was_given_up(*, invoice_id: uuid.UUID) -> bool:
    """Whether dunning itself wrote the invoice off, as the last step of its chase."""
    case = DunningCase.objects.filter(invoice_id=invoice_id, invoice__status=Invoice.Status.UNCOLLECTIBLE).first()
    return bool(case and case.history and WRITE_OFF in case.history[-1]["actions"])


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
