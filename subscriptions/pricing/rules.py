"""A price as it is given, checked as a whole: model, unit price, tiers and parameters fit together."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from subscriptions.pricing.charge_models import NO_PARAMETERS, needs_of
from subscriptions.pricing.errors import InvalidPrice
from subscriptions.pricing.parsing import parse_decimal, parse_parameters, parse_tiers
from subscriptions.pricing.values import Parameters, Tier


@dataclass(frozen=True, slots=True)
class Rule:
    """What a model prices by."""

    unit_price: Decimal | None = None
    tiers: tuple[Tier, ...] = ()
    parameters: Parameters = NO_PARAMETERS


def parse_rule(
    *,
    model: str,
    unit_price: Any = None,
    tiers: Any = (),
    properties: Any = None,
    name: str = "",
    prefix: str = "",
) -> Rule:
    """The rule that a price states, called ``name`` in what is refused.

    Raises ``InvalidPrice`` or ``InvalidTiers`` that names the field below ``prefix``.
    """
    needs = needs_of(model)
    what = f"'{name}' is {model}" if name else f"The price is {model}"
    if not needs.unit_price and unit_price is not None:
        where = "tiers" if needs.tiers else "properties" if needs.parameters else "events"
        raise InvalidPrice(f"{what}: its prices are in the {where}; leave unit_price out.", field=f"{prefix}unit_price")
    if not needs.tiers and tiers:
        raise InvalidPrice(f"{what} and has no tiers.", field=f"{prefix}tiers")
    return Rule(
        unit_price=parse_decimal(unit_price, field=f"{prefix}unit_price") if needs.unit_price else None,
        tiers=parse_tiers(tiers, rates=needs.rates, field=f"{prefix}tiers") if needs.tiers else (),
        parameters=parse_parameters(model, properties, field=f"{prefix}properties"),
    )
