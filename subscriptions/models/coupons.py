"""Coupons and promotion codes: what is offered, who holds it, and what it took off which invoice."""

from typing import Any

from django.db import models
from django.db.models import F, Q
from django_fsm import FSMField, transition

from billing.models.base import TenantModel


class Coupon(TenantModel):
    """A discount that can be given to customers. Its terms never change; who holds it keeps them when it is archived."""

    class Kind(models.TextChoices):
        PERCENT = "percent"
        FIXED = "fixed"

    class Duration(models.TextChoices):
        ONCE = "once"
        PERIODS = "periods"
        FOREVER = "forever"

    code = models.SlugField(max_length=60)
    name = models.CharField(max_length=120, help_text="As the invoice says it.")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    percent = models.DecimalField(max_digits=7, decimal_places=4, null=True, blank=True)
    amount = models.DecimalField(max_digits=19, decimal_places=4, null=True, blank=True)
    currency = models.CharField(max_length=3, blank=True, help_text="Of a fixed amount.")
    duration = models.CharField(max_length=10, choices=Duration.choices, default=Duration.ONCE)
    periods = models.PositiveSmallIntegerField(null=True, blank=True, help_text="How many invoices it is good for.")
    carries_over = models.BooleanField(
        default=False, help_text="What a fixed amount has left goes to the next invoice; else it is lost."
    )
    expires_at = models.DateTimeField(
        null=True, blank=True, help_text="Until then it can be taken; who has it keeps it."
    )
    max_redemptions = models.PositiveIntegerField(null=True, blank=True, help_text="In all; empty: as many as come.")
    max_per_customer = models.PositiveSmallIntegerField(default=1)
    plans = models.ManyToManyField("subscriptions.Plan", blank=True, related_name="+")
    meters = models.ManyToManyField("billing.Meter", blank=True, related_name="+")
    charges = models.JSONField(default=list, blank=True, help_text="Codes of price components it is restricted to.")
    created_at = models.DateTimeField()
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organisation", "code"], name="coupon_code"),
            models.CheckConstraint(
                condition=Q(kind="percent", percent__gt=0, percent__lte=100, amount=None, currency="")
                | (Q(kind="fixed", amount__gt=0, percent=None) & ~Q(currency="")),
                name="coupon_terms",
            ),
            models.CheckConstraint(
                condition=Q(duration="periods", periods__gte=1) | (~Q(duration="periods") & Q(periods=None)),
                name="coupon_periods",
            ),
        ]
        indexes = [models.Index(fields=["organisation", "-id"], name="coupon_page")]

    def __str__(self) -> str:
        return self.code


class PromotionCode(TenantModel):
    """A word that gives a coupon to whoever says it, within its own limits. Kept in capitals."""

    code = models.CharField(max_length=40)
    coupon = models.ForeignKey(Coupon, on_delete=models.PROTECT, related_name="promotion_codes")
    expires_at = models.DateTimeField(null=True, blank=True)
    max_redemptions = models.PositiveIntegerField(null=True, blank=True)
    first_subscription_only = models.BooleanField(
        default=False, help_text="Only for customers who have not paid an invoice of a subscription yet."
    )
    created_at = models.DateTimeField()
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organisation", "code"], name="promotion_code")]
        indexes = [models.Index(fields=["organisation", "-id"], name="promotion_code_page")]

    def __str__(self) -> str:
        return self.code


class AppliedCoupon(TenantModel):
    """A coupon in a customer's hand, for all subscriptions or for one, and what is left of it."""

    class Status(models.TextChoices):
        ACTIVE = "active"
        USED_UP = "used_up"
        REMOVED = "removed"

    coupon = models.ForeignKey(Coupon, on_delete=models.PROTECT, related_name="redemptions")
    promotion_code = models.ForeignKey(
        PromotionCode, null=True, blank=True, on_delete=models.PROTECT, related_name="redemptions"
    )
    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="coupons")
    subscription = models.ForeignKey(
        "subscriptions.Subscription", null=True, blank=True, on_delete=models.PROTECT, related_name="coupons",
        help_text="Empty: all of the customer's.",
    )  # fmt: skip
    status = FSMField(choices=Status.choices, default=Status.ACTIVE, protected=True)
    periods_left = models.PositiveSmallIntegerField(null=True, blank=True, help_text="Invoices; empty: for ever.")
    left_over = models.DecimalField(
        max_digits=19, decimal_places=4, default=0, help_text="Of a fixed amount, carried from earlier invoices."
    )
    uses = models.PositiveIntegerField(default=0)
    discounted = models.DecimalField(max_digits=19, decimal_places=4, default=0, help_text="Taken off so far.")
    currency = models.CharField(max_length=3, help_text="Of what was taken off: the customer's.")
    applied_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(left_over__gte=0, discounted__gte=0), name="coupon_never_negative")
        ]
        indexes = [
            models.Index(fields=["customer"], name="coupon_in_hand", condition=Q(status="active")),
            models.Index(fields=["coupon", "customer"], name="coupon_redemptions"),
            models.Index(fields=["organisation", "-id"], name="applied_coupon_page"),
        ]

    def __str__(self) -> str:
        return self.coupon.code

    @transition(status, source=Status.ACTIVE, target=Status.REMOVED)
    def remove(self, *, at: Any) -> None:
        """It takes nothing off any more; what it took off stays."""
        self.ended_at = at


class CouponUse(TenantModel):
    """What a coupon took off one invoice: written with the invoice, once."""

    applied = models.ForeignKey(AppliedCoupon, on_delete=models.PROTECT, related_name="used")
    invoice = models.ForeignKey("invoices.Invoice", on_delete=models.PROTECT, related_name="coupon_uses")
    amount = models.DecimalField(max_digits=19, decimal_places=4)
    available = models.DecimalField(max_digits=19, decimal_places=4, default=0, help_text="Of a fixed one, before.")
    currency = models.CharField(max_length=3)
    used_at = models.DateTimeField()
    counted = models.BooleanField(default=True, help_text="Whether it cost one of the coupon's periods.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["applied", "invoice"], name="coupon_once_per_invoice"),
            models.CheckConstraint(condition=Q(amount__gte=0), name="coupon_use_positive"),
            models.CheckConstraint(
                condition=Q(available=0) | Q(available__gte=F("amount")), name="coupon_use_within_available"
            ),
        ]
