"""What the API takes."""

from decimal import Decimal
from typing import Any

from moneyed import Money
from rest_framework import serializers

from billing.api.base import AmountSerializerField, PlainJSONField, StrictSerializer
from billing.money import currency_of, quantize
from invoices.api.fields import DayField
from invoices.drafts import LineInput

MAX_LINES = 500
MAX_LINE = Decimal(10) ** 11


class CustomFields(PlainJSONField):
    """Up to 20 short texts printed on the document."""

    def to_internal_value(self, data: Any) -> Any:
        value = super().to_internal_value(data)
        if len(value) > 20 or any(len(key) > 40 or "\x00" in key for key in value):
            raise serializers.ValidationError("Give at most 20 fields with names of at most 40 characters.")
        return value


class LineFields(StrictSerializer):
    """A line: either quantity and unit price, or an amount."""

    description = serializers.CharField(max_length=300)
    code = serializers.CharField(max_length=60, required=False, allow_blank=True, default="")
    quantity = serializers.DecimalField(
        max_digits=18, decimal_places=6, required=False, default=Decimal(1), help_text="Negative for a discount."
    )
    unit = serializers.CharField(max_length=40, required=False, allow_blank=True, default="")
    unit_price = serializers.DecimalField(
        max_digits=24, decimal_places=12, min_value=Decimal(0), required=False, help_text="Up to 12 decimals."
    )
    amount = AmountSerializerField(required=False, positive=False, help_text="Instead of quantity and unit price.")
    tax_category = serializers.CharField(max_length=40, required=False, allow_blank=True, default="")
    period_start = DayField(required=False, allow_null=True)
    period_end = DayField(required=False, allow_null=True, help_text="Last day.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("amount" in attrs) == ("unit_price" in attrs):
            raise serializers.ValidationError("Give either unit_price (and quantity), or amount.")
        start, end = attrs.get("period_start"), attrs.get("period_end")
        if (start is None) != (end is None) or (start and end and end < start):
            raise serializers.ValidationError(
                {"period_end": "Give both ends of the period, the last day not before the first."}
            )
        if "unit_price" in attrs and abs(attrs["quantity"] * attrs["unit_price"]) > MAX_LINE:
            raise serializers.ValidationError({"unit_price": "The line is too large."})
        if "amount" in attrs and abs(attrs["amount"].amount) > MAX_LINE:
            raise serializers.ValidationError({"amount": "The line is too large."})
        return attrs


class InvoiceInput(StrictSerializer):
    """A draft to be written or previewed."""

    customer = serializers.UUIDField()
    currency = serializers.CharField(max_length=3, required=False, help_text="ISO 4217; default: the customer's.")
    lines = LineFields(many=True, allow_empty=False, max_length=MAX_LINES)  # type: ignore[call-arg]
    prices_include_tax = serializers.BooleanField(required=False, default=False)
    issued_on = DayField(required=False, allow_null=True, help_text="Default: the day it is finalised.")
    net_days = serializers.IntegerField(min_value=0, max_value=365, required=False, allow_null=True)
    collect_automatically = serializers.BooleanField(required=False, default=True)
    method = serializers.UUIDField(
        required=False, allow_null=True, help_text="Payment method to charge; default: the customer's."
    )
    memo = serializers.CharField(max_length=500, required=False, allow_blank=True, default="")
    custom_fields = CustomFields(required=False)


class ReasonInput(StrictSerializer):
    """Why; kept in the audit trail."""

    reason = serializers.CharField(min_length=3, max_length=300)


class CreditLine(StrictSerializer):
    """A part of a line to credit."""

    position = serializers.IntegerField(min_value=1, max_value=32767)
    amount = AmountSerializerField(positive=False, help_text="Without tax.")


class CreditNoteInput(StrictSerializer):
    """Without amounts everything that is left is credited."""

    reason = serializers.CharField(min_length=3, max_length=300)
    amounts = CreditLine(many=True, required=False, allow_null=True, allow_empty=False, max_length=MAX_LINES)  # type: ignore[call-arg]
    refund = serializers.BooleanField(
        required=False,
        default=False,
        help_text="Also refund what had been paid of it, on the invoice's payments, the newest first. Needs the permission "
        "`refund.issue` as well. What was not paid yet only lowers what is due.",
    )

    def validate_amounts(self, lines: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
        if lines and len({line["position"] for line in lines}) != len(lines):
            raise serializers.ValidationError("Name each position once.")
        return lines


class ApplyCreditInput(StrictSerializer):
    """How much of the customer's credit pays the invoice; default: as much as there is."""

    amount = AmountSerializerField(required=False)


class InstallmentPlanInput(StrictSerializer):
    """One amount paid in parts."""

    customer = serializers.UUIDField()
    beneficiary = serializers.UUIDField(required=False, allow_null=True)
    description = serializers.CharField(max_length=200)
    total = AmountSerializerField(help_text="Without tax.")
    count = serializers.IntegerField(min_value=1, max_value=60)
    interval_months = serializers.IntegerField(min_value=1, max_value=12, default=1)
    first_due_on = DayField()
    down_payment = AmountSerializerField(required=False, allow_null=True)
    tax_category = serializers.CharField(max_length=40, required=False, allow_blank=True, default="")
    net_days = serializers.IntegerField(min_value=0, max_value=365, default=0)
    collect_automatically = serializers.BooleanField(required=False, default=True)

    def validate_first_due_on(self, value: Any) -> Any:
        if value.year > 2089:
            raise serializers.ValidationError("Begin before 2090.")
        return value


class TaxRateInput(StrictSerializer):
    """A rate from a day on."""

    category = serializers.CharField(max_length=40)
    country = serializers.RegexField(r"^[A-Z]{2}$", max_length=2)
    region = serializers.CharField(max_length=6, required=False, allow_blank=True, default="")
    rate = serializers.DecimalField(max_digits=7, decimal_places=4, min_value=Decimal(0), max_value=Decimal(100))
    code = serializers.CharField(max_length=12, required=False, allow_blank=True, default="", help_text="HSN or SAC.")
    exemption_reason = serializers.CharField(max_length=120, required=False, allow_blank=True, default="")
    valid_from = DayField()
    valid_until = DayField(required=False, allow_null=True, help_text="Last day.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.get("valid_until") and attrs["valid_until"] < attrs["valid_from"]:
            raise serializers.ValidationError({"valid_until": "The last day is before the first."})
        return attrs


def line_inputs(rows: list[dict[str, Any]], currency: str) -> list[LineInput]:
    """Lines of the rules from lines of the wire; every amount is rounded once, here."""
    return [_line_input(row, currency_of(currency).code) for row in rows]


def _line_input(row: dict[str, Any], currency: str) -> LineInput:
    given = dict(row)
    price = given.pop("unit_price", None)
    amount = given.pop("amount", None)
    if amount is None:
        amount = Money(quantize(given["quantity"] * price, currency), currency)
    return LineInput(amount=amount, unit_price=price, **given)
