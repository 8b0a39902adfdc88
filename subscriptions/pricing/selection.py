"""Filters and groups: which price an event of a component takes, and which line it is on.

A filter names event properties and the values each may have; it fits when every one of them has one of its values. Of the
filters that fit the most specific wins: the one that names most properties, then the one that allows fewest values, then the
one that was given first. What no filter fits takes the component's own price.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from subscriptions.pricing.errors import InvalidFilters
from subscriptions.pricing.rules import Rule

MAX_FILTERS = 50
MAX_PROPERTIES = 10
MAX_VALUES = 100
MAX_GROUPS = 5
MAX_LENGTH = 100
Conditions = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """Another rule of the same model for what fits ``conditions``."""

    key: str
    name: str
    conditions: Conditions
    rule: Rule

    def fits(self, properties: Mapping[str, Any]) -> bool:
        """Whether an event with these properties is selected."""
        return all(_text(properties.get(name)) in values for name, values in self.conditions)


def by_specificity(filters: Sequence[Filter]) -> tuple[Filter, ...]:
    """Most specific first; an event belongs to the first that fits."""
    return tuple(sorted(filters, key=lambda one: (-len(one.conditions), sum(len(v) for _, v in one.conditions))))


def most_specific(filters: Sequence[Filter], properties: Mapping[str, Any]) -> Filter | None:
    """The filter whose price an event takes; None for the component's own."""
    return next((one for one in by_specificity(filters) if one.fits(properties)), None)


def parse_conditions(raw: Any, *, field: str) -> Conditions:
    """Read ``{"region": ["eu", "us"]}``. Raises ``InvalidFilters``."""
    if not isinstance(raw, Mapping) or not 1 <= len(raw) <= MAX_PROPERTIES:
        raise InvalidFilters(
            f'Give 1 to {MAX_PROPERTIES} properties with their values, such as {{"region": ["eu"]}}.', field=field
        )
    found = []
    for name, values in sorted(raw.items(), key=lambda item: str(item[0])):
        _check_property(name, field)
        if not isinstance(values, Sequence) or isinstance(values, str | bytes) or not 1 <= len(values) <= MAX_VALUES:
            raise InvalidFilters(f"Give 1 to {MAX_VALUES} values of '{name}' as a list.", field=f"{field}.{name}")
        if not all(isinstance(value, str) and 0 < len(value) <= MAX_LENGTH and "\x00" not in value for value in values):
            raise InvalidFilters(f"Values of '{name}' are texts of 1 to {MAX_LENGTH} letters.", field=f"{field}.{name}")
        found.append((name, tuple(dict.fromkeys(values))))
    return tuple(found)


def parse_group_by(raw: Any, *, field: str = "group_by") -> tuple[str, ...]:
    """Read the names of the properties that split a component into lines. Raises ``InvalidFilters``."""
    if not isinstance(raw, Sequence) or isinstance(raw, str | bytes) or len(raw) > MAX_GROUPS:
        raise InvalidFilters(f"Give at most {MAX_GROUPS} property names as a list.", field=field)
    for name in raw:
        _check_property(name, field)
    if len(set(raw)) != len(raw):
        raise InvalidFilters("A property groups once.", field=field)
    return tuple(raw)


def refuse_overlap(filters: Sequence[Filter], *, field: str) -> None:
    """Raises ``InvalidFilters`` when two filters have one key, or select the same at the same rank by the same values."""
    if len(filters) > MAX_FILTERS:
        raise InvalidFilters(f"At most {MAX_FILTERS} filters, got {len(filters)}.", field=field)
    keys: set[str] = set()
    seen: dict[Any, str] = {}
    for one in filters:
        if one.key in keys:
            raise InvalidFilters(f"Two filters have the key '{one.key}'.", field=field)
        keys.add(one.key)
        same = tuple((name, frozenset(values)) for name, values in one.conditions)
        if same in seen:
            raise InvalidFilters(f"'{one.key}' selects the same usage as '{seen[same]}'.", field=field)
        seen[same] = one.key


def _check_property(name: Any, field: str) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_LENGTH or "\x00" in name:
        raise InvalidFilters(f"A property name is a text of 1 to {MAX_LENGTH} letters.", field=field)


def _text(value: Any) -> str | None:
    """A property as SQL's ``->>`` shows it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
