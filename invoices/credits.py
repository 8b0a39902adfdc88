"""What a credit note takes off an invoice: net and tax per line, exact when the last one uses it up. Pure.

Section 34 of the CGST Act: the credit bears the rate of its invoice; the last credit takes what is left of each tax.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import ROUND_HALF_UP, ROUND_UP, Decimal
from typing import NamedTuple

from invoices.drafts import PricedInvoice
from invoices.errors import CreditExceedsInvoice, NothingToCredit
from invoices.tax.rates import TaxRule
from invoices.totals import spread

ZERO = Decimal(0)
HUNDRED = Decimal(100)
HALVES = frozenset({"CGST", "SGST", "UTGST"})
BY_LINE = frozenset({"CGST", "IGST", "GST"})


class Treatment(NamedTuple):
    """How an amount is taxed: category, rate in percent, and the taxes that are levied (the halves, or one whole)."""

    letter: str
    rate: Decimal
    components: frozenset[str]

    @classmethod
    def by(cls, rule: TaxRule) -> "Treatment":
        """How a rule taxes."""
        return cls(rule.category, rule.rate, frozenset(component for component, _ in rule.components))


@dataclass(frozen=True, slots=True, kw_only=True)
class Meant:
    """What proration gives a credit for: the unused days [unused_from, unused_to].

    ``instead_of``: by position, how much of what is taken off a line (net) stands for which other component.
    """

    unused_from: date | None = None
    unused_to: date | None = None
    instead_of: Mapping[int, Mapping[str, Decimal]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Creditable:
    """A line of the invoice and what earlier notes left of its net."""

    position: int
    description: str
    amount: Decimal
    left: Decimal
    letter: str
    rate: Decimal
    revenue_account: str


@dataclass(frozen=True, slots=True)
class CreditableTax:
    """A row of the invoice's tax table and what earlier notes left of it."""

    component: str
    category: str
    rate: Decimal
    left_base: Decimal
    left_tax: Decimal
    reverse_charged: bool = False

    def holds(self, line: Creditable) -> bool:
        """Whether the line's tax went into this row."""
        share = self.rate * 2 if self.component in HALVES else self.rate
        return self.category == line.letter and share == line.rate


@dataclass(frozen=True, slots=True)
class CreditedTax:
    """A row of the note's tax table."""

    component: str
    category: str
    rate: Decimal
    base: Decimal
    tax: Decimal


@dataclass(frozen=True, slots=True)
class PricedCredit:
    """A note to be. ``lines`` holds (line, net, tax); total = net + tax + rounding."""

    lines: tuple[tuple[Creditable, Decimal, Decimal], ...]
    taxes: tuple[CreditedTax, ...]
    net: Decimal
    tax: Decimal
    rounding: Decimal
    total: Decimal


@dataclass(frozen=True, slots=True)
class Standing:
    """An invoice as earlier credit notes left it."""

    lines: tuple[Creditable, ...]
    taxes: tuple[CreditableTax, ...]
    left_rounding: Decimal
    left_total: Decimal
    quantum: Decimal

    def treatment(self, position: int) -> Treatment:
        """How the line at ``position`` was taxed."""
        line = self.lines[position - 1]
        return Treatment(line.letter, line.rate, frozenset(row.component for row in self.taxes if row.holds(line)))

    def price(self, asked: Mapping[int, Decimal] | None) -> PricedCredit:
        """What a credit note over ``asked`` net amounts would say. Raises what ``price_credit`` raises."""
        priced = self._priced(asked)
        if priced.total > self.left_total:
            left = f"{self.left_total.normalize():f}"
            raise CreditExceedsInvoice(left=left, what="the invoice", asked=f"{priced.total:f}")
        if priced.total <= 0:
            raise NothingToCredit("The credited lines come to nothing; choose lines of a positive sum.")
        return priced

    def _priced(self, asked: Mapping[int, Decimal] | None) -> PricedCredit:
        return price_credit(
            lines=self.lines,
            taxes=self.taxes,
            asked=asked,
            left_rounding=self.left_rounding,
            quantum=self.quantum,
            by_line=any(row.component in BY_LINE for row in self.taxes),
        )

    def within(self, asked: Mapping[int, Decimal]) -> dict[int, Decimal]:
        """``asked`` net amounts, the last ones cut until a note over them is not more than is left of the invoice, tax included.

        Where an invoice has lines below zero at another rate, its lines can bear more than it claims in all.
        """
        found = {position: amount for position, amount in asked.items() if amount > 0}
        rates = {line.position: line.rate for line in self.lines}
        while found and (over := self._priced(found).total - self.left_total) > 0:
            last = max(found)
            found[last] -= (over * HUNDRED / (HUNDRED + rates[last])).quantize(self.quantum, rounding=ROUND_UP)
            if found[last] <= 0:
                del found[last]
        return found

    def after(self, priced: PricedCredit) -> "Standing":
        """What is left after that note."""
        nets = {line.position: net for line, net, _ in priced.lines}
        taxes = {(row.component, row.category, row.rate): row for row in priced.taxes}
        return replace(
            self,
            lines=tuple(replace(line, left=line.left - nets.get(line.position, ZERO)) for line in self.lines),
            taxes=tuple(_tax_after(row, taxes.get((row.component, row.category, row.rate))) for row in self.taxes),
            left_rounding=self.left_rounding - priced.rounding,
            left_total=self.left_total - priced.total,
        )


def standing_of(priced: PricedInvoice, *, quantum: Decimal) -> Standing:
    """An invoice as it will stand when it is issued and nothing was credited yet."""
    return Standing(
        lines=tuple(
            Creditable(
                position=line.position,
                description=line.given.description,
                amount=line.amount,
                left=line.amount,
                letter=line.tax_letter,
                rate=line.tax_rate,
                revenue_account=line.revenue_account,
            )
            for line in priced.lines
        ),
        taxes=tuple(
            CreditableTax(
                component=row.component,
                category=row.category,
                rate=row.rate,
                left_base=row.base,
                left_tax=row.tax,
                reverse_charged=priced.reverse_charge and row.category == "AE",
            )
            for row in priced.taxes
        ),
        left_rounding=priced.rounding,
        left_total=priced.total,
        quantum=quantum,
    )


def _tax_after(row: CreditableTax, credited: CreditedTax | None) -> CreditableTax:
    if credited is None:
        return row
    return replace(row, left_base=row.left_base - credited.base, left_tax=row.left_tax - credited.tax)


def price_credit(
    *,
    lines: Sequence[Creditable],
    taxes: Sequence[CreditableTax],
    asked: Mapping[int, Decimal] | None,
    left_rounding: Decimal,
    quantum: Decimal,
    by_line: bool,
) -> PricedCredit:
    """Price a credit of ``asked`` net amounts by position; None asks for everything that is left.

    ``by_line`` rounds the tax of each line (India), else once per row on the summed base (EN 16931).
    Raises ``CreditExceedsInvoice`` and ``NothingToCredit``.
    """
    nets = {line.position: _net(line, asked) for line in lines}
    if not any(nets.values()):
        raise NothingToCredit
    uses_up = all(nets[line.position] == line.left for line in lines)
    line_taxes = dict.fromkeys(nets, ZERO)
    rows = []
    for row in taxes:
        members = [line for line in lines if row.holds(line) and nets[line.position]]
        if not members:
            continue
        credited = _credit_row(
            row, [nets[line.position] for line in members], quantum=quantum, by_line=by_line, rest=uses_up
        )
        rows.append(credited[0])
        for line, share in zip(members, credited[1], strict=True):
            line_taxes[line.position] += share
    net, tax = sum(nets.values(), ZERO), sum((row.tax for row in rows), ZERO)
    rounding = left_rounding if uses_up else ZERO
    return PricedCredit(
        lines=tuple((line, nets[line.position], line_taxes[line.position]) for line in lines if nets[line.position]),
        taxes=tuple(rows),
        net=net,
        tax=tax,
        rounding=rounding,
        total=net + tax + rounding,
    )


def _net(line: Creditable, asked: Mapping[int, Decimal] | None) -> Decimal:
    """The part of a line to credit: between nothing and what is left, whichever its sign."""
    if asked is None:
        return line.left
    amount = asked.get(line.position, ZERO)
    low, high = sorted((ZERO, line.left))
    if not low <= amount <= high:
        raise CreditExceedsInvoice(left=f"{line.left.normalize():f}", what=f"line {line.position}", asked=f"{amount:f}")
    return amount


def _credit_row(
    row: CreditableTax, nets: Sequence[Decimal], *, quantum: Decimal, by_line: bool, rest: bool
) -> tuple[CreditedTax, list[Decimal]]:
    """One row of the note's tax table and each line's share of its tax."""
    base = sum(nets, ZERO)
    exact = [net * row.rate / HUNDRED for net in nets]
    if by_line:
        tax = sum((share.quantize(quantum, rounding=ROUND_HALF_UP) for share in exact), ZERO)
    else:
        tax = sum(exact, ZERO).quantize(quantum, rounding=ROUND_HALF_UP)
    if row.reverse_charged:
        tax = ZERO
    elif rest:
        tax = row.left_tax
    else:
        tax = _within(tax, row.left_tax)
    shares = _shares(exact, tax, quantum)
    return CreditedTax(row.component, row.category, row.rate, base, tax), shares


def _within(tax: Decimal, left: Decimal) -> Decimal:
    """Never more than is left of a row with tax of one sign."""
    low, high = sorted((ZERO, left))
    return min(max(tax, low), high)


def _shares(exact: Sequence[Decimal], tax: Decimal, quantum: Decimal) -> list[Decimal]:
    """Line shares of a row's tax that add up to it, nearest to the exact ones; the last line takes a larger difference."""
    rounded = sum(exact, ZERO).quantize(quantum, rounding=ROUND_HALF_UP)
    shares = spread(exact, rounded, quantum)
    return [*shares[:-1], shares[-1] + tax - rounded]
