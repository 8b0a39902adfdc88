"""Shapes of settlements, statements and exceptions on the wire."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from billing.api.base import AmountSerializerField, StrictSerializer
from payments.models import BankAccount, BankLine, ReconciliationException, Settlement, SettlementLine, StatementImport

MAX_ENCODED = 28_000_000  # base64 of the largest statement taken


class SettlementSerializer(serializers.ModelSerializer):
    """A payout from gross to net: gross − refunds − fees − tax − disputes + adjustments − unexplained = amount."""

    gateway_account = serializers.UUIDField(source="gateway_account_id")
    amount = AmountSerializerField()
    gross = AmountSerializerField()
    refunds = AmountSerializerField()
    fees = AmountSerializerField()
    tax = AmountSerializerField()
    disputes = AmountSerializerField()
    adjustments = AmountSerializerField()
    unexplained = AmountSerializerField()

    class Meta:
        model = Settlement
        fields = [
            "id",
            "gateway_account",
            "gateway_ref",
            "utr",
            "status",
            "settled_on",
            "gross",
            "refunds",
            "fees",
            "tax",
            "disputes",
            "adjustments",
            "unexplained",
            "amount",
            "lines_complete",
        ]


class SettlementLineSerializer(serializers.ModelSerializer):
    amount = AmountSerializerField()
    fee = AmountSerializerField()
    tax = AmountSerializerField()
    net = AmountSerializerField()
    payment = serializers.UUIDField(source="payment_id", allow_null=True)
    refund = serializers.UUIDField(source="refund_id", allow_null=True)
    dispute = serializers.UUIDField(source="dispute_id", allow_null=True)

    class Meta:
        model = SettlementLine
        fields = [
            "id",
            "line_ref",
            "kind",
            "gateway_ref",
            "amount",
            "fee",
            "tax",
            "net",
            "occurred_at",
            "state",
            "rule",
            "payment",
            "refund",
            "dispute",
        ]


class BankAccountSerializer(serializers.ModelSerializer):
    class Meta:
        model = BankAccount
        fields = ["id", "code", "name", "currency", "last4"]


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A current account",
            request_only=True,
            value={"code": "hdfc-main", "name": "HDFC Bank, current account", "currency": "INR", "last4": "4417"},
        )
    ]
)
class BankAccountInput(StrictSerializer):
    code = serializers.RegexField(r"^[a-z0-9][a-z0-9_-]{0,39}\Z", help_text="Small letters, digits, hyphens.")
    name = serializers.CharField(max_length=120)
    currency = serializers.CharField(min_length=3, max_length=3)
    last4 = serializers.RegexField(r"^[0-9]{4}\Z", required=False, default="", allow_blank=True)


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A CSV file",
            request_only=True,
            value={
                "file_name": "june.csv",
                "format": "csv",
                "content": "RGF0ZSxOYXJyYXRpb24sQW1vdW50CjIwMjYtMDYtMDEsVVRSMTIzLDk1LjAwCg==",
            },
        )
    ]
)
class StatementInput(StrictSerializer):
    file_name = serializers.CharField(max_length=200)
    format = serializers.ChoiceField(choices=["auto", "camt053", "mt940", "csv"], default="auto")
    content = serializers.CharField(max_length=MAX_ENCODED, help_text="The file, base64.")


class StatementSerializer(serializers.ModelSerializer):
    bank_account = serializers.UUIDField(source="bank_account_id")
    opening_balance = AmountSerializerField(allow_null=True)
    closing_balance = AmountSerializerField(allow_null=True)

    class Meta:
        model = StatementImport
        fields = [
            "id",
            "bank_account",
            "file_name",
            "format",
            "rows_read",
            "rows_new",
            "rows_known",
            "opening_balance",
            "closing_balance",
            "imported_at",
        ]


class BankLineSerializer(serializers.ModelSerializer):
    bank_account = serializers.UUIDField(source="bank_account_id")
    settlement = serializers.UUIDField(source="settlement_id", allow_null=True)
    amount = AmountSerializerField()

    class Meta:
        model = BankLine
        fields = [
            "id",
            "bank_account",
            "booked_on",
            "value_on",
            "amount",
            "reference",
            "description",
            "state",
            "rule",
            "settlement",
        ]


class ExceptionSerializer(serializers.ModelSerializer):
    amount = AmountSerializerField()
    owner = serializers.SerializerMethodField()

    class Meta:
        model = ReconciliationException
        fields = [
            "id",
            "kind",
            "source_type",
            "source_id",
            "amount",
            "explanation",
            "next_step",
            "status",
            "owner",
            "opened_at",
            "due_on",
            "resolved_at",
            "resolution",
            "reason",
        ]

    def get_owner(self, exception: Any) -> str | None:
        return exception.owner.email if exception.owner else None


class MatchReportSerializer(serializers.Serializer):
    """What a run matched and opened, by step of the ladder."""

    report = serializers.DictField()


class SummaryRowSerializer(serializers.Serializer):
    currency = serializers.CharField()
    captured = AmountSerializerField()
    refunded = AmountSerializerField()
    disputes = AmountSerializerField()
    fees = AmountSerializerField()
    tax = AmountSerializerField()
    adjustments = AmountSerializerField()
    settled = AmountSerializerField()
    sent_back = AmountSerializerField()
    in_bank = AmountSerializerField()
    clearing = AmountSerializerField(help_text="Captured, not yet settled.")
    in_transit = AmountSerializerField(help_text="Paid out, not yet on a statement.")
    not_in_books = AmountSerializerField()
    unexplained = AmountSerializerField(help_text="Must be 0.00.")


class SummarySerializer(serializers.Serializer):
    currencies = SummaryRowSerializer(many=True)
