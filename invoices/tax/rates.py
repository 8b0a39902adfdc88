"""Tax rates as dated data, and what a tax rule decides about one category. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from invoices.errors import MissingTaxRate


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Percent for a category in a country (and region) between two days, both included."""

    category: str
    country: str
    rate: Decimal
    valid_from: date
    valid_until: date | None = None
    region: str = ""
    code: str = ""
    exemption_reason: str = ""

    def holds_on(self, day: date) -> bool:
        return self.valid_from <= day and (self.valid_until is None or day <= self.valid_until)


@dataclass(frozen=True)
class RateTable:
    """All rates of an organisation, loaded once a run."""

    rates: tuple[Rate, ...]
    _by_place: dict[tuple[str, str, str], list[Rate]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, rates: Iterable[Rate]) -> "RateTable":
        """A table in which the newest rate comes first."""
        table = cls(tuple(rates))
        for rate in sorted(table.rates, key=lambda rate: rate.valid_from, reverse=True):
            table._by_place.setdefault((rate.category, rate.country, rate.region), []).append(rate)
        return table

    def find(self, *, category: str, country: str, region: str, on: date) -> Rate | None:
        """The rate of the region, else of the whole country, on the day; none if there is none."""
        for place in dict.fromkeys((region, "")):
            for rate in self._by_place.get((category, country, place), ()):
                if rate.holds_on(on):
                    return rate
        return None

    def get(self, *, category: str, country: str, region: str, on: date) -> Rate:
        """Like ``find``; raises ``MissingTaxRate``."""
        rate = self.find(category=category, country=country, region=region, on=on)
        if rate is None:
            raise MissingTaxRate(category=category, country=country, region=region, on=on.isoformat())
        return rate


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxRule:
    """What is levied on one category: letters of EN 16931, components with their percent, and why nothing is charged."""

    category: str
    components: tuple[tuple[str, Decimal], ...]
    rate: Decimal
    code: str = ""
    reason: str = ""
    reverse_charge: bool = False


def rate_day(*, supplied_on: date, invoiced_on: date, paid_on: date | None) -> date:
    """The day whose rate holds around a change of rate: two of supply, invoice and payment decide (CGST Act 14).

    Two days on one side of any change mean that the middle one of the three is on that side.
    """
    return sorted([supplied_on, invoiced_on, paid_on or max(supplied_on, invoiced_on)])[1]
