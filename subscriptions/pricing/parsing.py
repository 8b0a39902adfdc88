"""Prices as they are given and stored: JSON with decimals as strings, checked field by field."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from subscriptions.pricing.charge_models import needs_of
from subscriptions.pricing.errors import InvalidPrice, InvalidTiers
from subscriptions.pricing.values import (
    EXACT,
    HUNDRED,
    MAX_UNIT_PRICE,
    UNIT_PRICE_DECIMALS,
    UNIT_QUANTUM,
    ZERO,
    Parameters,
    Tier,
)

MAX_TIERS = 50
MAX_FREE_EVENTS = 10**9
MAX_RATE = Decimal(1000)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(E[+-]?\d{1,4})?", re.ASCII | re.IGNORECASE)
PARAMETERS = ("package_size", "rate", "fixed_fee", "free_units", "free_events", "min_per_event", "max_per_event")


def parse_decimal(value: Any, *, field: str) -> Decimal:
    """A finite decimal, zero or more, at most 12 decimals and below 10^15; raises ``InvalidTiers`` otherwise."""
    if not isinstance(value, str | int | Decimal) or isinstance(value, bool) or len(str(value)) > 40:
        raise InvalidTiers("Give a decimal number as a string such as '0.02'.", field=field)
    if not NUMBER.fullmatch(str(value)):
        raise InvalidTiers(f"'{value}' is not a decimal number.", field=field)
    number = Decimal(value)
    if not number.is_finite() or number < 0 or number >= MAX_UNIT_PRICE:
        raise InvalidTiers("The number must be zero or more, and below 10^15.", field=field)
    if number != number.quantize(UNIT_QUANTUM, context=EXACT):
        raise InvalidTiers(f"At most {UNIT_PRICE_DECIMALS} decimals.", field=field)
    return number


def parse_tiers(raw: object, *, rates: bool = False, field: str = "tiers") -> tuple[Tier, ...]:
    """Read tiers as they are stored: ``[{"up_to": "100", "unit_price": "0.02", "flat_fee": "0"}, {"up_to": null, …}]``.

    Bounds ascend, so there is neither gap nor overlap; only the last one is open. Prices are decimal strings, zero or
    more, with at most 12 decimals; with ``rates`` there is a ``rate`` in percent instead. Raises ``InvalidTiers`` that
    names the tier.
    """
    if not isinstance(raw, Sequence) or isinstance(raw, str | bytes) or not raw:
        raise InvalidTiers('Give at least one tier; the last one has "up_to": null.', field=field)
    if len(raw) > MAX_TIERS:
        raise InvalidTiers(f"At most {MAX_TIERS} tiers, got {len(raw)}.", field=field)
    tiers = [_parse_tier(f"{field}[{index}]", item, rates=rates) for index, item in enumerate(raw)]
    floor = ZERO
    for index, tier in enumerate(tiers):
        where = f"{field}[{index}].up_to"
        is_last = index == len(tiers) - 1
        if tier.up_to is None and not is_last:
            raise InvalidTiers(
                "Only the last tier may be open (up_to null); the tiers after it overlap it.", field=where
            )
        if tier.up_to is not None and is_last:
            raise InvalidTiers(
                f"The last tier must be open (up_to null); units above {tier.up_to:f} have no price.", field=where
            )
        if tier.up_to is not None:
            if tier.up_to <= floor:
                raise InvalidTiers(f"Bounds must ascend: {tier.up_to:f} does not come after {floor:f}.", field=where)
            floor = tier.up_to
    return tuple(tiers)


def dump_tiers(tiers: Sequence[Tier]) -> list[dict[str, str | None]]:
    """Tiers as JSON: decimal strings, null for the open bound."""
    return [
        {
            "up_to": None if tier.up_to is None else f"{tier.up_to:f}",
            **({"unit_price": f"{tier.unit_price:f}"} if tier.rate is None else {"rate": f"{tier.rate:f}"}),
            "flat_fee": f"{tier.flat_fee:f}",
        }
        for tier in tiers
    ]


def _parse_tier(where: str, item: object, *, rates: bool) -> Tier:
    known = ("up_to", "rate" if rates else "unit_price", "flat_fee")
    if not isinstance(item, Mapping):
        raise InvalidTiers(f'A tier is an object such as {{"up_to": "100", "{known[1]}": "0.02"}}.', field=where)
    unknown = sorted(str(name) for name in item if name not in known)
    if unknown:
        raise InvalidTiers(f"Unknown in a tier: {', '.join(unknown)[:80]}; use {', '.join(known)}.", field=where)
    up_to = item.get("up_to")
    price = parse_decimal(item.get(known[1]), field=f"{where}.{known[1]}")
    if rates:
        _check_rate(price, f"{where}.rate")
    return Tier(
        up_to=None if up_to is None else parse_decimal(up_to, field=f"{where}.up_to"),
        unit_price=EXACT.divide(price, HUNDRED) if rates else price,
        flat_fee=parse_decimal(item.get("flat_fee", "0"), field=f"{where}.flat_fee"),
        rate=price if rates else None,
    )


def parse_parameters(model: str, raw: object, *, field: str = "properties") -> Parameters:
    """Read what a model needs beside prices, as it is stored: ``{"package_size": "100", "free_units": "10"}``.

    Raises ``InvalidPrice`` that names a parameter which is unknown to the model, missing or out of range.
    """
    needs = needs_of(model)
    given = {} if raw is None else raw
    if not isinstance(given, Mapping):
        raise InvalidPrice('Give the properties as an object such as {"package_size": "100"}.', field=field)
    for name in given:
        if name not in needs.parameters:
            known = ", ".join(needs.parameters) or "none"
            raise InvalidPrice(f"A price of model '{model}' has no '{str(name)[:60]}'; it knows: {known}.", field=field)
    for name in needs.required:
        if given.get(name) is None:
            raise InvalidPrice(f"A price of model '{model}' needs {name}.", field=f"{field}.{name}")
    values = {name: _parameter(name, given[name], f"{field}.{name}") for name in given if given[name] is not None}
    parameters = Parameters(**values)
    least, most = parameters.min_per_event, parameters.max_per_event
    if least is not None and most is not None and least > most:
        raise InvalidPrice(f"min_per_event {least:f} is above max_per_event {most:f}.", field=f"{field}.min_per_event")
    return parameters


def dump_parameters(model: str, parameters: Parameters) -> dict[str, str]:
    """Parameters as JSON: decimal strings, only those that say something."""
    empty = Parameters()
    return {
        name: f"{getattr(parameters, name):f}" if name != "free_events" else str(parameters.free_events)
        for name in needs_of(model).parameters
        if getattr(parameters, name) != getattr(empty, name)
    }


def _parameter(name: str, value: Any, field: str) -> Any:
    number = parse_decimal(value, field=field)
    if name == "free_events":
        if number != number.to_integral_value() or number > MAX_FREE_EVENTS:
            raise InvalidPrice(f"free_events is a whole number up to {MAX_FREE_EVENTS}.", field=field)
        return int(number)
    if name == "package_size" and not number:
        raise InvalidPrice("package_size must be above zero.", field=field)
    if name == "rate":
        _check_rate(number, field)
    return number


def _check_rate(rate: Decimal, field: str) -> None:
    if rate > MAX_RATE:
        raise InvalidPrice(f"A rate is in percent, at most {MAX_RATE}.", field=field)
