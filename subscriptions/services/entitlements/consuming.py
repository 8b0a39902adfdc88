"""Consuming a quota: decided under a lock, so that a hard limit is never passed, however many come at once.

The lock is the customer's counter row of the feature. What the customer has is read again once it is held: whatever was
committed before counts. The same ``key`` counts once and is answered alike.
"""

import uuid
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from django.db import IntegrityError, transaction

from billing.errors import InvalidInput, NotFound
from billing.models import Organisation
from subscriptions.entitlements import rules, upgrades
from subscriptions.entitlements.checking import Answer, answer_of, resolver_of, verdict_of
from subscriptions.entitlements.errors import KeyReused, NotConsumable, NothingToRelease
from subscriptions.entitlements.resolving import Held, Resolver
from subscriptions.entitlements.rules import Verdict
from subscriptions.entitlements.standing import Standing, standings, standings_of
from subscriptions.models import Consumption, QuotaCounter
from subscriptions.services.entitlements import alerts

MAX_QUANTITY = Decimal(10) ** 15
INSTEAD = {
    rules.METERED: "Send a usage event to its meter.",
    rules.BOOLEAN: "Ask whether it is allowed.",
    rules.STATIC: "Ask for its value.",
}


@dataclass(frozen=True, slots=True)
class Consumed:
    """What came of it: refused (``consumption_id`` None), done, or done before (``replayed``). ``answer`` is as of afterwards."""

    answer: Answer
    consumption_id: uuid.UUID | None
    replayed: bool = False


@transaction.atomic
def consume(
    *, organisation: Organisation, customer: str, feature: str, quantity: Decimal, key: str, at: datetime | None = None
) -> Consumed:
    """Take ``quantity`` of a quota, or nothing at all. A refusal is an answer, and leaves the key free.

    Raises ``NotFound``, ``NotConsumable``, ``KeyReused``.
    """
    if not 0 < quantity < MAX_QUANTITY:
        raise InvalidInput(f"Expected a quantity above 0 and below {MAX_QUANTITY:f}.", field="quantity")
    return _move(organisation, customer, feature, quantity, key, at)


@transaction.atomic
def release(
    *, organisation: Organisation, customer: str, feature: str, quantity: Decimal, key: str, at: datetime | None = None
) -> Consumed:
    """Give ``quantity`` back that was consumed in the present window. Raises what ``consume`` raises, ``NothingToRelease``."""
    if not 0 < quantity < MAX_QUANTITY:
        raise InvalidInput(f"Expected a quantity above 0 and below {MAX_QUANTITY:f}.", field="quantity")
    return _move(organisation, customer, feature, -quantity, key, at)


def _move(
    organisation: Organisation, customer: str, feature: str, quantity: Decimal, key: str, at: datetime | None
) -> Consumed:
    resolver, held = _held(organisation, _customer(organisation, customer), feature, at)
    counter = _locked(organisation, resolver, held)
    (standing,) = standings_of(organisation.pk, [resolver.standing.customer_id])  # as committed until now
    resolver, held = _held(organisation, standing, feature, at)
    used = resolver.consumed(held)
    known = Consumption.objects.of(organisation).filter(key=key).first()
    if known is not None:
        return _again(known, customer, standing.customer_id, held, quantity)
    verdict = verdict_of(resolver, held, used=used, quantity=quantity)
    if quantity < 0:
        verdict = _released(held, used, quantity)
    if not verdict.allowed:
        better = upgrades.cheapest(
            organisation_id=organisation.pk, resolver=resolver, held=held, used=used, quantity=quantity
        ) if not verdict.why.startswith(("subscription_", "feature_")) else None  # fmt: skip
        return Consumed(answer_of(held, customer=customer, quantity=quantity, verdict=verdict, upgrade_to=better), None)
    return _write(organisation, resolver, held, counter, customer, verdict, used=used, quantity=quantity, key=key)


def _customer(organisation: Organisation, customer: str) -> Standing:
    found = standings(organisation.pk, [customer]).get(customer)
    if found is None:
        raise NotFound(f"There is no customer '{customer}' in this organisation.", field="customer")
    return found


def _held(organisation: Organisation, standing: Standing, feature: str, at: datetime | None) -> tuple[Resolver, Held]:
    resolver = resolver_of(organisation, standing, at=at)
    facts = resolver.catalogue.features.get(feature)
    if facts is None:
        raise NotFound(f"There is no feature '{feature}' in this organisation.", field="feature")
    if facts.kind != rules.QUOTA:
        raise NotConsumable(feature=feature, kind=facts.kind, instead=INSTEAD[facts.kind], field="feature")
    return resolver, resolver.held(facts)


def _locked(organisation: Organisation, resolver: Resolver, held: Held) -> QuotaCounter:
    """The counter of the customer and the feature, locked; made when it is the first time."""
    mine = {"customer_id": resolver.standing.customer_id, "feature_id": held.feature.id}
    counter: QuotaCounter | None = QuotaCounter.objects.select_for_update().filter(**mine).first()
    if counter is not None:
        return counter
    fresh = QuotaCounter(
        **mine, organisation=organisation, window_start=held.span.start, used=0, last_at=held.span.start
    )
    QuotaCounter.objects.bulk_create([fresh], ignore_conflicts=True)
    locked: QuotaCounter = QuotaCounter.objects.select_for_update().get(**mine)
    return locked


def _released(held: Held, used: Decimal, quantity: Decimal) -> Verdict:
    if used + quantity < 0:
        raise NothingToRelease(feature=held.feature.code, used=f"{used.normalize() + 0:f}", field="quantity")
    terms = held.terms
    limit = terms.limit if terms is not None and terms.enabled else rules.ZERO
    return Verdict(allowed=True, why="released", limit=limit, used=used)


def _again(known: Consumption, customer: str, customer_id: uuid.UUID, held: Held, quantity: Decimal) -> Consumed:
    """The answer that the key had: the same consumption is not counted again."""
    if (known.customer_id, known.feature_id, known.quantity) != (customer_id, held.feature.id, quantity):
        raise KeyReused(key=known.key, field="key")
    remaining = None if known.limit is None else max(known.limit - known.used, rules.ZERO)
    why = (
        "released"
        if quantity < 0
        else "unlimited"
        if known.limit is None
        else "overage"
        if known.overage
        else "within_limit"
    )
    verdict = Verdict(
        allowed=True, why=why, limit=known.limit, used=known.used, remaining=remaining, overage=known.overage
    )
    return Consumed(answer_of(held, customer=customer, quantity=quantity, verdict=verdict), known.pk, replayed=True)


def _write(
    organisation: Organisation, resolver: Resolver, held: Held, counter: QuotaCounter, customer: str, verdict: Verdict, *,
    used: Decimal, quantity: Decimal, key: str,
) -> Consumed:  # fmt: skip
    total = used + quantity
    row = Consumption(
        organisation=organisation, customer_id=counter.customer_id, feature_id=counter.feature_id, key=key, quantity=quantity,
        used=total, limit=verdict.limit, window_start=held.span.start, overage=verdict.overage, at=resolver.at,
    )  # fmt: skip
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError as exc:  # the key came with another customer or feature at the same moment
        raise KeyReused(key=key, field="key") from exc
    counter.window_start, counter.used, counter.last_at = held.span.start, total, resolver.at
    counter.save(update_fields=["window_start", "used", "last_at"])
    if quantity > 0:
        alerts.tell(organisation=organisation, found=alerts.reached(resolver, held, total), at=resolver.at)
    remaining = None if verdict.limit is None else max(verdict.limit - total, rules.ZERO)
    after = replace(verdict, used=total, remaining=remaining)
    return Consumed(answer_of(held, customer=customer, quantity=quantity, verdict=after), row.pk)
