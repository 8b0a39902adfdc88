"""Models with tiers: graduated, volume, graduated percentage.

A bound belongs to the tier it closes (unit 100 of ``up_to`` 100 is in it; 100.5 units reach the next one). *Graduated*: each
unit at the price of the tier it falls into, a tier's flat fee once as soon as the tier is entered. *Volume*: all units at the
price of the tier that the last one falls into, with that tier's flat fee. *Graduated percentage*: graduated, the units being
money and the price a rate. No units cost nothing.
"""

from collections.abc import Sequence
from decimal import Decimal

from subscriptions.pricing.errors import InvalidTiers
from subscriptions.pricing.values import EXACT, ZERO, Charged, Tier, TierCharge, add, average, times


def graduated(quantity: Decimal, tiers: Sequence[Tier]) -> Charged:
    """Each unit at the price of its tier. Raises ``InvalidTiers`` when there are none."""
    charges = []
    floor = ZERO
    for tier in _required(tiers):
        if quantity <= floor:
            break
        top = quantity if tier.up_to is None or quantity < tier.up_to else tier.up_to
        charges.append(_charge(tier, EXACT.subtract(top, floor)))
        floor = top if tier.up_to is None else tier.up_to
    return _charged(quantity, tuple(charges))


def volume(quantity: Decimal, tiers: Sequence[Tier]) -> Charged:
    """All units at the price of the tier they reach. Raises ``InvalidTiers`` when there are none."""
    for tier in _required(tiers):
        if quantity and (tier.up_to is None or quantity <= tier.up_to):
            return _charged(quantity, (_charge(tier, quantity),))
    return _charged(quantity, ())


def _required(tiers: Sequence[Tier]) -> Sequence[Tier]:
    if not tiers:
        raise InvalidTiers("A price with tiers needs at least one.", field="tiers")
    return tiers


def _charge(tier: Tier, units: Decimal) -> TierCharge:
    amount = add(times(units, tier.unit_price), tier.flat_fee)
    return TierCharge(tier.up_to, units, tier.unit_price, tier.flat_fee, amount, rate=tier.rate)


def _charged(quantity: Decimal, charges: tuple[TierCharge, ...]) -> Charged:
    exact = add(*(charge.amount for charge in charges))
    return Charged(quantity, average(exact, quantity), exact, charges)
