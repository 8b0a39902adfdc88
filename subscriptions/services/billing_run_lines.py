"""From priced cycles to the lines of their invoice: named, and after the coupons less what was billed already.

Coupons come first: they take off the whole what they would take off one invoice. Then what interim invoices charged, discounts
included, is taken off. So interim and last invoice together cost what a single one would have cost, and a coupon counts once.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace

from invoices.drafts import LineInput
from subscriptions import late_usage
from subscriptions.lines import PriceBook
from subscriptions.progressive import take_off
from subscriptions.services.billing_run_rows import Cycle


def shown_lines(cycles: Sequence[Cycle]) -> Sequence[LineInput]:
    """The cycles' lines as their invoice shows them: where there are several, each line names its subscription."""
    if len(cycles) == 1:
        return cycles[0].lines
    return [line for cycle in cycles for line in _named(cycle, cycle.lines)]


def books_of(cycles: Iterable[Cycle]) -> dict[uuid.UUID, tuple[PriceBook, PriceBook]]:
    """The price books behind the cycles' lines, by subscription: the present one first."""
    return {cycle.row.id: (cycle.book, cycle.usage_book) for cycle in cycles}


def settled(cycles: Sequence[Cycle], lines: Sequence[LineInput]) -> list[LineInput]:
    """``lines`` (those of ``shown_lines``, after edits and coupons) as they are invoiced: less what interim invoices charged, and
    with credits for earlier windows as far as there is room. What finds none is noted on each cycle."""
    alone, found = len(cycles) == 1, list(lines)
    for cycle in cycles:
        own = list(lines) if alone else [line for line in lines if line.subscription_ref == cycle.row.id]
        taken = take_off(own, cycle.earlier)
        cycle.excess = dict(taken.excess)
        corrections = cycle.reading.corrections if cycle.reading is not None else ()
        more = [*taken.lines[len(own) :], *late_usage.credits_within(taken.lines, corrections)]
        found += more if alone else _named(cycle, more)
    return found


def _named(cycle: Cycle, lines: Iterable[LineInput]) -> list[LineInput]:
    return [
        replace(line, description=f"{cycle.row.external_id}: {line.description}"[:300], subscription_ref=cycle.row.id)
        for line in lines
    ]
