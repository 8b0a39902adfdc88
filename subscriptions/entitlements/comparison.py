"""What plans give, side by side: for a comparison of plans and for price lists."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from billing.models import Organisation
from subscriptions.entitlements.catalogue import Catalogue, catalogue
from subscriptions.entitlements.rules import Rule, Terms
from subscriptions.entitlements.words import say
from subscriptions.models import EntitlementCatalogue


@dataclass(frozen=True, slots=True)
class Given:
    """What one plan version gives of a feature. ``text`` is what people read: ``1,000 per unit; with storage: 50``."""

    terms: Terms | None
    text: str
    with_add_ons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """One feature across plan versions."""

    code: str
    name: str
    kind: str
    unit: str
    given: Mapping[uuid.UUID, Given]
    """By plan version; every version asked for is there."""
    rule: Rule

    @property
    def differs(self) -> bool:
        """Whether the versions do not all give the same."""
        return len({one.terms for one in self.given.values()}) > 1


def features_of_versions(*, organisation: Organisation, version_ids: Iterable[uuid.UUID]) -> list[FeatureRow]:
    """Features that any of the versions gives, by code; two queries at most, one when the catalogue is known."""
    wanted = list(dict.fromkeys(version_ids))
    row = EntitlementCatalogue.objects.of(organisation).first()
    known = catalogue(organisation.pk, row.version if row else 0)
    found = [
        FeatureRow(
            code=feature.code, name=feature.name, kind=feature.kind, unit=feature.unit,
            given={version: _given(known, version, feature.id, feature.kind) for version in wanted}, rule=feature.rule,
        )
        for feature in known.features.values()
        if not feature.archived
    ]  # fmt: skip
    return [one for one in found if any(given.terms is not None or given.with_add_ons for given in one.given.values())]


def _given(known: Catalogue, version_id: uuid.UUID, feature_id: uuid.UUID, kind: str) -> Given:
    terms = known.terms.get(version_id, {}).get(feature_id)
    terms = terms if terms is not None and terms.enabled else None
    extras = known.extras.get(version_id, {}).get(feature_id, {})
    more = tuple(f"with {add_on}: {say(kind, given)}" for add_on, given in extras.items() if given.enabled)
    return Given(terms=terms, text="; ".join((say(kind, terms), *more)), with_add_ons=more)
