"""The reading half of the end of a grace: what waiting cycles come to at a moment, on which invoices. Writes nothing.

Whoever finalises drafts and whoever only wants to know what they will be (``draft_foreseeing``) call the same functions.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from invoices.drafts import LineInput
from invoices.services.bulk import PreparedInvoice
from subscriptions.discounts import Share
from subscriptions.draft_edits import Edit, edited
from subscriptions.models import DraftCycle, DraftEdit
from subscriptions.services import coupon_uses, draft_splitting
from subscriptions.services.billing_run_cycles import Cycles
from subscriptions.services.billing_run_lines import books_of, settled, shown_lines
from subscriptions.services.billing_run_rows import Cycle, Refusal, refusal
from subscriptions.services.coupon_book import Discounted
from subscriptions.services.draft_cycles import read_terms

Pair = tuple[DraftCycle, Cycle]


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """An invoice as it is issued at the end of the grace: under its draft's id, or an invoice of its own."""

    invoice: PreparedInvoice
    pairs: Sequence[Pair]
    is_draft: bool
    shares: tuple[Share, ...] = ()
    """What the coupons of the draft gave."""


@dataclass(slots=True, kw_only=True)
class Turn:
    """What some waiting cycles came to. What could not be priced has its reason in ``DraftCycle.failure``, in memory."""

    issued: list[Priced] = field(default_factory=list)
    nothing: list[Sequence[Pair]] = field(default_factory=list)
    """Groups that have nothing to bill any more: their drafts are taken away."""
    aside: list[DraftCycle] = field(default_factory=list)
    """Taken off a draft that others share."""
    done: list[Pair] = field(default_factory=list)
    taken: dict[uuid.UUID, dict[uuid.UUID, Decimal]] = field(default_factory=dict)
    """What coupons gave on drafts, by invoice and coupon in hand; the caller may know some of earlier turns."""


def in_rounds(waiting: Sequence[DraftCycle]) -> list[list[DraftCycle]]:
    """The waiting cycles by turns: those of one invoice together, those of one subscription one after the other.

    What the earlier one bills (usage that came late for a window before) is billed when the later one is priced.
    """
    groups: dict[Any, list[DraftCycle]] = defaultdict(list)
    for one in sorted(waiting, key=lambda one: one.period.starts_at):
        groups[one.invoice_id or one.pk].append(one)
    turns: dict[uuid.UUID, int] = defaultdict(int)
    found: dict[int, list[DraftCycle]] = defaultdict(list)
    for group in groups.values():
        turn = max(turns[one.period.subscription_id] for one in group)
        found[turn] += group
        for one in group:
            turns[one.period.subscription_id] = turn + 1
    return [found[turn] for turn in sorted(found)]


def price_turn(
    cycles: Cycles,
    waiting: Sequence[DraftCycle],
    edits: Mapping[uuid.UUID, Sequence[Edit]],
    *,
    turn: Turn | None = None,
) -> Turn:
    """Price the waiting cycles of one turn anew, with the edits of their drafts. Reads only."""
    turn = turn or Turn()
    before = {one.pk: one.invoice_id for one in waiting}
    rows = [read_terms(one.terms) for one in waiting]
    cycles.issuer.meet(row.customer_id for row in rows)
    priced, refusals = cycles.lines(rows)
    by_moment = {(cycle.row.id, cycle.row.next_billing_at): cycle for cycle in priced}
    groups: dict[Any, list[Pair]] = defaultdict(list)
    _note_failures(waiting, refusals)
    draft_splitting.split_failed(waiting, edits)
    failed = {one.invoice_id for one in waiting if one.failure and one.invoice_id}
    for one in waiting:
        cycle = by_moment.get((one.period.subscription_id, one.period.starts_at))
        if cycle is None or one.failure or one.invoice_id in failed:
            one.failure = one.failure or "Another subscription of the invoice cannot be priced."
        else:
            groups[one.invoice_id or one.pk].append((one, cycle))
    for group in groups.values():
        group.sort(key=lambda pair: pair[1].row.external_id)
        _prepare(cycles, group, edits, turn)
    turn.aside += [one for one in waiting if one.invoice_id is None and before[one.pk] is not None]
    turn.done += [pair for group in groups.values() for pair in group if not pair[0].failure]
    return turn


def _prepare(cycles: Cycles, group: Sequence[Pair], edits: Mapping[uuid.UUID, Sequence[Edit]], turn: Turn) -> None:
    """The invoice of a group as it stands now, under its draft's id; without anything to bill, the draft goes."""
    invoice_id = group[0][0].invoice_id
    together = [cycle for _, cycle in group]
    lines = (
        edited(shown_lines(together), _edits_for(together, edits.get(invoice_id, ())))
        if invoice_id
        else together[0].lines
    )
    discounted = with_coupons(lines, together, invoice_id, draft_splitting.shared_invoice(group[0][0]), turn.taken)
    final = settled(together, discounted.lines)
    if not any(line.amount.amount for line in lines):
        turn.nothing.append(group)
        return
    try:
        found = cycles.issuer.prepare(cycles.draft(together, final))
    except Exception as exc:
        others = _without_failing(cycles, group, edits.get(invoice_id, ()) if invoice_id else ())
        if others:
            _prepare(cycles, others, edits, turn)
            return
        for one, cycle in group:
            one.failure = one.failure or refusal(cycle.row, exc).reason
        return
    if invoice_id is not None:
        turn.taken[invoice_id] = {share.offer_id: share.amount for share in discounted.shares}
        same = replace(found, id=invoice_id)
        turn.issued.append(Priced(invoice=same, pairs=group, is_draft=True, shares=discounted.shares))
        return
    group[0][0].invoice_id = found.id
    turn.issued.append(Priced(invoice=found, pairs=group, is_draft=False))


def _edits_for(together: Sequence[Cycle], edits: Sequence[Edit]) -> Sequence[Edit]:
    """The edits of a draft; where one subscription is left of it, its lines do not name it any more."""
    if len(together) > 1:
        return edits
    only = together[0].row.id
    return [replace(edit, subscription_id=None) if edit.subscription_id == only else edit for edit in edits]


def _without_failing(cycles: Cycles, group: Sequence[Pair], edits: Sequence[Edit]) -> list[Pair]:
    """Those of a draft that can be invoiced, the others set aside with their reasons; none where it cannot be split."""
    refusals: list[Refusal] = []
    good = [(one, cycle) for one, cycle in group if cycles.stands_alone(cycle, refusals)]
    bad = [one for one, _ in group if not any(one is each for each, _ in good)]
    _note_failures(bad, refusals)
    if not good or not bad or not draft_splitting.may_split(bad, edits):
        return []
    draft_splitting.set_aside(bad)
    return good


def with_coupons(
    lines: Sequence[LineInput],
    together: Sequence[Cycle],
    invoice_id: uuid.UUID | None,
    shared_id: uuid.UUID | None = None,
    taken: Mapping[uuid.UUID, Mapping[uuid.UUID, Decimal]] | None = None,
) -> Discounted:
    """The draft's lines with the coupons it has used, or with what those of the shared draft it was set aside from give.

    A draft that had nothing to bill has used none. ``taken``: what coupons gave on drafts that were priced before it.
    """
    currency, books = together[0].row.currency, books_of(together)
    if invoice_id is not None:
        return coupon_uses.take_off_again(lines, invoice_id=invoice_id, currency=currency, books=books)
    if shared_id is not None:
        return coupon_uses.take_off_beside(
            lines, invoice_id=shared_id, currency=currency, books=books, taken=(taken or {}).get(shared_id)
        )
    return Discounted(lines)


def _note_failures(waiting: Sequence[DraftCycle], refusals: Iterable[Refusal]) -> None:
    reasons = {(one.subscription_id, one.moment): one.reason for one in refusals}
    for one in waiting:
        reason = reasons.get((one.period.subscription_id, one.period.starts_at))
        if reason is not None:
            one.failure = reason


def edits_of(invoice_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, list[Edit]]:
    """The edits by hand of drafts, in the order in which they were made."""
    found: dict[uuid.UUID, list[Edit]] = defaultdict(list)
    for one in DraftEdit.objects.filter(invoice__in=list(invoice_ids)).order_by("id"):
        found[one.invoice_id].append(
            Edit(
                kind=one.kind, code=one.code, subscription_id=one.subscription_id, description=one.description,
                amount=one.amount, tax_category=one.tax_category,
            )
        )  # fmt: skip
    return found
