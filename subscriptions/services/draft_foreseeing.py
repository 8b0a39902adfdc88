"""Drafts in their grace as they will be issued if nothing else comes, without writing anything.

By the functions that finalise them (``draft_pricing``), at the moment at which their grace ends or a change ends it. What that
would leave behind is kept in memory: usage that came late is billed once, and a coupon gives what is left of it.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

from django.db.models import QuerySet

from billing import clock
from billing.models import Organisation
from invoices.drafts import PricedInvoice
from invoices.models import Invoice
from subscriptions.late_usage import Correction
from subscriptions.models import DraftCycle
from subscriptions.services import coupon_uses, late_usage
from subscriptions.services.billing_run_cycles import Cycles
from subscriptions.services.billing_run_rows import Cycle
from subscriptions.services.coupon_book import Amendment
from subscriptions.services.draft_pricing import Pair, Priced, Turn, edits_of, in_rounds, price_turn

ZERO = Decimal(0)


@dataclass(frozen=True, kw_only=True)
class ForeseenDraft:
    """A draft as it will be issued at ``at``. ``invoice`` is None where usage that came late makes an invoice of its own.

    ``priced`` is None where nothing is left to bill, and the draft is taken away, or where ``failure`` says why it cannot be
    issued. ``cycles`` are the billing moments on it, ``coupons`` what it leaves of coupons in hand, beyond what the draft says.
    """

    at: datetime
    invoice: Invoice | None
    id: uuid.UUID | None
    period_start: date | None
    period_end: date | None
    subscriptions: frozenset[uuid.UUID]
    priced: PricedInvoice | None = None
    failure: str = ""
    cycles: tuple[Cycle, ...] = ()
    coupons: Mapping[uuid.UUID, Amendment] = field(default_factory=dict)

    @property
    def differs(self) -> bool:
        """Whether it will be issued for another amount than the draft has now."""
        now = self.invoice.total.amount if self.invoice is not None else ZERO
        return bool(self.failure) or now != (self.priced.total if self.priced is not None else ZERO)


class DraftsAhead:
    """The drafts that wait, of some subscriptions and whoever shares invoices with them; each is issued once, in memory."""

    def __init__(self, organisation: Organisation, subscription_ids: Iterable[uuid.UUID]) -> None:
        self.organisation = organisation
        self.owed: dict[uuid.UUID, list[Correction]] = {}
        """Subscriptions whose late usage is billed by a draft that was issued here, with what they still owe for it."""
        self.refused: dict[uuid.UUID, str] = {}
        """Subscriptions of which a draft could not be issued, and why."""
        self._turn: dict[uuid.UUID, dict[uuid.UUID, Decimal]] = {}
        self._waiting = _waiting(organisation, set(subscription_ids))

    def due_before(self, at: datetime | None, *, now: datetime) -> list[tuple[datetime, list[DraftCycle]]]:
        """Those whose grace is over before ``at`` (None: all), by the moment at which they are issued, in order."""
        found: dict[datetime, list[DraftCycle]] = {}
        for together in _by_invoice(self._waiting):
            ends_at = max(now, min(one.finalize_at for one in together))
            if at is None or ends_at < at:
                found.setdefault(ends_at, []).extend(together)
        return sorted(found.items())

    def of(self, subscription_id: uuid.UUID) -> list[DraftCycle]:
        """Those of a subscription, with the others on their invoices."""
        return [
            one for together in _by_invoice(self._waiting)
            if any(each.period.subscription_id == subscription_id for each in together) for one in together
        ]  # fmt: skip

    def issue(self, waiting: Sequence[DraftCycle], *, at: datetime) -> list[ForeseenDraft]:
        """What the ``waiting`` cycles come to when they are finalised at ``at``."""
        invoices = {one.pk: one.invoice for one in waiting}
        edits = edits_of(one.invoice_id for one in waiting if one.invoice_id is not None)
        found: list[ForeseenDraft] = []
        for one in waiting:
            one.failure = ""  # what was refused before is looked at anew
        for together in in_rounds(waiting):
            cycles = Cycles(organisation=self.organisation, at=at)
            cycles.foreseen = {
                pk: self.owed[pk] for pk in {one.period.subscription_id for one in together} & self.owed.keys()
            }
            turn = price_turn(cycles, together, edits, turn=Turn(taken=self._turn))
            self._waiting = [one for one in self._waiting if not any(one is each for each in together)]
            for _, cycle in turn.done:
                self._note_owed(cycle)
            found += [self._issued(one, invoices, at) for one in turn.issued]
            found += [_gone(group, invoices, at) for group in turn.nothing if invoices[group[0][0].pk] is not None]
            failed = [one for one in together if one.failure]
            self.refused |= {one.period.subscription_id: one.failure for one in failed}
            found += [_failed(group, invoices, at) for group in _by_invoice(failed)]
        return found

    def _note_owed(self, cycle: Cycle) -> None:
        """What changed in earlier usage is billed now, unless a draft of an earlier time is to bear it."""
        pk, at = cycle.row.id, cycle.row.next_billing_at
        earlier = any(one.period.subscription_id == pk and one.period.starts_at < at for one in self._waiting)
        if cycle.reading is not None and not earlier:
            self.owed[pk] = late_usage.carried(cycle.reading.corrections)

    def _issued(self, one: Priced, invoices: Mapping[uuid.UUID, Invoice | None], at: datetime) -> ForeseenDraft:
        draft = one.invoice.draft
        invoice = invoices[one.pairs[0][0].pk] if one.is_draft else None
        return ForeseenDraft(
            at=at, invoice=invoice, id=one.invoice.id, period_start=draft.period_start, period_end=draft.period_end,
            subscriptions=_subscriptions(waiting for waiting, _ in one.pairs), priced=one.invoice.figures.priced,
            cycles=tuple(cycle for _, cycle in one.pairs),
            coupons=coupon_uses.amendments_again(one.invoice.id, one.shares) if one.is_draft else {},
        )  # fmt: skip


def foresee_drafts(*, organisation: Organisation, subscription_ids: Iterable[uuid.UUID]) -> list[ForeseenDraft]:
    """The drafts of the subscriptions that wait, as they will be issued when their grace ends, in that order. Reads only.

    With those of others that share an invoice with them.
    """
    ahead = DraftsAhead(organisation, subscription_ids)
    due = ahead.due_before(None, now=clock.now(organisation))
    return [draft for at, waiting in due for draft in ahead.issue(waiting, at=at)]


def _waiting(organisation: Organisation, subscription_ids: set[uuid.UUID]) -> list[DraftCycle]:
    """All that wait of the subscriptions, of those they share drafts with, and so on: what one bears, another does not."""
    of_all = DraftCycle.objects.of(organisation).filter(finalized_at=None)
    known: set[uuid.UUID] = set()
    while subscription_ids - known:
        known |= subscription_ids
        invoices = of_all.filter(period__subscription__in=known).exclude(invoice=None).values("invoice")
        others = of_all.filter(invoice__in=invoices).values_list("period__subscription", flat=True)
        subscription_ids = subscription_ids | set(others)
    rows: QuerySet[DraftCycle] = of_all.filter(period__subscription__in=known)
    return [
        one for one in rows.select_related("period__subscription", "invoice").order_by("finalize_at", "id")
        if one.invoice is None or one.invoice.status == Invoice.Status.DRAFT
    ]  # fmt: skip


def _by_invoice(waiting: Iterable[DraftCycle]) -> list[list[DraftCycle]]:
    groups: dict[uuid.UUID, list[DraftCycle]] = {}
    for one in waiting:
        groups.setdefault(one.invoice_id or one.pk, []).append(one)
    return list(groups.values())


def _subscriptions(waiting: Iterable[DraftCycle]) -> frozenset[uuid.UUID]:
    return frozenset(one.period.subscription_id for one in waiting)


def _gone(group: Sequence[Pair], invoices: Mapping[uuid.UUID, Invoice | None], at: datetime) -> ForeseenDraft:
    """A draft of which nothing is left."""
    waiting = [one for one, _ in group]
    assert waiting[0].invoice_id is not None
    coupons = coupon_uses.amendments_back(waiting[0].invoice_id)
    return _without_price(waiting, invoices, at, cycles=tuple(cycle for _, cycle in group), coupons=coupons)


def _failed(group: Sequence[DraftCycle], invoices: Mapping[uuid.UUID, Invoice | None], at: datetime) -> ForeseenDraft:
    """A draft that cannot be issued, or what was set aside from one."""
    return _without_price(group, invoices, at, failure=group[0].failure)


def _without_price(
    group: Sequence[DraftCycle], invoices: Mapping[uuid.UUID, Invoice | None], at: datetime, *, failure: str = "",
    cycles: tuple[Cycle, ...] = (), coupons: Mapping[uuid.UUID, Amendment] | None = None,
) -> ForeseenDraft:  # fmt: skip
    invoice = invoices[group[0].pk] if group[0].invoice_id is not None else None
    return ForeseenDraft(
        at=at, invoice=invoice, id=invoice.pk if invoice is not None else None,
        period_start=invoice.period_start if invoice is not None else None,
        period_end=invoice.period_end if invoice is not None else None,
        subscriptions=_subscriptions(group), failure=failure, cycles=cycles, coupons=coupons or {},
    )  # fmt: skip
