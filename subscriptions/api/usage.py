"""What a customer uses and what it costs."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.api.base import AmountSerializerField, TenantViewMixin
from subscriptions.selectors import customer_named
from subscriptions.services import usage_figures

WHEN = (usage_figures.CURRENT, usage_figures.PAST, usage_figures.PROJECTED)


class UsedPartOutput(serializers.Serializer):
    component = serializers.CharField()
    name = serializers.CharField(help_text="As on the invoice line.")
    meter = serializers.CharField()
    unit = serializers.CharField()
    service = serializers.CharField(help_text="Service or product line of the meter.")
    segment = serializers.CharField(help_text="Filter of the charge; empty: none fits.")
    group = serializers.ListField(child=serializers.CharField())
    quantity = serializers.DecimalField(max_digits=38, decimal_places=12)
    events = serializers.IntegerField()
    amount = AmountSerializerField()


class UsageFigureOutput(serializers.Serializer):
    subscription = serializers.UUIDField(source="subscription_id")
    external_id = serializers.CharField()
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()
    amount = AmountSerializerField(help_text="Without minimums, discounts and tax.")
    parts = UsedPartOutput(many=True)


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "One subscription",
            value={
                "when": "current",
                "usage": [
                    {
                        "subscription": "01a1f9fa-3745-75cd-95a3-0972f95b5e1c", "external_id": "sub_1",
                        "starts_at": "2026-04-01T00:00:00Z", "ends_at": "2026-04-12T09:00:00Z",
                        "amount": {"amount": "12.50", "currency": "INR"},
                        "parts": [
                            {"component": "calls", "name": "API calls", "meter": "api-calls", "unit": "call", "service": "api",
                             "segment": "", "group": [], "quantity": "1250.000000000000", "events": 7,
                             "amount": {"amount": "12.50", "currency": "INR"}}
                        ],
                    }
                ],
            },
        )
    ]
)  # fmt: skip
class CustomerUsageOutput(serializers.Serializer):
    when = serializers.ChoiceField(choices=WHEN)
    usage = UsageFigureOutput(many=True)


class CustomerUsageView(TenantViewMixin, APIView):
    """Usage of a customer with its cost, by subscription, component, filter and group."""

    required_permissions = {"get": "usage.view"}

    @extend_schema(
        operation_id="customers_usage",
        parameters=[
            OpenApiParameter(
                "when", OpenApiTypes.STR, enum=WHEN, description="`current` (default), `past` or `projected`."
            )
        ],
        responses=CustomerUsageOutput,
        tags=["usage"],
    )
    def get(self, request: Request, pk: Any = None) -> Response:
        """What is used since the last bill, was billed, or will have been used when the period ends."""
        when = request.query_params.get("when", usage_figures.CURRENT)
        if when not in WHEN:
            raise serializers.ValidationError({"when": [f"Expected one of {', '.join(WHEN)}."]})
        customer = customer_named(self.organisation, str(pk))
        found = usage_figures.usage_of(organisation=self.organisation, customer=customer, when=when)
        return Response({"when": when, "usage": UsageFigureOutput(found, many=True).data})
