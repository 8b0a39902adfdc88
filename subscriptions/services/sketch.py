"""A desk that writes nothing, and what a preview keeps on it: documents, drafts as they will be issued, and what would happen."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from billing.context import Actor
from billing.ids import uuid7
from billing.models import Organisation
from invoices.credits import Meant, PricedCredit
from invoices.drafts import InvoiceDraft, PricedInvoice
from invoices.models import Invoice
from invoices.services.preview import price_draft
from subscriptions.errors import DraftNotPriced
from subscriptions.models import DraftCycle, PlannedChange, Subscription
from subscriptions.services import coupon_uses, excess_credits, late_usage, rows
from subscriptions.services.billing_run_rows import Cycle
from subscriptions.services.claims import Claimed, claim_of, claims_of, interim_claims, netted_from
from subscriptions.services.coupon_book import CouponBook, Held
from subscriptions.services.crediting import CreditOn
from subscriptions.services.desk import Desk
from subscriptions.services.documents import Documents, Issued
from subscriptions.services.draft_foreseeing import DraftsAhead, ForeseenDraft


@dataclass(frozen=True, kw_only=True)
class PreviewedInvoice:
    """An invoice that would be written at ``at``; ``period_end`` is the last day.

    ``issued_at`` is later where a grace holds it as a draft for some days.
    """

    at: datetime
    issued_at: datetime
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
    """What would be issued and happen, in order of time, and how the subscription would stand after what was asked.

    ``drafts`` are there already, and shown as they would be issued.
    """

    drafts: tuple[ForeseenDraft, ...] = ()
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
        self.drafts: list[ForeseenDraft] = []
        self._ahead: DraftsAhead | None = None
        self._amendments: list[ForeseenDraft] = []
        """Drafts that were issued in their time, and leave coupons in hand otherwise than they say."""
        self._gone: set[uuid.UUID] = set()
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

    # --- drafts that are there ---------------------------------------------------------------------
    def end_grace(self, subscription: Subscription) -> None:
        """Its drafts are issued now, as they are priced now."""
        if not self.is_new:
            ahead = self._drafts_ahead(subscription)
            for draft in self._issue_drafts(subscription, ahead.of(subscription.pk), at=self.now):
                self.coupons.amend(subscription.customer_id, draft.coupons)

    def pass_grace(self, subscription: Subscription, *, before: datetime | None, now: datetime) -> None:
        """Issue the drafts whose grace is over before that time (None: all) as they will be then."""
        if not self.is_new:
            ahead = self._drafts_ahead(subscription)
            for at, waiting in ahead.due_before(before, now=now):
                self._amendments += self._issue_drafts(subscription, waiting, at=at)

    def amend_coupons(self, subscription: Subscription, *, before: datetime) -> None:
        """Let coupons in hand stand as drafts that were issued before that time leave them."""
        for draft in [one for one in self._amendments if one.at < before]:
            self._amendments.remove(draft)
            self.coupons.amend(subscription.customer_id, draft.coupons)

    def _drafts_ahead(self, subscription: Subscription) -> DraftsAhead:
        if self._ahead is None:
            self._ahead = DraftsAhead(self.organisation, [subscription.pk])
        return self._ahead

    def _issue_drafts(
        self, subscription: Subscription, waiting: Sequence[DraftCycle], *, at: datetime
    ) -> list[ForeseenDraft]:
        ahead, pk = self._drafts_ahead(subscription), subscription.pk
        found = ahead.issue(waiting, at=at) if waiting else []
        for draft in found:
            if pk in draft.subscriptions:
                self._note_draft(draft, pk)
        if waiting and pk in ahead.owed:
            late_usage.owe(subscription, ahead.owed[pk])
        return found

    def _note_draft(self, draft: ForeseenDraft, subscription_id: uuid.UUID) -> None:
        self.drafts.append(draft)
        if draft.priced is not None and draft.id is not None:
            claim = claim_of(
                invoice_id=draft.id, priced=draft.priced, invoice=draft.invoice, subscription_id=subscription_id
            )
            if draft.invoice is not None:
                self._known[draft.id] = claim
            else:
                self._new.append(claim)
        elif draft.id is not None and not draft.failure:
            self._gone.add(draft.id)
        for cycle in draft.cycles:
            if cycle.row.id == subscription_id:
                self._note_excess(cycle, at=draft.at)

    # --- documents -----------------------------------------------------------------------------------
    def claims(self, subscription: Subscription, from_on: date) -> list[Claimed]:
        """Those of invoices that are there, as the sketch has issued and credited them, and of its own."""
        refused = self._drafts_ahead(subscription).refused if not self.is_new else {}
        if subscription.pk in refused:
            raise DraftNotPriced(reason=refused[subscription.pk])
        while True:
            known = [] if self.is_new else claims_of(subscription, from_on, drafts=True)
            there = [self._known.setdefault(claim.id, claim) for claim in known if claim.id not in self._gone]
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

    def note_credits(self, credits: Iterable[CreditOn], meant: Meant, *, at: datetime | None = None) -> None:
        """Keep credit notes that would be issued."""
        for one in credits:
            claimed = one.claimed
            credit = claimed.standing.price({position: amount.amount for position, amount in one.amounts.items()})
            claimed.credit(credit, replace(meant, instead_of=one.instead_of))
            self.credits.append(
                PreviewedCredit(at=at or self.now, invoice=claimed.invoice, priced=credit, currency=claimed.currency)
            )

    def note_cycle(self, cycle: Cycle, *, issued_at: datetime) -> None:
        """Keep what a billing moment issues: its invoice, and credits where interim invoices charged more than is due."""
        if cycle.invoice is not None:
            self.coupons.note_period(cycle.invoice.id, cycle.moment.end)
            self.note_invoice(cycle.invoice.draft, cycle.invoice.figures.priced, issued_at=issued_at)
        self._note_excess(cycle, at=issued_at)

    def _note_excess(self, cycle: Cycle, *, at: datetime) -> None:
        since = cycle.row.usage_from
        if cycle.excess and since is not None:
            known = interim_claims(subscription_id=cycle.row.id, usage_from=since)
            claims = [*self._interim.get(since, ()), *(self._known.setdefault(claim.id, claim) for claim in known)]
            planned = excess_credits.planned(claims, excess=cycle.excess, currency=cycle.row.currency)
            self.note_credits(planned, Meant(), at=at)

    def note_interim(self, since: datetime, draft: InvoiceDraft) -> None:
        """Keep an invoice of the usage window from ``since`` that would be issued before its end."""
        self.note_invoice(draft, price_draft(organisation=self.organisation, draft=draft, at=self.now))
        self._interim[since] = [self._new[-1], *self._interim.get(since, ())]

    def note_invoice(self, draft: InvoiceDraft, priced: PricedInvoice, *, issued_at: datetime | None = None) -> None:
        """Keep an invoice that would be issued."""
        assert draft.period_start is not None
        assert draft.period_end is not None
        self.invoices.append(
            PreviewedInvoice(
                at=self.now,
                issued_at=issued_at or self.now,
                period_start=draft.period_start,
                period_end=draft.period_end,
                priced=priced,
            )
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
        return Preview(
            drafts=tuple(sorted(self.drafts, key=lambda one: one.at)),
            invoices=tuple(self.invoices),
            credits=tuple(sorted(self.credits, key=lambda one: one.at)),
            events=tuple(self.events),
        )


def _reaches(claim: Claimed, day: date) -> bool:
    return any(line.last_on is None or line.last_on >= day for line in claim.lines)
