"""Where a credit goes: over the lines that billed what is given back, and where those find no room, over others taxed alike.

An invoice whose change of interval took the unused days of another off bears only the difference; so its own lines may claim
more than it does. What finds no room there was paid on the other one, in another component perhaps. It goes back on a line of
the same tax (category, rate and kinds of tax), so that the tax that is given back is what was charged; the note remembers
which component it stands for (``instead_of``).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from moneyed import Money

from billing import money
from invoices.credits import Treatment
from subscriptions.services.claims import Claimed, ClaimedLine

_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class CreditOn:
    """What an invoice is credited: net ``amounts`` by line; ``instead_of``: how much of them stands for other components."""

    claimed: Claimed
    amounts: dict[int, Money]
    instead_of: dict[int, dict[str, Decimal]]


def spread(claims: Sequence[Claimed], wanted: Mapping[str, Money]) -> tuple[CreditOn, ...]:
    """Spread credits by component (by the price list), newest invoice first, never more than is left: see above."""
    left = {code: asked.amount for code, asked in wanted.items() if asked.amount > 0}
    pages = [_Page(claim) for claim in claims]
    for page in pages:
        for line in page.claim.lines:
            if left.get(line.code):
                left[line.code] -= page.take(line, left[line.code])
    netted = {line.code for claim in claims for line in claim.lines if line.nets}
    for code in left:
        for page in pages:
            for line in page.claim.lines:
                if line.code == code and left[code] > 0:
                    short = min(left[code], page.left(line))
                    left[code] -= _elsewhere(pages, code, page.treatment(line), short, netted)
    return tuple(page.credit(wanted) for page in pages if page.nets)


def _elsewhere(
    pages: Sequence["_Page"], code: str, treatment: Treatment, amount: Decimal, netted: Iterable[str]
) -> Decimal:
    """Take ``amount`` off lines of other components that were taxed alike, netted ones first; says how much found room."""
    given = _NOTHING
    for first in (True, False):
        for page in pages:
            for line in page.others(code, treatment):
                if (line.code in netted) is first and given < amount:
                    given += page.take(line, amount - given, instead_of=code)
    return given


@dataclass(slots=True)
class _Page:
    """An invoice while credits are spread: what is taken off it, net and by the price list, by position."""

    claim: Claimed
    nets: dict[int, Decimal] = field(default_factory=dict)
    given: dict[int, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    instead_of: dict[int, dict[str, Decimal]] = field(default_factory=dict)

    def treatment(self, line: ClaimedLine) -> Treatment:
        return self.claim.standing.treatment(line.position)

    def others(self, code: str, treatment: Treatment) -> Iterator[ClaimedLine]:
        """Lines of other components than ``code`` that were taxed like ``treatment``."""
        return (line for line in self.claim.lines if line.code != code and self.treatment(line) == treatment)

    def left(self, line: ClaimedLine) -> Decimal:
        """What is left of a charge, by the price list."""
        return self.claim.left(line) - self.given[line.position] if line.given > 0 else _NOTHING

    def take(self, line: ClaimedLine, wanted: Decimal, *, instead_of: str = "") -> Decimal:
        """Take up to ``wanted`` off a line; says how much it was, both by the price list."""
        given = min(wanted, self.left(line))
        if given <= 0:
            return _NOTHING
        before = self.nets.get(line.position, _NOTHING)
        whole = self.claim.net_of(line, self.given[line.position] + given) - before
        net = self._within(line.position, min(whole, self._room(line)))
        if net <= 0:
            return _NOTHING
        if net < whole:
            given = money.quantize(given * net / whole, self.claim.currency)
        self.nets[line.position] = before + net
        self.given[line.position] += given
        if instead_of:
            others = self.instead_of.setdefault(line.position, {})
            others[instead_of] = others.get(instead_of, _NOTHING) + net
        return given

    def _room(self, line: ClaimedLine) -> Decimal:
        """What all lines that are taxed like this one still come to, those below zero among them."""
        treatment, standing = self.treatment(line), self.claim.standing
        alike = [one for one in standing.lines if standing.treatment(one.position) == treatment]
        return sum((one.left - self.nets.get(one.position, _NOTHING) for one in alike), _NOTHING)

    def _within(self, position: int, net: Decimal) -> Decimal:
        """``net``, or what the invoice can bear of it beside what is taken already, tax included."""
        while net > 0:
            asked = {**self.nets, position: self.nets.get(position, _NOTHING) + net}
            over = sum(asked.values(), _NOTHING) - sum(self.claim.standing.within(asked).values(), _NOTHING)
            if over <= 0:
                return net
            net -= over
        return _NOTHING

    def credit(self, wanted: Mapping[str, Money]) -> CreditOn:
        """What was taken."""
        currency = next(iter(wanted.values())).currency
        amounts = {
            position: Money(money.quantize(net, self.claim.currency), currency) for position, net in self.nets.items()
        }
        return CreditOn(self.claim, amounts, self.instead_of)
