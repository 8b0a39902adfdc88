"""Coupons after the run: drafts priced anew, changes within a period that keep its coupons, and what goes back."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import F, Q

from billing import clock
from billing.models import Organisation
from billing.services import outbox
from invoices.drafts import LineInput
from invoices.models import Invoice
from subscriptions.discounts import PERCENT, Share
from subscriptions.lines import PriceBook
from subscriptions.models import AppliedCoupon, CouponUse, Subscription
from subscriptions.services.coupon_book import KIND, Amendment, Discounted, Held, held_of, taken_off

Books = Mapping[uuid.UUID, Sequence[PriceBook]]
ZERO = Decimal(0)


# --- drafts ----------------------------------------------------------------------------------------
def take_off_again(lines: Sequence[LineInput], *, invoice_id: uuid.UUID, currency: str, books: Books) -> Discounted:
    """A draft's lines with the coupons that it has used, at what they had to give then. Reads only."""
    offers = [(held, held.offer(use.available)) for use, held in _used(invoice_id)]
    return taken_off(lines, offers, currency=currency, books=books) if offers else Discounted(lines)


def take_off_beside(
    lines: Sequence[LineInput],
    *,
    invoice_id: uuid.UUID,
    currency: str,
    books: Books,
    taken: Mapping[uuid.UUID, Decimal] | None = None,
) -> Discounted:
    """``lines`` that were to be on the invoice, with what its coupons still have to give: percentages, and the rest of an amount.

    A rest that carries over is for the next invoice of the run. ``taken``: what the invoice has just been found to take, by coupon
    in hand, where it is not written yet. Reads only.
    """
    offers = []
    for use, held in _used(invoice_id):
        gave = use.amount if taken is None else taken.get(use.applied_id, ZERO)
        if held.kind == PERCENT:
            offers.append((held, held.offer(use.available)))
        elif not held.carries_over and use.available > gave:
            offers.append((held, held.offer(use.available - gave)))
    return taken_off(lines, offers, currency=currency, books=books) if offers else Discounted(lines)


def _used(invoice_id: uuid.UUID) -> list[tuple[CouponUse, Held]]:
    uses = list(CouponUse.objects.filter(invoice=invoice_id).order_by("id"))
    rows = AppliedCoupon.objects.filter(pk__in=[use.applied_id for use in uses])
    held = {one.id: one for of_customer in held_of(rows).values() for one in of_customer} if uses else {}
    return [(use, held[use.applied_id]) for use in uses]


def write_again(invoice_id: uuid.UUID, shares: Iterable[Share]) -> None:
    """The draft's coupons took ``shares`` after all; what a fixed one has left follows. In the caller's transaction."""
    for use, more in _taken_again(invoice_id, shares):
        CouponUse.objects.filter(pk=use.pk).update(amount=F("amount") + more)
        applied, held = _lock(use.applied_id)
        applied.discounted += more if use.currency == applied.currency else ZERO
        applied.left_over = held.after_more(more).left_over
        _save(applied)


def amendments_again(invoice_id: uuid.UUID, shares: Iterable[Share]) -> dict[uuid.UUID, Amendment]:
    """What ``write_again`` would leave of the coupons in hand. Reads only."""
    return {use.applied_id: partial(Held.after_more, more=more) for use, more in _taken_again(invoice_id, shares)}


def _taken_again(invoice_id: uuid.UUID, shares: Iterable[Share]) -> list[tuple[CouponUse, Decimal]]:
    """How much more than it says the draft takes of each of its coupons; those that it takes as much of are left out."""
    taken = {share.offer_id: share.amount for share in shares}
    uses = CouponUse.objects.filter(invoice=invoice_id).order_by("applied_id")
    found = [(use, taken.get(use.applied_id, ZERO) - use.amount) for use in uses]
    return [(use, more) for use, more in found if more]


def _lock(applied_id: uuid.UUID) -> tuple[AppliedCoupon, Held]:
    """A coupon in hand for the caller's transaction, and as the rules see it."""
    rows = AppliedCoupon.objects.filter(pk=applied_id)
    applied = rows.select_for_update(of=("self",)).select_related("coupon").get()
    [[held]] = held_of(rows).values()
    return applied, held


@transaction.atomic
def give_back(*, invoice_id: uuid.UUID) -> int:
    """The invoice is void, or its draft is gone: what it took is good for another one. Safe to repeat."""
    uses = list(CouponUse.objects.filter(invoice=invoice_id).select_related("organisation").order_by("applied_id"))
    for use in uses:
        applied, held = _lock(use.applied_id)
        applied.uses -= 1
        applied.discounted -= use.amount if use.currency == applied.currency else ZERO
        after = held.given_back(use.amount, counted=use.counted)
        applied.left_over, applied.periods_left = after.left_over, after.periods_left
        _save(applied)
        outbox.publish(
            "coupon.given_back", applied, at=clock.now(use.organisation_id), applied_coupon_id=str(applied.pk),
            invoice_id=str(invoice_id), amount=f"{use.amount:f}", currency=use.currency,
        )  # fmt: skip
        use.delete()
    return len(uses)


def amendments_back(invoice_id: uuid.UUID) -> dict[uuid.UUID, Amendment]:
    """What ``give_back`` would leave of the coupons in hand. Reads only."""
    uses = CouponUse.objects.filter(invoice=invoice_id)
    return {use.applied_id: partial(Held.given_back, took=use.amount, counted=use.counted) for use in uses}


def _save(applied: AppliedCoupon) -> None:
    """Write what is left; a coupon that was used up may be good again, one that was removed stays so."""
    over = applied.periods_left == 0 and not applied.left_over
    status = applied.status
    if status != AppliedCoupon.Status.REMOVED:
        status = AppliedCoupon.Status.USED_UP if over else AppliedCoupon.Status.ACTIVE
    AppliedCoupon.objects.filter(pk=applied.pk).update(
        uses=applied.uses, discounted=applied.discounted, left_over=applied.left_over, status=status,
        periods_left=applied.periods_left,
        ended_at=None if status == AppliedCoupon.Status.ACTIVE else applied.ended_at or clock.now(applied.organisation_id),
    )  # fmt: skip


# --- within a period -------------------------------------------------------------------------------
def in_force(subscription: Subscription, *, at: datetime) -> list[Held]:
    """The percentages that hold for the subscription's present period: what changes within it is discounted like the rest.

    Those for ever, and those that are on an invoice of the period; they cost no period. Fixed amounts are of the period's
    own invoice.
    """
    mine = Q(subscription=None, customer=subscription.customer_id) | Q(subscription=subscription.pk)
    rows = AppliedCoupon.objects.of(subscription.organisation_id).filter(mine, coupon__kind=PERCENT)
    period = Q(invoice__billed_periods__subscription=subscription.pk, invoice__billed_periods__ends_at__gt=at)
    used = CouponUse.objects.filter(period).exclude(invoice__status=Invoice.Status.VOID)
    for_ever = Q(status=AppliedCoupon.Status.ACTIVE, periods_left=None)
    ids = rows.filter(for_ever | Q(pk__in=used.values("applied"))).exclude(status=AppliedCoupon.Status.REMOVED)
    found = held_of(AppliedCoupon.objects.filter(pk__in=ids.values("pk")))
    return [one for of_customer in found.values() for one in of_customer]


def note_beside(*, organisation: Organisation, invoice: Invoice, lines: Iterable[LineInput], at: datetime) -> None:
    """Write what coupons took off an invoice beside the billing run, as its lines say; it costs them no period."""
    amounts: dict[uuid.UUID, Decimal] = {}
    for part in (part for line in lines for part in line.details):
        if isinstance(part, Mapping) and part.get("kind") == KIND:
            applied_id = uuid.UUID(part["applied"])
            amounts[applied_id] = amounts.get(applied_id, ZERO) + Decimal(part["amount"])
    for applied_id, amount in sorted(amounts.items()):
        CouponUse.objects.create(
            organisation=organisation, applied_id=applied_id, invoice=invoice, amount=amount, currency=invoice.currency,
            used_at=at, counted=False,
        )  # fmt: skip
        applied = AppliedCoupon.objects.filter(pk=applied_id)
        applied.update(uses=F("uses") + 1)
        applied.filter(currency=invoice.currency).update(discounted=F("discounted") + amount)


def percents(held: Iterable[Held]) -> list[tuple[Held, Any]]:
    """Coupons with their offers, for ``taken_off``."""
    return [(one, one.offer()) for one in held]
