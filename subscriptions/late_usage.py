"""Usage that changed after it was billed: what the difference costs, and how much of a credit an invoice can bear. Pure.

A billed window remembers the parts it was priced by. When it is looked at again, each part is priced as it was and as it is
by the prices of that time; the difference is a line of the next invoice. Minimums are worked out anew: late usage uses up first
what was charged to make up for a minimum, and what never was used may leave more to make up for.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import Any

from moneyed import Money

from billing import money
from billing.dates import span_in_words
from billing.metering import Used
from invoices.drafts import LineInput
from subscriptions.arrears import MINIMUM
from subscriptions.lines import Component

KIND = "usage_correction"
_ZERO = Decimal(0)
Key = tuple[str, tuple[str, ...]]


@dataclass(slots=True)
class Correction:
    """A billed window that changed, or still owes a credit: its lines, and what the window is to remember."""

    window_id: uuid.UUID
    changes: int
    currency: str
    before: list[dict[str, Any]]
    after: list[dict[str, Any]]
    owed: Decimal = _ZERO
    owed_minimum: Decimal = _ZERO
    """How much of it is of the version's minimum, which is taxed as it was charged."""
    lines: list[LineInput] = field(default_factory=list)
    credit: LineInput | None = None
    """The line that later gives back what is owed; its amount is nothing yet."""
    minimum_credit: LineInput | None = None
    """The same for what is owed of the version's minimum."""
    asked: tuple[LineInput, ...] = ()
    """Its lines before credits were cut."""

    @property
    def amount(self) -> Decimal:
        """Net of its lines."""
        return sum((line.amount.amount for line in self.lines), _ZERO)

    def carried(self) -> "Correction | None":
        """What the next look at the window would find once this was billed, for those who only foresee it."""
        lines = self.credits_of(self.owed, self.owed_minimum)
        if not lines:
            return None
        return replace(self, before=self.after, owed=_ZERO, owed_minimum=_ZERO, lines=lines, asked=())

    def credits_of(self, owed: Decimal, owed_minimum: Decimal) -> list[LineInput]:
        """The lines that give back what the window owes."""
        shares = ((self.credit, owed - owed_minimum), (self.minimum_credit, owed_minimum))
        return [
            replace(line, amount=Money(-share, line.amount.currency)) for line, share in shares if line and share > 0
        ]

    def owe(self, lines: Iterable[LineInput], given: Iterable[LineInput]) -> None:
        """Owe what ``lines`` give back and ``given`` do not."""
        self.owed = _given_back(lines) - _given_back(given)
        self.owed_minimum = _given_back(lines, of=MINIMUM) - _given_back(given, of=MINIMUM)


def dumped(used: Iterable[Used]) -> list[dict[str, Any]]:
    """Parts as JSON."""
    return [
        {"segment": one.segment, "group": list(one.group), "quantity": f"{one.quantity:f}", "events": one.events,
         "amount": f"{one.amount:f}", **({"values": [f"{value:f}" for value in one.values]} if one.values else {})}
        for one in used
    ]  # fmt: skip


def loaded(parts: Iterable[Mapping[str, Any]]) -> dict[Key, Used]:
    """Parts from JSON, by segment and group."""
    found = [
        Used(one["segment"], tuple(one["group"]), Decimal(one["quantity"]), one["events"], Decimal(one["amount"]),
             tuple(map(Decimal, one.get("values", ()))))
        for one in parts
    ]  # fmt: skip
    return {(one.segment, one.group): one for one in found}


def lines_for(
    *, component: Component, before: Mapping[Key, Used], after: Mapping[Key, Used], first_on: date, last_on: date,
    window_id: uuid.UUID,
) -> list[LineInput]:  # fmt: skip
    """A line for each part whose price changed: above zero for late usage, below for voids. Raises what pricing raises."""
    lines, days = [], span_in_words(first_on, last_on)
    for key in sorted(before.keys() | after.keys()):
        was, now = before.get(key), after.get(key)
        amount = _price(component, now) - _price(component, was)
        if amount.amount:
            lines.append(
                LineInput(
                    description=f"{component.name_of(now or was or NO_USE)}: usage recorded later, {days}"[:300],
                    code=component.code,
                    amount=amount,
                    tax_category=component.tax_category,
                    period_start=first_on,
                    period_end=last_on,
                    details=(_details(window_id, was, now),),
                )
            )
    return lines


@dataclass(frozen=True, slots=True)
class Held:
    """A component's billed usage as minimums held it (``arrears.least_of``): what it was, and what it is."""

    component: Component
    least: Mapping[str, str]
    before: Mapping[Key, Used]
    after: Mapping[Key, Used]

    def own_change(self) -> Decimal:
        """By how much what makes up for the component's own minimum changes."""
        return self._missing(self.after) - self._missing(self.before)

    def come_to(self, parts: Mapping[Key, Used]) -> Decimal:
        """What the component comes to, its own minimum included."""
        return self._usage(parts) + self._missing(parts)

    def _usage(self, parts: Mapping[Key, Used]) -> Decimal:
        return sum((_price(self.component, one).amount for one in parts.values()), _ZERO)

    def _missing(self, parts: Mapping[Key, Used]) -> Decimal:
        return max(Decimal(self.least.get("own", "0")) - self._usage(parts), _ZERO)


def shared_change(held: Sequence[Held]) -> Decimal:
    """By how much what makes up for the version's minimum changes; ``held``: all metered components of one billed time."""
    least = held[0].least
    if "all" not in least:
        return _ZERO
    open_ = Decimal(least["all"]) - Decimal(least["beside"])
    was, now = (sum((one.come_to(parts(one)) for one in held), _ZERO) for parts in (_before, _after))
    return max(open_ - now, _ZERO) - max(open_ - was, _ZERO)


def _before(one: Held) -> Mapping[Key, Used]:
    return one.before


def _after(one: Held) -> Mapping[Key, Used]:
    return one.after


def minimum_line(
    *, name: str, code: str, tax_category: str, change: Money, first_on: date, last_on: date, window_id: uuid.UUID
) -> LineInput:
    """A minimum that was worked out anew: what it makes up for is more by ``change``, or less."""
    return LineInput(
        description=f"{name}: minimum worked out anew, {span_in_words(first_on, last_on)}"[:300],
        code=code,
        amount=change,
        tax_category=tax_category,
        period_start=first_on,
        period_end=last_on,
        details=({"kind": KIND, "window": str(window_id), "minimum": True},),
    )


def owed_line(
    *, said: str, code: str, tax_category: str, currency: str, first_on: date, last_on: date, window_id: uuid.UUID
) -> LineInput:
    """A credit that found no room before; its amount is nothing yet."""
    return LineInput(
        description=f"{said} of {span_in_words(first_on, last_on)}"[:300],
        code=code,
        amount=money.zero(currency),
        tax_category=tax_category,
        period_start=first_on,
        period_end=last_on,
        details=({"kind": KIND, "window": str(window_id)},),
    )


def charges(corrections: Sequence[Correction]) -> list[LineInput]:
    """What the corrections charge: coupons take something off these lines like off any other."""
    return [line for correction in corrections for line in correction.lines if line.amount.amount > 0]


def credits_within(lines: Sequence[LineInput], corrections: Sequence[Correction]) -> list[LineInput]:
    """What the corrections give back, cut so that no tax category of the invoice (``lines``, the charges among them) falls
    below zero. What is cut stays owed: ``Correction.owed`` and ``lines`` are set to what was given."""
    room: dict[str, Decimal] = {}
    for line in lines:
        room[line.tax_category] = room.get(line.tax_category, _ZERO) + line.amount.amount
    for correction in corrections:
        correction.asked = correction.asked or tuple(correction.lines)
        correction.lines = _fitted(correction.asked, room)
        correction.owe(correction.asked, correction.lines)
    return [line for correction in corrections for line in correction.lines if line.amount.amount < 0]


def capped(lines: Sequence[LineInput], left: Mapping[str, Decimal]) -> list[LineInput]:
    """Credits of a correction, no higher than what invoices still claim of each component (``left``) and the usage it charges.

    What was annulled, written off or credited by hand is not given back again, now or later.
    """
    room: dict[str, Decimal] = {}
    for line in lines:
        charge = _ZERO if _is_minimum(line) else max(line.amount.amount, _ZERO)
        room[line.code] = room.get(line.code, max(left.get(line.code, _ZERO), _ZERO)) + charge
    kept = []
    for line in lines:
        amount = max(line.amount.amount, -room[line.code])
        room[line.code] += min(amount, _ZERO)
        if amount:
            kept.append(
                line if amount == line.amount.amount else replace(line, amount=Money(amount, line.amount.currency))
            )
    return kept


def hold_make_up(together: Sequence[Correction], asked: Decimal) -> None:
    """Of corrections of one billed time that came to ``asked`` before credits were cut: what a minimum makes up for is charged
    no further than that. Else a void would charge a minimum in the place of usage that an annulled bill does not claim."""
    over = sum((one.amount for one in together), _ZERO) - max(asked, _ZERO)
    for one in together:
        kept = []
        for line in one.lines:
            less = min(max(over, _ZERO), line.amount.amount) if _is_minimum(line) and line.amount.amount > 0 else _ZERO
            over -= less
            if line.amount.amount != less:
                kept.append(replace(line, amount=line.amount - Money(less, line.amount.currency)) if less else line)
        one.lines = kept


def _is_minimum(line: LineInput) -> bool:
    """Whether a line of a correction is of a minimum that was worked out anew."""
    return any(part.get("minimum") for part in line.details)


def _given_back(lines: Iterable[LineInput], of: str | None = None) -> Decimal:
    return -sum((line.amount.amount for line in lines if line.amount.amount < 0 and of in (None, line.code)), _ZERO)


def _fitted(lines: Sequence[LineInput], room: dict[str, Decimal]) -> list[LineInput]:
    fitted = []
    for line in lines:
        amount = line.amount.amount
        if amount < 0:
            given = min(-amount, max(room.get(line.tax_category, _ZERO), _ZERO))
            room[line.tax_category] = room.get(line.tax_category, _ZERO) - given
            if not given:
                continue
            fitted.append(replace(line, amount=Money(-given, line.amount.currency)))
        else:
            fitted.append(line)
    return fitted


NO_USE = Used("", (), _ZERO, 0, _ZERO)


def _price(component: Component, used: Used | None) -> Money:
    if used is None or not (used.quantity or used.events):
        return money.zero(component.currency)
    return component.price_used(used).amount


def _details(window_id: uuid.UUID, was: Used | None, now: Used | None) -> dict[str, Any]:
    before, after = (was or NO_USE).quantity, (now or NO_USE).quantity
    return {"kind": KIND, "window": str(window_id), "before": f"{before:f}", "after": f"{after:f}"}
