"""Which plan would allow what is refused: the cheapest that is offered, at the customer's quantity and in its currency."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from moneyed import Money

from billing.errors import DomainError
from subscriptions import recurring
from subscriptions.entitlements import rules
from subscriptions.entitlements.catalogue import Shelf
from subscriptions.entitlements.resolving import Held, Resolver
from subscriptions.models import PlanVersion
from subscriptions.selectors import PriceBooks, price_books

PRICED_IN_PROCESS = 16


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A plan version that would allow it, and what it costs a month at least."""

    plan: str
    name: str
    version: int
    monthly: Money


@dataclass(frozen=True, slots=True)
class Offer:
    """A version of a plan, and when it can be bought."""

    version_id: uuid.UUID
    plan: str
    name: str
    number: int
    effective_from: datetime
    available_from: date | None
    available_until: date | None


@dataclass(frozen=True, slots=True)
class Offers:
    """Versions of the plans of an organisation that are not archived, newest first, with their prices."""

    rows: tuple[Offer, ...]
    books: PriceBooks

    def at(self, at: datetime, on: date) -> Iterable[Offer]:
        """Of each plan that is offered then, the version a new subscriber gets."""
        seen: set[str] = set()
        for offer in self.rows:
            if offer.effective_from > at or offer.plan in seen:
                continue
            seen.add(offer.plan)
            if (offer.available_from or on) <= on <= (offer.available_until or on):
                yield offer


shelf: Shelf[Offers] = Shelf(PRICED_IN_PROCESS)


def cheapest(
    *, organisation_id: uuid.UUID, resolver: Resolver, held: Held, used: Decimal, quantity: Decimal
) -> Upgrade | None:
    """The cheapest plan whose terms, instead of the present ones, would allow it; the first by code among equals."""
    currency = held.leading.currency if held.leading else resolver.standing.currency
    units = held.leading.quantity if held.leading else 1
    offers = _offers(organisation_id, resolver.standing.catalogue_number)
    found = [
        Upgrade(plan=offer.plan, name=offer.name, version=offer.number, monthly=monthly)
        for offer in offers.at(resolver.at, resolver.at.astimezone(resolver.zone).date())
        if (held.leading is None or offer.version_id != held.leading.version_id)
        and _would_allow(offer, resolver, held, used=used, quantity=quantity)
        and (monthly := _monthly(offers.books, offer.version_id, currency, units)) is not None
    ]
    return min(found, key=lambda one: (one.monthly.amount, one.plan), default=None)


def _would_allow(offer: Offer, resolver: Resolver, held: Held, *, used: Decimal, quantity: Decimal) -> bool:
    plan = resolver.catalogue.terms.get(offer.version_id, {}).get(held.feature.id)
    if plan is None:
        return False
    terms = held.with_plan(plan, several=resolver.policy.several)
    return rules.decide(held.feature.rule, terms, used=used, quantity=quantity).allowed


def _monthly(books: PriceBooks, version_id: uuid.UUID, currency: str, units: int) -> Money | None:
    """What the plan costs a month at least, minimums included; None when it has no price in the currency."""
    try:
        return recurring.least_a_month(book=books.get(version_id, currency), quantity=units)
    except DomainError:
        return None


def _offers(organisation_id: uuid.UUID, number: int) -> Offers:
    """Read when something is refused for the first time in a state of the catalogue, by each process."""
    key = (organisation_id, number)
    kept = shelf.get(key)
    if kept is not None:
        return kept
    versions = PlanVersion.objects.of(organisation_id).filter(plan__archived_at=None).select_related("plan")
    rows = tuple(
        Offer(
            version_id=version.pk, plan=version.plan.code, name=version.plan.name, number=version.number,
            effective_from=version.effective_from, available_from=version.plan.available_from,
            available_until=version.plan.available_until,
        )
        for version in versions.order_by("plan__code", "-number")
    )  # fmt: skip
    return shelf.put(key, Offers(rows=rows, books=price_books(organisation_id, [row.version_id for row in rows])))
