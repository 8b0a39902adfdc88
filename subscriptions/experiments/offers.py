"""Which prices a customer is offered where an experiment is on: reads only, so that a preview gets what then happens."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q, QuerySet

from billing.models import Organisation
from subscriptions.experiments import assignment
from subscriptions.models import Experiment, ExperimentExposure, ExperimentVariant, Plan, PlanVersion, Subscription

RUNNING, STOPPED = Experiment.Status.RUNNING, Experiment.Status.STOPPED
OPEN = (RUNNING, STOPPED)
ENDED = (Subscription.Status.CANCELLED, Subscription.Status.EXPIRED)
ENROLLED, NOT_ALLOCATED, SUBSCRIBES, NOT_RUNNING = "enrolled", "not_allocated", "existing_subscriber", "not_running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The prices of a customer: a variant's, with the exposure if it is one already, or the control's for who takes no part."""

    experiment: Experiment
    variant: ExperimentVariant
    why: str = ENROLLED
    exposure: ExperimentExposure | None = None

    @property
    def takes_part(self) -> bool:
        return self.why == ENROLLED

    @property
    def version(self) -> PlanVersion:
        return self.variant.version


def variants_of(experiment: Experiment) -> list[ExperimentVariant]:
    """Its variants with their plans, in order."""
    return list(experiment.variants.select_related("version__plan"))


def control_of(variants: list[ExperimentVariant]) -> ExperimentVariant:
    """The one that the others are compared with."""
    return next(variant for variant in variants if variant.is_control)


def offer_for(
    *, organisation: Organisation, customer_id: uuid.UUID, plan: Plan, at: datetime, start_at: datetime | None = None
) -> Offer | None:
    """What a customer who asks for ``plan`` is offered at ``at``; None: what the plan offers to all.

    A subscription that began before the experiment (``start_at``) takes no part in it.
    """
    shown = _shown(organisation, customer_id).filter(Q(experiment__plan=plan) | Q(variant__version__plan=plan)).first()
    if shown is not None and _reaches(shown.experiment, start_at):
        return Offer(experiment=shown.experiment, variant=shown.variant, exposure=shown)
    found = Experiment.objects.of(organisation).filter(plan=plan, status=RUNNING).first()
    if found is None or not _reaches(found, start_at):
        return None
    offer = assigned(found, customer_id=customer_id, at=at)
    return None if offer.why == NOT_RUNNING else offer


def assigned(experiment: Experiment, *, customer_id: uuid.UUID, at: datetime) -> Offer:
    """What the experiment gives to a customer at ``at``: what it has given already, or what it would give."""
    shown = _shown(experiment.organisation_id, customer_id).filter(experiment=experiment).first()
    if shown is not None:
        return Offer(experiment=experiment, variant=shown.variant, exposure=shown)
    variants = variants_of(experiment)
    why = _standing(experiment, variants, customer_id, at)
    if why != ENROLLED:
        return Offer(experiment=experiment, variant=control_of(variants), why=why)
    by_code = {variant.code: variant for variant in variants}
    weights: Mapping[str, int] = {variant.code: variant.weight for variant in variants}
    code = assignment.variant_for(salt=experiment.salt, customer=str(customer_id), weights=weights)
    return Offer(experiment=experiment, variant=by_code[code])


def _standing(experiment: Experiment, variants: list[ExperimentVariant], customer_id: uuid.UUID, at: datetime) -> str:
    """Whether somebody who was shown nothing yet takes part, or why not."""
    if experiment.status != RUNNING or not is_within(experiment, at):
        return NOT_RUNNING
    percent = experiment.allocation_percent
    if not assignment.is_allocated(salt=experiment.salt, customer=str(customer_id), percent=percent):
        return NOT_ALLOCATED
    plans = {experiment.plan_id, *(variant.version.plan_id for variant in variants)}
    mine = Subscription.objects.of(experiment.organisation_id).filter(customer_id=customer_id)
    taken = mine.filter(plan_version__plan__in=plans).exclude(status__in=ENDED)
    return SUBSCRIBES if experiment.exclude_subscribers and taken.exists() else ENROLLED


def is_within(experiment: Experiment, at: datetime) -> bool:
    """Whether ``at`` lies between its dates."""
    begins, ends = experiment.starts_at, experiment.ends_at
    return begins is not None and begins <= at and (ends is None or at < ends)


def _shown(organisation: Organisation | uuid.UUID, customer_id: uuid.UUID) -> "QuerySet[ExperimentExposure]":
    """What the customer was shown in experiments that are not concluded, newest first."""
    shown = ExperimentExposure.objects.of(organisation).filter(customer_id=customer_id, experiment__status__in=OPEN)
    return shown.select_related("experiment__plan", "variant__version__plan").order_by("-id")


def _reaches(experiment: Experiment, start_at: datetime | None) -> bool:
    return start_at is None or (experiment.starts_at is not None and experiment.starts_at <= start_at)
