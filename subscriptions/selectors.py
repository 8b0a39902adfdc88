"""Reads of the subscriptions app."""

import uuid
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from billing.errors import NotFound
from billing.models import Customer, Organisation
from subscriptions import pricing
from subscriptions.lines import Component, PriceBook
from subscriptions.models import BilledPeriod, Plan, PlanVersion, Price, Subscription


class PriceBooks:
    """Price books of some plan versions, read in two queries; a book is checked when it is first asked for."""

    def __init__(self, versions: Iterable[Any], prices: Iterable[Any]) -> None:
        self._versions = {row["id"]: row for row in versions}
        self._prices: dict[tuple[uuid.UUID, str], list[dict[str, Any]]] = defaultdict(list)
        for row in prices:
            self._prices[row["version_id"], row["currency"]].append(row)
        self._books: dict[tuple[uuid.UUID, str], PriceBook] = {}

    def get(self, version_id: uuid.UUID, currency: str) -> PriceBook:
        """The book of a version in a currency. Raises ``MissingPrice`` or ``InvalidPrice`` for what cannot be billed."""
        key = (version_id, currency)
        book = self._books.get(key)
        if book is None:
            book = self._books[key] = self._build(version_id, currency)
        return book

    def _build(self, version_id: uuid.UUID, currency: str) -> PriceBook:
        version = self._versions[version_id]
        components = [component_of(row) for row in self._prices[version_id, currency]]
        book = PriceBook(
            plan_code=version["plan__code"],
            interval=version["plan__interval"],
            interval_count=version["plan__interval_count"],
            currency=currency,
            licensed=tuple(component for component in components if component.meter_id is None),
            metered=tuple(component for component in components if component.meter_id is not None),
        )
        book.require()
        return book


def component_of(row: dict[str, Any]) -> Component:
    """A component from the columns of a price. Raises ``InvalidPrice`` when they do not make one."""
    graduated = row["model"] == pricing.GRADUATED
    if not graduated and row["unit_price"] is None:
        raise pricing.InvalidPrice(f"The price '{row['code']}' has no unit_price.", field="unit_price")
    return Component(
        code=row["code"],
        name=row["name"],
        currency=row["currency"],
        model=row["model"],
        unit_price=None if graduated else row["unit_price"].normalize(),
        tiers=pricing.parse_tiers(row["tiers"]) if graduated else (),
        meter_id=row["meter_id"],
        unit=row["unit"],
        tax_category=row["tax_category"],
    )


def price_books(organisation: Organisation | uuid.UUID, version_ids: Iterable[uuid.UUID]) -> PriceBooks:
    """The price books of plan versions of the organisation."""
    ids = set(version_ids)
    versions = PlanVersion.objects.of(organisation).filter(pk__in=ids)
    prices = (
        Price.objects.of(organisation).filter(version__in=ids).order_by("version_id", "currency", "position", "code")
    )
    return PriceBooks(
        versions.values("id", "plan__code", "plan__interval", "plan__interval_count"),
        prices.values(
            "version_id", "code", "name", "currency", "model", "unit_price", "tiers", "meter_id", "unit", "tax_category"
        ),
    )


def subscriptions_of(organisation: Organisation | uuid.UUID) -> Any:
    """Subscriptions of the organisation with what their pages show."""
    return Subscription.objects.of(organisation).select_related("plan_version__plan", "customer", "beneficiary")


def plan_named(organisation: Organisation, name: str) -> Plan:
    """The plan with this code or id. Raises ``NotFound``."""
    plans = Plan.objects.of(organisation)
    pk = as_uuid(name)
    found = plans.filter(code=name).first() or (plans.filter(pk=pk).first() if pk else None)
    if found is None:
        raise NotFound(f"There is no plan '{name}' in this organisation.", field="plan")
    return found


def customer_named(organisation: Organisation, name: str) -> Customer:
    """The customer with this external id or id. Raises ``NotFound``."""
    customers = Customer.objects.of(organisation)
    pk = as_uuid(name)
    found = customers.filter(external_id=name).first() or (customers.filter(pk=pk).first() if pk else None)
    if found is None:
        raise NotFound(f"There is no customer '{name}' in this organisation.", field="customer")
    return found


def as_uuid(text: str) -> uuid.UUID | None:
    """The UUID that ``text`` spells, if it does."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def periods_of(subscription: Subscription) -> Any:
    """What was billed for the subscription, with the invoices."""
    return BilledPeriod.objects.filter(subscription=subscription).select_related("invoice")
