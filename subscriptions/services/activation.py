"""How a subscription begins to count: at once, after a trial that is free or paid, or when its first invoice is paid."""

import uuid
from collections.abc import Collection
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import transaction
from moneyed import Money

from billing.context import Actor
from billing.money import currency_of
from invoices.drafts import LineInput
from invoices.models import Invoice
from subscriptions.models import Subscription
from subscriptions.periods import end_day, local_date
from subscriptions.services import documents, moments, rows
from subscriptions.services.desk import Desk
from subscriptions.services.documents import Documents
from subscriptions.services.rows import Status
from subscriptions.services.zones import zone_of

TRIAL = "trial"
NOT_PAID = "The first invoice was not paid in time."
_ONE_DAY = timedelta(days=1)


def start(subscription: Subscription, desk: Desk, *, at: datetime, seen: datetime) -> None:
    """Its start has come: the trial, the paid time, or waiting for the first payment. ``seen``: how far time has come.

    A trial that is over by then is passed by, but billed if it costs something. The caller saves the row.
    """
    ends_at = subscription.trial_ends_at
    if ends_at is None:
        begin_paid_time(subscription, desk, at=at)
        return
    issued = None
    if subscription.trial_price:
        issued = desk.issue(subscription, _trial_fee(subscription, desk), reason="Trial")
        desk.note_period(subscription, starts_at=at, ends_at=ends_at, kind=TRIAL, issued=issued)
    if subscription.trial_price and subscription.gate_days is not None:
        _await_payment(subscription, desk, at=at)
    elif ends_at > seen:
        subscription.start_trial()
        desk.tell("trial_started", subscription, at=at)
    else:
        begin_paid_time(subscription, desk, at=ends_at)


def begin_paid_time(subscription: Subscription, desk: Desk, *, at: datetime) -> None:
    """From ``at`` on it is paid for, and its usage counts; with a payment gate, once its first invoice is paid."""
    gated = subscription.gate_days is not None and not subscription.trial_price
    if gated and moments.next_total(subscription, at=desk.now):
        _await_payment(subscription, desk, at=at)
        return
    subscription.activate()
    subscription.usage_from = at
    desk.tell("activated", subscription, at=at)
    desk.keep_standing(subscription, at=at)


def _await_payment(subscription: Subscription, desk: Desk, *, at: datetime) -> None:
    until = max(at, desk.now) + timedelta(days=subscription.gate_days or 0)
    subscription.await_payment(until=until)
    desk.tell("incomplete", subscription, at=at, activate_by=until.isoformat())


def complete(subscription: Subscription, desk: Desk, *, at: datetime) -> None:
    """The first invoice is paid: the trial it paid for begins, or the paid time that it began with."""
    ends_at = subscription.trial_ends_at
    if subscription.period_start is None and ends_at is not None and ends_at > at:
        subscription.start_trial()
        desk.tell("trial_started", subscription, at=at)
        return
    subscription.activate()
    subscription.usage_from = subscription.usage_from or subscription.next_billing_at
    desk.tell("activated", subscription, at=at)


def wait_on(subscription: Subscription, desk: Desk) -> bool:
    """Whether its first invoice was issued so late (it had been set aside, or the run stood still) that days to pay are left.

    Then it has all of them, from the invoice on. The caller saves the row.
    """
    asked_at = desk.asked_at(subscription)
    if asked_at is None or subscription.activate_by is None:
        return False
    until = asked_at + timedelta(days=subscription.gate_days or 0)
    if until <= max(desk.now, subscription.activate_by):
        return False
    subscription.wait_longer(until=until)
    desk.tell("incomplete", subscription, at=desk.now, activate_by=until.isoformat())
    return True


def give_up(subscription: Subscription, desk: Desk, *, at: datetime) -> None:
    """Time to pay the first invoice is over: it is annulled, and the subscription has expired."""
    desk.annul_unpaid(subscription, reason=NOT_PAID)
    with rows.refusing(subscription, "expire"):
        subscription.expire()
    subscription.cancelled_at, subscription.cancel_reason = at, NOT_PAID
    subscription.usage_from = None
    desk.tell("expired", subscription, at=at)


@transaction.atomic
def note_paid(*, organisation_id: uuid.UUID, invoice_id: uuid.UUID, actor: Actor) -> Subscription | None:
    """An invoice was paid: if a subscription waited for it, it is active. Safe to repeat."""
    invoice = Invoice.objects.of(organisation_id).filter(pk=invoice_id, status=Invoice.Status.PAID).first()
    if invoice is None or invoice.subscription_ref is None:
        return None
    subscription = rows.locked(invoice.subscription_ref)
    if subscription is None or subscription.status != Status.INCOMPLETE:
        return None
    desk = Desk(organisation=subscription.organisation, actor=actor)
    if desk.owes(subscription):
        return None
    complete(subscription, desk, at=desk.now)
    rows.save(subscription)
    return subscription


def waiting_for(*, invoice_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Which of these invoices belong to a subscription that waits for its first payment. Two queries."""
    invoices = Invoice.objects.filter(pk__in=invoice_ids, subscription_ref__isnull=False)
    owner = dict(invoices.order_by().values_list("pk", "subscription_ref"))
    waiting = Subscription.objects.filter(pk__in=set(owner.values()), status=Status.INCOMPLETE)
    found = set(waiting.order_by().values_list("pk", flat=True))
    return {invoice_id for invoice_id, subscription_id in owner.items() if subscription_id in found}


def _trial_fee(subscription: Subscription, desk: Desk) -> Documents:
    """The invoice of a paid trial; its tax is that of the plan's first component."""
    assert subscription.trial_ends_at is not None
    book, zone = rows.book_of(subscription), zone_of(subscription)
    first_on = local_date(subscription.started_at, zone)
    last_on = max(end_day(subscription.trial_ends_at, zone) - _ONE_DAY, first_on)
    line = LineInput(
        description=f"Trial: {subscription.plan_version.plan.name}",
        code=TRIAL,
        amount=Money(subscription.trial_price or Decimal(0), currency_of(subscription.currency)),
        tax_category=book.components[0].tax_category,
        period_start=first_on,
        period_end=last_on,
    )
    return documents.plan(
        subscription=subscription, lines=[line], first_on=first_on, last_on=last_on, at=desk.now, inclusive=book.inclusive,
    )  # fmt: skip
