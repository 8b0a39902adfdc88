"""What plan versions give of features.

A version nobody has is edited at will. One that was sold keeps its promise: the organisation chooses whether it may only become
more generous (default), change freely, or never change (``settings["entitlements"]["sold_versions"]``).
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from django.db import transaction

from billing import clock
from billing.context import Actor
from billing.errors import NotFound
from billing.models import Organisation
from billing.services import audit, outbox
from subscriptions.entitlements import rules, words
from subscriptions.entitlements.errors import InvalidTerms, VersionSold
from subscriptions.entitlements.policy import ANY, NEVER, policy_of
from subscriptions.entitlements.rules import Rule, Terms
from subscriptions.models import Feature, Plan, PlanEntitlement, PlanVersion, Price, Subscription
from subscriptions.models.entitlements import EntitlementTerms

MAX_LIMIT = Decimal(10) ** 15
Row = TypeVar("Row", bound=EntitlementTerms)


@dataclass(frozen=True, kw_only=True)
class TermsInput:
    """What is to be given of a feature (by code); ``remove``: nothing any more. ``limit`` None: unlimited."""

    feature: str
    enabled: bool = True
    limit: Decimal | None = None
    value: str = ""
    is_soft: bool | None = None
    per_unit: bool = False
    remove: bool = False
    add_on: str = ""
    """Of a plan: code of the add-on that gives it to who takes it; ``per_unit`` is then per unit of the add-on."""


@transaction.atomic
def set_plan_entitlements(
    *, plan_id: uuid.UUID, entitlements: Sequence[TermsInput], actor: Actor, number: int | None = None, reason: str = ""
) -> PlanVersion:
    """Give, change or take away features of a plan version (the newest, or ``number``); others stay as they are.

    Raises ``NotFound``, ``InvalidTerms``, ``VersionSold``.
    """
    plan = Plan.objects.select_for_update().select_related("organisation").get(pk=plan_id)
    versions = plan.versions.order_by("-number")
    version: PlanVersion | None = (versions if number is None else versions.filter(number=number)).first()
    if version is None:
        raise NotFound(f"'{plan.code}' has no version {number}.", field="version")
    _check_once(entitlements)
    features = features_named(plan.organisation, dict.fromkeys(one.feature for one in entitlements))
    present = {(row.feature_id, row.add_on): row for row in PlanEntitlement.objects.filter(version=version)}
    offered = add_ons_of(version) if any(one.add_on for one in entitlements) else frozenset()
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    for given in entitlements:
        feature = features[given.feature]
        old = present.get((feature.pk, given.add_on))
        if given.add_on and given.add_on not in offered and not (given.remove and old):
            known = ", ".join(sorted(offered)) or "none"
            raise InvalidTerms(
                f"Version {version.number} has no add-on '{given.add_on}'; it has: {known}.", field="add_on"
            )
        new = None if given.remove else row_of(PlanEntitlement(version=version, add_on=given.add_on), feature, given)
        _check_promise(plan, version, feature, old=old, new=new)
        name = f"{feature.code} with {given.add_on}" if given.add_on else feature.code
        before[name], after[name] = in_words(old, feature), in_words(new, feature)
        _write(old, new)
    if before != after:
        audit.record(
            actor=actor, action="plan.entitlements_set", target=plan, before=before,
            after={"version": version.number} | after, reason=reason,
        )  # fmt: skip
        outbox.publish(
            "plan.entitlements_changed", plan, at=clock.now(plan.organisation_id), plan=plan.code, version=version.number,
            features=sorted(features),
        )  # fmt: skip
    return version


def carry_over(*, source: PlanVersion, target: PlanVersion) -> None:
    """A new version gives what the one before it gave, with the add-ons that it still offers, until somebody changes that."""
    rows = list(PlanEntitlement.objects.filter(version=source, add_on__in=["", *add_ons_of(target)]))
    for row in rows:
        row.pk, row.version = None, target
        row.id = PlanEntitlement._meta.pk.get_default()
        row._state.adding = True  # noqa: SLF001 - Django's documented way to copy a row
    PlanEntitlement.objects.bulk_create(rows)


def add_ons_of(version: PlanVersion) -> frozenset[str]:
    """Codes of the add-ons that a version offers."""
    prices = Price.objects.filter(version=version, kind=Price.Kind.ADD_ON)
    return frozenset(prices.order_by().values_list("code", flat=True).distinct())


def _check_once(entitlements: Sequence[TermsInput]) -> None:
    named = [(one.feature, one.add_on) for one in entitlements]
    if len(set(named)) != len(named):
        raise InvalidTerms("Each feature may be named once, and once with each add-on.", field="feature")


def features_named(organisation: Organisation, codes: Iterable[str]) -> Mapping[str, Feature]:
    """Features by code. Raises ``NotFound`` for one there is not, ``InvalidTerms`` for one named twice or archived."""
    wanted = list(codes)
    if len(set(wanted)) != len(wanted):
        raise InvalidTerms("Each feature may be named once.", field="feature")
    found = {feature.code: feature for feature in Feature.objects.of(organisation).filter(code__in=wanted)}
    for code in wanted:
        if code not in found:
            raise NotFound(f"There is no feature '{code}' in this organisation.", field="feature")
        if found[code].archived_at is not None:
            raise InvalidTerms(f"The feature '{code}' is archived.", field="feature")
    return found


def row_of(row: Row, feature: Feature, given: TermsInput) -> Row:
    """``row`` with the given terms, checked against the feature's kind. Raises ``InvalidTerms``."""
    counted = feature.kind in rules.COUNTED
    if given.limit is not None and not counted:
        raise InvalidTerms(f"'{feature.code}' is {feature.kind} and has no limit.", field="limit")
    if given.limit is not None and not 0 <= given.limit < MAX_LIMIT:
        raise InvalidTerms(f"A limit is 0 or more and below {MAX_LIMIT:f}; leave it out for unlimited.", field="limit")
    if given.per_unit and not counted:
        raise InvalidTerms(f"'{feature.code}' is {feature.kind}: nothing counts per unit.", field="per_unit")
    if bool(given.value) != (feature.kind == Feature.Kind.STATIC and given.enabled):
        raise InvalidTerms("A static feature is given with its value; no other kind has one.", field="value")
    if given.value and feature.choices and given.value not in feature.choices:
        raise InvalidTerms(f"Choose the value from {', '.join(feature.choices)}.", field="value")
    row.organisation_id, row.feature = feature.organisation_id, feature
    row.enabled, row.limit, row.value = given.enabled, given.limit, given.value
    row.is_soft, row.per_unit = given.is_soft, given.per_unit
    return row


def in_words(row: EntitlementTerms | None, feature: Feature) -> str:
    """What is given, for the audit trail and the console: ``1,000 per unit, soft``."""
    return words.say(feature.kind, terms_of_row(row, feature))


def from_words(feature: Feature, text: str, *, add_on: str = "") -> TermsInput:
    """What a person wrote about a feature in the console. Raises ``InvalidTerms``."""
    said = words.read(feature.kind, text)
    if said.terms is None:
        return TermsInput(feature=feature.code, remove=True, add_on=add_on)
    terms = said.terms
    return TermsInput(
        feature=feature.code, limit=terms.limit, value=terms.value, is_soft=said.soft, per_unit=terms.per_unit,
        add_on=add_on,
    )  # fmt: skip


def rule_of(feature: Feature) -> Rule:
    """The feature as the rules see it."""
    return Rule(kind=feature.kind, choices=tuple(feature.choices))


def terms_of_row(row: EntitlementTerms | None, feature: Feature) -> Terms | None:
    """The row's terms as the rules see them."""
    if row is None:
        return None
    soft = feature.is_soft if row.is_soft is None else row.is_soft
    return Terms(enabled=row.enabled, limit=row.limit, value=row.value, soft=soft, per_unit=row.per_unit)


def is_sold(version: PlanVersion) -> bool:
    """Whether somebody has, or had, this version."""
    return Subscription.objects.filter(plan_version=version).exists()


def _check_promise(
    plan: Plan, version: PlanVersion, feature: Feature, *, old: PlanEntitlement | None, new: PlanEntitlement | None
) -> None:
    allowed = policy_of(plan.organisation).sold_versions
    before, after = terms_of_row(old, feature), terms_of_row(new, feature)
    if allowed == ANY or before == after or not is_sold(version):
        return
    if allowed == NEVER or not rules.at_least(rule_of(feature), after, before):
        said = "its entitlements stay as they are" if allowed == NEVER else "they may only get more"
        raise VersionSold(
            number=version.number, plan=plan.code, feature=feature.code, allowed=said, field="entitlements"
        )


def _write(old: PlanEntitlement | None, new: PlanEntitlement | None) -> None:
    if new is None:
        if old is not None:
            old.delete()
    elif old is None:
        new.save(force_insert=True)
    else:
        new.pk, new.id, new.recorded_at = old.pk, old.pk, old.recorded_at
        new.save(force_update=True)
