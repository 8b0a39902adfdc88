"""Revenue, cost and margin by service: what each service or product line earned on invoices, and what its units cost us.

* Revenue: net amounts of the lines of invoices that count (finalised and not annulled), by day of issue, less credit notes.
* Service: the meter's, for usage; else what the organisation says of the charge's code (``services`` in its settings).
* Cost: the line's quantity times the unit cost of the meter or charge. A correction of billed usage counts the difference.
  Credit notes take back revenue, not cost: what was used has cost what it cost.
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
    unit_cost: Decimal | None
    quantity: Decimal
    revenue: Decimal


class Tag(NamedTuple):
    """What the organisation says of a charge without a meter."""

    service: str
    unit_cost: Decimal | None = None


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
        tag = tags.get(line.code, Tag(UNTAGGED))
        service = line.service or tag.service
        unit_cost = tag.unit_cost if line.unit_cost is None else line.unit_cost
        figure = found.setdefault(
            (line.month, line.currency, service), ServiceFigure(line.month, line.currency, service)
        )
        figure.revenue += line.revenue
        figure.charges.add(line.code)
        if unit_cost is not None:
            figure.cost = (figure.cost or _ZERO) + line.quantity * unit_cost
    return [found[key] for key in sorted(found)]
