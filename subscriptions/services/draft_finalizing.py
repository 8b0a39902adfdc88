"""The end of the grace: drafts of the run are priced anew, with what was measured since and the edits by hand, and issued."""

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Q, QuerySet

from billing import clock
from billing.models import Organisation
from invoices.drafts import LineInput
from invoices.models import Invoice
from invoices.services import finalizing
from invoices.services.bulk import PreparedInvoice
from subscriptions.draft_edits import Edit, edited
from subscriptions.errors import DraftNotPriced
from subscriptions.models import BilledPeriod, DraftCycle, DraftEdit
from subscriptions.services import coupon_uses, excess_credits, late_usage
from subscriptions.services.billing_run_cycles import Cycles
from subscriptions.services.billing_run_lines import settled, shown_lines
from subscriptions.services.billing_run_rows import Cycle
from subscriptions.services.draft_cycles import read_terms
from subscriptions.services.draft_pricing import Turn, edits_of, in_rounds, price_turn, with_coupons

log = structlog.get_logger(__name__)
CHUNK = 200


def finalize_due(*, organisation: Organisation, due_at: datetime | None = None) -> int:
    """Finalise the drafts whose grace is over, priced anew; returns how many periods were looked at for the first time.

    What cannot be priced keeps its reason in ``DraftCycle.failure``, does not stop the others, not even those it shares a draft
    with, and is tried again by each call.
    """
    at = clock.now(organisation)
    over = DraftCycle.objects.of(organisation).filter(finalize_at__lte=due_at or at, finalized_at=None)
    due, refused = over.filter(failure=""), list(over.exclude(failure="").order_by("id").values_list("pk", flat=True))
    cycles, settled = Cycles(organisation=organisation, at=at), 0
    while due.exists() and (done := _settle(organisation, cycles, due)):
        settled += done
    for first in range(0, len(refused), CHUNK):
        _settle(organisation, cycles, over.filter(pk__in=refused[first : first + CHUNK]))
    return settled


def refused_drafts(periods: QuerySet[BilledPeriod]) -> QuerySet[DraftCycle]:
    """Of billed periods, those whose draft could not be finalised, with the reason."""
    refused = DraftCycle.objects.filter(period__in=periods, finalized_at=None).exclude(failure="")
    return refused.select_related("period__subscription", "invoice").order_by("id")


def finalize_for(*, organisation: Organisation, subscription_id: uuid.UUID) -> int:
    """End the grace of one subscription's drafts now: what they bill is about to be weighed against a change.

    Those that were refused before are tried again. Waits for a worker that is finalising them; what somebody finalises by
    hand at this moment stays a draft.
    """
    waiting = DraftCycle.objects.of(organisation).filter(period__subscription=subscription_id, finalized_at=None)
    if not waiting.exists():
        return 0
    cycles = Cycles(organisation=organisation, at=clock.now(organisation))
    return _settle(organisation, cycles, waiting, wait=True)


@transaction.atomic
def _settle(organisation: Organisation, cycles: Cycles, waiting: Any, *, wait: bool = False) -> int:
    """Finalise some of the waiting cycles (all of them, if it takes a ``wait``); returns how many were looked at."""
    locked = _locked_all(waiting) if wait else _locked(waiting)
    drafts, held = _still_drafts(locked)
    locked = [one for one in locked if one.invoice_id not in held]
    open_ones = [one for one in locked if one.invoice_id is None or one.invoice_id in drafts]
    for together in in_rounds(open_ones):
        _price_and_issue(organisation, cycles, together, drafts)
        _note_settled(together, cycles.at)
    _note_settled(locked, cycles.at)
    return len(locked)


def _note_settled(waiting: Iterable[DraftCycle], at: datetime) -> None:
    settled = [one.pk for one in waiting if not one.failure]
    DraftCycle.objects.filter(pk__in=settled, finalized_at=None).update(finalized_at=at, failure="")


def _locked(waiting: Any) -> list[DraftCycle]:
    """Lock the next waiting cycles with the others of their invoices; an invoice of which somebody holds one is left out.

    Then their customers: these come before invoices, in one order everywhere.
    """
    rows = waiting.select_for_update(skip_locked=True, of=("self",)).select_related("period__subscription")
    first = list(rows.order_by("finalize_at", "id")[:CHUNK])
    invoices = {one.invoice_id for one in first if one.invoice_id is not None}
    siblings = DraftCycle.objects.filter(invoice__in=invoices, finalized_at=None).exclude(
        pk__in=[one.pk for one in first]
    )
    more = list(siblings.select_for_update(skip_locked=True, of=("self",)).select_related("period__subscription"))
    taken = {one.pk for one in [*first, *more]}
    held = set(siblings.exclude(pk__in=taken).values_list("invoice_id", flat=True))
    found = [one for one in [*first, *more] if one.invoice_id is None or one.invoice_id not in held]
    for one in found:
        one.failure = ""  # what was refused before is looked at anew
    excess_credits.lock(one.period.subscription.customer_id for one in found)
    return found


def _locked_all(waiting: Any) -> list[DraftCycle]:
    """Lock all waiting cycles with the others of their invoices, in one order so that two who wait do not cross."""
    invoices = list(waiting.exclude(invoice=None).values_list("invoice", flat=True))
    whole = DraftCycle.objects.filter(Q(pk__in=waiting.values("pk")) | Q(invoice__in=invoices), finalized_at=None)
    rows = whole.select_for_update(of=("self",)).select_related("period__subscription").order_by("pk")
    found = [one for one in rows if one.finalized_at is None]
    for one in found:
        one.failure = ""
    excess_credits.lock(one.period.subscription.customer_id for one in found)
    return found


def _still_drafts(locked: Sequence[DraftCycle]) -> tuple[set[uuid.UUID], set[uuid.UUID]]:
    """The invoices that are drafts, locked, and the drafts that somebody holds: he may be finalising them by hand.

    Nobody is waited for here: who finalises by hand has the invoice, and comes for its cycles.
    """
    wanted = {one.invoice_id for one in locked if one.invoice_id is not None}
    rows = Invoice.objects.filter(pk__in=wanted, status=Invoice.Status.DRAFT).order_by("pk")
    mine = set(rows.select_for_update(no_key=True, skip_locked=True).values_list("pk", flat=True))
    return mine, set(rows.values_list("pk", flat=True)) - mine


def _price_and_issue(
    organisation: Organisation, cycles: Cycles, waiting: Sequence[DraftCycle], drafts: Iterable[uuid.UUID]
) -> None:
    turn = price_turn(cycles, waiting, edits_of(drafts))
    _note_places(cycles, turn)
    DraftCycle.objects.bulk_update([one for one in waiting if one.failure], ["failure", "invoice", "terms"])
    of_their_own = [one.invoice for one in turn.issued if not one.is_draft]
    cycles.issuer.issue_drafts([one.invoice for one in turn.issued if one.is_draft])
    cycles.issuer.issue(of_their_own)
    _note_coupons(organisation, of_their_own, cycles.at)
    for _, cycle in turn.done:
        if cycle.excess:
            excess_credits.issue(row=cycle.row, excess=cycle.excess, at=cycles.at)
    readings = [(cycle.reading, one.invoice_id) for one, cycle in turn.done if cycle.reading is not None]
    late_usage.settle(organisation=organisation, readings=readings, at=cycles.at)


def _note_places(cycles: Cycles, turn: Turn) -> None:
    """Write which invoice each cycle is on now, and what the coupons of the drafts gave."""
    BilledPeriod.objects.filter(pk__in=[one.period_id for one in turn.aside]).update(invoice=None)
    for group in turn.nothing:
        _withdraw(cycles, [one for one, _ in group], group[0][0].invoice_id)
    for one in turn.issued:
        if one.is_draft:
            coupon_uses.write_again(one.invoice.id, one.shares)
            continue
        [(waiting, _)] = one.pairs
        BilledPeriod.objects.filter(pk=waiting.period_id).update(invoice=one.invoice.id)
        DraftCycle.objects.filter(pk=waiting.pk).update(invoice=one.invoice.id)


def _note_coupons(organisation: Organisation, issued: Sequence[PreparedInvoice], at: datetime) -> None:
    """What coupons took off invoices of cycles that were set aside."""
    rows = Invoice.objects.in_bulk([one.id for one in issued])
    for one in issued:
        coupon_uses.note_beside(organisation=organisation, invoice=rows[one.id], lines=one.draft.lines, at=at)


def _withdraw(cycles: Cycles, waiting: Sequence[DraftCycle], invoice_id: uuid.UUID | None) -> None:
    """Nothing is left to bill: the draft is taken away, and the periods say that there was nothing to invoice."""
    if invoice_id is None:
        return
    BilledPeriod.objects.filter(pk__in=[one.period_id for one in waiting]).update(invoice=None)
    DraftCycle.objects.filter(pk__in=[one.pk for one in waiting]).update(invoice=None)
    DraftEdit.objects.filter(invoice=invoice_id).delete()
    coupon_uses.give_back(invoice_id=invoice_id)
    cycles.issuer.delete_drafts([invoice_id])


@finalizing.refreshes(Invoice.Origin.SUBSCRIPTION)
def lines_now(invoice: Invoice, at: datetime) -> Sequence[LineInput] | None:
    """The lines of a draft of the run that somebody finalises by hand before its grace ends; None for any other draft."""
    waiting = list(
        DraftCycle.objects.filter(invoice=invoice, finalized_at=None).select_related("period").order_by("id")
    )
    if not waiting:
        return None
    cycles = Cycles(organisation=invoice.organisation, at=at)
    lines, priced = fresh_lines(cycles, waiting, edits_of([invoice.pk]).get(invoice.pk, []))
    for one in priced:
        if one.excess:
            excess_credits.issue(row=one.row, excess=one.excess, at=at)
    readings = [(one.reading, invoice.pk) for one in priced if one.reading is not None]
    late_usage.settle(organisation=invoice.organisation, readings=readings, at=at)
    DraftCycle.objects.filter(pk__in=[one.pk for one in waiting]).update(finalized_at=at, failure="")
    return lines


def fresh_lines(
    cycles: Cycles, waiting: Sequence[DraftCycle], edits: Sequence[Edit]
) -> tuple[list[LineInput], list[Cycle]]:
    """What a draft's lines are now. Raises what pricing raises, for the first of its subscriptions that has no price."""
    priced, refusals = cycles.lines([read_terms(one.terms) for one in waiting])
    if refusals:
        raise DraftNotPriced(reason=refusals[0].reason)
    priced.sort(key=lambda cycle: cycle.row.external_id)
    invoice_id = waiting[0].invoice_id
    found = with_coupons(edited(shown_lines(priced), edits), priced, invoice_id)
    if invoice_id is not None:
        coupon_uses.write_again(invoice_id, found.shares)
    return settled(priced, found.lines), priced
