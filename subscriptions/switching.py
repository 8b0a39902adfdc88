"""What changing or ending a subscription within a paid period costs. Pure; counted in local days.

The day of a change belongs to the new terms; the day of an end belongs to the old ones. What is unused is credited from
the price that was billed, what remains is charged at the new price; both are shares of the same period, so however often
a subscription changes within a period, each day costs what its own terms say, to the last minor unit.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from moneyed import Money

from invoices.drafts import LineInput
from subscriptions.lines import Component, PriceBook, part_line
from subscriptions.periods import Period
from subscriptions.pricing import PricedComponent
from subscriptions.proration import part_of, share

_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a subscription is charged by: the prices and the quantity."""

    book: PriceBook
    quantity: int


@dataclass(frozen=True, slots=True)
class Paid:
    """The days [first_on, next_on) of ``period`` that were billed in advance."""

    period: Period
    first_on: date
    next_on: date

    @property
    def last_on(self) -> date:
        """Last billed day."""
        return self.next_on - _ONE_DAY


def switch_lines(*, old: Terms, new: Terms, paid: Paid, today: date) -> list[LineInput]:
    """Credit for what is unused of ``old`` and charge for the rest of the period by ``new``; unchanged components stay out."""
    before = {component.code: (component, component.price(old.quantity)) for component in old.book.licensed}
    after = {component.code: (component, component.price(new.quantity)) for component in new.book.licensed}
    lines = []
    for code in [*before, *(code for code in after if code not in before)]:
        was, becomes = before.get(code), after.get(code)
        if was and becomes and was[1].amount == becomes[1].amount:
            continue
        if was:
            lines.append(_unused(*was, paid, today))
        if becomes:
            lines.append(_remaining(*becomes, paid, today))
    return [line for line in lines if line.amount.amount]


def unused_lines(*, old: Terms, paid: Paid, from_on: date) -> list[LineInput]:
    """Credit for the days of the paid period from ``from_on`` on."""
    lines = [_unused(component, component.price(old.quantity), paid, from_on) for component in old.book.licensed]
    return [line for line in lines if line.amount.amount]


def _unused(component: Component, priced: PricedComponent, paid: Paid, from_on: date) -> LineInput:
    first_on = max(from_on, paid.first_on)
    part = part_of(paid.period, first_on=first_on, next_on=paid.next_on)
    text = f"Unused: {component.name} ({part.days} of {part.total} days)"
    return part_line(component, priced, -share(priced.amount, part), part, text, first_on, paid.last_on)


def _remaining(component: Component, priced: PricedComponent, paid: Paid, from_on: date) -> LineInput:
    first_on = max(from_on, paid.first_on)
    part = part_of(paid.period, first_on=first_on, next_on=paid.next_on)
    text = f"{component.name} ({part.days} of {part.total} days)"
    return part_line(component, priced, share(priced.amount, part), part, text, first_on, paid.last_on)


@dataclass(frozen=True, slots=True)
class Settlement:
    """How lines become documents: ``invoice`` lines, and what to credit by component."""

    invoice: tuple[LineInput, ...]
    credit: dict[str, Money]


def net_by_component(lines: Sequence[LineInput]) -> Settlement:
    """For lines that come to less than nothing: components that cost more are invoiced, the others credited."""
    sums: dict[str, Money] = {}
    members: dict[str, list[LineInput]] = defaultdict(list)
    for line in lines:
        sums[line.code] = sums[line.code] + line.amount if line.code in sums else line.amount
        members[line.code].append(line)
    return Settlement(
        invoice=tuple(line for code, amount in sums.items() if amount.amount > 0 for line in members[code]),
        credit={code: -amount for code, amount in sums.items() if amount.amount < 0},
    )
