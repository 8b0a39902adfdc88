"""The run of an experiment: start with a plan, weigh anew, read, stop, conclude."""

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, Q

from billing import clock
from billing.context import Actor
from billing.models import Organisation
from billing.services import audit
from subscriptions.experiments import figures, statistics
from subscriptions.experiments.errors import ExperimentOverlaps, ExperimentState, InvalidExperiment
from subscriptions.experiments.figures import Figures
from subscriptions.experiments.offers import OPEN, variants_of
from subscriptions.models import Experiment, ExperimentExposure, ExperimentVariant, Plan
from subscriptions.services.experiments.drafting import check_allocation, check_currencies, check_weights, locked

STATUS = Experiment.Status
ACTOR = Actor.system("experiments")
AHEAD_AT_MOST, LASTS_AT_MOST = timedelta(days=366), timedelta(days=2 * 366)
MAX_SAMPLE = 100_000_000
RISKS = (Decimal("0.001"), Decimal("0.2"))
POWERS = (Decimal("0.5"), Decimal("0.99"))


@transaction.atomic
def start_experiment(
    *,
    experiment_id: uuid.UUID,
    actor: Actor,
    baseline_rate: Decimal,
    minimum_effect: Decimal,
    significance: Decimal = Decimal("0.05"),
    power: Decimal = Decimal("0.8"),
    planned_sample: int | None = None,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
) -> Experiment:
    """Begin to assign customers, now or from ``starts_at`` on, and fix what it is decided by.

    Rates are shares between 0 and 1: the control's expected rate, and the least difference worth finding. ``planned_sample`` is
    the number of customers of each variant; left out, as many as that takes. Raises ``InvalidExperiment``, ``ExperimentOverlaps``,
    ``CurrenciesDiffer``, ``ExperimentState``.
    """
    experiment = locked(experiment_id)
    if experiment.status != STATUS.DRAFT:
        raise ExperimentState(status=experiment.status, operation="started")
    now = clock.now(experiment.organisation_id)
    begins = starts_at or now
    _check_dates(now, begins, ends_at)
    variants = variants_of(experiment)
    _check_variants(experiment, variants)
    experiment.baseline_rate, experiment.minimum_effect = baseline_rate, minimum_effect
    experiment.significance, experiment.power = significance, power
    experiment.planned_sample = planned_sample or needed_sample(
        baseline_rate=baseline_rate, minimum_effect=minimum_effect, significance=significance, power=power,
        variant_count=len(variants),
    )  # fmt: skip
    if not 2 <= experiment.planned_sample <= MAX_SAMPLE:
        raise InvalidExperiment(f"planned_sample is 2 to {MAX_SAMPLE}.", field="planned_sample")
    experiment.starts_at, experiment.ends_at = begins, ends_at
    experiment.start(at=now)
    _save_open(experiment)
    audit.record(
        actor=actor, action="experiment.started", target=experiment,
        after={"planned_sample": experiment.planned_sample, "minimum_effect": f"{minimum_effect:f}",
               "baseline_rate": f"{baseline_rate:f}", "starts_at": begins.isoformat()},
    )  # fmt: skip
    return experiment


def needed_sample(
    *,
    baseline_rate: Decimal,
    minimum_effect: Decimal,
    significance: Decimal = Decimal("0.05"),
    power: Decimal = Decimal("0.8"),
    variant_count: int = 2,
) -> int:
    """Customers of each variant that such a plan takes; several variants share the risk. Raises ``InvalidExperiment``."""
    if not 0 < baseline_rate < 1:
        raise InvalidExperiment("baseline_rate lies between 0 and 1: 0.05 is 5 %.", field="baseline_rate")
    if not Decimal("0.0005") <= minimum_effect < 1:
        raise InvalidExperiment("minimum_effect is 0.0005 to 1: 0.01 is one percentage point.", field="minimum_effect")
    if baseline_rate + minimum_effect >= 1 and baseline_rate - minimum_effect <= 0:
        raise InvalidExperiment("minimum_effect leaves no rate between 0 and 1.", field="minimum_effect")
    if not RISKS[0] <= significance <= RISKS[1]:
        raise InvalidExperiment(f"significance is {RISKS[0]} to {RISKS[1]}.", field="significance")
    if not POWERS[0] <= power <= POWERS[1]:
        raise InvalidExperiment(f"power is {POWERS[0]} to {POWERS[1]}.", field="power")
    risk = float(significance) / max(1, variant_count - 1)
    return statistics.required_sample(
        baseline=float(baseline_rate), effect=float(minimum_effect), risk=risk, power=float(power)
    )


def _check_dates(now: datetime, begins: datetime, ends_at: datetime | None) -> None:
    if not now <= begins <= now + AHEAD_AT_MOST:
        raise InvalidExperiment("starts_at is now or in the future, at most a year ahead.", field="starts_at")
    if ends_at is not None and not begins < ends_at <= begins + LASTS_AT_MOST:
        raise InvalidExperiment("ends_at comes after the start, at most two years later.", field="ends_at")


def _check_variants(experiment: Experiment, variants: list[ExperimentVariant]) -> None:
    """Plans that are archived or in another experiment by now. Locks the plans, so that of two that start at once one is refused."""
    plan_ids = {experiment.plan_id, *(variant.version.plan_id for variant in variants)}
    for plan in Plan.objects.select_for_update(no_key=True).filter(pk__in=plan_ids).order_by("pk"):
        if plan.archived_at is not None:
            raise InvalidExperiment(f"The plan '{plan.code}' is archived.", field="variants")
        other = _using(experiment, plan)
        if other is not None:
            raise ExperimentOverlaps(experiment=other.code, plan=plan.code, status=other.status, field="plan")
    check_weights([variant.weight for variant in variants], least=1)
    check_currencies(variants)


def _using(experiment: Experiment, plan: Plan) -> Experiment | None:
    """Another open experiment that gives out prices of the plan."""
    others = Experiment.objects.of(experiment.organisation_id).filter(status__in=OPEN).exclude(pk=experiment.pk)
    return others.filter(Q(plan=plan) | Q(variants__version__plan=plan)).order_by("id").first()


def _save_open(experiment: Experiment) -> None:
    try:
        with transaction.atomic():
            experiment.save()
    except IntegrityError as exc:
        if "experiment_one_per_plan" not in str(exc):
            raise
        raise ExperimentOverlaps(
            experiment="another", plan=experiment.plan.code, status="running", field="plan"
        ) from exc


@transaction.atomic
def reweigh(
    *, experiment_id: uuid.UUID, actor: Actor, reason: str, weights: Mapping[str, int] | None = None,
    allocation_percent: int | None = None,
) -> Experiment:  # fmt: skip
    """Give other shares to those who are assigned from now on; whoever was shown a price keeps it. 0: nobody new.

    The figures say from then on that it was done. Raises ``InvalidExperiment``, ``WeightsDoNotSum``, ``ExperimentState``.
    """
    experiment = locked(experiment_id)
    if experiment.status != STATUS.RUNNING:
        raise ExperimentState(status=experiment.status, operation="weighed anew")
    if weights is None and allocation_percent is None:
        raise InvalidExperiment("Give weights, allocation_percent, or both.", field="weights")
    before = {variant.code: variant.weight for variant in experiment.variants.all()}
    if weights is not None:
        _set_weights(experiment, dict(weights), known=before)
    if allocation_percent is not None:
        check_allocation(allocation_percent)
        experiment.allocation_percent = allocation_percent
    experiment.reweighed_at = clock.now(experiment.organisation_id)
    experiment.save()
    after = {"weights": dict(weights or before), "allocation_percent": experiment.allocation_percent}
    audit.record(
        actor=actor, action="experiment.reweighed", target=experiment, before={"weights": before}, after=after,
        reason=reason,
    )  # fmt: skip
    return experiment


def _set_weights(experiment: Experiment, weights: dict[str, int], *, known: Mapping[str, int]) -> None:
    if weights.keys() != known.keys():
        raise InvalidExperiment(f"Give one weight for each of {', '.join(known)}.", field="weights")
    check_weights(list(weights.values()), least=0, field="weights")
    rows = list(experiment.variants.all())
    for row in rows:
        row.weight = weights[row.code]
    ExperimentVariant.objects.bulk_update(rows, ["weight"])


@transaction.atomic
def stop_experiment(*, experiment_id: uuid.UUID, actor: Actor, reason: str = "") -> Experiment:
    """Assign nobody new; who was shown a price still gets it, and counts. Raises ``ExperimentState``."""
    experiment = locked(experiment_id)
    if experiment.status != STATUS.RUNNING:
        raise ExperimentState(status=experiment.status, operation="stopped")
    experiment.stop(at=clock.now(experiment.organisation_id))
    experiment.save()
    audit.record(actor=actor, action="experiment.stopped", target=experiment, reason=reason)
    return experiment


@transaction.atomic
def conclude_experiment(*, experiment_id: uuid.UUID, variant: str, actor: Actor, reason: str) -> Experiment:
    """Decide for a variant (its code), whatever the figures say, and keep them as they stand. From then on everybody gets what
    the plan offers: a chosen version that is not offered to all becomes so by a version of the plan.

    Raises ``ExperimentState``, ``InvalidExperiment``.
    """
    experiment = locked(experiment_id)
    if experiment.status != STATUS.STOPPED:
        raise ExperimentState(status=experiment.status, operation="concluded; stop it first")
    chosen = experiment.variants.filter(code=variant).first()
    if chosen is None:
        raise InvalidExperiment(f"The experiment has no variant '{variant}'.", field="variant")
    now = clock.now(experiment.organisation_id)
    found = figures.as_json(figures.figures_of(experiment, at=now))
    experiment.conclude(at=now, chosen=chosen, conclusion=found | {"reason": reason})
    experiment.save()
    audit.record(
        actor=actor, action="experiment.concluded", target=experiment, reason=reason,
        after={"chosen": variant, "words": found["words"]},
    )  # fmt: skip
    return experiment


def read_figures(*, experiment: Experiment) -> Figures:
    """The figures of an experiment that has begun, for somebody who looks at them. Raises ``ExperimentState`` for a draft.

    A look before the sample is full is counted once for what was new in it: who stops when the figures please errs more often.
    """
    if experiment.status == STATUS.DRAFT:
        raise ExperimentState(status=experiment.status, operation="read: nobody was shown anything")
    at = clock.now(experiment.organisation_id)
    found = figures.figures_of(experiment, at=at)
    if experiment.status == STATUS.RUNNING and not found.verdict.is_full and found.exposed:
        _note_look(experiment, found.exposed)
        experiment.refresh_from_db(fields=["look_count", "looked_exposed"])
    return found


def _note_look(experiment: Experiment, exposed: int) -> None:
    rows = Experiment.objects.filter(pk=experiment.pk, looked_exposed__lt=exposed)
    rows.update(look_count=F("look_count") + 1, looked_exposed=exposed)


def stop_ended(*, organisation: Organisation) -> int:
    """Stop the experiments of the organisation whose end has come; returns how many."""
    now = clock.now(organisation)
    ended = Experiment.objects.of(organisation).filter(status=STATUS.RUNNING, ends_at__lte=now)
    found = list(ended.order_by("id").values_list("pk", flat=True))
    for experiment_id in found:
        stop_experiment(experiment_id=experiment_id, actor=ACTOR, reason="Its end has come.")
    return len(found)


def exposures_of(experiment: Experiment) -> Any:
    """Who was shown what, newest first."""
    return ExperimentExposure.objects.filter(experiment=experiment).select_related(
        "variant", "customer", "subscription"
    )
