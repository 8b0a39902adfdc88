"""Exceptions for one customer: overrides stand instead of what plans give, grants add to it for a time. Always with a reason."""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction

from billing import clock, parties
from billing.context import Actor
from billing.errors import NotFound
from billing.models import Customer, Organisation
from billing.services import audit, outbox
from billing.services.outbox.publishing import Fact
from subscriptions.entitlements.errors import GrantEnded, InvalidGrant
from subscriptions.models import EntitlementGrant, Subscription
from subscriptions.services.entitlements.terms import TermsInput, features_named, in_words, row_of

Kind, Ended = EntitlementGrant.Kind, EntitlementGrant.Ended
LONGEST = timedelta(days=3660)
AT_ONCE = 500


@transaction.atomic
def give(
    *,
    organisation: Organisation,
    customer_id: uuid.UUID,
    kind: str,
    terms: TermsInput,
    reason: str,
    actor: Actor,
    subscription_id: uuid.UUID | None = None,
    starts_at: datetime | None = None,
    expires_at: datetime | None = None,
) -> EntitlementGrant:
    """Grant or override a feature from ``starts_at`` (now) until ``expires_at``; a new override replaces the one before.

    Raises ``NotFound``, ``InvalidGrant``, ``InvalidTerms``.
    """
    subscription = _subscription(
        organisation, customer_id, subscription_id
    )  # locked before the customer, as everywhere
    customer = Customer.objects.of(organisation).select_for_update(no_key=True).filter(pk=customer_id).first()
    if customer is None:
        raise NotFound("There is no such customer in this organisation.", field="customer")
    feature = features_named(organisation, [terms.feature])[terms.feature]
    now = clock.now(organisation)
    grant = row_of(EntitlementGrant(), feature, terms)
    grant.kind, grant.customer = _kind(kind, terms), customer
    grant.subscription = subscription
    if grant.per_unit and grant.subscription is None:
        raise InvalidGrant("What counts per unit needs a subscription, whose units they are.", field="per_unit")
    grant.starts_at, grant.expires_at = _times(kind, starts_at or now, expires_at, now)
    grant.reason = parties.clean_text(reason, field="reason", limit=500, required=True)
    grant.actor_label, grant.created_at = (actor.label or actor.type)[:200], now
    if grant.kind == Kind.OVERRIDE:
        _replace_others(grant, actor=actor, at=now)
    grant.save(force_insert=True)
    audit.record(
        actor=actor, action=f"entitlement.{'overridden' if kind == Kind.OVERRIDE else 'granted'}", target=grant,
        after=_said(grant), reason=grant.reason,
    )  # fmt: skip
    outbox.publish("entitlement.granted", grant, at=now, **_payload(grant))
    return grant


@transaction.atomic
def revoke(*, grant_id: uuid.UUID, actor: Actor, reason: str) -> EntitlementGrant:
    """End an exception now. Raises ``GrantEnded``."""
    grant = EntitlementGrant.objects.select_for_update(of=("self",)).select_related("feature").get(pk=grant_id)
    if grant.ended_at is not None:
        raise GrantEnded(ended=grant.ended)
    now = clock.now(grant.organisation_id)
    said = parties.clean_text(reason, field="reason", limit=500, required=True)
    _end(grant, ended=Ended.REVOKED, at=now, by=actor, reason=said)
    audit.record(actor=actor, action="entitlement.revoked", target=grant, before=_said(grant), reason=said)
    outbox.publish("entitlement.revoked", grant, at=now, **_payload(grant))
    return grant


def expire_due(*, organisation: Organisation, at: datetime) -> int:
    """Note exceptions whose time is over and tell the house; checks have not counted them since then anyway."""
    done = 0
    while expired := _expire_some(organisation, at):
        done += expired
    return done


@transaction.atomic
def _expire_some(organisation: Organisation, at: datetime) -> int:
    due = EntitlementGrant.objects.of(organisation).filter(ended_at=None, expires_at__lte=at)
    rows: list[EntitlementGrant] = list(
        due.select_for_update(of=("self",), skip_locked=True)
        .select_related("feature")
        .order_by("expires_at", "id")[:AT_ONCE]
    )
    for row in rows:
        row.ended_at, row.ended = row.expires_at, Ended.EXPIRED
    EntitlementGrant.objects.bulk_update(rows, ["ended_at", "ended"])
    outbox.publish_many(organisation_id=organisation.pk, at=at, facts=_facts("entitlement.expired", rows))
    return len(rows)


def _facts(event_type: str, rows: Sequence[EntitlementGrant]) -> list[Fact]:
    return [
        Fact(type=event_type, aggregate_type=row._meta.label_lower, aggregate_id=row.pk, payload=_payload(row))
        for row in rows
    ]


def _kind(kind: str, terms: TermsInput) -> str:
    if kind not in Kind.values:
        raise InvalidGrant(f"Choose the kind from {', '.join(Kind.values)}.", field="kind")
    if kind == Kind.GRANT and not terms.enabled:
        raise InvalidGrant("A grant gives something; to take a feature away, override it.", field="enabled")
    return kind


def _subscription(
    organisation: Organisation, customer_id: uuid.UUID, subscription_id: uuid.UUID | None
) -> Subscription | None:
    if subscription_id is None:
        return None
    mine = Subscription.objects.of(organisation).filter(pk=subscription_id, customer=customer_id)
    found: Subscription | None = mine.select_for_update(of=("self",), no_key=True).first()
    if found is None:
        raise NotFound("This customer has no such subscription.", field="subscription")
    if found.has_ended:
        raise InvalidGrant(f"The subscription is {found.status}; nothing can be given with it.", field="subscription")
    return found


def _times(
    kind: str, starts_at: datetime, expires_at: datetime | None, now: datetime
) -> tuple[datetime, datetime | None]:
    if kind == Kind.GRANT and expires_at is None:
        raise InvalidGrant("A grant is for a time: say when it expires.", field="expires_at")
    if kind == Kind.OVERRIDE and starts_at > now:
        raise InvalidGrant("An override holds from now on: the one before it ends with it.", field="starts_at")
    if not abs(starts_at - now) <= LONGEST:
        raise InvalidGrant("It starts within ten years of now.", field="starts_at")
    if expires_at is not None and not max(now, starts_at) < expires_at <= now + LONGEST:
        raise InvalidGrant("It expires after it starts, in the future, and within ten years.", field="expires_at")
    return starts_at, expires_at


def _replace_others(grant: EntitlementGrant, *, actor: Actor, at: datetime) -> None:
    """End the override that stood until now; the customer's row is locked, so there is one at most."""
    standing = EntitlementGrant.objects.filter(
        customer=grant.customer,
        feature=grant.feature,
        subscription=grant.subscription,
        kind=Kind.OVERRIDE,
        ended_at=None,
    )
    for old in standing.select_for_update():
        _end(old, ended=Ended.REPLACED, at=at, by=actor, reason=grant.reason)


def _end(grant: EntitlementGrant, *, ended: str, at: datetime, by: Actor, reason: str) -> None:
    grant.ended_at, grant.ended, grant.ended_reason = at, ended, reason
    grant.ended_label = (by.label or by.type)[:200]
    grant.save(update_fields=["ended_at", "ended", "ended_reason", "ended_label"])


def _said(grant: EntitlementGrant) -> dict[str, str]:
    return {
        "feature": grant.feature.code,
        "kind": grant.kind,
        "given": in_words(grant, grant.feature),
        "expires_at": grant.expires_at.isoformat() if grant.expires_at else "",
    }


def _payload(grant: EntitlementGrant) -> dict[str, str | None]:
    return {
        "grant_id": str(grant.pk),
        "customer_id": str(grant.customer_id),
        "subscription_id": str(grant.subscription_id) if grant.subscription_id else None,
        **_said(grant),
    }
