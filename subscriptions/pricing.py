"""What a component costs: flat, per unit, graduated. Pure and exact; rounded half up once, at the end.

A *flat* component costs ``unit_price`` once a period. A *per unit* component costs ``unit_price`` × quantity. A *graduated*
component prices each unit at the price of the tier it falls into; a tier's flat fee is due once as soon as the tier is
entered. Quantities may have fractions (2.5 GB); a bound belongs to the tier it closes (unit 100 of ``up_to`` 100 is in it).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, InvalidOperation
from typing import Any

from moneyed import Money

from billing import money
from billing.errors import InvalidInput

FLAT = "flat"
PER_UNIT = "per_unit"
GRADUATED = "graduated"
MODELS = (FLAT, PER_UNIT, GRADUATED)

MAX_TIERS = 50
MAX_UNIT_PRICE = Decimal(10) ** 15
UNIT_PRICE_DECIMALS = 12
_ZERO = Decimal(0)
_ONE = Decimal(1)
_UNIT_QUANTUM = Decimal(1).scaleb(-UNIT_PRICE_DECIMALS)
# 30 digits × 30 digits, summed over 50 tiers, stay exact.
_EXACT = Context(prec=80)


class InvalidPrice(InvalidInput):
    """A price does not say what its model needs."""

    code = "invalid_price"
    message = "The price is not valid."


class InvalidTiers(InvalidPrice):
    """Tiers overlap, have a gap, are not in ascending order, or the last one is closed."""

    code = "invalid_tiers"
    message = "The tiers are not valid."


class InvalidQuantity(InvalidInput):
    """A quantity is negative or not a finite number."""

    code = "invalid_quantity"
    message = "The quantity must be zero or more."


class AmountTooLarge(InvalidInput):
    """Price × quantity is more than can be stored (15 digits before the point)."""

    code = "amount_too_large"
    message = "{amount} {currency} is more than an invoice line can hold; check quantity and unit price."


@dataclass(frozen=True, slots=True)
class Tier:
    """Units up to and including ``up_to`` (None: without end) at ``unit_price`` each, and ``flat_fee`` once."""

    up_to: Decimal | None
    unit_price: Decimal
    flat_fee: Decimal = _ZERO


@dataclass(frozen=True, slots=True)
class TierCharge:
    """What one tier contributed, unrounded."""

    up_to: Decimal | None
    quantity: Decimal
    unit_price: Decimal
    flat_fee: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class PricedComponent:
    """A priced quantity. ``exact`` is unrounded, ``amount`` rounded half up to the currency.

    ``unit_price`` of a graduated component is its average, to 12 decimals; ``tiers`` says where it comes from.
    """

    quantity: Decimal
    unit_price: Decimal
    exact: Decimal
    amount: Money
    tiers: tuple[TierCharge, ...] = ()


def price_component(
    *, model: str, quantity: Decimal | int, currency: str, unit_price: Decimal | None = None, tiers: Sequence[Tier] = ()
) -> PricedComponent:
    """Price ``quantity`` units in ``currency``; a flat component ignores the quantity.

    Raises ``InvalidPrice`` when the price is incomplete, ``InvalidQuantity`` for a negative quantity, ``AmountTooLarge``.
    """
    charges: tuple[TierCharge, ...] = ()
    if model == GRADUATED:
        quantity = _checked_quantity(quantity)
        charges = _graduated(quantity, tiers)
        exact = _ZERO
        for charge in charges:
            exact = _EXACT.add(exact, charge.amount)
        each = _EXACT.quantize(_EXACT.divide(exact, quantity), _UNIT_QUANTUM).normalize(_EXACT) if quantity else _ZERO
    else:
        if unit_price is None:
            raise InvalidPrice(f"A price of model '{model}' needs a unit_price.", field="unit_price")
        each = unit_price
        if model == FLAT:
            quantity, exact = _ONE, each
        elif model == PER_UNIT:
            quantity = _checked_quantity(quantity)
            exact = _EXACT.multiply(quantity, each)
        else:
            raise InvalidPrice(f"'{model}' is not a pricing model; use {', '.join(MODELS)}.", field="model")
    return PricedComponent(quantity, each, exact, to_money(exact, currency), charges)


def to_money(exact: Decimal, currency: str) -> Money:
    """Round an exact amount half up to the currency; raises ``AmountTooLarge`` beyond what a line can hold."""
    if abs(exact) > money.MAX_AMOUNT:
        raise AmountTooLarge(amount=f"{exact:.4E}", currency=currency)
    return Money(money.quantize(exact, currency), money.currency_of(currency))


def _checked_quantity(quantity: Decimal | int) -> Decimal:
    value = quantity if isinstance(quantity, Decimal) else Decimal(quantity)
    if not value.is_finite() or value < 0:
        raise InvalidQuantity(field="quantity")
    return value


def _graduated(quantity: Decimal, tiers: Sequence[Tier]) -> tuple[TierCharge, ...]:
    """Charges of the tiers that ``quantity`` reaches; nothing for zero units."""
    if not tiers:
        raise InvalidTiers("A graduated price needs tiers.", field="tiers")
    charges = []
    floor = _ZERO
    for tier in tiers:
        if quantity <= floor:
            break
        top = quantity if tier.up_to is None or quantity < tier.up_to else tier.up_to
        units = _EXACT.subtract(top, floor)
        amount = _EXACT.add(_EXACT.multiply(units, tier.unit_price), tier.flat_fee)
        charges.append(TierCharge(tier.up_to, units, tier.unit_price, tier.flat_fee, amount))
        floor = top if tier.up_to is None else tier.up_to
    return tuple(charges)


def parse_tiers(raw: object) -> tuple[Tier, ...]:
    """Read tiers as they are stored: ``[{"up_to": "100", "unit_price": "0.02", "flat_fee": "0"}, {"up_to": null, …}]``.

    Bounds ascend, so there is neither gap nor overlap; only the last one is open. Prices are decimal strings, zero or
    more, with at most 12 decimals. Raises ``InvalidTiers`` that names the tier.
    """
    if not isinstance(raw, Sequence) or isinstance(raw, str | bytes) or not raw:
        raise InvalidTiers('Give at least one tier; the last one has "up_to": null.', field="tiers")
    if len(raw) > MAX_TIERS:
        raise InvalidTiers(f"At most {MAX_TIERS} tiers, got {len(raw)}.", field="tiers")
    tiers = [_parse_tier(index, item) for index, item in enumerate(raw)]
    floor = _ZERO
    for index, tier in enumerate(tiers):
        where = f"tiers[{index}].up_to"
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
            "unit_price": f"{tier.unit_price:f}",
            "flat_fee": f"{tier.flat_fee:f}",
        }
        for tier in tiers
    ]


def _parse_tier(index: int, item: object) -> Tier:
    where = f"tiers[{index}]"
    if not isinstance(item, Mapping):
        raise InvalidTiers('A tier is an object such as {"up_to": "100", "unit_price": "0.02"}.', field=where)
    unknown = sorted(str(name) for name in item if name not in ("up_to", "unit_price", "flat_fee"))
    if unknown:
        raise InvalidTiers(
            f"Unknown in a tier: {', '.join(unknown)[:80]}; use up_to, unit_price, flat_fee.", field=where
        )
    up_to = item.get("up_to")
    return Tier(
        up_to=None if up_to is None else parse_decimal(up_to, field=f"{where}.up_to"),
        unit_price=parse_decimal(item.get("unit_price"), field=f"{where}.unit_price"),
        flat_fee=parse_decimal(item.get("flat_fee", "0"), field=f"{where}.flat_fee"),
    )


def parse_decimal(value: Any, *, field: str) -> Decimal:
    """A finite decimal, zero or more, at most 12 decimals and below 10^15; raises ``InvalidTiers`` otherwise."""
    if not isinstance(value, str | int | Decimal) or isinstance(value, bool) or len(str(value)) > 40:
        raise InvalidTiers("Give a decimal number as a string such as '0.02'.", field=field)
    try:
        number = Decimal(value)
    except InvalidOperation as exc:
        raise InvalidTiers(f"'{value}' is not a decimal number.", field=field) from exc
    if not number.is_finite() or number < 0 or number >= MAX_UNIT_PRICE:
        raise InvalidTiers("The number must be zero or more, and below 10^15.", field=field)
    if number != number.quantize(_UNIT_QUANTUM, context=_EXACT):
        raise InvalidTiers(f"At most {UNIT_PRICE_DECIMALS} decimals.", field=field)
    return number
