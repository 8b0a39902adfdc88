"""Coupons, promotion codes, and coupons in customers' hands."""

import uuid
from decimal import Decimal
from typing import Any

from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field, extend_schema_view
from moneyed import Money
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import AmountSerializerField, StrictSerializer, TenantViewSet, wire
from billing.api.idempotency import idempotent
from subscriptions.models import AppliedCoupon, Coupon, CouponUse, PromotionCode
from subscriptions.services import coupons

TAGS = ["coupons"]
MOST = 2**31 - 1


class CouponInput(StrictSerializer):
    code = serializers.SlugField(max_length=60)
    name = serializers.CharField(max_length=120, help_text="As the invoice says it.")
    kind = serializers.ChoiceField(choices=Coupon.Kind.choices)
    percent = serializers.DecimalField(
        max_digits=7, decimal_places=4, required=False, help_text="Of a percentage: more than 0, at most 100."
    )
    amount = AmountSerializerField(required=False, help_text="Of a fixed one, for each invoice.")
    duration = serializers.ChoiceField(choices=Coupon.Duration.choices, default=Coupon.Duration.ONCE)
    periods = serializers.IntegerField(
        min_value=1, max_value=coupons.MAX_PERIODS, required=False, help_text="How many invoices it is good for."
    )
    carries_over = serializers.BooleanField(
        default=False, help_text="What a fixed amount has left goes to the next invoice; else it is lost."
    )
    expires_at = serializers.DateTimeField(required=False, help_text="Until then it can be taken.")
    max_redemptions = serializers.IntegerField(min_value=1, max_value=MOST, required=False)
    max_per_customer = serializers.IntegerField(min_value=1, max_value=1000, default=1)
    plans = serializers.ListField(
        child=serializers.SlugField(max_length=60), max_length=coupons.MAX_NAMES, required=False
    )
    meters = serializers.ListField(
        child=serializers.SlugField(max_length=60), max_length=coupons.MAX_NAMES, required=False
    )
    charges = serializers.ListField(
        child=serializers.CharField(max_length=60), max_length=coupons.MAX_NAMES, required=False,
        help_text="Codes of price components.",
    )  # fmt: skip

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        amount: Money | None = attrs.pop("amount", None)
        if amount is not None:
            attrs |= {"amount": amount.amount, "currency": amount.currency.code}
        return attrs


class CouponOutput(serializers.ModelSerializer):
    percent = serializers.DecimalField(max_digits=7, decimal_places=4, allow_null=True)
    amount = serializers.SerializerMethodField()
    plans = serializers.SlugRelatedField("code", many=True, read_only=True)
    meters = serializers.SlugRelatedField("code", many=True, read_only=True)
    charges = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = Coupon
        fields = [
            "id", "code", "name", "kind", "percent", "amount", "duration", "periods", "carries_over", "expires_at",
            "max_redemptions", "max_per_customer", "plans", "meters", "charges", "created_at", "archived_at",
        ]  # fmt: skip

    @extend_schema_field(AmountSerializerField(allow_null=True))
    def get_amount(self, coupon: Coupon) -> dict[str, str] | None:
        return wire(Money(coupon.amount, coupon.currency)) if coupon.amount is not None else None


class CouponReason(StrictSerializer):
    reason = serializers.CharField(min_length=3, max_length=300)


class PromotionCodeInput(StrictSerializer):
    code = serializers.CharField(max_length=40, help_text="Letters, digits, - and _; kept in capitals.")
    coupon = serializers.SlugField(max_length=60, help_text="Code of the coupon.")
    expires_at = serializers.DateTimeField(required=False)
    max_redemptions = serializers.IntegerField(min_value=1, max_value=MOST, required=False)
    first_subscription_only = serializers.BooleanField(
        default=False, help_text="Only for customers who were not billed for a subscription yet."
    )


class PromotionCodeOutput(serializers.ModelSerializer):
    coupon = serializers.CharField(source="coupon.code")

    class Meta:
        model = PromotionCode
        fields = [
            "id", "code", "coupon", "expires_at", "max_redemptions", "first_subscription_only", "created_at", "archived_at",
        ]  # fmt: skip


class RedeemInput(StrictSerializer):
    customer = serializers.UUIDField(help_text="The customer's id.")
    coupon = serializers.CharField(max_length=60, required=False, help_text="Its code; or give promotion_code.")
    promotion_code = serializers.CharField(max_length=60, required=False)
    subscription = serializers.UUIDField(required=False, help_text="For this one only; default: all of the customer's.")


class UseOutput(serializers.ModelSerializer):
    invoice_number = serializers.CharField(source="invoice.number")
    amount = serializers.SerializerMethodField()

    class Meta:
        model = CouponUse
        fields = ["invoice", "invoice_number", "amount", "used_at"]

    @extend_schema_field(AmountSerializerField)
    def get_amount(self, use: CouponUse) -> dict[str, str]:
        return wire(Money(use.amount, use.currency))


class AppliedCouponOutput(serializers.ModelSerializer):
    coupon = serializers.CharField(source="coupon.code")
    promotion_code = serializers.CharField(source="promotion_code.code", allow_null=True, default=None)
    left_over = serializers.SerializerMethodField()
    discounted = serializers.SerializerMethodField(help_text="In the customer's currency.")
    discounted_by_currency = serializers.SerializerMethodField(help_text="Where the customer is billed in several.")
    used = UseOutput(many=True)

    class Meta:
        model = AppliedCoupon
        fields = [
            "id", "coupon", "promotion_code", "customer", "subscription", "status", "periods_left", "left_over", "uses",
            "discounted", "discounted_by_currency", "applied_at", "ended_at", "used",
        ]  # fmt: skip

    @extend_schema_field(AmountSerializerField)
    def get_left_over(self, row: AppliedCoupon) -> dict[str, str]:
        return wire(Money(row.left_over, row.currency))

    @extend_schema_field(AmountSerializerField)
    def get_discounted(self, row: AppliedCoupon) -> dict[str, str]:
        return wire(Money(row.discounted, row.currency))

    @extend_schema_field(serializers.ListField(child=AmountSerializerField()))
    def get_discounted_by_currency(self, row: AppliedCoupon) -> list[dict[str, str]]:
        sums: dict[str, Decimal] = {}
        for use in row.used.all():
            sums[use.currency] = sums.get(use.currency, Decimal(0)) + use.amount
        return [wire(Money(amount, currency)) for currency, amount in sorted(sums.items())]


class CouponFilter(filters.FilterSet):
    code = filters.CharFilter(max_length=60)
    kind = filters.ChoiceFilter(choices=Coupon.Kind.choices)


class PromotionCodeFilter(filters.FilterSet):
    coupon = filters.CharFilter(field_name="coupon__code", max_length=60)


class AppliedCouponFilter(filters.FilterSet):
    coupon = filters.CharFilter(field_name="coupon__code", max_length=60)
    customer = filters.UUIDFilter(field_name="customer_id")
    subscription = filters.UUIDFilter(field_name="subscription_id")
    status = filters.ChoiceFilter(choices=AppliedCoupon.Status.choices)


COUPON = OpenApiExample(
    "A tenth off for three months",
    value={
        "code": "spring",
        "name": "Spring offer",
        "kind": "percent",
        "percent": "10",
        "duration": "periods",
        "periods": 3,
    },
    request_only=True,
)
GIFT = OpenApiExample(
    "A gift that is carried over",
    value={
        "code": "gift", "name": "Gift", "kind": "fixed", "amount": {"amount": "2500.00", "currency": "INR"},
        "carries_over": True, "max_redemptions": 100,
    },
    request_only=True,
)  # fmt: skip
WORD = OpenApiExample(
    "For new customers",
    value={"code": "WELCOME", "coupon": "spring", "first_subscription_only": True},
    request_only=True,
)
REDEEM = OpenApiExample(
    "By a word",
    value={"customer": "01900000-0000-7000-8000-000000000001", "promotion_code": "WELCOME"},
    request_only=True,
)
REASON = OpenApiExample("Why", value={"reason": "The offer is over"}, request_only=True)


@extend_schema_view(list=extend_schema(tags=TAGS), retrieve=extend_schema(tags=TAGS))
class CouponViewSet(TenantViewSet):
    """Discounts that can be given. Their terms never change."""

    queryset = Coupon.objects.prefetch_related("plans", "meters")
    serializer_class = CouponOutput
    filterset_class = CouponFilter
    required_permissions = {"list": "plan.view", "retrieve": "plan.view", "create": "plan.edit", "archive": "plan.edit"}

    @extend_schema(request=CouponInput, responses={201: CouponOutput}, examples=[COUPON, GIFT], tags=TAGS)
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Offer a discount: a percentage, or a fixed amount for each invoice; once, for some invoices, or for ever."""
        made = coupons.create_coupon(organisation=self.organisation, actor=self.actor, **self.valid(CouponInput))
        return Response(self.get_serializer(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=CouponReason, responses=CouponOutput, examples=[REASON], tags=TAGS)
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def archive(self, request: Request, pk: uuid.UUID) -> Response:
        """Nobody can take it any more; who has it keeps it."""
        found = coupons.archive_coupon(coupon_id=self.get_object().pk, actor=self.actor, **self.valid(CouponReason))
        return Response(self.get_serializer(found).data)


@extend_schema_view(list=extend_schema(tags=TAGS), retrieve=extend_schema(tags=TAGS))
class PromotionCodeViewSet(TenantViewSet):
    """Words that give a coupon."""

    queryset = PromotionCode.objects.select_related("coupon")
    serializer_class = PromotionCodeOutput
    filterset_class = PromotionCodeFilter
    required_permissions = {"list": "plan.view", "retrieve": "plan.view", "create": "plan.edit", "archive": "plan.edit"}

    @extend_schema(request=PromotionCodeInput, responses={201: PromotionCodeOutput}, examples=[WORD], tags=TAGS)
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Make a word for a coupon, with limits of its own."""
        made = coupons.create_promotion_code(
            organisation=self.organisation, actor=self.actor, **self.valid(PromotionCodeInput)
        )
        return Response(self.get_serializer(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=CouponReason, responses=PromotionCodeOutput, examples=[REASON], tags=TAGS)
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def archive(self, request: Request, pk: uuid.UUID) -> Response:
        """The word gives nothing any more."""
        found = coupons.archive_promotion_code(
            promotion_code_id=self.get_object().pk, actor=self.actor, **self.valid(CouponReason)
        )
        return Response(self.get_serializer(found).data)


@extend_schema_view(list=extend_schema(tags=TAGS), retrieve=extend_schema(tags=TAGS))
class AppliedCouponViewSet(TenantViewSet):
    """Coupons in customers' hands: what is left of each, and which invoice it took what off."""

    queryset = AppliedCoupon.objects.select_related("coupon", "promotion_code").prefetch_related("used__invoice")
    serializer_class = AppliedCouponOutput
    filterset_class = AppliedCouponFilter
    required_permissions = {
        "list": "subscription.view",
        "retrieve": "subscription.view",
        "create": "subscription.edit",
        "remove": "subscription.edit",
    }

    @extend_schema(request=RedeemInput, responses={201: AppliedCouponOutput}, examples=[REDEEM], tags=TAGS)
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Give a customer a coupon, by its code or by a promotion code, for all subscriptions or for one."""
        given = self.valid(RedeemInput)
        row = coupons.redeem(
            organisation=self.organisation,
            customer_id=given["customer"],
            coupon=given.get("coupon", ""),
            promotion_code=given.get("promotion_code", ""),
            subscription_id=given.get("subscription"),
            actor=self.actor,
        )
        return Response(self.get_serializer(row).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=CouponReason, responses=AppliedCouponOutput, examples=[REASON], tags=TAGS)
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def remove(self, request: Request, pk: uuid.UUID) -> Response:
        """Take it back: it takes nothing off from now on, what it took off stays."""
        row = coupons.remove(applied_coupon_id=self.get_object().pk, actor=self.actor, **self.valid(CouponReason))
        return Response(self.get_serializer(row).data)
