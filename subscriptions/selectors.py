"""Reads of the subscriptions app."""

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from django.db.models import F, Min, Q, QuerySet

from billing.errors import NotFound
from billing.models import Customer, Organisation
from invoices.models import Invoice, InvoiceLine
from subscriptions import pricing
from subscriptions.errors import AddOnNotOffered
from subscriptions.lines import ADD_ON, ONE_OFF, Component, MissingPrice, PriceBook
from subscriptions.models import BilledPeriod, Plan, PlanVersion, Price, PriceFilter, Subscription

PRICE_COLUMNS = (
    "id", "version_id", "code", "name", "kind", "currency", "model", "unit_price", "tiers", "properties", "meter_id",
    "pay_in_advance", "prorated", "min_commitment", "group_by", "unit", "tax_category",
)  # fmt: skip
FILTER_COLUMNS = ("price_id", "key", "name", "conditions", "unit_price", "tiers", "properties")


class PriceBooks:
    """Price books of some plan versions, read in three queries; a book is checked when it is first asked for."""

    def __init__(self, versions: Iterable[Any], prices: Iterable[Any], filters: Iterable[Any] = ()) -> None:
        self._versions = {row["id"]: row for row in versions}
        self._prices: dict[tuple[uuid.UUID, str], list[dict[str, Any]]] = defaultdict(list)
        for row in prices:
            self._prices[row["version_id"], row["currency"]].append(row)
        self._filters: dict[uuid.UUID, list[dict[str, Any]]] = defaultdict(list)
        for row in filters:
            self._filters[row["price_id"]].append(row)
        self._books: dict[tuple[uuid.UUID, str, frozenset[tuple[str, int]]], PriceBook] = {}

    def get(self, version_id: uuid.UUID, currency: str, add_ons: Mapping[str, int] | None = None) -> PriceBook:
        """The book of a version in a currency, with the add-ons that were taken.

        Raises ``MissingPrice``, ``AddOnNotOffered`` or ``InvalidPrice`` for what cannot be billed.
        """
        key = (version_id, currency, frozenset((add_ons or {}).items()))
        book = self._books.get(key)
        if book is None:
            book = self._books[key] = self._build(version_id, currency, dict(key[2]))
        return book

    def currencies(self, version_id: uuid.UUID) -> list[str]:
        """The currencies in which the version has prices."""
        return sorted(currency for version, currency in self._prices if version == version_id)

    def has(self, version_id: uuid.UUID, currency: str) -> bool:
        """Whether the version has prices in the currency."""
        return bool(self._prices.get((version_id, currency)))

    def all(self, version_id: uuid.UUID, currency: str) -> tuple[Component, ...]:
        """Every component of the version in the currency, add-ons that nobody took included, in order."""
        return tuple(self._components(version_id, currency))

    def offered(self, version_id: uuid.UUID, currency: str) -> tuple[Component, ...]:
        """The add-ons that a version offers in a currency."""
        return tuple(one for one in self._components(version_id, currency) if one.kind == ADD_ON)

    def kept(self, version_id: uuid.UUID, currency: str, add_ons: Mapping[str, int]) -> dict[str, int]:
        """Those of the add-ons that the version offers as well."""
        if not add_ons:
            return {}
        offered = {one.code for one in self.offered(version_id, currency)}
        return {code: quantity for code, quantity in add_ons.items() if code in offered}

    def _components(self, version_id: uuid.UUID, currency: str) -> list[Component]:
        return [component_of(row, self._filters.get(row["id"], ())) for row in self._prices[version_id, currency]]

    def _build(self, version_id: uuid.UUID, currency: str, add_ons: Mapping[str, int]) -> PriceBook:
        version = self._versions[version_id]
        components = self._components(version_id, currency)
        if not components:
            raise MissingPrice(currency=currency, field="currency")
        for code in add_ons.keys() - {one.code for one in components if one.kind == ADD_ON}:
            raise AddOnNotOffered(add_on=code, field="add_ons")
        licensed = [one for one in map(partial(_taken, add_ons), components) if one and one.meter_id is None]
        least = version["min_commitment"].get(currency)
        return PriceBook(
            plan_code=version["plan__code"],
            interval=version["plan__interval"],
            interval_count=version["plan__interval_count"],
            currency=currency,
            licensed=tuple(one for one in licensed if one.pay_in_advance and one.kind != ONE_OFF),
            metered=tuple(one for one in components if one.meter_id is not None),
            arrears=tuple(one for one in licensed if not one.pay_in_advance),
            one_off=tuple(one for one in licensed if one.kind == ONE_OFF),
            min_commitment=None if least is None else Decimal(least),
            inclusive=version["plan__prices_include_tax"],
        )


def _taken(add_ons: Mapping[str, int], component: Component) -> Component | None:
    """The component as it is charged: an add-on by the quantity that was taken, or not at all."""
    if component.kind != ADD_ON:
        return component
    quantity = add_ons.get(component.code)
    return replace(component, taken=quantity) if quantity else None


def component_of(row: dict[str, Any], filters: Sequence[dict[str, Any]] = ()) -> Component:
    """A component from the columns of a price and of its filters. Raises ``InvalidPrice`` when they do not make one."""
    model = row["model"]
    rule = _rule(row, model, row["code"])
    return Component(
        code=row["code"],
        name=row["name"],
        currency=row["currency"],
        model=model,
        unit_price=rule.unit_price,
        tiers=rule.tiers,
        meter_id=row["meter_id"],
        unit=row["unit"],
        tax_category=row["tax_category"],
        parameters=rule.parameters,
        kind=row["kind"],
        pay_in_advance=row["pay_in_advance"],
        prorated=row["prorated"],
        min_commitment=row["min_commitment"],
        filters=pricing.by_specificity([_filter(one, model) for one in filters]),
        group_by=tuple(row["group_by"]),
    )


def _rule(row: dict[str, Any], model: str, name: str) -> pricing.Rule:
    price = row["unit_price"]
    return pricing.parse_rule(
        model=model,
        unit_price=None if price is None else price.normalize(),
        tiers=row["tiers"],
        properties=row["properties"],
        name=name,
    )


def _filter(row: dict[str, Any], model: str) -> pricing.Filter:
    conditions = pricing.parse_conditions(row["conditions"], field="conditions")
    return pricing.Filter(key=row["key"], name=row["name"], conditions=conditions, rule=_rule(row, model, row["key"]))


def price_books(organisation: Organisation | uuid.UUID, version_ids: Iterable[uuid.UUID]) -> PriceBooks:
    """The price books of plan versions of the organisation."""
    ids = set(version_ids)
    versions = PlanVersion.objects.of(organisation).filter(pk__in=ids)
    prices = Price.objects.of(organisation).filter(version__in=ids)
    filters = PriceFilter.objects.of(organisation).filter(price__version__in=ids).order_by("price_id", "position")
    return PriceBooks(
        versions.values(
            "id", "min_commitment", "plan__code", "plan__interval", "plan__interval_count", "plan__prices_include_tax"
        ),
        prices.order_by("version_id", "currency", "position", "code").values(*PRICE_COLUMNS),
        filters.values(*FILTER_COLUMNS),
    )


def subscriptions_of(organisation: Organisation | uuid.UUID) -> Any:
    """Subscriptions of the organisation with what their pages show."""
    return Subscription.objects.of(organisation).select_related("plan_version__plan", "customer", "beneficiary")


_FOLLOWED = Q(next_term__isnull=False) | (
    ~Q(term_interval="")
    & (Q(renewals_left=None) | Q(renewals_left__gt=0))
    & (Q(last_term=None) | Q(last_term__gt=F("term_number")))
)
"""That something follows the present end: as ``services.terms.renews`` says."""


def ending_before(at: datetime) -> Q:
    """Of subscriptions that have not ended: that they end before ``at``, by themselves or by a planned cancellation."""
    running = ~Q(status__in=(Subscription.Status.CANCELLED, Subscription.Status.EXPIRED))
    return running & (Q(cancel_at__lt=at) | (Q(ends_at__lt=at) & ~_FOLLOWED))


def renewing_before(at: datetime) -> Q:
    """Of subscriptions that have not ended: that their term is over before ``at`` and another one follows."""
    running = ~Q(status__in=(Subscription.Status.CANCELLED, Subscription.Status.EXPIRED))
    return running & Q(ends_at__lt=at) & _FOLLOWED & (Q(cancel_at=None) | Q(cancel_at__gt=F("ends_at")))


def plan_named(organisation: Organisation, name: str, *, field: str = "plan") -> Plan:
    """The plan with this code or id. Raises ``NotFound``."""
    plans = Plan.objects.of(organisation)
    pk = as_uuid(name)
    found = plans.filter(code=name).first() or (plans.filter(pk=pk).first() if pk else None)
    if found is None:
        raise NotFound(f"There is no plan '{name}' in this organisation.", field=field)
    return found


def version_of(plan: Plan, number: int | None, *, field: str = "version") -> PlanVersion:
    """The version of a plan with this number, else the newest. Raises ``NotFound``."""
    versions = PlanVersion.objects.filter(plan=plan).select_related("plan").order_by("-number")
    found = (versions if number is None else versions.filter(number=number)).first()
    if found is None:
        raise NotFound(f"'{plan.code}' has no version {number}.", field=field)
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


def invoices_billing(subscription: Subscription) -> QuerySet[Invoice]:
    """The invoices that bill the subscription, those it shares with others of its customer included."""
    invoices = Invoice.objects.of(subscription.organisation_id).filter(customer_id=subscription.customer_id)
    shared = InvoiceLine.objects.of(subscription.organisation_id).filter(subscription_ref=subscription.pk)
    return invoices.filter(Q(subscription_ref=subscription.pk) | Q(pk__in=shared.values("invoice")))


def subscriptions_named(organisation: Organisation, names: Collection[str]) -> dict[str, tuple[uuid.UUID, uuid.UUID]]:
    """(subscription, customer) by each of ``names`` that is an id or external id; an external id wins."""
    rows = Subscription.objects.of(organisation)
    ids = {name: pk for name in names if (pk := as_uuid(name))}
    found: dict[str, tuple[uuid.UUID, uuid.UUID]] = {}
    if ids:
        customers = dict(rows.filter(pk__in=ids.values()).values_list("pk", "customer_id"))
        found = {name: (pk, customers[pk]) for name, pk in ids.items() if pk in customers}
    for name, pk, customer_id in rows.filter(external_id__in=names).values_list("external_id", "pk", "customer_id"):
        found[name] = pk, customer_id
    return found


def unbilled_since(organisation_id: uuid.UUID) -> datetime | None:
    """Since when usage of the organisation's subscriptions is not billed yet; None when all of it is."""
    rows = Subscription.objects.of(organisation_id).exclude(usage_from=None)
    return rows.aggregate(first=Min("usage_from"))["first"]
