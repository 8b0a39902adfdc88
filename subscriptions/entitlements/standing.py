"""What the database says of customers, for a check: one statement for all of them, whatever they have.

Subscriptions, exemptions and counters are few rows of each customer, found by index; they are read, never cached, so a
subscription's new state or an exemption's end counts from its commit on.
"""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from django.db import connection

from billing.prepared import prepared_cursor

READ = """
SELECT customer.id, customer.external_id::text, customer.currency::text, clock.now, coalesce(catalogue.version, 0),
       (SELECT json_agg(json_build_array(s.id,
                                         CASE WHEN s.restricted_at IS NULL OR s.status NOT IN ('trialing', 'active', 'past_due')
                                              THEN s.status ELSE 'restricted' END,
                                         s.plan_version_id, s.quantity, s.currency, s.anchor_on, s.started_at,
                                         s.trial_ends_at, s.period_end,
                                         least(s.cancel_at, CASE WHEN {ends} THEN s.ends_at END), s.time_zone, s.add_ons)
                        ORDER BY s.started_at, s.id)
        FROM subscriptions_subscription s
        WHERE s.customer_id = customer.id
          AND (s.status NOT IN ('cancelled', 'expired') OR s.period_end > coalesce(clock.now, now())))::text,
       (SELECT json_agg(json_build_array(g.feature_id, g.kind, g.subscription_id, g.starts_at, g.expires_at,
                                         g.enabled, g."limit"::text, g.value, g.is_soft, g.per_unit) ORDER BY g.id)
        FROM subscriptions_entitlementgrant g WHERE g.customer_id = customer.id AND g.ended_at IS NULL)::text,
       (SELECT json_agg(json_build_array(q.feature_id, q.window_start, q.used::text, q.last_at))
        FROM subscriptions_quotacounter q WHERE q.customer_id = customer.id)::text
FROM billing_customer customer
JOIN billing_organisation organisation ON organisation.id = customer.organisation_id
LEFT JOIN billing_testclock clock ON clock.id = organisation.test_clock_id
LEFT JOIN subscriptions_entitlementcatalogue catalogue ON catalogue.organisation_id = organisation.id
WHERE customer.organisation_id = %(organisation)s AND {named}
"""
ENDS = "s.next_term IS NULL AND (s.term_interval = '' OR s.renewals_left = 0 OR coalesce(s.last_term <= s.term_number, FALSE))"
"""That nothing follows its end: as ``subscriptions.services.terms.renews`` says."""


def _read_by(named: str) -> str:
    return READ.format(named=named, ends=ENDS)


ONE = _read_by("customer.external_id = %(name)s::text")
NAMED = _read_by("customer.external_id = ANY(%(names)s::text[])")
NAMED_OR_ID = _read_by("(customer.external_id = ANY(%(names)s::text[]) OR customer.id = ANY(%(ids)s::uuid[]))")
OF_IDS = _read_by("customer.id = ANY(%(ids)s::uuid[])")
"""Four texts that never change, so that each is planned once: planning takes the database four times as long as reading."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """A subscription as a check sees it."""

    id: uuid.UUID
    status: str
    version_id: uuid.UUID
    quantity: int
    currency: str
    anchor_on: date
    started_at: datetime
    trial_ends_at: datetime | None
    paid_until: datetime | None
    ends_at: datetime | None
    """When it ends by itself or was cancelled for, whichever is first; None: another term follows, or it goes on."""

    time_zone: str
    add_ons: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Exemption:
    """An override or a grant that has not been ended; whether its time has come is for the check to say."""

    feature_id: uuid.UUID
    kind: str
    subscription_id: uuid.UUID | None
    starts_at: datetime
    expires_at: datetime | None
    columns: tuple[Any, ...]

    def holds(self, at: datetime) -> bool:
        """Whether ``at`` lies between its start and its expiry."""
        return self.starts_at <= at and (self.expires_at is None or at < self.expires_at)


class Counter(NamedTuple):
    """What was consumed in the window that began at ``window_start``."""

    window_start: datetime
    used: Decimal
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """One customer, in one moment of the database. ``stands_at``: the organisation's test clock, if it has one."""

    customer_id: uuid.UUID
    external_id: str
    currency: str
    stands_at: datetime | None
    catalogue_number: int
    agreements: tuple[Agreement, ...]
    exemptions: tuple[Exemption, ...]
    counters: Mapping[uuid.UUID, Counter]


def standings(organisation_id: uuid.UUID, names: Iterable[str]) -> dict[str, Standing]:
    """Customers of the organisation by the names asked for: external ids, else ids. One statement; unknown ones are left out."""
    asked = list(dict.fromkeys(names))
    ids = {name: pk for name in asked if (pk := _uuid(name)) is not None}
    if ids:
        found = _read(NAMED_OR_ID, organisation_id, names=asked, ids=list(ids.values()))
    elif len(asked) == 1:
        found = _read(ONE, organisation_id, name=asked[0])
    else:
        found = _read(NAMED, organisation_id, names=asked)
    by_name = {one.external_id: one for one in found}
    by_id = {one.customer_id: one for one in found}
    chosen = {name: by_name.get(name) or by_id.get(ids[name] if name in ids else uuid.UUID(int=0)) for name in asked}
    return {name: one for name, one in chosen.items() if one is not None}


def standings_of(organisation_id: uuid.UUID, customer_ids: Sequence[uuid.UUID]) -> list[Standing]:
    """Many customers by id, in one statement."""
    return _read(OF_IDS, organisation_id, ids=list(customer_ids))


def _read(statement: str, organisation_id: uuid.UUID, **named: Any) -> list[Standing]:
    with prepared_cursor() as cursor:
        cursor.execute(statement, {"organisation": organisation_id, **named})
        return [_standing(row) for row in cursor.fetchall()]


def consumed_since(*, customer_id: uuid.UUID, feature_id: uuid.UUID, since: datetime) -> Decimal:
    """The sum of the consumptions from ``since`` on: what a counter of another window does not know."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(quantity), 0) FROM subscriptions_consumption "
            "WHERE customer_id = %s AND feature_id = %s AND at >= %s",
            [customer_id, feature_id, since],
        )
        return max(Decimal(cursor.fetchone()[0]), Decimal(0))


def _standing(row: tuple[Any, ...]) -> Standing:
    customer_id, external_id, currency, stands_at, number, agreements, exemptions, counters = row
    return Standing(
        customer_id=customer_id,
        external_id=external_id,
        currency=currency,
        stands_at=stands_at,
        catalogue_number=number,
        agreements=tuple(_agreement(one) for one in json.loads(agreements or "[]")),
        exemptions=tuple(_exemption(one) for one in json.loads(exemptions or "[]")),
        counters={
            uuid.UUID(feature): Counter(datetime.fromisoformat(start), Decimal(used), datetime.fromisoformat(last))
            for feature, start, used, last in json.loads(counters or "[]")
        },
    )


def _agreement(row: list[Any]) -> Agreement:
    pk, status, version, quantity, currency, anchor, started, trial, paid, ends, zone, add_ons = row
    return Agreement(
        id=uuid.UUID(pk), status=status, version_id=uuid.UUID(version), quantity=quantity, currency=currency,
        anchor_on=date.fromisoformat(anchor), started_at=datetime.fromisoformat(started), trial_ends_at=_moment(trial),
        paid_until=_moment(paid), ends_at=_moment(ends), time_zone=zone, add_ons=add_ons,
    )  # fmt: skip


def _exemption(row: list[Any]) -> Exemption:
    feature, kind, subscription, starts, expires, *columns = row
    return Exemption(
        feature_id=uuid.UUID(feature),
        kind=kind,
        subscription_id=uuid.UUID(subscription) if subscription else None,
        starts_at=datetime.fromisoformat(starts),
        expires_at=_moment(expires),
        columns=tuple(columns),
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _uuid(name: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(name) if len(name) in (32, 36) else None
    except ValueError:
        return None
