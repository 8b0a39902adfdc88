"""What would be billed, without writing anything: by the same functions that bill.

A preview walks the rows in memory. Usage counts as far as it is measured now; everything else equals, to the cent, what
the billing run and the change then issue.
"""

import uuid
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from billing import clock
from billing.errors import NotFound
from billing.models import Organisation
from invoices.credits import PricedCredit
from invoices.drafts import InvoiceDraft, PricedInvoice
from invoices.models import Invoice
from invoices.services import credit_notes
from invoices.services.preview import price_draft
from subscriptions.lines import billing_moment, draft_of, lines_in_advance
from subscriptions.models import PlannedChange, PlanVersion, Subscription
from subscriptions.periods import local_date
from subscriptions.selectors import subscriptions_of
from subscriptions.services import changing, lifecycle, rows
from subscriptions.services.documents import Documents, payer_of, usage_due
from subscriptions.services.lifecycle import Agreement

MAX_DOCUMENTS = 48
_NOTHING = Decimal(0)


@dataclass(frozen=True, kw_only=True)
class PreviewedInvoice:
    """An invoice that would be issued at ``at``; ``period_end`` is the last day."""

    at: datetime
    period_start: date
    period_end: date
    priced: PricedInvoice


@dataclass(frozen=True, kw_only=True)
class PreviewedCredit:
    """A credit note that would be issued on ``invoice`` at ``at``."""

    at: datetime
    invoice: Invoice
    priced: PricedCredit


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What would be issued, in order of time."""

    invoices: tuple[PreviewedInvoice, ...] = ()
    credits: tuple[PreviewedCredit, ...] = ()


def preview_new(*, organisation: Organisation, agreement: Agreement, count: int = 2) -> Preview:
    """The invoices of a new subscription: all that are due at once, and the next ones up to ``count`` in all.

    Raises what ``create_subscription`` raises.
    """
    now = clock.now(organisation)
    subscription = lifecycle.drafted(organisation=organisation, agreement=agreement, now=now)
    return Preview(invoices=_coming(subscription, now, count))


def preview_change(
    *,
    organisation: Organisation,
    subscription_id: uuid.UUID,
    version: PlanVersion | None = None,
    quantity: int | None = None,
    when: str = changing.NOW,
    prorate: bool = True,
    count: int = 1,
) -> Preview:
    """What a change would issue now, and the next ``count`` renewals; without a change, the renewals alone.

    Raises what ``change_subscription`` raises.
    """
    now = clock.now(organisation)
    subscription = subscriptions_of(organisation).filter(pk=subscription_id).first()
    if subscription is None:
        raise NotFound("No such subscription in this organisation.", field="subscription")
    subscription.organisation = organisation
    if version is None and quantity is None:
        return Preview(invoices=_coming(subscription, now, count, rows.planned_change(subscription)))
    version, quantity = changing.checked_terms(subscription, version=version, quantity=quantity)
    if when == changing.PERIOD_END and subscription.status != rows.Status.PENDING:
        planned = PlannedChange(
            subscription=subscription,
            plan_version=version,
            quantity=quantity,
            effective_at=changing.effective_at(subscription, now),
        )
        return Preview(invoices=_coming(subscription, now, count, planned))
    switch = changing.plan_switch(
        subscription=subscription, version=version, quantity=quantity, now=now, prorate=prorate
    )
    changing.apply_switch(subscription, switch)
    done = _priced(organisation, switch.documents, now)
    return Preview(invoices=(*done.invoices, *_coming(subscription, now, count)), credits=done.credits)


def _priced(organisation: Organisation, documents: Documents, at: datetime) -> Preview:
    invoices = (_invoice(organisation, documents.draft, at),) if documents.draft else ()
    credits = tuple(
        PreviewedCredit(at=at, invoice=invoice, priced=credit_notes.price(invoice, amounts))
        for invoice, amounts in documents.credits
    )
    return Preview(invoices=invoices, credits=credits)


def _coming(
    subscription: Subscription, now: datetime, count: int, planned: PlannedChange | None = None
) -> tuple[PreviewedInvoice, ...]:
    """The next invoices of the row as it stands, moved forward in memory; moments that cost nothing make none."""
    found: list[PreviewedInvoice] = []
    if subscription.status in rows.NOT_STARTED and subscription.next_billing_at is not None:
        lifecycle.activate(subscription, at=subscription.next_billing_at)
    for _ in range(MAX_DOCUMENTS):
        at = subscription.next_billing_at
        due = at is not None and at <= now
        if at is None or _is_over(subscription, at) or (len(found) >= count and not due):
            break
        if planned is not None and planned.effective_at <= at:
            version, quantity = (
                planned.plan_version or subscription.plan_version,
                planned.quantity or subscription.quantity,
            )
            changing.switch_at_boundary(subscription, version, quantity, planned.effective_at)
            planned = None
        invoice = _bill_in_memory(subscription, at, now)
        if invoice is not None:
            found.append(invoice)
    return tuple(found)


def _bill_in_memory(subscription: Subscription, at: datetime, now: datetime) -> PreviewedInvoice | None:
    """Price one billing moment and move the row to the next."""
    organisation, zone = subscription.organisation, clock.zone(subscription.organisation)
    book = rows.book_of(subscription)
    moment = billing_moment(
        anchor_on=subscription.anchor_on,
        interval=book.interval,
        interval_count=book.interval_count,
        zone=zone,
        next_billing_at=at,
        period_number=subscription.period_number,
        usage_from=subscription.usage_from,
        ends_at=subscription.ends_at,
    )
    lines = lines_in_advance(
        moment=moment, book=book, quantity=subscription.quantity, is_first=subscription.period_start is None
    )
    if moment.usage_end is not None:
        lines += usage_due(subscription=subscription, until=moment.usage_end)
    subscription.period_number, subscription.period_start, subscription.period_end = (
        moment.number,
        moment.start,
        moment.end,
    )
    subscription.next_billing_at, subscription.usage_from, subscription.usage_version = moment.end, at, None
    subscription.earlier_terms = []
    if not any(line.amount.amount for line in lines):
        return None
    issued_at = max(at, now)
    draft = draft_of(
        payer=payer_of(subscription),
        lines=lines,
        period_start=moment.first_on,
        period_end=moment.last_on,
        issued_on=local_date(issued_at, zone),
    )
    return _invoice(organisation, draft, issued_at)


def _invoice(organisation: Organisation, draft: InvoiceDraft, at: datetime) -> PreviewedInvoice:
    assert draft.period_start is not None
    assert draft.period_end is not None
    return PreviewedInvoice(
        at=at,
        period_start=draft.period_start,
        period_end=draft.period_end,
        priced=price_draft(organisation=organisation, draft=draft, at=at),
    )


def _is_over(subscription: Subscription, at: datetime) -> bool:
    return any(end is not None and end <= at for end in (subscription.ends_at, subscription.cancel_at))
