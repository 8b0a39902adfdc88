"""The charge models: what each one needs, and the one function that prices by any of them.

A *flat* component costs ``unit_price`` once a period. A *per unit* component costs ``unit_price`` × quantity. A *package* costs
``unit_price`` for each package begun. A *dynamic* component costs what the events say. The others are in ``tiers.py`` and
``percentages.py``. Quantities may have fractions (2.5 GB).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from subscriptions.pricing import packages, percentages
from subscriptions.pricing import tiers as tiered
from subscriptions.pricing.errors import InvalidPrice, InvalidQuantity
from subscriptions.pricing.values import (
    ONE,
    Charged,
    Parameters,
    PricedComponent,
    Tier,
    Usage,
    average,
    checked_quantity,
    times,
    to_money,
)

FLAT = "flat"
PER_UNIT = "per_unit"
GRADUATED = "graduated"
VOLUME = "volume"
PACKAGE = "package"
PERCENTAGE = "percentage"
GRADUATED_PERCENTAGE = "graduated_percentage"
DYNAMIC = "dynamic"
NO_PARAMETERS = Parameters()


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model is said by: a unit price, tiers of prices or of rates, and parameters by name."""

    unit_price: bool = False
    tiers: bool = False
    rates: bool = False
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    licensed: bool = True
    metered: bool = True

    @property
    def parameters(self) -> tuple[str, ...]:
        """Every parameter the model knows."""
        return self.required + self.optional


NEEDS = {
    FLAT: Needs(unit_price=True, metered=False),
    PER_UNIT: Needs(unit_price=True),
    GRADUATED: Needs(tiers=True),
    VOLUME: Needs(tiers=True),
    PACKAGE: Needs(unit_price=True, required=("package_size",), optional=("free_units",)),
    PERCENTAGE: Needs(
        required=("rate",),
        optional=("fixed_fee", "free_units", "free_events", "min_per_event", "max_per_event"),
        licensed=False,
    ),
    GRADUATED_PERCENTAGE: Needs(tiers=True, rates=True, licensed=False),
    DYNAMIC: Needs(licensed=False),
}
MODELS = tuple(NEEDS)


def needs_of(model: str) -> Needs:
    """What ``model`` needs; raises ``InvalidPrice`` for a model that does not exist."""
    try:
        return NEEDS[model]
    except KeyError as exc:
        raise InvalidPrice(f"'{model}' is not a pricing model; use {', '.join(MODELS)}.", field="model") from exc


def price_component(
    *,
    model: str,
    quantity: Decimal | int,
    currency: str,
    unit_price: Decimal | None = None,
    tiers: Sequence[Tier] = (),
    parameters: Parameters = NO_PARAMETERS,
    usage: Usage | None = None,
) -> PricedComponent:
    """Price ``quantity`` units (or ``usage``, which knows the events behind them) in ``currency``; flat ignores the quantity.

    Raises ``InvalidPrice`` when the price is incomplete, ``InvalidQuantity`` for a negative quantity, ``AmountTooLarge``.
    """
    needs = needs_of(model)
    if needs.unit_price and unit_price is None:
        raise InvalidPrice(f"A price of model '{model}' needs a unit_price.", field="unit_price")
    if model == FLAT:
        charged = Charged(ONE, unit_price or Decimal(0), unit_price or Decimal(0))
    else:
        measured = usage or Usage(checked_quantity(quantity))
        checked_quantity(measured.quantity)
        charged = _MODELS[model](measured, unit_price or Decimal(0), tiers, parameters)
    amount = to_money(charged.exact, currency)
    return PricedComponent(charged.quantity, charged.unit_price, charged.exact, amount, charged.tiers)


def _dynamic(usage: Usage) -> Charged:
    if usage.amount is None:
        raise InvalidQuantity("A dynamic price needs the amount that the events carry.", field="amount")
    if usage.amount < 0:
        raise InvalidQuantity("What the events cost must add up to zero or more.", field="amount")
    return Charged(usage.quantity, average(usage.amount, usage.quantity), usage.amount)


_MODELS: dict[str, Callable[[Usage, Decimal, Sequence[Tier], Parameters], Charged]] = {
    PER_UNIT: lambda usage, price, _tiers, _more: Charged(usage.quantity, price, times(usage.quantity, price)),
    GRADUATED: lambda usage, _price, tiers, _more: tiered.graduated(usage.quantity, tiers),
    VOLUME: lambda usage, _price, tiers, _more: tiered.volume(usage.quantity, tiers),
    PACKAGE: lambda usage, price, _tiers, more: packages.packages(usage.quantity, price, more),
    PERCENTAGE: lambda usage, _price, _tiers, more: percentages.percentage(usage, more),
    GRADUATED_PERCENTAGE: lambda usage, _price, tiers, _more: tiered.graduated(usage.quantity, tiers),
    DYNAMIC: lambda usage, _price, _tiers, _more: _dynamic(usage),
}
