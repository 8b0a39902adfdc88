"""What goes into a price and what comes out of it. Exact decimals; an amount is rounded half up, once, at the end."""

from dataclasses import dataclass
from decimal import Context, Decimal

from moneyed import Money

from billing import money
from subscriptions.pricing.errors import AmountTooLarge, InvalidQuantity

MAX_UNIT_PRICE = Decimal(10) ** 15
UNIT_PRICE_DECIMALS = 12
ZERO = Decimal(0)
ONE = Decimal(1)
HUNDRED = Decimal(100)
UNIT_QUANTUM = Decimal(1).scaleb(-UNIT_PRICE_DECIMALS)
# 30 digits × 30 digits, summed over 50 tiers or millions of events, stay exact.
EXACT = Context(prec=80)


@dataclass(frozen=True, slots=True)
class Tier:
    """Units up to and including ``up_to`` (None: without end) at ``unit_price`` each, and ``flat_fee`` once.

    A tier of a percentage has its ``rate`` in percent; its unit price is that rate of one unit.
    """

    up_to: Decimal | None
    unit_price: Decimal
    flat_fee: Decimal = ZERO
    rate: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a model needs beside a unit price or tiers; ``rate`` is in percent, amounts are in the price's currency."""

    package_size: Decimal | None = None
    rate: Decimal | None = None
    fixed_fee: Decimal = ZERO
    free_units: Decimal | None = None
    free_events: int | None = None
    min_per_event: Decimal | None = None
    max_per_event: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What is priced: the quantity, how many events it comes from, what they say they cost, and the quantity of each in order.

    ``events`` None: nobody counted, so the quantity is that of a single event.
    """

    quantity: Decimal
    events: int | None = None
    amount: Decimal | None = None
    values: tuple[Decimal, ...] = ()


@dataclass(frozen=True, slots=True)
class TierCharge:
    """One part of a price, unrounded: what a tier contributed, or what ``label`` says (free, package, rate, …)."""

    up_to: Decimal | None
    quantity: Decimal
    unit_price: Decimal
    flat_fee: Decimal
    amount: Decimal
    rate: Decimal | None = None
    label: str = ""


@dataclass(frozen=True, slots=True)
class Charged:
    """What a model made of a quantity, unrounded; the tiers' amounts add up to ``exact``."""

    quantity: Decimal
    unit_price: Decimal
    exact: Decimal
    tiers: tuple[TierCharge, ...] = ()


@dataclass(frozen=True, slots=True)
class PricedComponent:
    """A priced quantity. ``exact`` is unrounded, ``amount`` rounded half up to the currency.

    Where the units have several prices, ``unit_price`` is their average, to 12 decimals; ``tiers`` says where it comes from.
    """

    quantity: Decimal
    unit_price: Decimal
    exact: Decimal
    amount: Money
    tiers: tuple[TierCharge, ...] = ()


def to_money(exact: Decimal, currency: str) -> Money:
    """Round an exact amount half up to the currency; raises ``AmountTooLarge`` beyond what a line can hold."""
    if abs(exact) > money.MAX_AMOUNT:
        raise AmountTooLarge(amount=f"{exact:.4E}", currency=currency)
    return Money(money.quantize(exact, currency), money.currency_of(currency))


def checked_quantity(quantity: Decimal | int) -> Decimal:
    """The quantity as a decimal; raises ``InvalidQuantity`` for a negative one or what is no number."""
    value = quantity if isinstance(quantity, Decimal) else Decimal(quantity)
    if not value.is_finite() or value < 0:
        raise InvalidQuantity(field="quantity")
    return value


def add(*amounts: Decimal) -> Decimal:
    """The exact sum."""
    total = ZERO
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


def times(one: Decimal, other: Decimal) -> Decimal:
    """The exact product."""
    return EXACT.multiply(one, other)


def average(exact: Decimal, quantity: Decimal) -> Decimal:
    """Price of one unit, to 12 decimals; zero for no units."""
    if not quantity:
        return ZERO
    return EXACT.quantize(EXACT.divide(exact, quantity), UNIT_QUANTUM).normalize(EXACT)
