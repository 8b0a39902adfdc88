"""What this app does when it hears an event or the clock."""

import uuid
from collections.abc import Sequence

from billing import clock
from billing.context import Actor
from billing.models import Event, Organisation
from billing.services import choices, clock_jobs
from billing.services.outbox import handles
from billing.services.usage import find_subscriptions_with
from billing.services.usage_retention import keep_for
from invoices.services.refunding import refund_credit
from subscriptions import (  # noqa: F401 - they register themselves
    billing_jobs,
    coupon_handlers,
    dunning_handlers,
    entitlement_jobs,
    experiment_jobs,
    plan_migration_jobs,
)
from subscriptions.entitlements.policy import parse_policy
from subscriptions.rules import parse_rules
from subscriptions.selectors import subscriptions_named, unbilled_since
from subscriptions.services import activation, changes, ended_usage, standing

ACTOR = Actor.system("subscriptions")
find_subscriptions_with(subscriptions_named)
keep_for(unbilled_since)
choices.register("subscriptions", lambda organisation, value: parse_rules(value))
choices.register("entitlements", lambda organisation, value: parse_policy(value), permission="plan.edit")


@handles("invoice.overdue", consumer="subscriptions.fall_behind", alone=True)
def fall_behind(event: Event) -> None:
    """A subscription whose invoice is overdue is past due."""
    standing.note_overdue(organisation_id=event.organisation_id, invoice_id=event.aggregate_id)


def _of_troubled(events: Sequence[Event]) -> set[int]:
    troubled = standing.troubled(invoice_ids=[event.aggregate_id for event in events])
    return {event.pk for event in events if event.aggregate_id in troubled}


@handles(
    "invoice.paid",
    "invoice.voided",
    "invoice.written_off",
    consumer="subscriptions.recover",
    alone=True,
    concerns=_of_troubled,
)
def recover(event: Event) -> None:
    """Once no invoice of the subscription is overdue any more, it is in good standing again."""
    standing.note_settled(organisation_id=event.organisation_id, invoice_id=event.aggregate_id, actor=ACTOR)


def _of_waiting(events: Sequence[Event]) -> set[int]:
    waiting = activation.waiting_for(invoice_ids=[event.aggregate_id for event in events])
    return {event.pk for event in events if event.aggregate_id in waiting}


@handles("invoice.paid", consumer="subscriptions.activate", alone=True, concerns=_of_waiting)
def activate(event: Event) -> None:
    """The first invoice is paid: a subscription that waited for it is active."""
    activation.note_paid(organisation_id=event.organisation_id, invoice_id=event.aggregate_id, actor=ACTOR)


@handles("subscription.refund_due", consumer="subscriptions.refund", atomic=False)
def refund(event: Event) -> None:
    """A subscription ended with the money back: what its credit notes gave is refunded."""
    note_id = uuid.UUID(event.payload["credit_note_id"])
    refund_credit(organisation_id=event.organisation_id, credit_note_id=note_id, actor=ACTOR)


@clock_jobs.register(name="subscriptions.apply_changes", order=5)
def apply_changes(organisation: Organisation) -> int:
    """Starts, trial ends, planned changes, resumptions and ends that are due."""
    return changes.apply_due(organisation=organisation, due_at=clock.now(organisation))


@clock_jobs.register(name="subscriptions.trial_notices", order=90)
def trial_notices(organisation: Organisation) -> int:
    """Tell customers that their trial ends soon."""
    return changes.announce_trial_ends(organisation=organisation, at=clock.now(organisation))


@clock_jobs.register(name="subscriptions.late_usage", order=12)
def late_usage(organisation: Organisation) -> int:
    """Usage of ended subscriptions that changed after their last invoice."""
    return ended_usage.settle_ended(organisation=organisation)
