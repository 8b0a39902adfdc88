"""Coupons and promotion codes: made, put away, given to customers and taken back."""

import re
import uuid
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q

from billing import clock, money
from billing.context import Actor
from billing.errors import Conflict, CurrencyMismatch, InvalidInput, NotFound
from billing.models import Customer, Meter, Organisation
from billing.services import audit, outbox
from subscriptions.models import AppliedCoupon, BilledPeriod, Coupon, Plan, PromotionCode, Subscription

WORD = re.compile(r"[A-Z0-9][A-Z0-9_-]{1,39}")
MAX_PERIODS = 600
MAX_NAMES = 200


class InvalidCoupon(InvalidInput):
    code = "invalid_coupon"
    message = "The coupon is not valid."


class CouponCodeTaken(Conflict):
    code = "coupon_code_taken"
    message = "The code '{taken}' is taken; choose another one."


class CouponNotOffered(Conflict):
    code = "coupon_not_offered"
    message = "'{named}' is not offered any more: {why}."


class CouponUsedUp(Conflict):
    code = "coupon_used_up"
    message = "'{named}' was taken as often as it may be ({limit})."


class CouponNotForYou(Conflict):
    code = "coupon_not_for_customer"
    message = "'{named}' is not for this customer: {why}."


@transaction.atomic
def create_coupon(
    *,
    organisation: Organisation,
    code: str,
    name: str,
    kind: str,
    actor: Actor,
    percent: Decimal | None = None,
    amount: Decimal | None = None,
    currency: str = "",
    duration: str = Coupon.Duration.ONCE,
    periods: int | None = None,
    carries_over: bool = False,
    expires_at: datetime | None = None,
    max_redemptions: int | None = None,
    max_per_customer: int = 1,
    plans: Sequence[str] = (),
    meters: Sequence[str] = (),
    charges: Sequence[str] = (),
) -> Coupon:
    """Offer a discount: ``percent``, or a fixed ``amount`` in ``currency`` per invoice.

    ``once``, for so many ``periods`` (invoices), or ``forever``. ``plans``, ``meters`` and ``charges`` (codes) restrict it.
    Raises ``InvalidCoupon`` naming the field, ``CouponCodeTaken``.
    """
    terms = _terms(kind=kind, percent=percent, amount=amount, currency=currency, carries_over=carries_over)
    terms |= _duration(duration, periods)
    now = clock.now(organisation)
    if expires_at is not None and expires_at <= now:
        raise InvalidCoupon("expires_at lies in the future, or is left out.", field="expires_at")
    _at_least_one(max_redemptions, "max_redemptions")
    _at_least_one(max_per_customer, "max_per_customer")
    if len(set(charges)) > MAX_NAMES:
        raise InvalidCoupon(f"At most {MAX_NAMES} charges.", field="charges")
    chosen_plans = _named(Plan.objects.of(organisation), plans, "plans")
    chosen_meters = _named(Meter.objects.of(organisation), meters, "meters")
    coupon = Coupon(
        organisation=organisation, code=code, name=name.strip(), expires_at=expires_at, max_redemptions=max_redemptions,
        max_per_customer=max_per_customer, charges=sorted(set(charges)), created_at=now, **terms,
    )  # fmt: skip
    _insert(coupon, code)
    coupon.plans.set(chosen_plans)
    coupon.meters.set(chosen_meters)
    after = {
        "code": code,
        "kind": kind,
        "percent": str(percent or ""),
        "amount": str(amount or ""),
        "duration": duration,
    }
    audit.record(actor=actor, action="coupon.created", target=coupon, after=after)
    return coupon


def _terms(
    *, kind: str, percent: Decimal | None, amount: Decimal | None, currency: str, carries_over: bool
) -> dict[str, Any]:
    if kind == Coupon.Kind.PERCENT:
        if amount is not None or currency:
            raise InvalidCoupon("A percentage has no amount and no currency.", field="amount")
        if percent is None or not percent.is_finite() or not 0 < percent <= 100 or percent != round(percent, 4):
            raise InvalidCoupon("percent is more than 0 and at most 100, with four decimals at most.", field="percent")
        if carries_over:
            raise InvalidCoupon("A percentage has nothing to carry over.", field="carries_over")
        return {"kind": kind, "percent": percent}
    if kind != Coupon.Kind.FIXED:
        raise InvalidCoupon(f"kind is {' or '.join(Coupon.Kind.values)}.", field="kind")
    if percent is not None:
        raise InvalidCoupon("A fixed amount has no percent.", field="percent")
    if amount is None or not currency:
        raise InvalidCoupon("A fixed amount needs amount and currency.", field="amount")
    value = money.parse_amount(amount, currency)
    return {"kind": kind, "amount": value.amount, "currency": value.currency.code, "carries_over": carries_over}


def _duration(duration: str, periods: int | None) -> dict[str, Any]:
    if duration not in Coupon.Duration.values:
        raise InvalidCoupon(f"duration is {', '.join(Coupon.Duration.values)}.", field="duration")
    if duration == Coupon.Duration.PERIODS:
        if periods is None or not 1 <= periods <= MAX_PERIODS:
            raise InvalidCoupon(f"Say for how many periods, 1 to {MAX_PERIODS}.", field="periods")
    elif periods is not None:
        raise InvalidCoupon("periods is said with the duration 'periods' only.", field="periods")
    return {"duration": duration, "periods": periods}


def _at_least_one(value: int | None, field: str) -> None:
    if value is not None and value < 1:
        raise InvalidCoupon(f"{field} is at least 1, or is left out.", field=field)


def _named(rows: Any, codes: Sequence[str], field: str) -> list[Any]:
    found = list(rows.filter(code__in=codes))
    if missing := sorted(set(codes) - {row.code for row in found}):
        raise InvalidCoupon(f"There is no '{missing[0]}' in this organisation.", field=field)
    return found


def _insert(row: Coupon | PromotionCode, code: str) -> None:
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError as exc:
        raise CouponCodeTaken(taken=code, field="code") from exc


@transaction.atomic
def archive_coupon(*, coupon_id: uuid.UUID, actor: Actor, reason: str = "") -> Coupon:
    """Nobody can take it any more; who has it keeps it."""
    coupon: Coupon = Coupon.objects.select_for_update(of=("self",)).get(pk=coupon_id)
    if coupon.archived_at is None:
        coupon.archived_at = clock.now(coupon.organisation_id)
        coupon.save(update_fields=["archived_at"])
        audit.record(actor=actor, action="coupon.archived", target=coupon, reason=reason)
    return coupon


@transaction.atomic
def create_promotion_code(
    *,
    organisation: Organisation,
    code: str,
    coupon: str,
    actor: Actor,
    expires_at: datetime | None = None,
    max_redemptions: int | None = None,
    first_subscription_only: bool = False,
) -> PromotionCode:
    """A word for a coupon, in capitals, with limits of its own. Raises ``InvalidCoupon`` and ``CouponCodeTaken``."""
    word = code.strip().upper()
    if not WORD.fullmatch(word):
        raise InvalidCoupon("A promotion code has 2 to 40 letters, digits, - and _.", field="code")
    found = Coupon.objects.of(organisation).filter(code=coupon).first()
    if found is None:
        raise InvalidCoupon(f"There is no coupon '{coupon}' in this organisation.", field="coupon")
    if found.archived_at is not None:
        raise CouponNotOffered(named=coupon, why="the coupon is archived", field="coupon")
    now = clock.now(organisation)
    if expires_at is not None and expires_at <= now:
        raise InvalidCoupon("expires_at lies in the future, or is left out.", field="expires_at")
    _at_least_one(max_redemptions, "max_redemptions")
    row = PromotionCode(
        organisation=organisation, code=word, coupon=found, expires_at=expires_at, max_redemptions=max_redemptions,
        first_subscription_only=first_subscription_only, created_at=now,
    )  # fmt: skip
    _insert(row, word)
    audit.record(actor=actor, action="promotion_code.created", target=row, after={"code": word, "coupon": coupon})
    return row


@transaction.atomic
def archive_promotion_code(*, promotion_code_id: uuid.UUID, actor: Actor, reason: str = "") -> PromotionCode:
    """The word gives nothing any more."""
    row: PromotionCode = PromotionCode.objects.select_for_update(of=("self",)).get(pk=promotion_code_id)
    if row.archived_at is None:
        row.archived_at = clock.now(row.organisation_id)
        row.save(update_fields=["archived_at"])
        audit.record(actor=actor, action="promotion_code.archived", target=row, reason=reason)
    return row


# --- taking one ------------------------------------------------------------------------------------
@transaction.atomic
def redeem(
    *,
    organisation: Organisation,
    customer_id: uuid.UUID,
    actor: Actor,
    coupon: str = "",
    promotion_code: str = "",
    subscription_id: uuid.UUID | None = None,
) -> AppliedCoupon:
    """Give a customer a coupon, by its own code or by a promotion code; for all subscriptions, or for one.

    The coupon is locked, so that its limits hold however many come at once. Raises ``NotFound``, ``InvalidCoupon``,
    ``CouponNotOffered``, ``CouponUsedUp``, ``CouponNotForYou``, ``CurrencyMismatch``.
    """
    if bool(coupon) == bool(promotion_code):
        raise InvalidCoupon("Give either coupon or promotion_code.", field="coupon")
    customer = Customer.objects.of(organisation).filter(pk=customer_id).first()
    if customer is None:
        raise NotFound("No such customer in this organisation.", field="customer")
    subscription = _subscription(customer, subscription_id)
    word = _word(organisation, promotion_code) if promotion_code else None
    found = _locked(organisation, coupon, word)
    now = clock.now(organisation)
    _check_offered(found, word, now)
    _check_limits(found, word, customer)
    _check_fits(found, word, customer, subscription)
    row = AppliedCoupon.objects.create(
        organisation=organisation, coupon=found, promotion_code=word, customer=customer, subscription=subscription,
        periods_left=1 if found.duration == Coupon.Duration.ONCE else found.periods,
        currency=subscription.currency if subscription else customer.currency, applied_at=now,
    )  # fmt: skip
    after = {"coupon": found.code, "customer": str(customer_id), "promotion_code": word.code if word else ""}
    audit.record(actor=actor, action="coupon.redeemed", target=row, after=after)
    outbox.publish(
        "coupon.redeemed", row, at=now, applied_coupon_id=str(row.pk), coupon=found.code, customer_id=str(customer_id),
        subscription_id=str(subscription_id) if subscription_id else None, promotion_code=word.code if word else None,
    )  # fmt: skip
    return row


def _subscription(customer: Customer, subscription_id: uuid.UUID | None) -> Subscription | None:
    if subscription_id is None:
        return None
    found: Subscription | None = Subscription.objects.filter(pk=subscription_id, customer=customer).first()
    if found is None:
        raise NotFound("The customer has no such subscription.", field="subscription")
    if found.has_ended:
        raise CouponNotForYou(named=str(found), why="the subscription has ended", field="subscription")
    return found


def _word(organisation: Organisation, promotion_code: str) -> PromotionCode:
    word = PromotionCode.objects.of(organisation).filter(code=promotion_code.strip().upper()).first()
    if word is None:
        raise InvalidCoupon(f"There is no promotion code '{promotion_code[:40]}'.", field="promotion_code")
    return word


def _locked(organisation: Organisation, code: str, word: PromotionCode | None) -> Coupon:
    wanted = Q(pk=word.coupon_id) if word else Q(code=code)
    found = Coupon.objects.of(organisation).select_for_update(of=("self",)).filter(wanted).first()
    if found is None:
        raise InvalidCoupon(f"There is no coupon '{code[:60]}'.", field="coupon")
    return found


def _check_offered(coupon: Coupon, word: PromotionCode | None, now: datetime) -> None:
    for row in (word, coupon):
        if row is None:
            continue
        if row.archived_at is not None:
            raise CouponNotOffered(named=row.code, why="it was put away", field="coupon")
        if row.expires_at is not None and row.expires_at <= now:
            raise CouponNotOffered(named=row.code, why=f"it expired on {row.expires_at:%Y-%m-%d}", field="coupon")


def _check_limits(coupon: Coupon, word: PromotionCode | None, customer: Customer) -> None:
    """Count what was taken; one that was taken back before it was used does not count."""
    taken = AppliedCoupon.objects.exclude(status=AppliedCoupon.Status.REMOVED, uses=0)
    if coupon.max_redemptions is not None and taken.filter(coupon=coupon).count() >= coupon.max_redemptions:
        raise CouponUsedUp(named=coupon.code, limit=coupon.max_redemptions, field="coupon")
    if taken.filter(coupon=coupon, customer=customer).count() >= coupon.max_per_customer:
        raise CouponNotForYou(
            named=coupon.code, why=f"they had it {coupon.max_per_customer} times already", field="customer"
        )
    if word is None or word.max_redemptions is None:
        return
    if taken.filter(promotion_code=word).count() >= word.max_redemptions:
        raise CouponUsedUp(named=word.code, limit=word.max_redemptions, field="promotion_code")


def _check_fits(
    coupon: Coupon, word: PromotionCode | None, customer: Customer, subscription: Subscription | None
) -> None:
    currency = subscription.currency if subscription else customer.currency
    if coupon.kind == Coupon.Kind.FIXED and coupon.currency != currency:
        raise CurrencyMismatch(expected=currency, got=coupon.currency, field="coupon")
    if subscription is not None:
        plans = set(coupon.plans.values_list("pk", flat=True))
        if plans and subscription.plan_version.plan_id not in plans:
            raise CouponNotForYou(named=coupon.code, why="it is for other plans", field="subscription")
    if word is not None and word.first_subscription_only:
        billed = BilledPeriod.objects.filter(subscription__customer=customer, invoice__isnull=False)
        if billed.exists():
            raise CouponNotForYou(named=word.code, why="it is for new customers", field="promotion_code")


@transaction.atomic
def remove(*, applied_coupon_id: uuid.UUID, actor: Actor, reason: str = "") -> AppliedCoupon:
    """Take a coupon back: it takes nothing off from now on, what it took off stays. Safe to repeat."""
    row: AppliedCoupon = AppliedCoupon.objects.select_for_update(of=("self",)).get(pk=applied_coupon_id)
    if row.status == AppliedCoupon.Status.USED_UP:
        raise CouponNotOffered(named=row.coupon.code, why="it is used up")
    if row.status == AppliedCoupon.Status.ACTIVE:
        row.remove(at=clock.now(row.organisation_id))
        row.save(update_fields=["status", "ended_at"])
        audit.record(actor=actor, action="coupon.removed", target=row, reason=reason)
        outbox.publish(
            "coupon.removed",
            row,
            applied_coupon_id=str(row.pk),
            coupon=row.coupon.code,
            customer_id=str(row.customer_id),
        )
    return row
