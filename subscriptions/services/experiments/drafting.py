"""Setting an experiment up: on which plan, between which prices, for whom. Only a draft is changed."""

import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from billing import clock
from billing.context import Actor
from billing.errors import NotFound
from billing.models import Organisation
from billing.services import audit
from subscriptions.experiments.errors import (
    CurrenciesDiffer,
    ExperimentCodeTaken,
    ExperimentState,
    InvalidExperiment,
    WeightsDoNotSum,
)
from subscriptions.models import Experiment, ExperimentVariant, Plan, Price
from subscriptions.selectors import plan_named, version_of
from subscriptions.services.catalog_prices import SLUG

MIN_VARIANTS, MAX_VARIANTS = 2, 8
MAX_DAYS = 365
WHOLE = 100


@dataclass(frozen=True, kw_only=True)
class VariantInput:
    """A variant to be. ``plan``: code or id, default the experiment's; ``version``: number, default the newest."""

    code: str
    weight: int
    name: str = ""
    plan: str = ""
    version: int | None = None
    control: bool = False


@transaction.atomic
def create_experiment(
    *,
    organisation: Organisation,
    plan: Plan,
    code: str,
    name: str,
    variants: Sequence[VariantInput],
    actor: Actor,
    hypothesis: str = "",
    allocation_percent: int = WHOLE,
    exclude_subscribers: bool = True,
    conversion_days: int = 30,
) -> Experiment:
    """Draft an experiment on a plan. The control (the first variant unless said otherwise) is a version of that plan.

    Raises ``InvalidExperiment``, ``WeightsDoNotSum``, ``CurrenciesDiffer``, ``ExperimentCodeTaken``, ``NotFound``.
    """
    _of(organisation, plan)
    if not SLUG.match(code):
        raise InvalidExperiment("An experiment's code has 1 to 60 letters, digits, '-' or '_'.", field="code")
    values = _checked(
        name=name, hypothesis=hypothesis, allocation_percent=allocation_percent, exclude_subscribers=exclude_subscribers,
        conversion_days=conversion_days,
    )  # fmt: skip
    rows = _variants(organisation, plan, variants)
    experiment, is_new = Experiment.objects.get_or_create(
        organisation=organisation,
        code=code,
        defaults={"plan": plan, "salt": secrets.token_hex(16), "created_at": clock.now(organisation)} | values,
    )
    if not is_new:
        raise ExperimentCodeTaken(experiment=code, field="code")
    _write(experiment, rows)
    audit.record(actor=actor, action="experiment.created", target=experiment, after=_facts(experiment, rows))
    return experiment


@transaction.atomic
def edit_experiment(*, experiment_id: uuid.UUID, actor: Actor, **changes: Any) -> Experiment:
    """Change a draft: any option of ``create_experiment`` but its code. Raises what that raises, and ``ExperimentState``."""
    experiment = locked(experiment_id)
    if experiment.status != Experiment.Status.DRAFT:
        raise ExperimentState(status=experiment.status, operation="changed; stop it and begin another one")
    plan = changes.pop("plan", experiment.plan)
    _of(experiment.organisation, plan)
    variants = changes.pop("variants", None)
    if variants is None and plan.pk != experiment.plan_id:
        raise InvalidExperiment("Give the variants anew with another plan.", field="variants")
    for field, value in _checked(**changes).items():
        setattr(experiment, field, value)
    experiment.plan = plan
    if variants is not None:
        rows = _variants(experiment.organisation, plan, variants)
        experiment.variants.all().delete()
        _write(experiment, rows)
    experiment.save()
    after = _facts(experiment, list(experiment.variants.select_related("version__plan")))
    audit.record(actor=actor, action="experiment.edited", target=experiment, after=after)
    return experiment


def locked(experiment_id: uuid.UUID) -> Experiment:
    """The row, locked until the commit; exposures may be written meanwhile."""
    rows = Experiment.objects.select_for_update(of=("self",), no_key=True).select_related("organisation", "plan")
    return rows.get(pk=experiment_id)


def check_weights(weights: Sequence[int], *, least: int, field: str = "variants") -> None:
    """Raise ``InvalidExperiment`` or ``WeightsDoNotSum`` for weights that are no percentages of a whole."""
    if any(not least <= weight <= WHOLE for weight in weights):
        raise InvalidExperiment(f"A weight is a whole percentage from {least} to {WHOLE}.", field=field)
    if sum(weights) != WHOLE:
        raise WeightsDoNotSum(total=sum(weights), field=field)


def check_allocation(percent: int) -> None:
    """Raise ``InvalidExperiment`` for a share that is none."""
    if not 1 <= percent <= WHOLE:
        raise InvalidExperiment("allocation_percent is 1 to 100.", field="allocation_percent")


def _of(organisation: Organisation, plan: Plan) -> None:
    if plan.organisation_id != organisation.pk:
        raise NotFound("No such plan in this organisation.", field="plan")


def _checked(**values: Any) -> dict[str, Any]:
    if "name" in values and not values["name"].strip():
        raise InvalidExperiment("An experiment has a name.", field="name")
    if "allocation_percent" in values:
        check_allocation(values["allocation_percent"])
    if "conversion_days" in values and not 1 <= values["conversion_days"] <= MAX_DAYS:
        raise InvalidExperiment(f"conversion_days is 1 to {MAX_DAYS}.", field="conversion_days")
    return values


def _variants(organisation: Organisation, plan: Plan, given: Sequence[VariantInput]) -> list[ExperimentVariant]:
    """The rows of variants, without their experiment."""
    if not MIN_VARIANTS <= len(given) <= MAX_VARIANTS:
        raise InvalidExperiment(f"An experiment has {MIN_VARIANTS} to {MAX_VARIANTS} variants.", field="variants")
    if sum(one.control for one in given) > 1:
        raise InvalidExperiment("One variant is the control.", field="variants")
    check_weights([one.weight for one in given], least=1)
    control = next((n for n, one in enumerate(given) if one.control), 0)
    rows = [_variant(organisation, plan, one, n, is_control=n == control) for n, one in enumerate(given)]
    _check_apart(rows)
    if rows[control].version.plan_id != plan.pk:
        text = f"The control is a version of '{plan.code}': who takes no part gets its prices."
        raise InvalidExperiment(text, field=f"variants[{control}].plan")
    _check_tax_basis(rows)
    check_currencies(rows)
    return rows


def _variant(
    organisation: Organisation, plan: Plan, given: VariantInput, position: int, *, is_control: bool
) -> ExperimentVariant:
    where = f"variants[{position}]"
    if not SLUG.match(given.code):
        raise InvalidExperiment("A variant's code has 1 to 60 letters, digits, '-' or '_'.", field=f"{where}.code")
    offered = plan_named(organisation, given.plan, field=f"{where}.plan") if given.plan else plan
    if offered.archived_at is not None:
        raise InvalidExperiment(f"The plan '{offered.code}' is archived.", field=f"{where}.plan")
    version = version_of(offered, given.version, field=f"{where}.version")
    return ExperimentVariant(
        organisation=organisation, code=given.code, name=given.name or given.code, version=version, weight=given.weight,
        is_control=is_control, position=position + 1,
    )  # fmt: skip


def _check_apart(rows: Sequence[ExperimentVariant]) -> None:
    codes, versions = set[str](), set[uuid.UUID]()
    for n, row in enumerate(rows):
        if row.code in codes:
            raise InvalidExperiment(f"Two variants have the code '{row.code}'.", field=f"variants[{n}].code")
        if row.version_id in versions:
            raise InvalidExperiment(
                f"Two variants have the same prices ({row.version}).", field=f"variants[{n}].version"
            )
        codes.add(row.code)
        versions.add(row.version_id)


def _check_tax_basis(rows: Sequence[ExperimentVariant]) -> None:
    control = next(row.version.plan for row in rows if row.is_control)
    for n, row in enumerate(rows):
        if row.version.plan.prices_include_tax != control.prices_include_tax:
            text = f"The prices of '{row.code}' include tax and those of the control do not, or the other way round."
            raise InvalidExperiment(text, field=f"variants[{n}].plan")


def check_currencies(rows: Sequence[ExperimentVariant]) -> None:
    """Raise ``CurrenciesDiffer`` unless all variants have prices in the control's currencies."""
    found: dict[uuid.UUID, set[str]] = {row.version_id: set() for row in rows}
    prices = Price.objects.filter(version__in=found).values_list("version_id", "currency").distinct()
    for version_id, currency in prices.order_by():
        found[version_id].add(currency)
    wanted = next(found[row.version_id] for row in rows if row.is_control)
    for n, row in enumerate(rows):
        if found[row.version_id] != wanted:
            other, control = (", ".join(sorted(codes)) or "none" for codes in (found[row.version_id], wanted))
            raise CurrenciesDiffer(variant=row.code, other=other, control=control, field=f"variants[{n}].version")


def _write(experiment: Experiment, rows: Sequence[ExperimentVariant]) -> None:
    for row in rows:
        row.experiment = experiment
    ExperimentVariant.objects.bulk_create(rows)


def _facts(experiment: Experiment, rows: Sequence[ExperimentVariant]) -> dict[str, Any]:
    return {
        "code": experiment.code, "plan": experiment.plan.code, "allocation_percent": experiment.allocation_percent,
        "variants": {row.code: f"{row.version}, {row.weight} %" for row in rows},
    }  # fmt: skip
