"""Where a decision about a subscription is carried out.

Use cases work on a row and hand everything else to a desk: documents, plans, news, audit. A ``Desk`` writes; the preview's
(``sketch.Sketch``) keeps the same things in memory. So both are the same code, and the preview is what then happens.
"""

import uuid
from datetime import date, datetime
from typing import Any

from django.db.models import Min, Q, QuerySet

from billing import clock
from billing.context import Actor
from billing.errors import Conflict
from billing.models import Organisation
from billing.services import audit
from invoices.errors import InvoiceHasPayments
from invoices.models import Invoice
from invoices.services import credit_notes, refunding, settling
from subscriptions.errors import DraftNotPriced
from subscriptions.models import BilledPeriod, DraftCycle, FailedCycle, PlannedChange, Subscription
from subscriptions.services import claims, coupon_uses, documents, rows
from subscriptions.services.claims import Claimed
from subscriptions.services.coupon_book import Held
from subscriptions.services.documents import Documents, Issued
from subscriptions.services.draft_finalizing import finalize_for

UNPAID = rows.UNPAID


class Desk:
    """Writes what is decided about locked rows of one organisation, in the caller's transaction."""

    def __init__(self, *, organisation: Organisation, actor: Actor, now: datetime | None = None) -> None:
        self.organisation, self.actor = organisation, actor
        self.now = now or clock.now(organisation)

    def planned(self, subscription: Subscription) -> list[PlannedChange]:
        """What is planned for it, in order of time."""
        return rows.planned_changes(subscription)

    def plan(self, change: PlannedChange) -> None:
        """Keep a plan."""
        change.save(force_insert=True)

    def close(self, change: PlannedChange, *, applied: bool) -> None:
        """A plan was carried out, or given up."""
        change.apply() if applied else change.cancel()
        change.save(update_fields=["status"])

    def defer(self, subscription: Subscription, until: datetime) -> None:
        """Other terms whose time fell into an interruption take hold at its end, ``until``; a pause in it is pointless."""
        for change in self.planned(subscription):
            if change.effective_at >= until:
                continue
            if change.kind == PlannedChange.Kind.PAUSE:
                self.close(change, applied=False)
            else:
                self.move(change, until)

    def move(self, change: PlannedChange, to: datetime) -> None:
        """Put a plan off."""
        change.effective_at = to
        change.save(update_fields=["effective_at"])

    def end_grace(self, subscription: Subscription) -> None:
        """Issue its drafts now: what they bill is about to be weighed, and only what was issued can be credited."""
        finalize_for(organisation=self.organisation, subscription_id=subscription.pk)

    def claims(self, subscription: Subscription, from_on: date) -> list[Claimed]:
        """What its invoices claim for ``from_on`` and later. Raises ``DraftNotPriced`` while one of them is still a draft."""
        require_issued(subscription)
        return claims.claims_of(subscription, from_on)

    def held(self, subscription: Subscription) -> list[Held]:
        """The coupons that hold for the subscription's present period."""
        return coupon_uses.in_force(subscription, at=self.now)

    def issue(self, subscription: Subscription, planned: Documents, *, reason: str) -> Issued:
        """Issue documents."""
        return documents.write(
            subscription=subscription, documents=planned, at=self.now, actor=self.actor, reason=reason
        )

    def refund(self, subscription: Subscription, issued: Issued) -> None:
        """What was credited goes back where it came from: held for that from now on, and sent once this is committed."""
        for note in issued.credit_notes:
            if note.to_credit.amount > 0:
                refunding.reserve(note=note, actor=self.actor)
                rows.publish("refund_due", subscription, at=self.now, credit_note_id=str(note.pk))

    def note_period(
        self, subscription: Subscription, *, starts_at: datetime, ends_at: datetime, kind: str, issued: Issued
    ) -> None:
        """Note a time that was billed beside the billing run; a test clock may stand still between two of them."""
        earlier = BilledPeriod.objects.filter(subscription=subscription, kind__startswith=kind).count()
        BilledPeriod.objects.create(
            organisation_id=subscription.organisation_id, subscription=subscription, starts_at=starts_at, ends_at=ends_at,
            kind=f"{kind}{earlier + 1}", invoice=issued.invoice, billed_at=self.now,
        )  # fmt: skip

    def owes(self, subscription: Subscription) -> bool:
        """Whether an invoice of the subscription is unpaid."""
        unpaid = Invoice.objects.of(self.organisation).filter(subscription_ref=subscription.pk, status__in=UNPAID)
        return unpaid.exists()

    def asked_at(self, subscription: Subscription) -> datetime | None:
        """When the first of its unpaid invoices was issued; None when none is unpaid."""
        unpaid = Invoice.objects.of(self.organisation).filter(subscription_ref=subscription.pk, status__in=UNPAID)
        return unpaid.order_by().aggregate(first=Min("finalized_at"))["first"]

    def keep_standing(self, subscription: Subscription, *, at: datetime) -> None:
        """What is active again is past due at once where an invoice became overdue meanwhile."""
        if subscription.status == rows.Status.ACTIVE and rows.has_overdue(subscription):
            subscription.fall_behind()
            self.tell("past_due", subscription, at=at)

    def mended(self, subscription: Subscription) -> None:
        """It is set aside no more: what failed has been done, or given up."""
        subscription.failure = ""
        open_ones = FailedCycle.objects.filter(subscription=subscription, retried_at=None)
        open_ones.update(retried_at=self.now)

    def annul_unpaid(self, subscription: Subscription, *, reason: str) -> None:
        """Void what was never paid; what was paid in part is credited, and the part becomes the customer's credit."""
        unpaid = Invoice.objects.of(self.organisation).filter(subscription_ref=subscription.pk, status__in=UNPAID)
        settling.lock_customer(subscription.customer_id)
        for invoice_id in list(unpaid.order_by("id").values_list("pk", flat=True)):
            self._annul(invoice_id, reason)

    def _annul(self, invoice_id: uuid.UUID, reason: str) -> None:
        about = {"invoice_id": invoice_id, "reason": reason, "actor": self.actor, "at": self.now}
        try:
            settling.void_invoice(**about)  # type: ignore[arg-type]
        except InvoiceHasPayments:
            credit_notes.issue_credit_note(amounts=None, **about)  # type: ignore[arg-type]
        except Conflict:  # settled since we looked
            return

    def tell(self, news: str, subscription: Subscription, *, at: datetime, **more: Any) -> None:
        """Tell the house ``subscription.<news>``, true from ``at`` on."""
        rows.publish(news, subscription, at=at, **more)

    def record(self, action: str, subscription: Subscription, **facts: Any) -> None:
        """Keep who decided what, and why."""
        audit.record(actor=self.actor, action=f"subscription.{action}", target=subscription, **facts)


def require_issued(subscription: Subscription) -> None:
    """Raise ``DraftNotPriced`` while a draft of the subscription could not be issued: it would claim in full later on."""
    held = _waiting(subscription).first()
    if held is not None:
        raise DraftNotPriced(reason=held.failure or "somebody else is finalising it; try again.")


def _waiting(subscription: Subscription) -> QuerySet[DraftCycle]:
    waiting = DraftCycle.objects.filter(period__subscription=subscription, finalized_at=None)
    unpriced = Q(invoice=None) & ~Q(failure="")  # set aside from a draft that others share
    return waiting.filter(Q(invoice__status=Invoice.Status.DRAFT) | unpriced).order_by("pk")
