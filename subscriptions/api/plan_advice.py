"""Plans side by side, and the one that suits a subscription best."""

import re
import uuid
from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.api.base import AmountSerializerField, StrictSerializer, TenantViewMixin
from subscriptions.selectors import subscriptions_of
from subscriptions.services import comparison, recommending

WHOLE = re.compile(r"-?[0-9]{1,9}")


class CompareInput(StrictSerializer):
    plans = serializers.CharField(max_length=1300, required=False, help_text="Codes or ids, separated by commas.")
    currency = serializers.CharField(min_length=3, max_length=3, required=False)
    quantity = serializers.IntegerField(min_value=1, max_value=1_000_000, default=1)


class RecommendInput(StrictSerializer):
    periods = serializers.IntegerField(min_value=1, max_value=recommending.MAX_PERIODS, default=3)


class CellOutput(serializers.Serializer):
    plan = serializers.CharField()
    words = serializers.ListField(child=serializers.CharField())


class LineOutput(serializers.Serializer):
    code = serializers.CharField()
    name = serializers.CharField()
    kind = serializers.CharField()
    cells = CellOutput(many=True, help_text="Plans without it are left out.")


class ColumnOutput(serializers.Serializer):
    code = serializers.CharField(source="plan.code")
    name = serializers.CharField(source="plan.name")
    description = serializers.CharField(source="plan.description")
    version = serializers.IntegerField(source="version.number")
    interval = serializers.CharField(source="plan.interval")
    interval_count = serializers.IntegerField(source="plan.interval_count")
    trial_days = serializers.IntegerField(source="plan.trial_days")
    price = AmountSerializerField(
        source="quote.total", help_text="Of one period, minimum included, without usage and tax."
    )
    per_month = AmountSerializerField(help_text="The same by the month, made comparable between intervals.")
    one_off = AmountSerializerField(source="quote.one_off", help_text="Charged once, with the first bill.")


class ComparisonOutput(serializers.Serializer):
    currency = serializers.CharField()
    quantity = serializers.IntegerField()
    plans = ColumnOutput(many=True, source="columns")
    components = LineOutput(many=True, help_text="Prices in words.")
    features = LineOutput(many=True)


class RepricedPeriodOutput(serializers.Serializer):
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()


class CandidateOutput(serializers.Serializer):
    plan = serializers.CharField(source="version.plan.code")
    version = serializers.IntegerField(source="version.number")
    is_present = serializers.BooleanField(help_text="The plan that the subscription has.")
    costs = serializers.ListField(child=AmountSerializerField(), help_text="Of each period, without tax.")
    total = AmountSerializerField()
    saving = AmountSerializerField(help_text="Against the present plan; negative: it would have cost more.")
    lacks = serializers.ListField(
        child=serializers.CharField(), help_text="What the present plan has and this one not."
    )


class RecommendationOutput(serializers.Serializer):
    subscription = serializers.UUIDField(source="subscription.pk")
    currency = serializers.CharField(source="subscription.currency")
    quantity = serializers.IntegerField(source="subscription.quantity")
    periods = serializers.SerializerMethodField(help_text="The finished periods that were priced again.")
    recommended = serializers.CharField(
        source="recommended.version.plan.code", default=None, allow_null=True,
        help_text="The cheapest plan that takes nothing away; null: the present one is.",
    )  # fmt: skip
    candidates = CandidateOutput(many=True, help_text="Cheapest first.")

    @extend_schema_field(RepricedPeriodOutput(many=True))
    def get_periods(self, found: Any) -> list[dict[str, Any]]:
        spans = [{"starts_at": start, "ends_at": end} for start, end in found.periods]
        return [dict(one) for one in RepricedPeriodOutput(spans, many=True).data]


class CompareView(TenantViewMixin, APIView):
    """Plans side by side."""

    required_permissions = {"get": "plan.view"}

    @extend_schema(parameters=[CompareInput], responses=ComparisonOutput, tags=["plans"], operation_id="plans_compare")
    def get(self, request: Request) -> Response:
        """Compare what plans cost for a quantity, their prices in words and their features; default: all that are offered."""
        given = _valid(CompareInput, request)
        names = [name.strip() for name in given.get("plans", "").split(",") if name.strip()]
        found = comparison.compare(
            organisation=self.organisation, names=names, currency=given.get("currency", ""), quantity=given["quantity"]
        )
        return Response(ComparisonOutput(found).data)


class RecommendView(TenantViewMixin, APIView):
    """The plan that would have suited a subscription best."""

    required_permissions = {"get": "subscription.view"}

    @extend_schema(
        parameters=[RecommendInput], responses=RecommendationOutput, tags=["plans"],
        operation_id="subscriptions_recommendation",
    )  # fmt: skip
    def get(self, request: Request, pk: uuid.UUID) -> Response:
        """Price the last finished periods, as they were really used, under every plan that is offered."""
        given = _valid(RecommendInput, request)
        subscription = get_object_or_404(subscriptions_of(self.organisation).select_related("organisation"), pk=pk)
        found = recommending.recommend(subscription=subscription, periods=given["periods"])
        return Response(RecommendationOutput(found).data)


def _valid(shape: type[serializers.Serializer], request: Request) -> dict[str, Any]:
    """The query, checked; its whole numbers come as texts."""
    fields = shape().fields
    given = {
        name: int(value) if isinstance(fields.get(name), serializers.IntegerField) and WHOLE.fullmatch(value) else value
        for name, value in request.query_params.items()
    }
    serializer = shape(data=given)
    serializer.is_valid(raise_exception=True)
    return serializer.validated_data
