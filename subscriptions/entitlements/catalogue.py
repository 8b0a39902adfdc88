"""An organisation's features and what its plan versions give of them: read once per state, kept under the state's number.

The number (``EntitlementCatalogue.version``) is written by the database in the transaction of each change and is read by every
check together with the customer's rows. What is kept under a number never changes, so nothing has to be invalidated and no
moment between a commit and an invalidation exists. Two layers: this process, then the shared cache; a cache that is away costs
one query, nothing else.
"""

import json
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from threading import Lock
from typing import Any, Generic, NamedTuple, TypeVar

import structlog
from django.core.cache import cache
from django.db import connection

from subscriptions.entitlements import rules
from subscriptions.entitlements.rules import Rule, Terms

log = structlog.get_logger(__name__)
SHAPE = 2
"""Of what is kept; a release that keeps something else counts it up."""
KEPT_FOR = 24 * 3600
IN_PROCESS = 64

LOAD = """
SELECT (SELECT json_agg(json_build_array(f.id, f.code, f.name, f.kind, f.unit, f.meter_id, f.reset, f.is_soft, f.choices,
                                         f.thresholds, f.archived_at IS NOT NULL) ORDER BY f.code)
        FROM subscriptions_feature f WHERE f.organisation_id = %(organisation)s)::text,
       (SELECT json_agg(json_build_array(v.id, p.code, p.interval, p.interval_count))
        FROM subscriptions_planversion v JOIN subscriptions_plan p ON p.id = v.plan_id
        WHERE v.organisation_id = %(organisation)s)::text,
       (SELECT json_agg(json_build_array(e.version_id, e.feature_id, e.enabled, e."limit"::text, e.value, e.is_soft, e.per_unit, e.add_on)
                        ORDER BY e.add_on)
        FROM subscriptions_planentitlement e WHERE e.organisation_id = %(organisation)s)::text
"""


@dataclass(frozen=True, slots=True)
class FeatureFacts:
    """A feature as checks need it."""

    id: uuid.UUID
    code: str
    name: str
    kind: str
    unit: str
    meter_id: uuid.UUID | None
    reset: str
    soft: bool
    choices: tuple[str, ...]
    thresholds: tuple[int, ...]
    archived: bool

    @property
    def rule(self) -> Rule:
        """What the rules need of it."""
        return Rule(kind=self.kind, choices=self.choices)


class Billed(NamedTuple):
    """The plan of a version and how often it is billed."""

    plan: str
    interval: str
    interval_count: int


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything that checks of one organisation share."""

    features: Mapping[str, FeatureFacts]
    """By code."""
    versions: Mapping[uuid.UUID, Billed]
    terms: Mapping[uuid.UUID, Mapping[uuid.UUID, Terms]]
    """By plan version and feature."""
    extras: Mapping[uuid.UUID, Mapping[uuid.UUID, Mapping[str, Terms]]]
    """What add-ons give to who took them: by plan version, feature and code of the add-on."""

    def feature(self, feature_id: uuid.UUID) -> FeatureFacts:
        """The feature with this id."""
        return next(feature for feature in self.features.values() if feature.id == feature_id)


Kept = TypeVar("Kept")


class Shelf(Generic[Kept]):
    """What was last used in this process, by key; the oldest go first."""

    def __init__(self, size: int) -> None:
        self._rows: OrderedDict[Any, Kept] = OrderedDict()
        self._size, self._lock = size, Lock()

    def get(self, key: Any) -> Kept | None:
        """What is kept under ``key``."""
        with self._lock:
            if key in self._rows:
                self._rows.move_to_end(key)
            return self._rows.get(key)

    def put(self, key: Any, value: Kept) -> Kept:
        """Keep ``value``; returns it."""
        with self._lock:
            self._rows[key] = value
            while len(self._rows) > self._size:
                self._rows.popitem(last=False)
        return value

    def clear(self) -> None:
        """Forget everything, as a new process would."""
        with self._lock:
            self._rows.clear()


shelf: Shelf[Catalogue] = Shelf(IN_PROCESS)


def catalogue(organisation_id: uuid.UUID, number: int) -> Catalogue:
    """The catalogue in the state ``number``, as the caller has read it from the database: at most one query."""
    key = f"entitlements:{SHAPE}:{organisation_id}:{number}"
    kept = shelf.get(key) or _guarded(lambda: cache.get(key))
    if isinstance(kept, Catalogue):
        return shelf.put(key, kept)
    found = _load(organisation_id)
    _guarded(lambda: cache.set(key, found, KEPT_FOR))
    return shelf.put(key, found)


def _guarded(work: Callable[[], Any]) -> Any:
    """What the shared cache says; nothing when it is away or gives back what this release cannot read."""
    try:
        return work()
    except Exception as exc:  # a cache may fail in many ways, and none of them concerns the answer
        log.warning("entitlements.cache_away", error=f"{type(exc).__name__}: {exc}"[:200])
        return None


def _load(organisation_id: uuid.UUID) -> Catalogue:
    with connection.cursor() as cursor:
        cursor.execute(LOAD, {"organisation": organisation_id})
        features, versions, given = (json.loads(text or "[]") for text in cursor.fetchone())
    found = [_feature(row) for row in features]
    soft = {feature.id: feature.soft for feature in found}
    return Catalogue(
        features={feature.code: feature for feature in found},
        versions={uuid.UUID(pk): Billed(plan, interval, count) for pk, plan, interval, count in versions},
        terms=_by_version((row[:-1] for row in given if not row[-1]), soft),
        extras=_extras((row for row in given if row[-1]), soft),
    )


def _feature(row: list[Any]) -> FeatureFacts:
    pk, code, name, kind, unit, meter_id, reset, soft, choices, thresholds, archived = row
    return FeatureFacts(
        id=uuid.UUID(pk), code=code, name=name, kind=kind, unit=unit, meter_id=uuid.UUID(meter_id) if meter_id else None,
        reset=reset, soft=soft, choices=tuple(choices), thresholds=tuple(thresholds), archived=archived,
    )  # fmt: skip


def _by_version(given: Iterable[list[Any]], soft: Mapping[uuid.UUID, bool]) -> dict[uuid.UUID, dict[uuid.UUID, Terms]]:
    found: dict[uuid.UUID, dict[uuid.UUID, Terms]] = {}
    for version_id, feature_id, *columns in given:
        feature = uuid.UUID(feature_id)
        found.setdefault(uuid.UUID(version_id), {})[feature] = terms_of(columns, soft=soft[feature])
    return found


def _extras(
    given: Iterable[list[Any]], soft: Mapping[uuid.UUID, bool]
) -> dict[uuid.UUID, dict[uuid.UUID, dict[str, Terms]]]:
    found: dict[uuid.UUID, dict[uuid.UUID, dict[str, Terms]]] = {}
    for version_id, feature_id, *columns, add_on in given:
        feature = uuid.UUID(feature_id)
        of_version = found.setdefault(uuid.UUID(version_id), {})
        of_version.setdefault(feature, {})[add_on] = terms_of(columns, soft=soft[feature])
    return found


def terms_of(columns: list[Any], *, soft: bool) -> Terms:
    """Terms from (enabled, limit as text, value, is_soft, per_unit) of a row; ``soft`` is what the feature says."""
    enabled, limit, value, is_soft, per_unit = columns
    return Terms(
        enabled=enabled,
        limit=None if limit is None else Decimal(limit).normalize() + rules.ZERO,
        value=value,
        soft=soft if is_soft is None else is_soft,
        per_unit=per_unit,
    )
