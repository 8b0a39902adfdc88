"""What would be billed, without writing anything: by the same code that bills.

A preview takes a copy of the row, does to it what is asked on a ``Sketch`` (a desk that keeps documents in memory) and walks its
time line: planned things by ``changes.apply_next``, billing moments by the billing run's ``Cycles``. Usage counts as far as it is
measured now, and a first invoice that is waited for counts as paid; everything else equals, to the cent, what then happens.
"""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from billing import clock
from billing.context import Actor
from billing.errors import NotFound
from billing.ids import uuid7
from billing.models import Organisation
from invoices.credits import Meant, PricedCredit
from invoices.drafts import InvoiceDraft, PricedInvoice
from invoices.models import Invoice
from invoices.services.preview import price_draft
from subscriptions.models import PlannedChange, PlanVersion, Subscription
from subscriptions.selectors import subscriptions_of
from subscriptions.services import (
    activation,
    add_ons,
    agreements,
    changes,
    changing,
    coupon_uses,
    ending,
    excess_credits,
    interim,
    lasting,
    late_usage,
    lifecycle,
    moments,
    rows,
)
from subscriptions.services.agreements import Agreement
from subscriptions.services.billing_run_rows import Cycle
from subscriptions.services.claims import Claimed, claim_of, claims_of, interim_claims, netted_from
from subscriptions.services.coupon_book import CouponBook, Held
from subscriptions.services.crediting import CreditOn
from subscriptions.services.desk import Desk, require_priced
from subscriptions.services.documents import Documents, Issued
from subscriptions.services.interim_lines import foresee
from subscriptions.services.rows import Status

MAX_DOCUMENTS = 48
MAX_STEPS = 400


@dataclass(frozen=True, kw_only=True)
class PreviewedInvoice:
    """An invoice that would be issued at ``at``; ``period_end`` is the last day."""

    at: datetime
    period_start: date
    period_end: date
    priced: PricedInvoice


@dataclass(frozen=True, kw_only=True)
class PreviewedCredit:
    """A credit note that would be issued at ``at``; ``invoice`` is None where that is a previewed one itself."""

    at: datetime
    invoice: Invoice | None
    priced: PricedCredit
    currency: str


@dataclass(frozen=True, kw_only=True)
class PreviewedEvent:
    """Something that would happen to the subscription: what, when, and its status afterwards."""

    at: datetime
    what: str
    status: str
    plan: str
    quantity: int


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What would be issued and happen, in order of time, and how the subscription would stand after what was asked."""

    invoices: tuple[PreviewedInvoice, ...] = ()
    credits: tuple[PreviewedCredit, ...] = ()
    events: tuple[PreviewedEvent, ...] = ()


class Sketch(Desk):
    """A desk that writes nothing: it keeps what it is handed."""

    def __init__(self, *, organisation: Organisation, now: datetime, is_new: bool = False) -> None:
        super().__init__(organisation=organisation, actor=Actor.system("preview"), now=now)
        self.is_new = is_new
        self.invoices: list[PreviewedInvoice] = []
        self.credits: list[PreviewedCredit] = []
        self.events: list[PreviewedEvent] = []
        self.coupons = CouponBook(organisation)
        self._planned: list[PlannedChange] | None = None
        self._known: dict[uuid.UUID, Claimed] = {}
        self._new: list[Claimed] = []
        self._interim: dict[datetime, list[Claimed]] = {}
        self.held_back: tuple[datetime, datetime] | None = None
        """When usage in advance may be invoiced again: (start of its window, when)."""

    def planned(self, subscription: Subscription) -> list[PlannedChange]:
        if self._planned is None:
            self._planned = [] if self.is_new else rows.planned_changes(subscription)
        return sorted(self._planned, key=lambda change: (change.effective_at, change.pk))

    def plan(self, change: PlannedChange) -> None:
        self._planned = [*self.planned(change.subscription), change]

    def close(self, change: PlannedChange, *, applied: bool) -> None:
        self._planned = [one for one in self.planned(change.subscription) if one is not change]

    def move(self, change: PlannedChange, to: datetime) -> None:
        change.effective_at = to

    def end_grace(self, subscription: Subscription) -> None:
        """Its drafts count as issued: ``claims`` reads them too."""

    def claims(self, subscription: Subscription, from_on: date) -> list[Claimed]:
        """Those of invoices that are there, as the sketch has credited them, and of its own."""
        if not self.is_new:
            require_priced(subscription)
        while True:
            known = [] if self.is_new else claims_of(subscription, from_on, drafts=True)
            there = [self._known.setdefault(claim.id, claim) for claim in known]
            found = [*reversed([claim for claim in self._new if _reaches(claim, from_on)]), *there]
            since = netted_from(found, from_on)
            if since == from_on:
                return found
            from_on = since

    def held(self, subscription: Subscription) -> list[Held]:
        """Those that are in force, and those of the sketch's own invoices of the period."""
        known = [] if self.is_new else coupon_uses.in_force(subscription, at=self.now)
        ids = {one.id for one in known}
        return known + [one for one in self.coupons.used_until(self.now) if one.id not in ids]

    def issue(self, subscription: Subscription, planned: Documents, *, reason: str) -> Issued:
        reading = subscription.__dict__.pop("usage_read", None)
        if reading is not None:
            late_usage.foresee(subscription, reading.corrections)
        if planned.draft is not None:
            priced = price_draft(organisation=self.organisation, draft=planned.draft, at=self.now)
            self.note_invoice(planned.draft, priced)
        self.note_credits(planned.credits, planned.meant)
        return Issued()

    def note_credits(self, credits: Iterable[CreditOn], meant: Meant) -> None:
        """Keep credit notes that would be issued."""
        for one in credits:
            claimed = one.claimed
            credit = claimed.standing.price({position: amount.amount for position, amount in one.amounts.items()})
            claimed.credit(credit, replace(meant, instead_of=one.instead_of))
            self.credits.append(
                PreviewedCredit(at=self.now, invoice=claimed.invoice, priced=credit, currency=claimed.currency)
            )

    def note_cycle(self, cycle: Cycle) -> None:
        """Keep what a billing moment issues: its invoice, and credits where interim invoices charged more than is due."""
        if cycle.invoice is not None:
            self.coupons.note_period(cycle.invoice.id, cycle.moment.end)
            self.note_invoice(cycle.invoice.draft, cycle.invoice.figures.priced)
        since = cycle.row.usage_from
        if cycle.excess and since is not None:
            known = interim_claims(subscription_id=cycle.row.id, usage_from=since)
            claims = [*self._interim.get(since, ()), *(self._known.setdefault(claim.id, claim) for claim in known)]
            planned = excess_credits.planned(claims, excess=cycle.excess, currency=cycle.row.currency)
            self.note_credits(planned, Meant())

    def note_interim(self, since: datetime, draft: InvoiceDraft) -> None:
        """Keep an invoice of the usage window from ``since`` that would be issued before its end."""
        self.note_invoice(draft, price_draft(organisation=self.organisation, draft=draft, at=self.now))
        self._interim[since] = [self._new[-1]]

    def note_invoice(self, draft: InvoiceDraft, priced: PricedInvoice) -> None:
        """Keep an invoice that would be issued."""
        assert draft.period_start is not None
        assert draft.period_end is not None
        self.invoices.append(
            PreviewedInvoice(at=self.now, period_start=draft.period_start, period_end=draft.period_end, priced=priced)
        )
        self._new.append(claim_of(invoice_id=uuid7(), priced=priced))

    def tell(self, news: str, subscription: Subscription, *, at: datetime, **more: Any) -> None:
        plan = subscription.plan_version.plan.code
        self.events.append(
            PreviewedEvent(at=at, what=news, status=subscription.status, plan=plan, quantity=subscription.quantity)
        )

    def note_period(self, subscription: Subscription, **about: Any) -> None:
        """Nothing to keep."""

    def refund(self, subscription: Subscription, issued: Issued) -> None:
        """The money follows the credit note."""

    def owes(self, subscription: Subscription) -> bool:
        return False

    def keep_standing(self, subscription: Subscription, *, at: datetime) -> None:
        if not self.is_new:
            super().keep_standing(subscription, at=at)

    def mended(self, subscription: Subscription) -> None:
        subscription.failure = ""

    def annul_unpaid(self, subscription: Subscription, *, reason: str) -> None:
        """A preview shows what is issued; nothing that it issued is unpaid."""

    def record(self, action: str, subscription: Subscription, **facts: Any) -> None:
        """Nobody decided anything yet."""

    def found(self) -> Preview:
        """What was kept."""
        return Preview(invoices=tuple(self.invoices), credits=tuple(self.credits), events=tuple(self.events))


def _reaches(claim: Claimed, day: date) -> bool:
    return any(line.last_on is None or line.last_on >= day for line in claim.lines)


def preview_new(*, organisation: Organisation, agreement: Agreement, count: int = 2) -> Preview:
    """The invoices of a new subscription: all that are due at once, and the next ones up to ``count`` in all.

    Raises what ``create_subscription`` raises.
    """
    now = clock.now(organisation)
    sketch = Sketch(organisation=organisation, now=now, is_new=True)
    subscription = agreements.drafted(organisation=organisation, agreement=agreement, now=now)
    sketch.tell("created", subscription, at=now)
    if subscription.started_at <= now:
        activation.start(subscription, sketch, at=subscription.started_at, seen=now)
    _walk(subscription, sketch, now=now, count=count)
    return sketch.found()


ACTIONS: Mapping[str, Any] = {
    "change": changing.change_row,
    "add_ons": add_ons.set_add_ons_row,
    "cancel_change": changing.cancel_planned_row,
    "pause": lifecycle.pause_row,
    "resume": lifecycle.resume_row,
    "suspend": lifecycle.suspend_row,
    "cancel": ending.cancel_row,
    "uncancel": ending.uncancel_row,
    "change_end": lasting.change_end_row,
    "change_term": lasting.change_term_row,
    "reactivate": lifecycle.take_up_row,
    "recover": lifecycle.recover_row,
}


def preview_action(
    *, organisation: Organisation, subscription_id: uuid.UUID, action: str = "", count: int = 1, **options: Any
) -> Preview:
    """What an action (a name of ``ACTIONS``, with its options) would issue now, and after it the next ``count`` invoices.

    Without an action, the coming invoices alone. What is due already comes first, as it would. Raises what the action raises.
    """
    now = clock.now(organisation)
    subscription = subscriptions_of(organisation).filter(pk=subscription_id).first()
    if subscription is None:
        raise NotFound("No such subscription in this organisation.", field="subscription")
    subscription.organisation = organisation
    sketch = Sketch(organisation=organisation, now=now)
    if action:
        if not subscription.failure:
            _walk(subscription, sketch, now=now, count=0)
        ACTIONS[action](subscription, sketch, **options)
    issued = len(sketch.invoices) if action else 0
    _walk(subscription, sketch, now=now, count=0)
    _foresee(subscription, sketch)
    _walk(subscription, sketch, now=now, count=issued + count)
    return sketch.found()


def preview_change(
    *,
    organisation: Organisation,
    subscription_id: uuid.UUID,
    version: PlanVersion | None = None,
    quantity: int | None = None,
    count: int = 1,
    **options: Any,
) -> Preview:
    """``preview_action`` of a change of terms; without new ones, the coming invoices alone."""
    if version is None and quantity is None:
        return preview_action(organisation=organisation, subscription_id=subscription_id, count=count)
    return preview_action(
        organisation=organisation, subscription_id=subscription_id, action="change", count=count, version=version,
        quantity=quantity, **options,
    )  # fmt: skip


def _walk(subscription: Subscription, sketch: Sketch, *, now: datetime, count: int) -> None:
    """Move the row on in memory until ``count`` invoices are found, and past everything that is due at ``now``."""
    for _ in range(MAX_STEPS):
        if subscription.status == Status.INCOMPLETE and sketch.invoices:
            activation.complete(subscription, sketch, at=sketch.now)
        at = _next_at(subscription, sketch)
        if at is None or (at > now and len(sketch.invoices) >= count) or len(sketch.invoices) >= MAX_DOCUMENTS:
            break
        held = _held_at(subscription, sketch)
        sketch.now = max(at if held is None else min(at, held), now)
        if held is not None and held < at:
            sketch.held_back = None
            _foresee(subscription, sketch)
        elif changes.is_due(subscription, at):
            changes.apply_next(subscription, sketch)
        else:
            _bill(subscription, sketch)
    sketch.now = now


def _foresee(subscription: Subscription, sketch: Sketch) -> None:
    """Usage so far that is about to be invoiced before the period's end: charged in advance, or past a threshold.

    What is charged in advance may have to wait, because some of it was invoiced not long ago.
    """
    since = subscription.usage_from
    if since is None:
        return
    found = interim.foreseen(subscription, at=sketch.now, coupons=sketch.coupons)
    if found is not None:
        draft, lines = found
        sketch.note_interim(since, draft)
        foresee(subscription, lines)
    elif (until := interim.held_until(subscription)) is not None and until > sketch.now:
        sketch.held_back = since, until


def _held_at(subscription: Subscription, sketch: Sketch) -> datetime | None:
    """When usage that is held back may be invoiced, as long as its window is the present one."""
    since, until = sketch.held_back or (None, None)
    return until if since == subscription.usage_from else None


def _next_at(subscription: Subscription, sketch: Sketch) -> datetime | None:
    """When the next thing happens: a planned one, or a billing moment."""
    subscription.next_change_at = rows.next_change_at(subscription, sketch.planned(subscription))
    billed = subscription.status in (*rows.LIVE, Status.INCOMPLETE)
    times = (subscription.next_change_at, subscription.next_billing_at if billed else None)
    return min((at for at in times if at is not None), default=None)


def _bill(subscription: Subscription, sketch: Sketch) -> None:
    """Price one billing moment and move the row to the next."""
    cycle = moments.cycle_of(subscription, at=sketch.now, coupons=sketch.coupons)
    renews = subscription.period_start is not None
    at = cycle.moment.at
    moments.move_past(subscription, cycle)
    sketch.note_cycle(cycle)
    if renews:
        sketch.tell("renewed", subscription, at=at)
