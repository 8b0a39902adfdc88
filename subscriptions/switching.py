"""What changing or ending a subscription within a paid period costs. Pure; counted in local days, or in seconds.

By the day, the day of a change belongs to the new terms and the day of an end to the old ones. What is unused is credited
from the price that was billed, what remains is charged at the new price; both are shares of the same period, so however often
a subscription changes within a period, each day costs what its own terms say, to the last minor unit.

A component that is not prorated is neither credited nor charged again within a period; one that is new is charged whole.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from moneyed import Money

from billing.money import round_money
from invoices.claims import Claim
from invoices.credits import Treatment
from invoices.drafts import LineInput
from subscriptions.lines import Component, PriceBook, part_line
from subscriptions.periods import Period, end_day, local_date
from subscriptions.pricing import PricedComponent
from subscriptions.progressive import is_taken_off
from subscriptions.proration import DAY, Part, Span, share, span_of

_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a subscription is charged by: the prices and the quantity."""

    book: PriceBook
    quantity: int


@dataclass(frozen=True, slots=True)
class Paid:
    """The time [start, end) of ``period`` that was billed in advance, and how its parts are counted."""

    period: Period
    start: datetime
    end: datetime
    zone: ZoneInfo
    proration: str = DAY

    @property
    def last_on(self) -> date:
        """Last billed day."""
        return end_day(self.end, self.zone) - _ONE_DAY

    def first_on(self, at: datetime) -> date:
        """The first local day of what is left from ``at`` on."""
        return local_date(max(at, self.start), self.zone)

    def rest(self, at: datetime) -> Span:
        """What is left of it from ``at`` on."""
        start = min(max(at, self.start), self.end)
        return span_of(self.period, start=start, end=self.end, proration=self.proration, zone=self.zone)


def switch_lines(*, old: Terms, new: Terms, paid: Paid, at: datetime) -> list[LineInput]:
    """Credit for what is unused of ``old`` and charge for the rest of the period by ``new``; unchanged components stay out."""
    before = {component.code: (component, component.price(old.quantity)) for component in old.book.licensed}
    after = {component.code: (component, component.price(new.quantity)) for component in new.book.licensed}
    rest = paid.rest(at)
    lines = []
    for code in [*before, *(code for code in after if code not in before)]:
        was, becomes = before.get(code), after.get(code)
        if was and becomes and was[1].amount == becomes[1].amount:
            continue
        if was and was[0].prorated:
            lines.append(_unused(*was, rest))
        if becomes and (becomes[0].prorated or was is None):
            lines.append(_remaining(*becomes, rest))
    return [line for line in lines if line.amount.amount]


def unused_lines(*, old: Terms, paid: Paid, at: datetime) -> list[LineInput]:
    """Credit for what is left of the paid period from ``at`` on."""
    rest = paid.rest(at)
    prorated = [component for component in old.book.licensed if component.prorated]
    lines = [_unused(component, component.price(old.quantity), rest) for component in prorated]
    return [line for line in lines if line.amount.amount]


def _unused(component: Component, priced: PricedComponent, rest: Span) -> LineInput:
    text = f"Unused: {component.name} ({rest.part})"
    return _part(component, priced, -share(priced.amount, rest.part), rest, rest.part, text)


def _remaining(component: Component, priced: PricedComponent, rest: Span) -> LineInput:
    part = rest.part if component.prorated else Part(0, rest.part.total, rest.part.total, rest.part.unit)
    text = component.name if part.is_whole else f"{component.name} ({part})"
    return _part(component, priced, share(priced.amount, part), rest, part, text)


def _part(component: Component, priced: PricedComponent, amount: Money, rest: Span, part: Part, text: str) -> LineInput:
    return part_line(component, priced, amount, part, text, rest.first_on, rest.next_on - _ONE_DAY)


@dataclass(frozen=True, slots=True)
class Settlement:
    """How lines become documents: ``invoice`` lines, and what to credit by component."""

    invoice: tuple[LineInput, ...]
    credit: dict[str, Money]


def net_by_component(lines: Sequence[LineInput]) -> Settlement:
    """For lines that come to less than nothing: components that cost more are invoiced, the others credited.

    A component is netted within the same days only: what a new period charges is on an invoice, so that it can be given back.
    """
    sums: dict[tuple[str, date | None], Money] = {}
    members: dict[tuple[str, date | None], list[LineInput]] = defaultdict(list)
    for line in lines:
        key = line.code, line.period_end
        sums[key] = sums[key] + line.amount if key in sums else line.amount
        members[key].append(line)
    credit: dict[str, Money] = {}
    for (code, _), amount in sums.items():
        if amount.amount < 0:
            _add(credit, code, -amount)
    return Settlement(
        invoice=tuple(line for key, amount in sums.items() if amount.amount > 0 for line in members[key]), credit=credit
    )


def _add(sums: dict[str, Money], code: str, amount: Money) -> None:
    sums[code] = sums[code] + amount if code in sums else amount


def settle(
    lines: Sequence[LineInput], *, treatments: Mapping[str, Treatment], billed: Mapping[str, Collection[Treatment]]
) -> Settlement:
    """What is invoiced of ``lines`` and what is credited, so that no tax of the invoice is given back that was not charged.

    ``treatments``: how the invoice taxes a category; ``billed``: how components were taxed when they were billed. What was
    billed at another tax is credited there; of lines that are taxed alike and come to nothing or less, what costs more is
    invoiced by component and the rest credited.
    """
    alike: dict[Treatment, list[LineInput]] = defaultdict(list)
    invoiced: set[int] = set()
    credit: dict[str, Money] = {}
    for line in lines:
        treatment = treatments[line.tax_category]
        if line.amount.amount < 0 and not is_taken_off(line) and not {treatment}.issuperset(billed.get(line.code, ())):
            _add(credit, line.code, -line.amount)
        else:
            alike[treatment].append(line)
    for members in alike.values():
        if sum(line.amount.amount for line in members) > 0:
            invoiced |= {id(line) for line in members}
            continue
        netted = net_by_component(members)
        invoiced |= {id(line) for line in netted.invoice}
        for code, amount in netted.credit.items():
            _add(credit, code, amount)
    return Settlement(invoice=tuple(line for line in lines if id(line) in invoiced), credit=credit)


def as_paid(lines: Sequence[LineInput], shares: Mapping[str, Decimal]) -> list[LineInput]:
    """``lines`` with credits at what was paid of the price list: ``shares`` by component, all of it where none is given.

    What takes off an interim invoice is what that charged, and stays.
    """
    return [
        replace(line, amount=round_money(line.amount * shares[line.code]))
        if line.amount.amount < 0 and line.code in shares and not is_taken_off(line)
        else line
        for line in lines
    ]


def capped(lines: Sequence[LineInput], claims: Mapping[str, Claim]) -> list[LineInput]:
    """``lines`` with credits no higher than what invoices still claim of each component; a component is credited once.

    What was annulled, written off, discounted or credited by hand is not paid back again. What takes off an interim invoice
    was read from that invoice, and stays.
    """
    return [found for line in lines if (found := _within(line, claims.get(line.code, Claim()))) is not None]


def _within(line: LineInput, claim: Claim) -> LineInput | None:
    """A credit cut to what is claimed; None when nothing is."""
    if line.amount.amount >= 0 or is_taken_off(line):
        return line
    allowed = claim.at_most(-line.amount)
    if not allowed.amount:
        return None
    return line if allowed == -line.amount else replace(line, amount=-allowed)
