"""A draft of several subscriptions of which one cannot be priced: that one is set aside with its reason, the others go on.

What is set aside gets an invoice of its own once it can be priced, with the coupons that the shared one used.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence

from subscriptions.draft_edits import ADD, Edit
from subscriptions.models import DraftCycle

SHARED = "shared_invoice"
"""Key in a waiting cycle's terms: the invoice that it was to be on."""


def split_failed(waiting: Iterable[DraftCycle], edits: Mapping[uuid.UUID, Sequence[Edit]]) -> None:
    """Take those that failed off the drafts of which others can be priced, unless an edit by hand may concern them."""
    by_invoice: dict[uuid.UUID, list[DraftCycle]] = {}
    for one in waiting:
        if one.invoice_id is not None:
            by_invoice.setdefault(one.invoice_id, []).append(one)
    for invoice_id, together in by_invoice.items():
        failed = [one for one in together if one.failure]
        if failed and len(failed) < len(together) and may_split(failed, edits.get(invoice_id, ())):
            set_aside(failed)


def set_aside(failed: Sequence[DraftCycle]) -> None:
    """Take failed cycles off their draft, in memory; whoever finalises saves them, and their periods."""
    for one in failed:
        one.terms = {**one.terms, SHARED: str(one.invoice_id)}
        one.invoice = None


def shared_invoice(one: DraftCycle) -> uuid.UUID | None:
    """The invoice that a cycle was set aside from."""
    return uuid.UUID(one.terms[SHARED]) if one.terms.get(SHARED) else None


def may_split(failed: Sequence[DraftCycle], edits: Sequence[Edit]) -> bool:
    """Whether no edit by hand may concern what failed: it would be lost with the draft."""
    theirs = {one.period.subscription_id for one in failed}
    return not any(
        edit.subscription_id in theirs or (edit.subscription_id is None and edit.kind != ADD) for edit in edits
    )
