"""Invoices in mid-period: which threshold is passed, and how what they billed is taken off again. Pure.

An interim invoice shows the usage so far at its full price, coupons taken off as one invoice would, and takes off, line by line,
what earlier interim invoices of the same window charged; the period's last invoice does the same with the whole usage. So the
sum over all of them is what one invoice would have cost, and since each line is taxed by itself and taken off as it was, so is
the tax.
"""

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from moneyed import Money

from invoices.drafts import LineInput

ZERO = Decimal(0)
KIND = "interim"


@dataclass(frozen=True, slots=True)
class Threshold:
    """An amount of usage at which it is invoiced; ``recurring``: again at every further amount of this size."""

    amount: Decimal
    recurring: bool = False


def passed(thresholds: Iterable[Threshold], *, used: Decimal, billed: Decimal) -> Decimal | None:
    """The highest amount that ``used`` has reached and ``billed``, the usage of the last interim invoice, had not."""
    reached = [step for threshold in thresholds if (step := _highest(threshold, used)) is not None and step > billed]
    return max(reached, default=None)


def _highest(threshold: Threshold, used: Decimal) -> Decimal | None:
    if used < threshold.amount:
        return None
    return (used // threshold.amount) * threshold.amount if threshold.recurring else threshold.amount


class Earlier(NamedTuple):
    """A line of an interim invoice that counts: what it billed after ``discount`` (negative: what it took off)."""

    code: str
    description: str
    tax_category: str
    amount: Decimal
    invoice_id: uuid.UUID
    currency: str = ""
    discount: Decimal = ZERO


def standing(lines: Iterable[Earlier]) -> list[Earlier]:
    """The lines that still claim something: what a later interim invoice took off again falls away."""
    lines = list(lines)
    taken_off = Counter((line.code, line.tax_category, -line.amount) for line in lines if line.amount < 0)
    left = []
    for line in lines:
        key = (line.code, line.tax_category, line.amount)
        if line.amount > 0:
            if taken_off[key] > 0:
                taken_off[key] -= 1
            else:
                left.append(line)
    return left


@dataclass(frozen=True, slots=True)
class TakenOff:
    """The lines with what is taken off; ``excess`` is what they could not bear, by component."""

    lines: list[LineInput]
    excess: Mapping[str, Decimal]


def take_off(lines: Sequence[LineInput], earlier: Iterable[Earlier]) -> TakenOff:
    """``lines`` with a negative line for everything that interim invoices claim, never more than a component costs now.

    The rest (usage was corrected, or a discount came) is excess: it goes back by credit note.
    """
    found = list(lines)
    excess: dict[str, Decimal] = {}
    room: dict[str, Decimal] = {}
    like: dict[str, LineInput] = {}
    for line in lines:
        room[line.code] = room.get(line.code, ZERO) + line.amount.amount
        like.setdefault(line.code, line)
    for one in standing(earlier):
        amount = min(one.amount, max(room.get(one.code, ZERO), ZERO))
        if amount:
            room[one.code] -= amount
            found.append(_negative(one, amount, like[one.code]))
        if amount < one.amount:
            excess[one.code] = excess.get(one.code, ZERO) + one.amount - amount
    return TakenOff(found, excess)


def take_off_whole(lines: Sequence[LineInput], earlier: Iterable[Earlier]) -> list[LineInput]:
    """``lines`` with everything that interim invoices claim taken off, below nothing too: the caller credits what is."""
    earlier = list(earlier)
    taken = take_off(lines, earlier)
    found = list(taken.lines)
    for code, amount in taken.excess.items():
        like = next(one for one in reversed(earlier) if one.code == code and one.amount > 0)
        of_code = next((line for line in lines if line.code == code), None)
        found.append(
            LineInput(
                description=f"Billed already: {like.description}"[:300],
                code=code,
                amount=Money(-amount, like.currency),
                tax_category=like.tax_category,
                period_start=of_code.period_start if of_code else None,
                period_end=of_code.period_end if of_code else None,
                details=(_details(like, amount),),
            )
        )
    return found


def _negative(one: Earlier, amount: Decimal, like: LineInput) -> LineInput:
    return LineInput(
        description=f"Billed already: {one.description}"[:300],
        code=one.code,
        amount=Money(-amount, like.amount.currency),
        tax_category=one.tax_category,
        period_start=like.period_start,
        period_end=like.period_end,
        details=(_details(one, amount),),
    )


def _details(one: Earlier, amount: Decimal) -> dict[str, str]:
    """Which invoice billed it, and which discount stands behind the ``amount`` that is taken off."""
    told = {"kind": KIND, "invoice": str(one.invoice_id)}
    if one.discount:
        told["discount"] = f"{one.discount * amount / one.amount:.4f}"
    return told


def is_taken_off(line: LineInput) -> bool:
    """Whether the line takes off what an interim invoice billed."""
    return any(isinstance(part, Mapping) and part.get("kind") == KIND for part in line.details)
