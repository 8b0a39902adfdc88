"""Coupons in customers' hands while invoices are made: read once, taken off lines, kept count of, written with the invoice.

A run locks the coupons of its chunk's customers and writes what they took off in the transaction of the invoices; a preview and
a dry run keep the same count in memory. So a coupon that is good for one invoice is on one invoice, whoever runs beside.
"""

import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import QuerySet
from moneyed import Money

from billing import clock
from billing.arrays import among, array_of
from billing.ids import uuid7
from billing.models import Organisation
from billing.money import exponent, quantize
from billing.services.copying import copy_rows
from invoices.drafts import LineInput
from subscriptions.discounts import FIXED, Item, Offer, Share, discounts
from subscriptions.lines import PriceBook
from subscriptions.models import AppliedCoupon, Coupon, CouponUse
from subscriptions.progressive import KIND as INTERIM
from subscriptions.progressive import is_taken_off

ZERO = Decimal(0)
KIND = "discount"
IN_HAND = ("id", "subscription_id", "applied_at", "periods_left", "left_over")
USE = (
    "id", "recorded_at", "organisation_id", "applied_id", "invoice_id", "amount", "available", "currency", "used_at", "counted",
)  # fmt: skip
TAKE = """
UPDATE subscriptions_appliedcoupon a
SET uses = a.uses + u.uses, discounted = a.discounted + u.amount, left_over = u.left_over, periods_left = u.periods_left,
    status = CASE WHEN u.ended THEN 'used_up' ELSE a.status END,
    ended_at = CASE WHEN u.ended THEN %s::timestamptz ELSE a.ended_at END
FROM unnest(%s::uuid[], %s::numeric[], %s::int[], %s::numeric[], %s::int[], %s::bool[])
     AS u (id, amount, uses, left_over, periods_left, ended)
WHERE a.id = u.id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A coupon in a customer's hand, as it stands."""

    id: uuid.UUID
    code: str
    name: str
    kind: str
    percent: Decimal
    amount: Decimal
    currency: str
    carries_over: bool
    plans: frozenset[str]
    codes: frozenset[str]
    meters: frozenset[str]
    subscription_id: uuid.UUID | None
    applied_at: datetime
    periods_left: int | None
    left_over: Decimal
    counted_in: str = ""
    """The customer's currency: what is taken off in others does not count in ``discounted``."""

    @property
    def available(self) -> Decimal:
        """What a fixed one has for the next invoice: its amount while periods are left, and what earlier ones left over."""
        return self.left_over + (self.amount if self.periods_left is None or self.periods_left > 0 else ZERO)

    @property
    def is_used_up(self) -> bool:
        """Whether nothing can come of it any more."""
        return self.periods_left == 0 and not self.left_over

    def offer(self, available: Decimal | None = None) -> Offer:
        """As the rule of discounts sees it."""
        return Offer(
            id=self.id, kind=self.kind, applied_at=self.applied_at, percent=self.percent,
            available=self.available if available is None else available, plans=self.plans, codes=self.codes,
            meters=self.meters, subscription_id=self.subscription_id,
        )  # fmt: skip

    def after(self, share: Share) -> "Held":
        """As an invoice leaves it."""
        rest = share.available - share.amount if self.kind == FIXED and self.carries_over else ZERO
        left = self.periods_left if self.periods_left is None else max(self.periods_left - 1, 0)
        return replace(self, periods_left=left, left_over=rest)

    def after_more(self, more: Decimal) -> "Held":
        """As a draft leaves it that takes ``more`` (less, below zero) than it said."""
        if self.kind != FIXED or not self.carries_over:
            return self
        return replace(self, left_over=max(self.left_over - more, ZERO))

    def given_back(self, took: Decimal, *, counted: bool) -> "Held":
        """After an invoice that ``took`` from it is void or gone. A period comes back whole, unless its rest was used since."""
        rest = self.left_over
        if self.kind == FIXED and self.carries_over:
            rest += took - (self.amount if counted else ZERO)
        if rest < 0 and self.periods_left is not None:
            return replace(self, left_over=self.left_over + took)
        more = 1 if counted else 0
        left = self.periods_left if self.periods_left is None else self.periods_left + more
        return replace(self, left_over=max(rest, ZERO), periods_left=left)


Amendment = Callable[[Held], Held]
"""What becomes of a coupon in hand when something other than a new invoice changes what it has to give."""


@dataclass(frozen=True, slots=True)
class Discounted:
    """Lines with their discounts, and what each coupon gave."""

    lines: Sequence[LineInput]
    shares: tuple[Share, ...] = ()


class CouponBook:
    """The coupons of one organisation's customers; one per run, per worker, per preview."""

    def __init__(self, organisation: Organisation) -> None:
        self.organisation = organisation
        self._of: dict[uuid.UUID, list[Held]] = {}
        self._taken: dict[uuid.UUID, tuple[Share, ...]] = {}
        self._after: dict[uuid.UUID, Held] = {}
        self._until: dict[uuid.UUID, datetime] = {}
        self._beside: set[tuple[uuid.UUID, uuid.UUID]] = set()

    # --- reading ---------------------------------------------------------------------------------
    def meet(self, customer_ids: Iterable[uuid.UUID]) -> None:
        """Read the coupons of customers that were not met yet, in one query where nobody has any."""
        unknown = set(customer_ids) - self._of.keys()
        if unknown:
            self._read(unknown, lock=False)

    def lock(self, customer_ids: Iterable[uuid.UUID]) -> None:
        """Read them anew and keep others off until the caller's transaction ends."""
        self._read(set(customer_ids), lock=True)

    def has(self, customer_id: uuid.UUID) -> bool:
        """Whether a customer that was met has coupons left: then the order of his invoices says which of them are reduced."""
        return bool(self._of.get(customer_id))

    def forget(self) -> None:
        """What was noted is in the database, or was never committed: the next chunk of a run reads it there."""
        for known in (self._of, self._taken, self._after, self._until, self._beside):
            known.clear()

    @property
    def kept(self) -> int:
        """How many customers and coupons are in memory."""
        return len({*self._of, *self._taken, *self._after, *self._until, *self._beside})

    def _read(self, customer_ids: set[uuid.UUID], *, lock: bool) -> None:
        rows = AppliedCoupon.objects.of(self.organisation).filter(
            customer__in=among(customer_ids), status=AppliedCoupon.Status.ACTIVE
        )
        found = held_of(rows.select_for_update(of=("self",), no_key=True) if lock else rows)
        for customer_id in customer_ids:
            self._of[customer_id] = found.get(customer_id, [])

    # --- taking off ------------------------------------------------------------------------------
    def take_off(
        self,
        lines: Sequence[LineInput],
        *,
        customer_id: uuid.UUID,
        currency: str,
        books: Mapping[uuid.UUID, Sequence[PriceBook]],
    ) -> Discounted:
        """``lines`` with what the customer's coupons take off them. ``books``: of each subscription on the invoice.

        Nothing is noted yet: an invoice that cannot be made uses nothing up.
        """
        held = [one for one in self._of.get(customer_id, ()) if one.kind != FIXED or one.currency == currency]
        return taken_off(lines, [(one, one.offer()) for one in held], currency=currency, books=books)

    def note(self, invoice_id: uuid.UUID, customer_id: uuid.UUID, shares: tuple[Share, ...]) -> None:
        """The invoice is made: what it took is gone, for the next one too."""
        if not shares:
            return
        self._taken[invoice_id] = shares
        by_id = {share.offer_id: share for share in shares}
        self._beside |= {
            (invoice_id, one.id) for one in self._of[customer_id] if one.id in by_id and one.periods_left == 0
        }
        held = [one.after(by_id[one.id]) if one.id in by_id else one for one in self._of[customer_id]]
        self._after |= {one.id: one for one in held if one.id in by_id}
        self._of[customer_id] = [one for one in held if not one.is_used_up]

    def amend(self, customer_id: uuid.UUID, amendments: Mapping[uuid.UUID, Amendment]) -> None:
        """Go on as if coupons in hand were changed; one that was used up may have something to give again."""
        if not amendments:
            return
        self.meet([customer_id])
        known = {one.id: one for one in self._of[customer_id]}
        missing = [pk for pk in amendments if pk not in known and pk not in self._after]
        rows = AppliedCoupon.objects.of(self.organisation).filter(pk__in=missing)
        read = held_of(rows.exclude(status=AppliedCoupon.Status.REMOVED)) if missing else {}
        there = self._after | {one.id: one for one in read.get(customer_id, ())} | known
        known |= {pk: amend(there[pk]) for pk, amend in amendments.items() if pk in there}
        self._of[customer_id] = [known[pk] for pk in sorted(known) if not known[pk].is_used_up]

    def note_period(self, invoice_id: uuid.UUID, ends_at: datetime) -> None:
        """The invoice bills a period that ends then: its percentages hold for what changes within it."""
        for share in self._taken.get(invoice_id, ()):
            self._until[share.offer_id] = max(ends_at, self._until.get(share.offer_id, ends_at))

    def used_until(self, at: datetime) -> list[Held]:
        """Percentages on invoices that are only in memory, of periods that end after ``at``."""
        return [one for pk, one in self._after.items() if one.kind != FIXED and self._until.get(pk, at) > at]

    # --- writing ---------------------------------------------------------------------------------
    def write(self, invoices: Mapping[uuid.UUID, str], *, at: datetime) -> None:
        """Write what the ``invoices`` (id and currency) took, in their transaction: two statements, however many."""
        taken = [(pk, currency, share) for pk, currency in invoices.items() for share in self._taken.pop(pk, ())]
        if not taken:
            return
        owner, recorded_at = self.organisation.pk, clock.wall_now()
        copy_rows(
            CouponUse,
            USE,
            (
                (uuid7(), recorded_at, owner, share.offer_id, pk, share.amount, share.available, currency, at,
                 (pk, share.offer_id) not in self._beside)
                for pk, currency, share in taken
            ),
        )  # fmt: skip
        amounts: dict[uuid.UUID, Decimal] = defaultdict(Decimal)
        uses = Counter(share.offer_id for _, _, share in taken)
        for _, currency, share in taken:  # amounts of different currencies never meet
            amounts[share.offer_id] += share.amount if currency == self._after[share.offer_id].counted_in else ZERO
        after = [self._after[pk] for pk in amounts]
        with connection.cursor() as cursor:
            cursor.execute(
                TAKE,
                [
                    at,
                    array_of(amounts),
                    array_of(amounts.values()),
                    array_of(uses[pk] for pk in amounts),
                    array_of(one.left_over for one in after),
                    array_of(one.periods_left for one in after),
                    array_of(one.is_used_up for one in after),
                ],
            )


def held_of(rows: QuerySet[AppliedCoupon]) -> dict[uuid.UUID, list[Held]]:
    """Coupons in hand by customer, in the order of their ids, with what they are restricted to."""
    applied = list(rows.order_by("id").values_list("customer_id", "coupon_id", "currency", *IN_HAND))
    found: dict[uuid.UUID, list[Held]] = defaultdict(list)
    if not applied:
        return found
    coupons = Coupon.objects.filter(pk__in={coupon_id for _, coupon_id, *_ in applied})
    terms = {coupon.pk: _terms(coupon) for coupon in coupons.prefetch_related("plans", "meters")}
    for customer_id, coupon_id, currency, *own in applied:
        own_terms = dict(zip(IN_HAND, own, strict=True))
        found[customer_id].append(Held(**terms[coupon_id], counted_in=currency, **own_terms))
    return found


def _terms(coupon: Coupon) -> dict[str, Any]:
    """What all who hold the coupon share."""
    return {
        "code": coupon.code,
        "name": coupon.name,
        "kind": coupon.kind,
        "percent": coupon.percent or ZERO,
        "amount": coupon.amount or ZERO,
        "currency": coupon.currency,
        "carries_over": coupon.carries_over,
        "plans": frozenset(plan.code for plan in coupon.plans.all()),
        "codes": frozenset(coupon.charges),
        "meters": frozenset(str(meter.pk) for meter in coupon.meters.all()),
    }


def taken_off(
    lines: Sequence[LineInput],
    held: Sequence[tuple[Held, Offer]],
    *,
    currency: str,
    books: Mapping[uuid.UUID, Sequence[PriceBook]],
) -> Discounted:
    """``lines`` with what ``held`` takes off them; each line says which coupon took how much."""
    if not held:
        return Discounted(lines)
    items = _items(lines, books)
    shares = tuple(discounts(items, [offer for _, offer in held], quantum=Decimal(1).scaleb(-exponent(currency))))
    names = {one.id: one for one, _ in held}
    return Discounted([_with_discount(line, i, shares, names) for i, line in enumerate(lines)], shares)


def _items(lines: Sequence[LineInput], books: Mapping[uuid.UUID, Sequence[PriceBook]]) -> list[Item]:
    alone = next(iter(books)) if len(books) == 1 else None
    known = {
        (subscription_id, component.code): (book.plan_code, str(component.meter_id or ""))
        for subscription_id, own in books.items()
        for book in reversed(own)
        for component in book.components
    }
    items = []
    for line in lines:
        subscription_id = line.subscription_ref or alone
        of = next((book.plan_code for book in books.get(subscription_id, ())), "") if subscription_id else ""
        plan, meter = known.get((subscription_id, line.code), (of, "")) if subscription_id else (of, "")
        amount = ZERO if is_taken_off(line) else line.amount.amount  # coupons are of the whole: see ``progressive``
        items.append(Item(amount=amount, code=line.code, plan=plan, meter=meter, subscription_id=subscription_id))
    return items


def _with_discount(line: LineInput, i: int, shares: Sequence[Share], held: Mapping[uuid.UUID, Held]) -> LineInput:
    parts = [(held[share.offer_id], share.by_line[i]) for share in shares if i in share.by_line]
    if not parts:
        return line
    currency = line.amount.currency.code
    off = sum((amount for _, amount in parts), ZERO)
    told = tuple(
        {"kind": KIND, "coupon": one.code, "name": one.name, "applied": str(one.id),
         "amount": f"{quantize(amount, currency):f}"}
        for one, amount in parts
    )  # fmt: skip
    return replace(
        line, amount=line.amount - Money(off, currency), unit_price=line.price, details=(*line.details, *told)
    )


def discount_in(details: Iterable[Any]) -> Decimal:
    """What coupons took off a line, by its details; below zero where it takes off what an interim invoice charged after them."""
    off = ZERO
    for part in details:
        if isinstance(part, Mapping) and part.get("kind") == KIND:
            off += Decimal(part["amount"])
        elif isinstance(part, Mapping) and part.get("kind") == INTERIM:
            off -= Decimal(part.get("discount", "0"))
    return off
