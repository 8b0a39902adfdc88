"""A price in a few words, for tables that people read: ``499.00 INR per seat``, ``up to 1000: 0 INR``. Pure."""

from decimal import Decimal

from billing import money
from subscriptions.pricing import charge_models as models
from subscriptions.pricing.rules import Rule
from subscriptions.pricing.values import Tier


def say(*, model: str, rule: Rule, currency: str, unit: str = "", once: bool = False) -> tuple[str, ...]:
    """The price, one thing a line; ``once``: it is charged at the start and never again."""
    one = unit or "unit"
    if model == models.DYNAMIC:
        return ("as each event says",)
    if model == models.FLAT:
        return (f"{_price(rule.unit_price, currency)} {'once' if once else 'a period'}",)
    if model == models.PER_UNIT:
        return (f"{_price(rule.unit_price, currency)} per {one}",)
    if model == models.PACKAGE:
        return _package(rule, currency, one)
    if model == models.PERCENTAGE:
        return _percentage(rule, currency)
    first = "all units at the price of the last one" if model == models.VOLUME else ""
    return tuple(filter(None, (first, *(_tier(tier, currency, one) for tier in rule.tiers))))


def _price(value: Decimal | None, currency: str) -> str:
    """An amount with the currency's decimals, or with all it has when those are too few."""
    if value is None:
        return ""
    whole = money.quantize(value, currency)
    return f"{whole if whole == value else value.normalize() + 0:,f} {currency}"


def _number(value: Decimal) -> str:
    return f"{value.normalize() + 0:,f}"


def _tier(tier: Tier, currency: str, unit: str) -> str:
    bound = "above" if tier.up_to is None else f"up to {_number(tier.up_to)}"
    each = f"{_price(tier.unit_price, currency)} per {unit}" if tier.rate is None else f"{_number(tier.rate)} %"
    return f"{bound}: {each}" + (f" + {_price(tier.flat_fee, currency)}" if tier.flat_fee else "")


def _many(unit: str) -> str:
    """``units`` of a word, but ``GB`` of an abbreviation."""
    return unit if unit.isupper() else f"{unit}s"


def _package(rule: Rule, currency: str, unit: str) -> tuple[str, ...]:
    size, free = rule.parameters.package_size, rule.parameters.free_units
    said = [f"{_price(rule.unit_price, currency)} for each {_number(size or Decimal(0))} {_many(unit)} begun"]
    if free:
        said.append(f"the first {_number(free)} free")
    return tuple(said)


def _percentage(rule: Rule, currency: str) -> tuple[str, ...]:
    given = rule.parameters
    fee = f" + {_price(given.fixed_fee, currency)} per event" if given.fixed_fee else ""
    said = [f"{_number(given.rate or Decimal(0))} %{fee}"]
    if given.free_events:
        said.append(f"the first {given.free_events:,} events free")
    if given.free_units:
        said.append(f"the first {_price(given.free_units, currency)} free")
    if given.min_per_event is not None:
        said.append(f"at least {_price(given.min_per_event, currency)} an event")
    if given.max_per_event is not None:
        said.append(f"at most {_price(given.max_per_event, currency)} an event")
    return tuple(said)
