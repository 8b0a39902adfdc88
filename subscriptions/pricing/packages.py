"""Packages: so many units for one price; a package begun is paid for. The first ``free_units`` are in no package."""

from decimal import Decimal

from subscriptions.pricing.errors import InvalidPrice
from subscriptions.pricing.values import EXACT, ONE, ZERO, Charged, Parameters, TierCharge, average, times

FREE, PACKAGE = "free", "package"


def packages(quantity: Decimal, price: Decimal, parameters: Parameters) -> Charged:
    """``price`` for each ``package_size`` units begun. Raises ``InvalidPrice`` without a size."""
    size = parameters.package_size
    if size is None or size <= 0:
        raise InvalidPrice("A package price needs a package_size above zero.", field="properties.package_size")
    free = min(quantity, parameters.free_units or ZERO)
    begun = begun_packages(EXACT.subtract(quantity, free), size)
    exact = times(begun, price)
    charges = []
    if free:
        charges.append(TierCharge(None, free, ZERO, ZERO, ZERO, label=FREE))
    if begun:
        charges.append(TierCharge(None, begun, price, ZERO, exact, label=PACKAGE))
    return Charged(quantity, average(exact, quantity), exact, tuple(charges))


def begun_packages(units: Decimal, size: Decimal) -> Decimal:
    """How many packages ``units`` begin: the quotient, rounded up. No quotient is ever cut off."""
    full = EXACT.divide_int(units, size)
    rest = EXACT.subtract(units, EXACT.multiply(full, size))
    return EXACT.add(full, ONE) if rest else full
