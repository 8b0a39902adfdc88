"""What a unit of a meter costs the house, from which day on: a new cost leaves the days before it as they were."""

from datetime import date
from decimal import Decimal

from billing import clock
from billing.errors import InvalidInput
from billing.models import Meter, MeterCost

BEGINNING = date(1970, 1, 1)
"""The day of a cost that counts for whatever there was before."""
MAX_COST = Decimal(10) ** 9


def cost_on(meter: Meter, day: date) -> Decimal | None:
    """What a unit costs on ``day`` in the organisation's currency; None: nobody said."""
    known = [one for one in meter.costs.all() if one.effective_on <= day]
    return max(known, key=lambda one: one.effective_on).unit_cost if known else None


def told(meter: Meter) -> list[dict[str, str | None]]:
    """The costs as they are written down, oldest first: ``{from, unit_cost}``."""
    rows = sorted(meter.costs.all(), key=lambda one: one.effective_on)
    return [
        {
            "from": one.effective_on.isoformat(),
            "unit_cost": None if one.unit_cost is None else f"{one.unit_cost.normalize():f}",
        }
        for one in rows
    ]


def checked(unit_cost: Decimal | None, effective_on: date | None = None) -> None:
    """Raises ``InvalidInput`` naming ``unit_cost`` or ``unit_cost_from``."""
    if unit_cost is not None and not 0 <= unit_cost < MAX_COST:
        raise InvalidInput(f"Expected a cost from 0 to below {MAX_COST}.", field="unit_cost")
    if effective_on is not None and effective_on < BEGINNING:
        raise InvalidInput(f"Expected a day from {BEGINNING} on.", field="unit_cost_from")


def set_cost(meter: Meter, *, unit_cost: Decimal | None, effective_on: date | None = None) -> bool:
    """Let a unit cost ``unit_cost`` from ``effective_on`` on, today if left out; returns whether that changed anything.

    Later costs stay; one of the same day is replaced. The caller holds the meter's row. Raises ``InvalidInput``.
    """
    checked(unit_cost, effective_on)
    day = effective_on or clock.today(meter.organisation)
    if cost_on(meter, day) == unit_cost:
        return False
    MeterCost.objects.update_or_create(
        meter=meter, effective_on=day, defaults={"unit_cost": unit_cost, "organisation_id": meter.organisation_id}
    )
    return True
