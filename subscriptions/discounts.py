"""What coupons take off the lines of an invoice, before tax. Pure; exact to the minor unit.

Coupons go one after the other: those restricted to charges or meters first, then those restricted to plans, then the others;
of equals the oldest first. Each takes from what the earlier ones left. A percentage is of the charges it may touch, a fixed
amount is spread over them by their size. What a component gives back or was billed already (negative lines) limits what
can be taken off it, so that neither a component nor the invoice falls below nothing.
"""

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

from invoices.totals import spread

PERCENT, FIXED = "percent", "fixed"
ZERO, HUNDRED = Decimal(0), Decimal(100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A line as coupons see it: its amount, and what it is for."""

    amount: Decimal
    code: str
    plan: str = ""
    meter: str = ""
    subscription_id: uuid.UUID | None = None

    @property
    def component(self) -> tuple[uuid.UUID | None, str]:
        """Lines of one component of one subscription belong together."""
        return self.subscription_id, self.code


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A coupon that a customer holds, with what is left of it: ``available`` of a fixed one, for this invoice."""

    id: uuid.UUID
    kind: str
    applied_at: datetime
    percent: Decimal = ZERO
    available: Decimal = ZERO
    plans: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset()
    meters: frozenset[str] = frozenset()
    subscription_id: uuid.UUID | None = None

    @property
    def order(self) -> tuple[int, datetime, uuid.UUID]:
        """Restricted ones first, the closer the earlier; of equals the oldest."""
        rank = 0 if self.codes or self.meters else 1 if self.plans else 2
        return rank, self.applied_at, self.id

    def touches(self, item: Item) -> bool:
        """Whether the coupon may take something off the line."""
        if self.subscription_id is not None and item.subscription_id != self.subscription_id:
            return False
        if self.plans and item.plan not in self.plans:
            return False
        return not (self.codes or self.meters) or item.code in self.codes or item.meter in self.meters


@dataclass(frozen=True, slots=True)
class Share:
    """What one coupon takes off, by line; ``available`` is what a fixed one had to give."""

    offer_id: uuid.UUID
    available: Decimal
    by_line: Mapping[int, Decimal]

    @property
    def amount(self) -> Decimal:
        """All that it takes off."""
        return sum(self.by_line.values(), ZERO)


@dataclass(slots=True)
class _Room:
    """What can still be taken off: of each line, of each component, of the invoice."""

    lines: list[Decimal]
    components: dict[tuple[uuid.UUID | None, str], Decimal]
    invoice: Decimal
    members: dict[tuple[uuid.UUID | None, str], list[int]] = field(default_factory=dict)


def discounts(items: Sequence[Item], offers: Sequence[Offer], *, quantum: Decimal) -> list[Share]:
    """What each coupon takes off, in the order in which they go; a coupon that finds nothing is left out.

    ``quantum``: the minor unit; amounts are multiples of it.
    """
    room = _room(items)
    shares = []
    for offer in sorted(offers, key=lambda one: one.order):
        by_line = _take(offer, items, room, quantum)
        if by_line:
            shares.append(Share(offer.id, offer.available, by_line))
    return shares


def _room(items: Sequence[Item]) -> _Room:
    components: dict[tuple[uuid.UUID | None, str], Decimal] = defaultdict(Decimal)
    members: dict[tuple[uuid.UUID | None, str], list[int]] = defaultdict(list)
    for i, item in enumerate(items):
        components[item.component] += item.amount
        if item.amount > 0:
            members[item.component].append(i)
    return _Room(
        lines=[max(item.amount, ZERO) for item in items],
        components={name: max(amount, ZERO) for name, amount in components.items()},
        invoice=max(sum((item.amount for item in items), ZERO), ZERO),
        members=dict(members),
    )


def _take(offer: Offer, items: Sequence[Item], room: _Room, quantum: Decimal) -> dict[int, Decimal]:
    """Take what the coupon gives; lowers the room by it."""
    open_lines = {
        name: [i for i in lines if room.lines[i] > 0 and offer.touches(items[i])]
        for name, lines in room.members.items()
        if room.components[name] > 0
    }
    open_lines = {name: lines for name, lines in open_lines.items() if lines}
    wanted = _wanted(offer, open_lines, room)
    exact = sum(wanted.values(), ZERO)
    total = min(exact.quantize(quantum, rounding=ROUND_HALF_UP), room.invoice)
    if total <= 0:
        return {}
    names = list(wanted)
    found: dict[int, Decimal] = {}
    for name, part in zip(names, _split(total, [wanted[name] for name in names], quantum), strict=True):
        lines = open_lines[name]
        for i, amount in zip(lines, _split(part, [room.lines[i] for i in lines], quantum), strict=True):
            if amount:
                found[i] = amount
                room.lines[i] -= amount
        room.components[name] -= part
    room.invoice -= total
    return found


def _wanted(
    offer: Offer, open_lines: Mapping[tuple[uuid.UUID | None, str], Sequence[int]], room: _Room
) -> dict[tuple[uuid.UUID | None, str], Decimal]:
    """What the coupon would take off each component, not rounded, never more than the component bears."""
    sizes = {name: sum((room.lines[i] for i in lines), ZERO) for name, lines in open_lines.items()}
    if offer.kind == PERCENT:
        share = offer.percent / HUNDRED
        return {name: min(size * share, room.components[name]) for name, size in sizes.items()}
    bearable = {name: min(size, room.components[name]) for name, size in sizes.items()}
    most = sum(bearable.values(), ZERO)
    given = min(offer.available, most)
    return {name: given * part / most for name, part in bearable.items()} if most else {}


def _split(total: Decimal, weights: Sequence[Decimal], quantum: Decimal) -> list[Decimal]:
    """``total`` by ``weights`` in minor units that add up; no part exceeds its weight rounded up."""
    whole = sum(weights, ZERO)
    if not total or not whole:
        return [ZERO] * len(weights)
    shares = [total * weight / whole for weight in weights]
    return spread(shares, total, quantum)
