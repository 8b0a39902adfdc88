"""Percentage: a rate of the amounts measured, and a fixed fee for each event.

An allowance of ``free_events`` (the first ones, in order of time) or ``free_units`` (of the amount) costs nothing; with both, it
is over when the first of them is. The event that crosses an allowance of units pays the rate of what lies beyond it, and the
fixed fee. ``min_per_event`` and ``max_per_event`` bound what one paying event costs. A negative event (something given back)
gives the rate back, without fee and minimum; the whole is never below zero.
"""

from collections.abc import Iterator
from decimal import Decimal

from subscriptions.pricing.errors import InvalidPrice, InvalidQuantity
from subscriptions.pricing.values import (
    EXACT,
    HUNDRED,
    ZERO,
    Charged,
    Parameters,
    TierCharge,
    Usage,
    add,
    average,
    times,
)

FREE, RATE, FIXED_FEE, LIMITS = "free", "rate", "fixed_fee", "limits"


def needs_values(parameters: Parameters) -> bool:
    """Whether the meter has to read each event's own quantity: the sum of the events does not say which of them pay."""
    return bool(parameters.fixed_fee) or _goes_by_event(parameters)


def _goes_by_event(parameters: Parameters) -> bool:
    p = parameters
    bounded = p.min_per_event is not None or p.max_per_event is not None
    return bool(bounded or p.free_events or (p.free_units and p.fixed_fee))


def percentage(usage: Usage, parameters: Parameters) -> Charged:
    """Raises ``InvalidPrice`` without a rate, ``InvalidQuantity`` when events are counted but not listed where they have to be.

    Where only a fee looks at events, a bare count of them will do: then none of them gave anything back.
    """
    if parameters.rate is None:
        raise InvalidPrice("A percentage needs a rate.", field="properties.rate")
    rate = EXACT.divide(parameters.rate, HUNDRED)
    if _goes_by_event(parameters):
        return _by_event(usage, parameters, rate)
    free = min(usage.quantity, parameters.free_units or ZERO)
    base = EXACT.subtract(usage.quantity, free)
    return _sum(usage.quantity, parameters, rate, free=free, base=base, paying=_paying(usage), limits=ZERO)


def _by_event(usage: Usage, parameters: Parameters, rate: Decimal) -> Charged:
    values = usage.values
    if not values and usage.quantity:
        if usage.events is not None and usage.events != 1:
            raise InvalidQuantity("This price needs the quantity of each event.", field="values")
        values = (usage.quantity,)
    free = base = limits = ZERO
    paying = 0
    for value, paid in _paid(values, parameters):
        free = EXACT.add(free, EXACT.subtract(value, paid))
        if not paid and value > 0:
            continue
        base = EXACT.add(base, paid)
        fee = times(paid, rate)
        if paid >= 0:
            paying += 1
            fee = EXACT.add(fee, parameters.fixed_fee)
        limits = EXACT.add(limits, EXACT.subtract(_bounded(fee, parameters), fee))
    return _sum(usage.quantity, parameters, rate, free=free, base=base, paying=paying, limits=limits)


def _paid(values: tuple[Decimal, ...], parameters: Parameters) -> Iterator[tuple[Decimal, Decimal]]:
    """Each event's quantity, and what of it the allowance does not cover; free events of quantity zero are left out."""
    events_left, units_left = parameters.free_events, parameters.free_units
    for value in values:
        has_allowance = (events_left or units_left) and events_left != 0 and units_left != 0
        if not has_allowance or value < 0:
            yield value, value
            continue
        covered = value if units_left is None else min(value, units_left)
        if events_left is not None:
            events_left -= 1
        if units_left is not None:
            units_left = EXACT.subtract(units_left, covered)
        if value:
            yield value, EXACT.subtract(value, covered)


def _bounded(fee: Decimal, parameters: Parameters) -> Decimal:
    least, most = parameters.min_per_event, parameters.max_per_event
    if least is not None and fee >= 0:
        fee = max(fee, least)
    if most is not None:
        fee = max(min(fee, most), -most)
    return fee


def _paying(usage: Usage) -> int:
    """How many events pay the fee: those that gave nothing back."""
    if usage.values:
        return sum(value >= 0 for value in usage.values)
    if usage.events is not None:
        return usage.events
    return 1 if usage.quantity else 0


def _sum(
    quantity: Decimal,
    parameters: Parameters,
    rate: Decimal,
    *,
    free: Decimal,
    base: Decimal,
    paying: int,
    limits: Decimal,
) -> Charged:
    """The parts: what was free, the rate, the fees, and what the bounds added or took off."""
    fees = times(Decimal(paying), parameters.fixed_fee)
    parts = [
        TierCharge(None, free, ZERO, ZERO, ZERO, label=FREE),
        TierCharge(None, base, rate, ZERO, times(base, rate), rate=parameters.rate, label=RATE),
        TierCharge(None, Decimal(paying), parameters.fixed_fee, ZERO, fees, label=FIXED_FEE),
        TierCharge(None, Decimal(1), limits, ZERO, limits, label=LIMITS),
    ]
    shown = tuple(part for part in parts if part.amount or (part.label == FREE and part.quantity))
    exact = add(*(part.amount for part in shown))
    if exact < 0:
        shown, exact = (*shown, TierCharge(None, Decimal(1), -exact, ZERO, -exact, label=LIMITS)), ZERO
    return Charged(quantity, average(exact, quantity), exact, shown)
