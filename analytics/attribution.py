"""Revenue, cost and margin by service: what each service or product line earned on invoices, and what its units cost us.

* Revenue: net amounts of the lines of invoices that count (finalised and not annulled), by day of issue, less credit notes.
* Service: the meter's, for usage; else what the organisation says of the charge's code (``services`` in its settings).
* Cost: the line's quantity times the unit cost of the meter or charge on the days that the line is for, up to its day of issue. A
  cost that changed within them counts for its days, as wholes: the last that was said of a day holds for all of it. Days without one
  are left out. So a new cost leaves the days before it as they were. A correction of billed usage counts the difference. Credit notes
  take back revenue, not cost: what was used has cost what it cost.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import NamedTuple

_ZERO = Decimal(0)
UNTAGGED = ""


class ServiceLine(NamedTuple):
    """What one charge came to in one month and currency."""

    month: date
    currency: str
    code: str
    service: str
    """Of the meter; empty without one."""
    cost: Decimal | None
    """None: nothing says what it costs."""
    revenue: Decimal


class DatedCost(NamedTuple):
    """What a unit costs from a day on; None: not known any more."""

    effective_on: date
    unit_cost: Decimal | None


class Tag(NamedTuple):
    """What the organisation says of a charge without a meter."""

    service: str
    costs: tuple[DatedCost, ...] = ()
    """Oldest first."""

    @property
    def unit_cost(self) -> Decimal | None:
        """What was said last."""
        return self.costs[-1].unit_cost if self.costs else None

    def costing(self, unit_cost: Decimal | None, on: date) -> "Tag":
        """The tag with another cost from ``on`` on; the days before keep theirs."""
        if unit_cost == self.unit_cost:
            return self
        return self._replace(costs=(*(one for one in self.costs if one.effective_on < on), DatedCost(on, unit_cost)))


@dataclass(slots=True)
class ServiceFigure:
    """A service in a month and currency. ``cost`` is in the organisation's currency; None when nothing says what it costs."""

    month: date
    currency: str
    service: str
    revenue: Decimal = _ZERO
    cost: Decimal | None = None
    charges: set[str] = field(default_factory=set)

    def margin(self, cost_currency: str) -> Decimal | None:
        """Revenue less cost, where both are in one currency."""
        return None if self.cost is None or self.currency != cost_currency else self.revenue - self.cost


def by_service(lines: Iterable[ServiceLine], tags: Mapping[str, Tag]) -> list[ServiceFigure]:
    """The lines by month, currency and service; what has no service is under the empty name."""
    found: dict[tuple[date, str, str], ServiceFigure] = {}
    for line in lines:
        service = line.service or tags.get(line.code, Tag(UNTAGGED)).service
        figure = found.setdefault(
            (line.month, line.currency, service), ServiceFigure(line.month, line.currency, service)
        )
        figure.revenue += line.revenue
        figure.charges.add(line.code)
        if line.cost is not None:
            figure.cost = (figure.cost or _ZERO) + line.cost
    return [found[key] for key in sorted(found)]
