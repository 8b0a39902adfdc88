"""Which due subscriptions a worker takes: locked until its transaction ends, passing over what others hold."""

import uuid
from collections.abc import Sequence
from datetime import datetime

from django.db.models import QuerySet

from billing.models import Organisation
from subscriptions.models import Subscription
from subscriptions.services.billing_run_rows import Due, due_subscriptions
from subscriptions.services.billing_terms import TermsBook


def claim(
    *,
    organisation: Organisation,
    due_at: datetime,
    size: int,
    only: Sequence[uuid.UUID] | None = None,
    terms: TermsBook | None = None,
) -> list[Due]:
    """Lock the next due subscriptions that no other worker holds, oldest first.

    With ``terms`` under which customers are consolidated, such a customer comes whole (then there may be more than
    ``size``) or not at all: while another worker holds one of his subscriptions, none is taken.
    """
    due = due_subscriptions(organisation, due_at)
    if only is not None:
        due = due.filter(pk__in=only)
    if terms is None or not terms.may_consolidate:
        return _locked(due, "next_billing_at", "id", limit=size)
    rows = _locked(due, "next_billing_at", "customer_id", "id", limit=size)
    return whole_customers(rows, due, terms, lock=True)


def whole_customers(rows: list[Due], due: QuerySet[Subscription], terms: TermsBook, *, lock: bool) -> list[Due]:
    """``rows`` with everything else that is due of their consolidated customers; without customers held by somebody else."""
    terms.meet(row.customer_id for row in rows)
    together = {row.customer_id for row in rows if terms.of(row.customer_id).consolidate}
    if not together:
        return rows
    siblings = due.filter(customer__in=together)
    known = {row.id for row in rows}
    added = _locked(siblings.exclude(pk__in=known), "next_billing_at", "id", lock=lock)
    found = rows + added
    if lock:
        taken = known | {row.id for row in added}
        held = set(siblings.exclude(pk__in=taken).values_list("customer_id", flat=True))
        found = [row for row in found if row.customer_id not in held]
    return found


def _locked(due: QuerySet[Subscription], *order: str, limit: int | None = None, lock: bool = True) -> list[Due]:
    rows = due.order_by(*order)
    if lock:
        rows = rows.select_for_update(skip_locked=True, no_key=True, of=("self",))
    return [Due(*row) for row in rows.values_list(*Due._fields)[:limit]]
