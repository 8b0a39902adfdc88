"""Shapes of payments, methods, refunds, disputes and gateway accounts on the wire. No token, no secret goes out."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from billing.api.base import AmountSerializerField, StrictSerializer
from payments.gateways import declines
from payments.models import Dispute, GatewayAccount, InboundWebhook, Payment, PaymentAttempt, PaymentMethod, Refund

EXAMPLE_ID = "0198a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b"


class SaysRefusal(serializers.Serializer):
    """What a refusal means, in a sentence beside its class and code."""

    decline_message = serializers.SerializerMethodField(
        help_text="The refusal in words; `config` is a mistake of our own, never the customer's. Empty where nothing was refused."
    )

    def get_decline_message(self, row: Payment | PaymentAttempt) -> str:
        return declines.explain(row.decline_class, row.decline_code)


class AttemptSerializer(SaysRefusal, serializers.ModelSerializer):
    amount = AmountSerializerField()

    class Meta:
        model = PaymentAttempt
        fields = [
            "number",
            "status",
            "amount",
            "gateway_order_ref",
            "gateway_ref",
            "decline_class",
            "decline_code",
            "decline_message",
            "started_at",
            "finished_at",
        ]


class PaymentSummarySerializer(SaysRefusal, serializers.ModelSerializer):
    """A payment as lists show it. ``gateway_ref`` is the charge that brought the money."""

    customer = serializers.UUIDField(source="customer_id")
    method = serializers.UUIDField(source="method_id", allow_null=True)
    amount = AmountSerializerField()
    refunded = AmountSerializerField()
    disputed = AmountSerializerField()
    gateway_ref = serializers.SerializerMethodField()

    class Meta:
        model = Payment
        fields = [
            "id",
            "reference",
            "description",
            "customer",
            "amount",
            "refunded",
            "disputed",
            "status",
            "method",
            "automatic",
            "attempts_made",
            "next_attempt_at",
            "decline_class",
            "decline_code",
            "decline_message",
            "action_url",
            "gateway_ref",
            "captured_at",
            "created_at",
        ]

    def get_gateway_ref(self, payment: Payment) -> str:
        captured = [attempt for attempt in payment.attempts.all() if attempt.status == PaymentAttempt.Status.CAPTURED]
        return captured[0].gateway_ref if captured else ""


class PaymentSerializer(PaymentSummarySerializer):
    """A payment with every attempt."""

    attempts = AttemptSerializer(many=True)

    class Meta(PaymentSummarySerializer.Meta):
        fields = [*PaymentSummarySerializer.Meta.fields, "attempts"]


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A one-off payment",
            request_only=True,
            value={
                "customer": EXAMPLE_ID,
                "amount": {"amount": "1200.00", "currency": "INR"},
                "reference": "excursion-2026-06",
                "description": "School excursion",
            },
        )
    ]
)
class PaymentInput(StrictSerializer):
    customer = serializers.UUIDField()
    amount = AmountSerializerField()
    reference = serializers.RegexField(
        r"^(?!invoice:)[A-Za-z0-9._:/-]{1,100}\Z",
        help_text="Your own name for it; the same reference is collected once.",
    )
    description = serializers.CharField(max_length=200, default="", allow_blank=True)
    method = serializers.UUIDField(default=None, allow_null=True, help_text="Empty: the customer's usual method.")
    automatic = serializers.BooleanField(default=True, help_text="False: wait for the customer on a hosted page.")


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "Cash at the counter",
            request_only=True,
            value={
                "customer": EXAMPLE_ID,
                "amount": {"amount": "500.00", "currency": "INR"},
                "reference": "receipt-1107",
                "received_on": "2026-06-03",
                "note": "Cash, counter 2",
            },
        )
    ]
)
class OfflinePaymentInput(StrictSerializer):
    customer = serializers.UUIDField()
    amount = AmountSerializerField()
    reference = serializers.RegexField(
        r"^[A-Za-z0-9._:/-]{1,100}\Z", help_text="Number of the receipt or cheque, or invoice:<id> to pay an invoice."
    )
    received_on = serializers.DateField()
    note = serializers.CharField(min_length=3, max_length=200)


@extend_schema_serializer(
    examples=[OpenApiExample("With another method", request_only=True, value={"method": EXAMPLE_ID})]
)
class RetryInput(StrictSerializer):
    method = serializers.UUIDField(default=None, allow_null=True, help_text="Empty: the usual method.")


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "Part of it",
            request_only=True,
            value={"amount": {"amount": "250.00", "currency": "INR"}, "reason": "Meals not taken"},
        )
    ]
)
class RefundInput(StrictSerializer):
    amount = AmountSerializerField(default=None, allow_null=True, help_text="Empty: all that is left.")
    reason = serializers.CharField(min_length=3, max_length=300)


class UrlSerializer(serializers.Serializer):
    url = serializers.URLField(help_text="Hosted page of the gateway where the customer pays.")


class RefundSerializer(serializers.ModelSerializer):
    payment = serializers.UUIDField(source="payment_id")
    amount = AmountSerializerField()

    class Meta:
        model = Refund
        fields = ["id", "payment", "amount", "reason", "status", "gateway_ref", "error", "created_at", "finished_at"]


class DisputeSerializer(serializers.ModelSerializer):
    payment = serializers.UUIDField(source="payment_id")
    amount = AmountSerializerField()
    fee = AmountSerializerField()

    class Meta:
        model = Dispute
        fields = [
            "id",
            "payment",
            "gateway_ref",
            "amount",
            "fee",
            "reason",
            "status",
            "respond_by",
            "opened_at",
            "closed_at",
        ]


class MethodSerializer(serializers.ModelSerializer):
    customer = serializers.UUIDField(source="customer_id")
    gateway_account = serializers.UUIDField(source="gateway_account_id")
    max_amount = AmountSerializerField(allow_null=True)

    class Meta:
        model = PaymentMethod
        fields = [
            "id",
            "customer",
            "gateway_account",
            "kind",
            "status",
            "brand",
            "last4",
            "handle",
            "expires_on",
            "max_amount",
            "is_default",
            "created_at",
        ]


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A UPI mandate",
            request_only=True,
            value={
                "customer": EXAMPLE_ID,
                "kind": "upi",
                "return_url": "https://shop.example/back",
                "max_amount": {"amount": "15000.00", "currency": "INR"},
            },
        )
    ]
)
class SetupInput(StrictSerializer):
    customer = serializers.UUIDField()
    gateway_account = serializers.UUIDField(default=None, allow_null=True, help_text="Empty: the default account.")
    kind = serializers.ChoiceField(choices=["card", "upi", "emandate"])
    return_url = serializers.URLField(max_length=300)
    max_amount = AmountSerializerField(default=None, allow_null=True, help_text="Limit of one debit of a mandate.")


class SetupSerializer(serializers.Serializer):
    """What the browser gives to the gateway's own script."""

    provider = serializers.CharField()
    key_id = serializers.CharField()
    order_id = serializers.CharField(source="order_ref", allow_blank=True)
    setup_intent = serializers.CharField(source="setup_ref", allow_blank=True)
    client_secret = serializers.CharField(allow_blank=True)
    url = serializers.CharField(allow_blank=True)


class RazorpayResult(StrictSerializer):
    payment_id = serializers.CharField(max_length=80)
    order_id = serializers.CharField(max_length=80)
    signature = serializers.CharField(max_length=128)


class StripeResult(StrictSerializer):
    setup_intent = serializers.CharField(max_length=80)


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A UPI mandate saved on Razorpay's page",
            request_only=True,
            value={
                "customer": EXAMPLE_ID,
                "gateway_account": EXAMPLE_ID,
                "razorpay": {
                    "payment_id": "pay_29QQoUBi66xm2f",
                    "order_id": "order_9A33XWu170gUtm",
                    "signature": "9ef4…",
                },
            },
        )
    ]
)
class MethodInput(StrictSerializer):
    """What the gateway's script handed back, for Munim to check with the gateway."""

    customer = serializers.UUIDField()
    gateway_account = serializers.UUIDField()
    razorpay = RazorpayResult(required=False)
    stripe = StripeResult(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("razorpay" in attrs) == ("stripe" in attrs):
            raise serializers.ValidationError("Give either razorpay or stripe.")
        return attrs


class GatewayAccountSerializer(serializers.ModelSerializer):
    class Meta:
        model = GatewayAccount
        fields = ["id", "provider", "code", "key_id", "active", "is_default"]


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "Razorpay",
            request_only=True,
            value={
                "provider": "razorpay",
                "code": "razorpay",
                "key_id": "rzp_test_1",
                "key_secret": "…",
                "webhook_secret": "…",
                "is_default": True,
            },
        )
    ]
)
class GatewayAccountInput(StrictSerializer):
    provider = serializers.ChoiceField(choices=["razorpay", "stripe"])
    code = serializers.RegexField(r"^[a-z0-9][a-z0-9-]{0,39}\Z", help_text="Small letters, digits and hyphens.")
    key_id = serializers.CharField(max_length=120)
    key_secret = serializers.CharField(max_length=300)
    webhook_secret = serializers.CharField(max_length=300)
    is_default = serializers.BooleanField(default=False)


class InboundWebhookSerializer(serializers.ModelSerializer):
    gateway_account = serializers.UUIDField(source="gateway_account_id")

    class Meta:
        model = InboundWebhook
        fields = [
            "id",
            "gateway_account",
            "event_id",
            "type",
            "status",
            "attempts",
            "error",
            "received_at",
            "processed_at",
        ]
