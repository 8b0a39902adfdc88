"""From measurements to a quantity: what each kind of meter makes of the events of a window. Pure; Decimal only.

========  =============================================================  ======================================
meter     quantity of a window                                           recurring
========  =============================================================  ======================================
count     number of events                                               not possible
sum       sum of quantities                                              sum since the customer's first event
max       greatest quantity                                              not possible
unique    subjects whose last word is *add*                              those of earlier windows stay
latest    quantity of the last event                                     stays until another one comes
weighted  the level (a running sum) times the part of the window that    starts at the level of the last window
          it stood, to the microsecond
========  =============================================================  ======================================

At its peak (``Window.at_peak``) a window comes to the highest level that it reached, instead of the one at its end: a later event
that lowers a recurring sum, a unique count or a latest value lowers nothing.

Events are ordered by time of occurrence, then by the order in which they were taken in. A level or running sum below zero
counts as zero. Rounding is the meter's and is applied once, to the finished quantity.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from typing import NamedTuple

COUNT, SUM, MAX, UNIQUE, LATEST, WEIGHTED = "count", "sum", "max", "unique", "latest", "weighted"
ROUNDINGS = {"round": ROUND_HALF_UP, "ceil": ROUND_CEILING, "floor": ROUND_FLOOR}
DECIMALS = Decimal(1).scaleb(-12)
_ZERO = Decimal(0)


class Segment(NamedTuple):
    """A filter of a charge: an event is of it when each named property has one of the allowed values."""

    key: str
    conditions: tuple[tuple[str, tuple[str, ...]], ...]


class Window(NamedTuple):
    """What is asked: one customer, one meter, events in [start, end), and how they are split."""

    customer_id: uuid.UUID
    meter_id: uuid.UUID
    start: datetime
    end: datetime
    segments: tuple[Segment, ...] = ()
    """Most specific first; an event belongs to the first that fits, else to ``""``."""
    group_by: tuple[str, ...] = ()
    """Properties whose values split the charge into own lines; a missing one is ``""``."""
    with_values: bool = False
    """Each event's own quantity too, in order."""
    subscription_id: uuid.UUID | None = None
    """Set: only events that name this subscription, or none."""
    at_peak: bool = False
    """The highest level within the window, where levels can fall."""

    @property
    def split_by(self) -> tuple[str, ...]:
        """Names of all properties that decide where an event belongs."""
        named = [name for segment in self.segments for name, _ in segment.conditions]
        return tuple(dict.fromkeys([*named, *self.group_by]))


class Used(NamedTuple):
    """What one part of a window comes to."""

    segment: str
    group: tuple[str, ...]
    quantity: Decimal
    events: int
    """Events of the window itself, not of the state it began with."""
    amount: Decimal
    """Sum of the prices the events carry, for dynamic charges."""
    values: tuple[Decimal, ...] = ()


class MeterRule(NamedTuple):
    """A meter as rules see it."""

    aggregation: str
    recurring: bool = False
    rounding: str = ""
    rounding_decimals: int = 0


class Reading(NamedTuple):
    """One or more events that belong together, as the database adds them up."""

    values: tuple[str, ...]
    """Of the properties of ``Window.split_by``."""
    subject: str
    earlier: bool
    """Before the window: the state a recurring meter begins with."""
    events: int
    total: Decimal
    greatest: Decimal
    last: Decimal
    last_at: datetime
    last_id: int
    amount: Decimal


def parts(window: Window, rule: MeterRule, readings: Iterable[Reading]) -> tuple[Used, ...]:
    """The window's usage by segment and group, in the order of their keys; parts without anything are left out."""
    buckets: dict[tuple[str, tuple[str, ...]], list[Reading]] = {}
    for reading in readings:
        properties = dict(zip(window.split_by, reading.values, strict=True))
        key = segment_of(window.segments, properties), tuple(properties[name] for name in window.group_by)
        buckets.setdefault(key, []).append(reading)
    found = []
    for (segment, group), bucket in sorted(buckets.items()):
        events = sum(reading.events for reading in bucket if not reading.earlier)
        quantity = quantity_of(window, rule, bucket)
        if events or quantity:
            amount = sum((reading.amount for reading in bucket if not reading.earlier), _ZERO)
            values = _values(window, rule, bucket) if window.with_values else ()
            found.append(Used(segment, group, quantity, events, amount, values))
    return tuple(found)


def reads_each(window: Window, rule: MeterRule) -> bool:
    """Whether the window's peak is not its end, so that its events have to be read one by one."""
    return window.at_peak and (rule.aggregation in (UNIQUE, LATEST) or (rule.aggregation == SUM and rule.recurring))


def segment_of(segments: Sequence[Segment], properties: Mapping[str, str]) -> str:
    """Key of the first segment that fits, or ``""``."""
    for segment in segments:
        if all(properties.get(name, "") in allowed for name, allowed in segment.conditions):
            return segment.key
    return ""


def quantity_of(window: Window, rule: MeterRule, readings: Sequence[Reading]) -> Decimal:
    """What the readings come to by the meter's rule, rounded."""
    if reads_each(window, rule):
        return rounded(max(_levels(rule, readings)), rule)
    match rule.aggregation:
        case "count":
            exact = Decimal(sum(reading.events for reading in readings))
        case "sum":
            exact = max(sum((reading.total for reading in readings), _ZERO), _ZERO)
        case "max":
            exact = max(reading.greatest for reading in readings)
        case "unique":
            exact = Decimal(sum(reading.last > 0 for reading in _last_by_subject(readings)))
        case "latest":
            exact = max(readings, key=_order).last
        case "weighted":
            exact = _weighted(window, readings)
        case other:
            raise ValueError(other)
    return rounded(exact, rule)


def rounded(quantity: Decimal, rule: MeterRule) -> Decimal:
    """``quantity`` by the meter's rounding; without one, at most twelve decimals."""
    if not rule.rounding:
        return quantity
    return quantity.quantize(Decimal(1).scaleb(-rule.rounding_decimals), ROUNDINGS[rule.rounding]) + _ZERO


def _order(reading: Reading) -> tuple[datetime, int]:
    return reading.last_at, reading.last_id


def _last_by_subject(readings: Iterable[Reading]) -> Iterable[Reading]:
    last: dict[str, Reading] = {}
    for reading in readings:
        known = last.get(reading.subject)
        if known is None or _order(known) < _order(reading):
            last[reading.subject] = reading
    return last.values()


def _weighted(window: Window, readings: Sequence[Reading]) -> Decimal:
    whole = _microseconds(window.start, window.end)
    level = sum((reading.total for reading in readings if reading.earlier), _ZERO)
    since, area = window.start, _ZERO
    for reading in sorted((reading for reading in readings if not reading.earlier), key=_order):
        area += max(level, _ZERO) * _microseconds(since, reading.last_at)
        level, since = level + reading.total, reading.last_at
    area += max(level, _ZERO) * _microseconds(since, window.end)
    return (area / whole).quantize(DECIMALS, ROUND_HALF_UP) if whole else _ZERO


def _microseconds(start: datetime, end: datetime) -> int:
    passed = end - start
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def _levels(rule: MeterRule, readings: Sequence[Reading]) -> Iterator[Decimal]:
    """The level before the window, and after each of its events."""
    earlier = [reading for reading in readings if reading.earlier]
    events = sorted((reading for reading in readings if not reading.earlier), key=_order)
    if rule.aggregation == UNIQUE:
        present = {reading.subject for reading in _last_by_subject(earlier) if reading.last > 0}
        yield Decimal(len(present))
        for reading in events:
            (present.add if reading.last > 0 else present.discard)(reading.subject)
            yield Decimal(len(present))
    elif rule.aggregation == LATEST:
        yield max(earlier, key=_order).last if earlier else _ZERO
        yield from (reading.last for reading in events)
    else:
        level = sum((reading.total for reading in earlier), _ZERO)
        yield max(level, _ZERO)
        for reading in events:
            level += reading.total
            yield max(level, _ZERO)


def _values(window: Window, rule: MeterRule, readings: Sequence[Reading]) -> tuple[Decimal, ...]:
    """Each event's quantity; at its peak, by how much each event raised it, without those that lowered the level."""
    ordered = sorted((reading for reading in readings if not reading.earlier), key=_order)
    if rule.aggregation != SUM or not reads_each(window, rule):
        return tuple(reading.total for reading in ordered)
    before, *levels = _levels(rule, readings)
    found, peak = [], before
    for reading, level in zip(ordered, levels, strict=True):
        if reading.total >= 0:
            found.append(max(level - peak, _ZERO))
        peak = max(peak, level)
    return tuple(found)
