"""From lines that are due now to documents: an invoice, or credit notes on what was billed before.

``plan`` only reads and is what a preview shows; ``write`` issues exactly that.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from uuid import UUID

from billing import clock
from billing.context import Actor
from billing.selectors.usage import aggregate_parts
from invoices.credits import Meant
from invoices.drafts import InvoiceDraft, LineInput
from invoices.models import CreditNote, Invoice
from invoices.services import credit_notes
from invoices.services.finalizing import issue_invoice
from invoices.services.preview import treatments
from invoices.services.settling import lock_customer
from subscriptions.arrears import arrears_lines, elapsed, least_of
from subscriptions.late_usage import Correction
from subscriptions.lines import Payer, PriceBook, draft_of
from subscriptions.metering import by_component, windows_of
from subscriptions.models import Subscription
from subscriptions.periods import end_day, local_date
from subscriptions.progressive import is_taken_off, take_off_whole
from subscriptions.selectors import price_books
from subscriptions.services import late_usage
from subscriptions.services.claims import Claimed, left_by_component, paid_shares, treatments_billed
from subscriptions.services.coupon_book import Held, taken_off
from subscriptions.services.coupon_uses import note_beside, percents
from subscriptions.services.crediting import CreditOn, spread
from subscriptions.services.interim_lines import interim_foreseen, lines_to_take_off
from subscriptions.services.zones import zone_of
from subscriptions.switching import as_paid, capped, settle


@dataclass(frozen=True, kw_only=True)
class Documents:
    """What is to be issued: at most one invoice, and credits by invoice for the unused days that are ``meant``."""

    draft: InvoiceDraft | None = None
    credits: tuple[CreditOn, ...] = ()
    meant: Meant = field(default_factory=Meant)


@dataclass(frozen=True, kw_only=True)
class Issued:
    """What was issued."""

    invoice: Invoice | None = None
    credit_notes: tuple[CreditNote, ...] = ()


def plan(
    *,
    subscription: Subscription,
    lines: Sequence[LineInput],
    first_on: date,
    last_on: date,
    at: datetime,
    inclusive: bool = False,
    claims: Callable[[], Sequence[Claimed]] = tuple,
    credit_from: date | None = None,
    held: Callable[[], Sequence[Held]] = tuple,
    books: Sequence[PriceBook] = (),
    at_price_paid: bool = False,
) -> Documents:
    """The documents that ``lines`` make: one invoice, or where they come to less than nothing, credit notes. Reads only.

    No tax of the invoice falls below zero, and nothing is given back at another tax than it was billed at: both are credited.
    Credits in ``lines`` are cut to what ``claims`` can still bear in lines that reach to ``credit_from``, and to the share of
    the price that was paid where a coupon took something off it. What ``held`` says holds for the period is taken off
    the new charges too; ``books`` are their prices. ``at_price_paid``: the credits are cut to what was paid already.
    """
    lines = [line for line in lines if line.amount.amount]
    claimed: tuple[Claimed, ...] = ()
    if any(line.amount.amount < 0 for line in lines):
        claimed = tuple(claims())
        if not at_price_paid:
            lines = as_paid(lines, paid_shares(claimed, credit_from or first_on))
        lines = capped(lines, left_by_component(claimed, credit_from or first_on))
    lines = _discounted(lines, subscription=subscription, held=held, books=books)
    if not lines:
        return Documents()
    organisation = subscription.organisation
    issued_on = local_date(at, clock.zone(organisation))

    def draft(of: Sequence[LineInput]) -> InvoiceDraft:
        return draft_of(
            payer=payer_of(subscription),
            lines=of,
            period_start=first_on,
            period_end=max(last_on, first_on),
            issued_on=issued_on,
            inclusive=inclusive,
        )

    if all(line.amount.amount > 0 for line in lines):
        return Documents(draft=draft(lines))
    taxed = treatments(
        organisation=organisation, draft=draft(lines), categories={line.tax_category for line in lines}, at=at
    )
    settled = settle(lines, treatments=taxed, billed=treatments_billed(claimed))
    return Documents(
        draft=draft(settled.invoice) if settled.invoice else None,
        credits=spread(claimed, settled.credit),
        meant=_days_of(line for line in lines if line.amount.amount < 0 and not is_taken_off(line)),
    )


def _days_of(credits: Iterable[LineInput]) -> Meant:
    """The unused days that credits give back."""
    days = [(line.period_start, line.period_end) for line in credits if line.period_start and line.period_end]
    return Meant(
        unused_from=min((first for first, _ in days), default=None),
        unused_to=max((last for _, last in days), default=None),
    )


def _discounted(
    lines: Sequence[LineInput],
    *,
    subscription: Subscription,
    held: Callable[[], Sequence[Held]],
    books: Sequence[PriceBook],
) -> list[LineInput]:
    """``lines`` with what ``held`` takes off the charges among them, whatever the credits beside them give back."""
    charges = [line for line in lines if line.amount.amount > 0]
    if not charges:
        return list(lines)
    found = taken_off(charges, percents(held()), currency=subscription.currency, books={subscription.pk: tuple(books)})
    discounted = iter(found.lines)
    return [next(discounted) if line.amount.amount > 0 else line for line in lines]


def write(*, subscription: Subscription, documents: Documents, at: datetime, actor: Actor, reason: str) -> Issued:
    """Issue what was planned, in the caller's transaction."""
    reading = subscription.__dict__.pop("usage_read", None)
    if documents.credits:
        lock_customer(subscription.customer_id)  # before any number: locks are taken in one order everywhere
    invoice = None
    if documents.draft is not None:
        invoice = issue_invoice(organisation=subscription.organisation, draft=documents.draft, at=at)
        note_beside(organisation=subscription.organisation, invoice=invoice, lines=documents.draft.lines, at=at)
    notes = tuple(
        credit_notes.issue_credit_note(
            invoice_id=credit.claimed.id,
            amounts=credit.amounts,
            reason=reason,
            actor=actor,
            at=at,
            meant=replace(documents.meant, instead_of=credit.instead_of),
        )
        for credit in documents.credits
    )
    if reading is not None:
        billed_on = invoice.pk if invoice is not None else None
        late_usage.settle(organisation=subscription.organisation, readings=[(reading, billed_on)], at=at)
    return Issued(invoice=invoice, credit_notes=notes)


def usage_due(
    *, subscription: Subscription, until: datetime, at_end: bool = False, version_id: UUID | None = None
) -> list[LineInput]:
    """Lines for what is charged afterwards and is not billed yet, up to ``until``: usage, components in arrears, minimums.

    ``at_end``: the day of ``until`` is charged too, as the last one. One query of usage.
    """
    since, zone = subscription.usage_from, zone_of(subscription)
    if since is None or since > until:
        return []
    next_on = end_day(until, zone) if at_end else None
    if since == until and (next_on is None or local_date(since, zone) >= next_on):
        return []  # what ends in the instant it began is charged for that day all the same
    version_id = version_id or subscription.usage_version_id or subscription.plan_version_id
    noted = {UUID(one["version"]) for one in subscription.earlier_terms}
    books = price_books(subscription.organisation_id, {version_id, *noted})
    is_present = version_id == subscription.plan_version_id
    book = books.get(version_id, subscription.currency, subscription.add_ons if is_present else None)
    past = elapsed(
        row=subscription,
        book=book,
        book_with=lambda version, add_ons: books.get(version, subscription.currency, add_ons),
        until=until,
        zone=zone,
        next_on=next_on,
    )
    windows = windows_of(
        book=book, customer_id=subscription.customer_id, subscription_id=subscription.pk, start=since, end=until
    )
    changes = late_usage.changes_before(windows.values())
    used = aggregate_parts(windows.values())
    lines = arrears_lines(elapsed=past, book=book, used=by_component(windows, used))
    earlier = [*lines_to_take_off([(subscription.pk, since)])[subscription.pk, since], *interim_foreseen(subscription)]
    lines = take_off_whole(lines, earlier) if earlier else lines
    subject = late_usage.Subject(subscription.pk, subscription.customer_id, subscription.currency)
    corrected: Sequence[Correction] | None = late_usage.foreseen(subscription)
    if corrected is None:
        found = late_usage.corrections(organisation=subscription.organisation, subjects=[subject])
        corrected = found.get(subscription.pk, ())
    late_usage.put_off_credits(corrected)
    least = least_of(elapsed=past, book=book)
    reading = late_usage.Reading(subject, version_id, windows, used, changes, corrected, least)
    subscription.usage_read = reading  # type: ignore[attr-defined]  # ``write`` remembers what was billed
    return [*lines, *(line for one in corrected for line in one.lines)]


def payer_of(subscription: Subscription) -> Payer:
    """What drafts take from the subscription."""
    return Payer(
        subscription_id=subscription.pk,
        customer_id=subscription.customer_id,
        currency=subscription.currency,
        net_days=subscription.net_days,
        collect_automatically=subscription.collect_automatically,
        method_ref=subscription.method_id,
    )
