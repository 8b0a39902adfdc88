"""Telling of thresholds: each once per customer, feature and window. The unique row decides, whoever comes first."""

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import islice

from django.db import connection, transaction
from django.db.models import Q

from billing import clock
from billing.ids import uuid7
from billing.models import Organisation
from billing.selectors.usage import aggregate
from billing.services import outbox
from billing.services.outbox.publishing import Fact
from invoices.services.mailing import Letter, queue_mails
from subscriptions.entitlements import rules
from subscriptions.entitlements.catalogue import Catalogue, FeatureFacts, catalogue
from subscriptions.entitlements.checking import resolver_of, usage_window, used_of
from subscriptions.entitlements.policy import policy_of
from subscriptions.entitlements.resolving import Held, Resolver
from subscriptions.entitlements.standing import standings_of
from subscriptions.models import EntitlementCatalogue, EntitlementGrant, Feature, QuotaCounter, Subscription

CHUNK = 500
INSERT = """
INSERT INTO subscriptions_entitlementalert (id, recorded_at, organisation_id, customer_id, feature_id, threshold,
                                            window_start, window_end, used, "limit", at)
SELECT row.id, now(), %s, row.customer_id, row.feature_id, row.threshold, row.window_start, row.window_end, row.used, row.bound, %s
FROM jsonb_to_recordset(%s::jsonb) AS row (id uuid, customer_id uuid, feature_id uuid, threshold smallint,
     window_start timestamptz, window_end timestamptz, used numeric, bound numeric)
ORDER BY row.customer_id, row.feature_id, row.threshold
ON CONFLICT (customer_id, feature_id, window_start, threshold) DO NOTHING
RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Reached:
    """That a threshold (percent) was reached."""

    id: uuid.UUID
    customer_id: uuid.UUID
    held: Held
    threshold: int
    used: Decimal
    limit: Decimal


def reached(resolver: Resolver, held: Held, used: Decimal) -> list[Reached]:
    """The thresholds of the feature (or the organisation) that ``used`` has reached; none where nothing is limited."""
    if held.terms is None or not held.terms.enabled or held.terms.limit is None:
        return []
    thresholds = held.feature.thresholds or resolver.policy.thresholds
    crossed = rules.crossed(used=used, limit=held.terms.limit, thresholds=thresholds)
    customer_id, limit = resolver.standing.customer_id, held.terms.limit
    return [Reached(uuid7(), customer_id, held, percent, used, limit) for percent in crossed]


@transaction.atomic
def tell(*, organisation: Organisation, found: Sequence[Reached], at: datetime) -> int:
    """Write, publish and mail those that were not told of in their window; returns how many."""
    if not found:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(INSERT, [organisation.pk, at, json.dumps([_row(one) for one in found])])
        new_ids = {row[0] for row in cursor.fetchall()}
    new = [one for one in found if one.id in new_ids]
    outbox.publish_many(organisation_id=organisation.pk, at=at, facts=[_fact(one) for one in new])
    if new and policy_of(organisation).mails_alerts:
        queue_mails(organisation=organisation, letters=_letters(new), at=at)
    return len(new)


def sweep(*, organisation: Organisation, at: datetime | None = None) -> int:
    """Tell of thresholds that nobody consumed into: what meters measured, and limits that became smaller."""
    at = at or clock.now(organisation)
    row = EntitlementCatalogue.objects.of(organisation).first()
    known = catalogue(organisation.pk, row.version) if row else None
    counted = [one for one in known.features.values() if _is_watched(one)] if known else []
    if known is None or not counted:
        return 0
    told = 0
    waiting = iter(_candidates(organisation, known, counted))
    while chunk := list(islice(waiting, CHUNK)):
        told += _sweep_chunk(organisation, chunk, counted, at)
    return told


def _is_watched(feature: FeatureFacts) -> bool:
    return feature.kind in rules.COUNTED and not feature.archived


def _candidates(organisation: Organisation, known: Catalogue, counted: list[FeatureFacts]) -> list[uuid.UUID]:
    """Customers who have consumed something, or are given a metered feature by a plan or an exception."""
    found = set(QuotaCounter.objects.of(organisation).filter(used__gt=0).values_list("customer_id", flat=True))
    metered = {feature.id for feature in counted if feature.kind == Feature.Kind.METERED}
    if metered:
        versions = [version for version, terms in known.terms.items() if metered & terms.keys()]
        over = Q(status__in=(Subscription.Status.CANCELLED, Subscription.Status.EXPIRED))
        subscribed = Subscription.objects.of(organisation).filter(plan_version__in=versions).exclude(over)
        given = EntitlementGrant.objects.of(organisation).filter(feature__in=metered, ended_at=None)
        for rows in (subscribed, given):
            found |= set(rows.values_list("customer_id", flat=True))
    return sorted(found)


def _sweep_chunk(
    organisation: Organisation, chunk: Sequence[uuid.UUID], counted: list[FeatureFacts], at: datetime
) -> int:
    pairs = [
        (resolver, resolver.held(feature))
        for standing in standings_of(organisation.pk, chunk)
        for resolver in (resolver_of(organisation, standing, at=at),)
        for feature in counted
        if feature.kind == Feature.Kind.METERED or feature.id in standing.counters
    ]
    measured = aggregate(
        usage_window(resolver, held)
        for resolver, held in pairs
        if held.feature.kind == Feature.Kind.METERED and held.terms is not None
    )
    found = [one for resolver, held in pairs for one in reached(resolver, held, used_of(resolver, held, measured))]
    return tell(organisation=organisation, found=found, at=at)


def _row(one: Reached) -> dict[str, str | int | None]:
    span = one.held.span
    return {
        "id": str(one.id), "customer_id": str(one.customer_id), "feature_id": str(one.held.feature.id),
        "threshold": one.threshold, "window_start": span.start.isoformat(),
        "window_end": span.end.isoformat() if span.end else None, "used": _plain(one.used), "bound": _plain(one.limit),
    }  # fmt: skip


def _fact(one: Reached) -> Fact:
    row = _row(one)
    payload = {
        "customer_id": row["customer_id"], "feature": one.held.feature.code, "threshold": one.threshold, "used": row["used"],
        "limit": row["bound"], "window_start": row["window_start"], "window_end": row["window_end"],
    }  # fmt: skip
    return Fact(
        type="entitlement.threshold_reached",
        aggregate_type="subscriptions.entitlementalert",
        aggregate_id=one.id,
        payload=payload,
    )


def _letters(new: Iterable[Reached]) -> list[Letter]:
    """One letter for each customer and feature, about the highest threshold."""
    highest: dict[tuple[uuid.UUID, uuid.UUID], Reached] = {}
    for one in new:
        key = (one.customer_id, one.held.feature.id)
        if key not in highest or highest[key].threshold < one.threshold:
            highest[key] = one
    return [
        Letter(
            customer_id=one.customer_id, kind="entitlement_threshold", key=f"entitlement:{one.id}",
            context={
                "feature": one.held.feature.name, "threshold": one.threshold, "used": _number(one.used),
                "limit": f"{_number(one.limit)} {one.held.feature.unit}".strip(),
            },
        )
        for one in highest.values()
    ]  # fmt: skip


def _number(value: Decimal) -> str:
    return f"{value.normalize() + 0:,f}"


def _plain(value: Decimal) -> str:
    return f"{value.normalize() + 0:f}"
