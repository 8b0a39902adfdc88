"""Shapes of invoices, credit notes, installments, tax rates and mail on the wire."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from billing.api.base import AmountSerializerField, PlainJSONField, StrictSerializer
from billing.masking import mask_email
from invoices.models import CreditNote, Installment, InstallmentPlan, Invoice, InvoiceLine, InvoiceTax, Mail, TaxRate

MAX_LINES = 500


class LineSerializer(serializers.ModelSerializer):
    amount = AmountSerializerField(help_text="Without tax, after discount.")
    tax = AmountSerializerField()

    class Meta:
        model = InvoiceLine
        fields = [
            "position",
            "description",
            "code",
            "quantity",
            "unit",
            "unit_price",
            "amount",
            "tax_category",
            "tax_code",
            "tax_rate",
            "tax",
            "period_start",
            "period_end",
            "details",
        ]


class TaxSerializer(serializers.ModelSerializer):
    base = AmountSerializerField()
    tax = AmountSerializerField()

    class Meta:
        model = InvoiceTax
        fields = ["component", "category", "rate", "base", "tax", "reason"]


class InvoiceSummarySerializer(serializers.ModelSerializer):
    """An invoice as lists show it."""

    customer = serializers.UUIDField(source="customer_id")
    net = AmountSerializerField()
    tax = AmountSerializerField()
    total = AmountSerializerField()
    paid = AmountSerializerField()
    credited = AmountSerializerField()
    due = AmountSerializerField()

    class Meta:
        model = Invoice
        fields = [
            "id",
            "number",
            "status",
            "origin",
            "customer",
            "currency",
            "net",
            "tax",
            "total",
            "paid",
            "credited",
            "due",
            "issued_on",
            "due_on",
            "period_start",
            "period_end",
            "overdue_at",
            "subscription_ref",
        ]


class InvoiceSerializer(InvoiceSummarySerializer):
    """An invoice with its lines and tax table."""

    rounding = AmountSerializerField()
    lines = LineSerializer(many=True)
    taxes = TaxSerializer(many=True)

    class Meta(InvoiceSummarySerializer.Meta):
        fields = [
            *InvoiceSummarySerializer.Meta.fields,
            "rounding",
            "lines",
            "taxes",
            "place_of_supply",
            "reverse_charge",
            "prices_include_tax",
            "memo",
            "custom_fields",
            "collect_automatically",
            "finalized_at",
            "paid_at",
        ]


class LineInputSerializer(StrictSerializer):
    description = serializers.CharField(max_length=300)
    quantity = serializers.DecimalField(max_digits=20, decimal_places=6, min_value=0, default="1")
    unit = serializers.CharField(max_length=40, default="", allow_blank=True)
    unit_price = serializers.DecimalField(
        max_digits=24, decimal_places=12, help_text="Price of one unit; quantity × price is rounded once, half up."
    )
    tax_category = serializers.CharField(max_length=40, default="", allow_blank=True)
    period_start = serializers.DateField(default=None, allow_null=True)
    period_end = serializers.DateField(default=None, allow_null=True, help_text="Last day.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["period_start"] and attrs["period_end"] and attrs["period_end"] < attrs["period_start"]:
            raise serializers.ValidationError({"period_end": ["The period ends before it begins."]})
        return attrs


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A workshop",
            request_only=True,
            value={
                "customer": "0198a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b",
                "currency": "INR",
                "lines": [
                    {
                        "description": "Robotics workshop",
                        "quantity": "2",
                        "unit": "day",
                        "unit_price": "4500.00",
                        "tax_category": "activities",
                    }
                ],
                "net_days": 14,
                "memo": "As agreed on the phone",
            },
        )
    ]
)
class InvoiceInput(StrictSerializer):
    customer = serializers.UUIDField()
    currency = serializers.CharField(min_length=3, max_length=3)
    lines = LineInputSerializer(many=True, min_length=1, max_length=MAX_LINES)
    issued_on = serializers.DateField(default=None, allow_null=True, help_text="Empty: the day it is finalised.")
    net_days = serializers.IntegerField(min_value=0, max_value=365, default=None, allow_null=True)
    collect_automatically = serializers.BooleanField(default=True)
    prices_include_tax = serializers.BooleanField(default=False)
    memo = serializers.CharField(max_length=500, default="", allow_blank=True)
    custom_fields = PlainJSONField(default=dict)


class PreviewSerializer(serializers.Serializer):
    """What an invoice would say. Nothing was written."""

    currency = serializers.CharField()
    lines = LineSerializer(many=True)
    taxes = TaxSerializer(many=True)
    net = AmountSerializerField()
    tax = AmountSerializerField()
    rounding = AmountSerializerField()
    total = AmountSerializerField()
    place_of_supply = serializers.CharField(allow_blank=True)
    reverse_charge = serializers.BooleanField()


class ReasonInput(StrictSerializer):
    reason = serializers.CharField(min_length=3, max_length=300)


class CreditLineInput(StrictSerializer):
    position = serializers.IntegerField(min_value=1, max_value=32767)
    amount = AmountSerializerField(help_text="Net amount to take off this line.")


@extend_schema_serializer(
    examples=[
        OpenApiExample("All of it", request_only=True, value={"reason": "Cancelled before delivery"}),
        OpenApiExample(
            "Part of a line",
            request_only=True,
            value={
                "reason": "One day less",
                "amounts": [{"position": 1, "amount": {"amount": "4500.00", "currency": "INR"}}],
            },
        ),
    ]
)
class CreditNoteInput(ReasonInput):
    amounts = CreditLineInput(
        many=True, default=None, allow_null=True, max_length=MAX_LINES, help_text="Empty: all that is left."
    )


class CreditNoteSerializer(serializers.ModelSerializer):
    invoice = serializers.UUIDField(source="invoice_id")
    net = AmountSerializerField()
    tax = AmountSerializerField()
    total = AmountSerializerField()
    reduced_due = AmountSerializerField()
    to_credit = AmountSerializerField()

    class Meta:
        model = CreditNote
        fields = [
            "id",
            "number",
            "invoice",
            "issued_on",
            "reason",
            "currency",
            "net",
            "tax",
            "total",
            "reduced_due",
            "to_credit",
            "lines",
            "taxes",
        ]


class InstallmentSerializer(serializers.ModelSerializer):
    amount = AmountSerializerField(help_text="Without tax.")
    invoice = serializers.UUIDField(source="invoice_id", allow_null=True)

    class Meta:
        model = Installment
        fields = ["number", "due_on", "amount", "invoice"]


class InstallmentPlanSerializer(serializers.ModelSerializer):
    customer = serializers.UUIDField(source="customer_id")
    beneficiary = serializers.UUIDField(source="beneficiary_id", allow_null=True)
    total = AmountSerializerField()
    installments = InstallmentSerializer(many=True)

    class Meta:
        model = InstallmentPlan
        fields = [
            "id",
            "customer",
            "beneficiary",
            "description",
            "total",
            "tax_category",
            "status",
            "interval_months",
            "installments",
        ]


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "Annual fee in four parts",
            request_only=True,
            value={
                "customer": "0198a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b",
                "description": "Annual tuition fee 2026-27",
                "total": {"amount": "84000.00", "currency": "INR"},
                "tax_category": "tuition",
                "count": 4,
                "interval_months": 3,
                "first_due_on": "2026-04-10",
            },
        )
    ]
)
class InstallmentPlanInput(StrictSerializer):
    customer = serializers.UUIDField()
    beneficiary = serializers.UUIDField(default=None, allow_null=True)
    description = serializers.CharField(max_length=200)
    total = AmountSerializerField(help_text="Without tax.")
    tax_category = serializers.CharField(max_length=40, default="", allow_blank=True)
    count = serializers.IntegerField(min_value=1, max_value=60)
    interval_months = serializers.IntegerField(min_value=1, max_value=12, default=1)
    first_due_on = serializers.DateField()
    down_payment = AmountSerializerField(default=None, allow_null=True)
    net_days = serializers.IntegerField(min_value=0, max_value=365, default=0)
    collect_automatically = serializers.BooleanField(default=True)


class TaxRateSerializer(serializers.ModelSerializer):
    class Meta:
        model = TaxRate
        fields = [
            "id",
            "category",
            "country",
            "region",
            "rate",
            "code",
            "exemption_reason",
            "valid_from",
            "valid_until",
        ]


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "GST on catering",
            request_only=True,
            value={"category": "meals", "country": "IN", "rate": "5", "code": "996333", "valid_from": "2025-09-22"},
        )
    ]
)
class TaxRateInput(StrictSerializer):
    category = serializers.RegexField(r"^[a-z0-9-]{1,40}\Z", help_text="Small letters, digits and hyphens.")
    country = serializers.RegexField(r"^[A-Z]{2}\Z", help_text="ISO 3166 code.")
    region = serializers.CharField(max_length=6, default="", allow_blank=True)
    rate = serializers.DecimalField(max_digits=7, decimal_places=4, min_value=0, max_value=100, help_text="Percent.")
    code = serializers.CharField(max_length=12, default="", allow_blank=True, help_text="HSN or SAC in India.")
    exemption_reason = serializers.CharField(max_length=120, default="", allow_blank=True)
    valid_from = serializers.DateField()
    valid_until = serializers.DateField(default=None, allow_null=True, help_text="Last day.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["valid_until"] and attrs["valid_until"] < attrs["valid_from"]:
            raise serializers.ValidationError({"valid_until": ["It ends before it begins."]})
        return attrs


class MailSerializer(serializers.ModelSerializer):
    customer = serializers.UUIDField(source="customer_id")
    invoice = serializers.UUIDField(source="invoice_id", allow_null=True)
    recipient = serializers.SerializerMethodField(help_text="Masked.")

    class Meta:
        model = Mail
        fields = [
            "id",
            "kind",
            "customer",
            "invoice",
            "recipient",
            "status",
            "attempts",
            "error",
            "send_after",
            "sent_at",
        ]

    def get_recipient(self, mail: Mail) -> str:
        return mask_email(mail.recipient)
