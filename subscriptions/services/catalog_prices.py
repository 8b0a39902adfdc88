"""The prices of a plan version as they are given: checked one by one and as a set, then written together or not at all."""

import contextlib
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from billing import money
from billing.errors import DomainError
from billing.models import Meter
from subscriptions import pricing
from subscriptions.errors import DuplicatePrice, InvalidPlan, UnevenPrices, UnknownMeter
from subscriptions.models import PlanVersion, Price, PriceFilter
from subscriptions.pricing import selection
from subscriptions.pricing.rules import Rule

SLUG = re.compile(r"[A-Za-z0-9_-]{1,60}\Z")
MAX_PRICES = 60
RECURRING, ADD_ON, ONE_OFF = Price.Kind.RECURRING, Price.Kind.ADD_ON, Price.Kind.ONE_OFF


@dataclass(frozen=True, kw_only=True)
class FilterInput:
    """Another price for usage whose properties fit ``conditions`` ({"region": ["eu"]}); the model is the price's."""

    key: str
    conditions: Mapping[str, Any]
    name: str = ""
    unit_price: Decimal | None = None
    tiers: Sequence[Any] = field(default_factory=tuple)
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PriceInput:
    """A price to be. ``meter`` (code or id) makes it metered; ``tiers`` and ``properties`` as ``pricing.parse_rule`` reads them.

    ``pay_in_advance`` None: in advance without a meter, in arrears with one; of a metered one: invoiced soon after the usage.
    ``min_commitment``: what the usage of a period comes to at least, in ``currency``.
    """

    code: str
    name: str
    currency: str
    model: str
    kind: str = RECURRING
    unit_price: Decimal | None = None
    tiers: Sequence[Any] = field(default_factory=tuple)
    properties: Mapping[str, Any] = field(default_factory=dict)
    meter: str | uuid.UUID | None = None
    pay_in_advance: bool | None = None
    prorated: bool = True
    min_commitment: Decimal | None = None
    filters: Sequence[FilterInput] = field(default_factory=tuple)
    group_by: Sequence[str] = field(default_factory=tuple)
    unit: str = ""
    tax_category: str = ""


@dataclass(frozen=True, slots=True)
class CheckedPrices:
    """Rows that passed every check and wait for their version."""

    prices: list[Price]
    filters: list[PriceFilter]
    min_commitment: dict[str, str]

    def write(self, version: PlanVersion) -> None:
        """Write all of them, in two statements."""
        for price in self.prices:
            price.version = version
        Price.objects.bulk_create(self.prices)
        PriceFilter.objects.bulk_create(self.filters)


def checked_prices(
    *, organisation_id: uuid.UUID, prices: Sequence[PriceInput], min_commitment: Mapping[str, Any] | None = None
) -> CheckedPrices:
    """Check the prices of one version; nothing is written. Raises what names the price and the field that is wrong."""
    _check_set(prices)
    meters = _meters(organisation_id, prices)
    checked = CheckedPrices([], [], _commitments(min_commitment, prices))
    for index, given in enumerate(prices):
        with _naming(index, given):
            row = _price_row(organisation_id, index + 1, given, meters)
            checked.prices.append(row)
            checked.filters.extend(_filter_rows(row, given))
    return checked


@contextlib.contextmanager
def _naming(index: int, price: PriceInput) -> Iterator[None]:
    """Let a refusal say which price it is about: the field by its place in the list, the words by component and currency."""
    try:
        yield
    except DomainError as exc:
        exc.field = f"prices[{index}].{exc.field}" if exc.field else f"prices[{index}]"
        exc.args = (f"'{price.code}' in {price.currency}: {exc}",)
        raise


def _check_set(prices: Sequence[PriceInput]) -> None:
    """One price per component and currency, every component in every currency and of one kind."""
    if not 1 <= len(prices) <= MAX_PRICES:
        raise InvalidPlan(f"A version has 1 to {MAX_PRICES} prices, got {len(prices)}.", field="prices")
    seen: dict[tuple[str, str], PriceInput] = {}
    kinds: dict[str, tuple[str, bool]] = {}
    for index, price in enumerate(prices):
        key = (price.code, price.currency)
        if key in seen:
            raise DuplicatePrice(component=price.code, currency=price.currency, field=f"prices[{index}].code")
        seen[key] = price
        kind = (price.kind, price.meter is not None)
        if kinds.setdefault(price.code, kind) != kind:
            raise InvalidPlan(
                f"The component '{price.code}' is metered, an add-on or one-off in every currency, or in none.",
                field=f"prices[{index}].{'kind' if kinds[price.code][0] != price.kind else 'meter'}",
            )
    if all(price.kind != RECURRING and not price.meter for price in prices):
        raise InvalidPlan("A version has a recurring component besides add-ons and one-off charges.", field="prices")
    for code in sorted({price.code for price in prices}):
        for currency in sorted({price.currency for price in prices}):
            if (code, currency) not in seen:
                raise UnevenPrices(component=code, currency=currency, field="prices")


def _commitments(given: Mapping[str, Any] | None, prices: Sequence[PriceInput]) -> dict[str, str]:
    """What a period comes to at least: in every currency of the prices, or in none."""
    if not given:
        return {}
    offered = {money.currency_of(price.currency).code for price in prices}
    if set(given) != offered:
        odd = min(set(given) ^ offered)
        raise InvalidPlan(
            f"min_commitment is given in the currencies of the prices ({', '.join(sorted(offered))}); {odd} does not fit.",
            field="min_commitment",
        )
    return {code: f"{_least(amount, code, 'min_commitment'):f}" for code, amount in sorted(given.items())}


def _least(amount: Any, currency: str, where: str) -> Decimal:
    """A minimum above zero with no more decimals than the currency has."""
    value = pricing.parse_decimal(amount, field=where)
    if not value or value > money.MAX_AMOUNT or value != money.quantize(value, currency):
        raise pricing.InvalidPrice(
            f"A minimum is above zero, in whole minor units of {currency}, as an invoice line can hold.", field=where
        )
    return money.quantize(value, currency)


def _meters(organisation_id: uuid.UUID, prices: Sequence[PriceInput]) -> dict[str, Meter]:
    """The organisation's meters by code and by id, where any price is of one."""
    if not any(price.meter for price in prices):
        return {}
    found: dict[str, Meter] = {}
    for meter in Meter.objects.of(organisation_id):
        found[meter.code] = found[str(meter.pk)] = meter
    return found


def _price_row(organisation_id: uuid.UUID, position: int, price: PriceInput, meters: dict[str, Meter]) -> Price:
    """A checked row; raises ``InvalidPrice`` or ``InvalidTiers`` that names the component."""
    if not SLUG.match(price.code):
        raise pricing.InvalidPrice("A component's code has 1 to 60 letters, digits, '-' or '_'.", field="code")
    if price.model not in pricing.MODELS:
        raise pricing.InvalidPrice(f"Choose the model from {', '.join(pricing.MODELS)}.", field="model")
    if price.kind not in Price.Kind.values:
        raise pricing.InvalidPrice(f"Choose the kind from {', '.join(Price.Kind.values)}.", field="kind")
    currency = money.currency_of(price.currency).code
    meter = meters.get(str(price.meter)) if price.meter else None
    if price.meter and meter is None:
        raise UnknownMeter(meter=str(price.meter), field="meter")
    _check_fit(price, meter)
    return Price(
        organisation_id=organisation_id,
        code=price.code,
        name=price.name,
        kind=price.kind,
        currency=currency,
        model=price.model,
        **_rule_columns(price.model, _rule(price, price.model)),
        meter=meter,
        pay_in_advance=meter is None if price.pay_in_advance is None else price.pay_in_advance,
        prorated=price.prorated,
        min_commitment=None
        if price.min_commitment is None
        else _least(price.min_commitment, currency, "min_commitment"),
        group_by=list(selection.parse_group_by(price.group_by, field="group_by")),
        unit=price.unit or (meter.unit if meter else ""),
        tax_category=price.tax_category,
        position=position,
    )


def _check_fit(price: PriceInput, meter: Meter | None) -> None:
    """Whether model, kind, meter and time of payment go together."""

    def refuse(text: str, field: str) -> None:
        raise pricing.InvalidPrice(text, field=field)

    needs = pricing.needs_of(price.model)
    if meter is not None:
        if not needs.metered:
            refuse(f"It is {price.model}: usage cannot change it; leave the meter out.", "meter")
        if price.kind != RECURRING:
            refuse("It is metered: what is measured is part of the plan, not an add-on or one-off.", "kind")
        if price.pay_in_advance and price.model == pricing.VOLUME:
            refuse(
                "It is volume: its price falls as more is used, so it is known at the period's end.", "pay_in_advance"
            )
        if price.pay_in_advance and meter.aggregation == Meter.Aggregation.WEIGHTED:
            refuse("It is weighted by time: what is used is known at the period's end.", "pay_in_advance")
        return
    if not needs.licensed:
        refuse(f"It is {price.model}: it prices usage and needs a meter.", "meter")
    if price.filters:
        refuse("It has no meter: filters select usage.", "filters")
    if price.group_by:
        refuse("It has no meter: groups split usage.", "group_by")
    if price.min_commitment is not None:
        refuse("It has no meter: a minimum belongs to usage, or to the whole version.", "min_commitment")
    if price.kind == ONE_OFF and price.pay_in_advance is False:
        refuse("It is charged once, at the start.", "pay_in_advance")


def _rule(given: PriceInput | FilterInput, model: str, *, name: str = "", prefix: str = "") -> Rule:
    return pricing.parse_rule(
        model=model,
        unit_price=given.unit_price,
        tiers=given.tiers,
        properties=given.properties,
        name=name,
        prefix=prefix,
    )


def _rule_columns(model: str, rule: Rule) -> dict[str, Any]:
    return {
        "unit_price": rule.unit_price,
        "tiers": pricing.dump_tiers(rule.tiers),
        "properties": pricing.dump_parameters(model, rule.parameters),
    }


def _filter_rows(price: Price, given: PriceInput) -> list[PriceFilter]:
    """Checked filters of a price; raises ``InvalidFilters`` and what their prices refuse."""
    if given.filters and given.model == pricing.DYNAMIC:
        raise pricing.InvalidFilters("What events cost themselves is the same with a filter.", field="filters")
    rows, parsed = [], []
    for position, one in enumerate(given.filters, start=1):
        where = f"filters[{position - 1}]"
        if not SLUG.match(one.key):
            raise pricing.InvalidFilters(
                "A filter's key has 1 to 60 letters, digits, '-' or '_'.", field=f"{where}.key"
            )
        conditions = selection.parse_conditions(one.conditions, field=f"{where}.conditions")
        rule = _rule(one, given.model, name=one.key, prefix=f"{where}.")
        parsed.append(pricing.Filter(key=one.key, name=one.name, conditions=conditions, rule=rule))
        rows.append(
            PriceFilter(
                organisation_id=price.organisation_id, price=price, key=one.key, name=one.name or one.key,
                conditions={name: list(values) for name, values in conditions},
                position=position, **_rule_columns(given.model, rule),
            )
        )  # fmt: skip
    selection.refuse_overlap(parsed, field="filters")
    return rows
