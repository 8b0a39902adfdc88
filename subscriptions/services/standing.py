"""Whether a subscription is in good standing follows from its invoices: overdue ones make it past due, none make it well."""

import uuid
from collections.abc import Collection

from django.db import transaction
from django.db.models import Q

from billing import clock
from billing.context import Actor
from invoices.models import Invoice
from subscriptions.dunning_rules import SUSPEND, WRITE_OFF
from subscriptions.dunning_selectors import held_measures
from subscriptions.models import BilledPeriod, DunningCase, Subscription
from subscriptions.services import lifecycle, rows
from subscriptions.services.rows import UNPAID, Status

TROUBLED = (Status.PAST_DUE, Status.SUSPENDED)


@transaction.atomic
def note_overdue(*, organisation_id: uuid.UUID, invoice_id: uuid.UUID) -> Subscription | None:
    """Past due, if the invoice is a subscription's and still unpaid. Safe to repeat, and in any order with payments.

    The invoice stays locked until the commit: who settles it afterwards finds the subscription past due. An invoice of
    several subscriptions makes all of them past due; the first that changed is returned.
    """
    invoice = Invoice.objects.of(organisation_id).filter(pk=invoice_id, status__in=UNPAID).first()
    billed = _subscriptions_of(organisation_id, invoice)
    for pk in billed:
        rows.lock(pk)
    if (
        not billed
        or not Invoice.objects.select_for_update(no_key=True).filter(pk=invoice_id, status__in=UNPAID).exists()
    ):
        return None
    changed = [lifecycle.fall_behind(subscription_id=pk) for pk in billed]
    return next((one for one in changed if one is not None), None)


@transaction.atomic
def note_settled(*, organisation_id: uuid.UUID, invoice_id: uuid.UUID, actor: Actor) -> Subscription | None:
    """Active again, if no other invoice of the subscription is overdue and unpaid. Safe to repeat.

    Nobody pays what was annulled, credited or written off by hand, so that counts as settled. A write-off with which
    dunning ended its chase does not take a suspended subscription up again: that waits for money or for a person.
    Of an invoice of several subscriptions, each is looked at; the first that changed is returned.
    """
    invoice = Invoice.objects.of(organisation_id).filter(pk=invoice_id).first()
    changed = [_settled(rows.lock(pk), invoice_id, actor) for pk in _subscriptions_of(organisation_id, invoice)]
    return next((one for one in changed if one is not None), None)


def _settled(locked: Subscription, invoice_id: uuid.UUID, actor: Actor) -> Subscription | None:
    if locked.status not in TROUBLED or rows.has_overdue(locked):
        return None
    if locked.status == Status.SUSPENDED and (was_given_up(invoice_id=invoice_id) or _is_held(locked)):
        return None
    return lifecycle.recover(subscription_id=locked.pk, actor=actor)


def troubled(*, invoice_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Which of these invoices belong to a subscription that is past due or suspended. Three queries."""
    invoices = Invoice.objects.filter(pk__in=invoice_ids, subscription_ref__isnull=False)
    pairs = list(invoices.order_by().values_list("pk", "subscription_ref"))
    shared = BilledPeriod.objects.filter(invoice__in=invoice_ids, invoice__subscription_ref=None)
    pairs += shared.order_by().values_list("invoice_id", "subscription_id")
    found = Subscription.objects.filter(pk__in={pk for _, pk in pairs}, status__in=TROUBLED)
    in_trouble = set(found.order_by().values_list("pk", flat=True))
    return {invoice_id for invoice_id, subscription_id in pairs if subscription_id in in_trouble}


def was_given_up(*, invoice_id: uuid.UUID) -> bool:
    """Whether dunning itself wrote the invoice off, as the last step of its chase."""
    case = DunningCase.objects.filter(invoice_id=invoice_id, invoice__status=Invoice.Status.UNCOLLECTIBLE).first()
    return bool(case and case.history and WRITE_OFF in case.history[-1]["actions"])


def _is_held(subscription: Subscription) -> bool:
    """Whether another debt of the customer keeps it suspended."""
    return SUSPEND in held_measures(subscription, on=clock.today(subscription.organisation))


def _subscriptions_of(organisation_id: uuid.UUID, invoice: Invoice | None) -> list[uuid.UUID]:
    """The subscriptions that the invoice bills, in the order in which they are locked."""
    if invoice is None:
        return []
    billed = Q(pk=invoice.subscription_ref)
    if invoice.subscription_ref is None:
        billed = Q(pk__in=BilledPeriod.objects.filter(invoice=invoice).values("subscription"))
    return list(Subscription.objects.of(organisation_id).filter(billed).order_by("pk").values_list("pk", flat=True))
