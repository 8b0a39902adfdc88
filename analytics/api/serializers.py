"""Shapes of the figures, for the API's schema. Amounts and rates are decimal strings."""

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers


class MonthSerializer(serializers.Serializer):
    month = serializers.DateField(help_text="First day of the month.")
    opening = serializers.CharField()
    new = serializers.CharField()
    expansion = serializers.CharField()
    reactivation = serializers.CharField()
    contraction = serializers.CharField()
    churn = serializers.CharField()
    closing = serializers.CharField()
    gross_churn_rate = serializers.CharField(allow_null=True, help_text="Percent.")
    net_churn_rate = serializers.CharField(allow_null=True, help_text="Percent.")
    customer_churn_rate = serializers.CharField(allow_null=True, help_text="Percent.")
    quick_ratio = serializers.CharField(allow_null=True)
    opening_customers = serializers.IntegerField()
    closing_customers = serializers.IntegerField()
    churned_customers = serializers.IntegerField()


class CurrencyMonthsSerializer(serializers.Serializer):
    currency = serializers.CharField()
    months = MonthSerializer(many=True)


_MONTH_EXAMPLE = {
    "month": "2026-02-01",
    "opening": "400.00",
    "new": "0.00",
    "expansion": "60.00",
    "reactivation": "0.00",
    "contraction": "0.00",
    "churn": "100.00",
    "closing": "360.00",
    "gross_churn_rate": "25.00",
    "net_churn_rate": "10.00",
    "customer_churn_rate": "50.00",
    "quick_ratio": "0.60",
    "opening_customers": 2,
    "closing_customers": 1,
    "churned_customers": 1,
}


@extend_schema_serializer(
    examples=[OpenApiExample("One month", value={"currencies": [{"currency": "INR", "months": [_MONTH_EXAMPLE]}]})]
)
class MrrSerializer(serializers.Serializer):
    currencies = CurrencyMonthsSerializer(many=True)


class CollectionMonthSerializer(serializers.Serializer):
    month = serializers.DateField()
    currency = serializers.CharField()
    invoiced = serializers.CharField()
    collected = serializers.CharField()
    credited = serializers.CharField()
    written_off = serializers.CharField()
    outstanding = serializers.CharField()
    collection_rate = serializers.CharField(
        allow_null=True, help_text="Percent of what was invoiced less credit notes."
    )


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "One month",
            value={
                "months": [
                    {
                        "month": "2026-02-01",
                        "currency": "INR",
                        "invoiced": "120000.00",
                        "collected": "114000.00",
                        "credited": "2000.00",
                        "written_off": "0.00",
                        "outstanding": "4000.00",
                        "collection_rate": "96.61",
                    }
                ]
            },
        )
    ]
)
class CollectionSerializer(serializers.Serializer):
    months = CollectionMonthSerializer(many=True)


class DeclineSerializer(serializers.Serializer):
    code = serializers.CharField()
    attempts = serializers.IntegerField()


class PaymentFiguresSerializer(serializers.Serializer):
    total = serializers.IntegerField()
    succeeded = serializers.IntegerField()
    recovered = serializers.IntegerField(help_text="Succeeded after at least one refusal.")
    failed = serializers.IntegerField()
    attempts = serializers.IntegerField()
    declined_attempts = serializers.IntegerField()
    success_rate = serializers.CharField(allow_null=True)
    first_attempt_rate = serializers.CharField(allow_null=True)
    declines = DeclineSerializer(many=True)


class OverviewSerializer(serializers.Serializer):
    customers = serializers.IntegerField()
    subscriptions = serializers.DictField(child=serializers.IntegerField())
    invoices = serializers.DictField(child=serializers.IntegerField())
    payments = PaymentFiguresSerializer()
