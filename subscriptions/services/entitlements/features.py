"""Features: what a customer may be entitled to. Kind, code and meter stay; words, softness and reset may change."""

import uuid
from collections.abc import Sequence
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q

from billing import clock, parties
from billing.context import Actor
from billing.models import Meter, Organisation
from billing.services import audit
from subscriptions.entitlements.errors import FeatureCodeTaken, InvalidFeature
from subscriptions.entitlements.policy import clean_thresholds
from subscriptions.models import Feature
from subscriptions.selectors import as_uuid
from subscriptions.services.catalog_prices import SLUG

MAX_CHOICES = 50
MAX_THRESHOLDS = 10
CHANGEABLE = ("name", "description", "unit", "reset", "is_soft", "choices", "thresholds")


@transaction.atomic
def create_feature(
    *,
    organisation: Organisation,
    code: str,
    name: str,
    kind: str,
    actor: Actor,
    meter: str = "",
    reset: str = Feature.Reset.BILLING_PERIOD,
    is_soft: bool = False,
    choices: Sequence[str] = (),
    thresholds: Sequence[int] = (),
    description: str = "",
    unit: str = "",
) -> Feature:
    """Add a feature. ``meter`` (code or id) makes a metered one. Raises ``InvalidFeature``, ``FeatureCodeTaken``."""
    if not SLUG.match(code):
        raise InvalidFeature("A feature's code has 1 to 60 letters, digits, '-' or '_'.", field="code")
    if kind not in Feature.Kind.values:
        raise InvalidFeature(f"Choose the kind from {', '.join(Feature.Kind.values)}.", field="kind")
    feature = Feature(
        organisation=organisation,
        code=code,
        kind=kind,
        meter=_meter(organisation, kind, meter),
        created_at=clock.now(organisation),
    )
    given = {"name": name, "description": description, "unit": unit, "reset": reset, "is_soft": is_soft,
             "choices": choices, "thresholds": thresholds}  # fmt: skip
    _take(feature, given)
    try:
        with transaction.atomic():
            feature.save(force_insert=True)
    except IntegrityError as exc:
        raise FeatureCodeTaken(feature=code, field="code") from exc
    audit.record(actor=actor, action="feature.created", target=feature, after={"code": code, "kind": kind})
    return feature


@transaction.atomic
def update_feature(*, feature_id: uuid.UUID, actor: Actor, changes: dict[str, Any], reason: str = "") -> Feature:
    """Change what may change (``CHANGEABLE``); every check from the commit on knows it. Raises ``InvalidFeature``."""
    feature = Feature.objects.select_for_update().get(pk=feature_id)
    before = {name: getattr(feature, name) for name in CHANGEABLE}
    _take(feature, changes)
    after = {name: getattr(feature, name) for name in CHANGEABLE}
    changed = [name for name in CHANGEABLE if before[name] != after[name]]
    if changed:
        feature.save(update_fields=changed)
        audit.record(
            actor=actor, action="feature.changed", target=feature,
            before={name: before[name] for name in changed}, after={name: after[name] for name in changed},
            reason=parties.clean_text(reason, field="reason", limit=500),
        )  # fmt: skip
    return feature


@transaction.atomic
def archive_feature(*, feature_id: uuid.UUID, actor: Actor, reason: str = "") -> Feature:
    """Nobody is entitled to it any more. Safe to repeat."""
    feature = Feature.objects.select_for_update().get(pk=feature_id)
    if feature.archived_at is None:
        feature.archived_at = clock.now(feature.organisation_id)
        feature.save(update_fields=["archived_at"])
        audit.record(actor=actor, action="feature.archived", target=feature, reason=reason)
    return feature


def _meter(organisation: Organisation, kind: str, name: str) -> Meter | None:
    if (kind == Feature.Kind.METERED) != bool(name):
        raise InvalidFeature("A metered feature names the meter it reads; no other kind has one.", field="meter")
    if not name:
        return None
    found: Meter | None = Meter.objects.of(organisation).filter(Q(code=name) | Q(pk=as_uuid(name))).first()
    if found is None:
        raise InvalidFeature(f"There is no meter '{name}' in this organisation.", field="meter")
    return found


def _take(feature: Feature, given: dict[str, Any]) -> None:
    """Check the given values and put them onto the row."""
    for name in given:
        if name not in CHANGEABLE:
            raise InvalidFeature(f"'{name}' of a feature does not change.", field=name)
    texts = {"name": (120, True), "description": (300, False), "unit": (40, False)}
    for name, value in given.items():
        if name in texts:
            limit, required = texts[name]
            value = parties.clean_text(value, field=name, limit=limit, required=required)  # noqa: PLW2901
        elif name == "reset":
            _check_reset(feature, value)
        elif name == "choices":
            value = _choices(feature, value)  # noqa: PLW2901
        elif name == "thresholds":
            value = _thresholds(value)  # noqa: PLW2901
        setattr(feature, name, value)


def _check_reset(feature: Feature, reset: str) -> None:
    if reset not in Feature.Reset.values:
        raise InvalidFeature(f"Choose reset from {', '.join(Feature.Reset.values)}.", field="reset")
    if feature.kind == Feature.Kind.METERED and reset == Feature.Reset.NEVER:
        raise InvalidFeature("What a meter measures is kept for a time only: choose a window for it.", field="reset")


def _choices(feature: Feature, given: Sequence[str]) -> list[str]:
    if given and feature.kind != Feature.Kind.STATIC:
        raise InvalidFeature("Only a static feature has choices.", field="choices")
    values = [parties.clean_text(one, field="choices", limit=200, required=True) for one in given]
    if len(values) > MAX_CHOICES or len(set(values)) != len(values):
        raise InvalidFeature(f"Give at most {MAX_CHOICES} different choices, least generous first.", field="choices")
    return values


def _thresholds(given: Sequence[int]) -> list[int]:
    cleaned = clean_thresholds(given)
    if (given and not cleaned) or len(cleaned) > MAX_THRESHOLDS:
        raise InvalidFeature(f"Give at most {MAX_THRESHOLDS} percentages from 1 to 1000.", field="thresholds")
    return list(cleaned)
