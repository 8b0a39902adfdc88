"""Showing a customer a price: assigned once, kept for good; and what came of it."""

import uuid
from datetime import datetime, timedelta

from django.db import transaction

from billing import clock
from billing.errors import NotFound
from billing.models import Customer, Organisation
from subscriptions.experiments.offers import OPEN, Offer, assigned, offer_for
from subscriptions.models import Experiment, ExperimentExposure, Plan, Subscription

CHANNEL = ExperimentExposure.Channel


def assign(*, experiment: Experiment, customer: Customer) -> Offer:
    """What the customer is to be shown, from now on always the same. Safe to repeat, and to run at once: one row, one variant.

    Who takes no part (``Offer.why``) gets the control's prices, and is not counted. Raises ``NotFound``.
    """
    if customer.organisation_id != experiment.organisation_id or customer.archived_at is not None:
        raise NotFound("No such customer in this organisation, or it is archived.", field="customer")
    at = clock.now(experiment.organisation_id)
    return expose(
        assigned(experiment, customer_id=customer.pk, at=at), customer_id=customer.pk, channel=CHANNEL.ASSIGN, at=at
    )


def enrol(
    *, organisation: Organisation, customer_id: uuid.UUID, plan_id: uuid.UUID, channel: str, at: datetime,
    start_at: datetime | None = None,
) -> Offer | None:  # fmt: skip
    """``assign`` by the plan that a customer asks for; None where no experiment is on, or for what is not the organisation's."""
    plan = Plan.objects.of(organisation).filter(pk=plan_id).first()
    if plan is None or not Customer.objects.of(organisation).filter(pk=customer_id, archived_at=None).exists():
        return None
    offer = offer_for(organisation=organisation, customer_id=customer_id, plan=plan, at=at, start_at=start_at)
    return None if offer is None else expose(offer, customer_id=customer_id, channel=channel, at=at)


@transaction.atomic
def expose(offer: Offer, *, customer_id: uuid.UUID, channel: str, at: datetime) -> Offer:
    """Keep that the customer was shown the offer, unless it was before; returns what was shown."""
    if offer.exposure is not None or not offer.takes_part:
        return offer
    experiment = offer.experiment
    row = ExperimentExposure(
        organisation_id=experiment.organisation_id, experiment=experiment, variant=offer.variant, customer_id=customer_id,
        channel=channel, exposed_at=at,
    )  # fmt: skip
    ExperimentExposure.objects.bulk_create([row], ignore_conflicts=True)
    kept = ExperimentExposure.objects.select_related("variant__version__plan")
    shown = kept.get(experiment=experiment, customer_id=customer_id)
    return Offer(experiment=experiment, variant=shown.variant, exposure=shown)


def note_conversion(subscription: Subscription, *, at: datetime) -> int:
    """A customer who was shown the prices that it subscribes to has converted, in time: the first subscription counts.

    In the transaction that writes the subscription; returns how many exposures it answers (0 or 1).
    """
    open_ones = ExperimentExposure.objects.of(subscription.organisation_id).filter(
        customer_id=subscription.customer_id, subscription=None, variant__version=subscription.plan_version_id,
        experiment__status__in=OPEN, experiment__starts_at__lte=subscription.started_at,
    )  # fmt: skip
    found = [
        row
        for row in open_ones.select_related("experiment")
        if at < row.exposed_at + timedelta(days=row.experiment.conversion_days)
    ]
    ids = [row.pk for row in found]
    return (
        ExperimentExposure.objects.filter(pk__in=ids).update(subscription=subscription, converted_at=at) if ids else 0
    )
