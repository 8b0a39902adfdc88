"""What services earn and cost."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from analytics.api.views import SINCE, UNTIL, FiguresView, day
from analytics.attribution import ServiceFigure
from analytics.services import attribution
from billing import clock
from billing.api.base import ReasonedChange, StrictSerializer
from billing.money import quantize


class ServiceFigureOutput(serializers.Serializer):
    month = serializers.DateField()
    currency = serializers.CharField()
    service = serializers.CharField(help_text="Empty: charges of no service.")
    revenue = serializers.CharField()
    cost = serializers.CharField(
        allow_null=True, help_text="In the organisation's currency; null: no unit cost is known."
    )
    margin = serializers.CharField(allow_null=True, help_text="Null where revenue and cost differ in currency.")
    charges = serializers.ListField(child=serializers.CharField())


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A month",
            value={"cost_currency": "INR", "months": [
                {"month": "2026-04-01", "currency": "INR", "service": "storage", "revenue": "1200.00", "cost": "410.50",
                 "margin": "789.50", "charges": ["storage"]}]},
        )
    ]
)  # fmt: skip
class ServicesOutput(serializers.Serializer):
    cost_currency = serializers.CharField()
    months = ServiceFigureOutput(many=True)


class TagInput(StrictSerializer):
    service = serializers.CharField(max_length=60)
    unit_cost = serializers.DecimalField(
        max_digits=21, decimal_places=12, min_value=0, required=False, allow_null=True,
        help_text="Another cost than before counts for the whole of today and from then on: earlier days keep theirs.",
    )  # fmt: skip


class TagsInput(ReasonedChange):
    services = serializers.DictField(child=TagInput(), help_text="Code of a charge to its service.")


class TagOutput(serializers.Serializer):
    service = serializers.CharField()
    unit_cost = serializers.CharField(allow_null=True)


class TagsOutput(serializers.Serializer):
    services = serializers.DictField(child=TagOutput())


TAGS = OpenApiExample(
    "Seats",
    value={"services": {"seats": {"service": "workspace", "unit_cost": "12.50"}}, "reason": "New price of licences"},
    request_only=True,
)


class ServicesView(FiguresView):
    @extend_schema(operation_id="analytics_services", parameters=[SINCE, UNTIL], responses=ServicesOutput)
    def get(self, request: Request) -> Response:
        """Revenue, cost and margin of each service by month of issue and currency; the last twelve months if not given."""
        until = day(request, "to") or clock.today(self.organisation)
        since = day(request, "from") or attribution.since_for(until)
        found = attribution.services_by_month(organisation=self.organisation, since=since, until=until)
        currency = self.organisation.currency
        return Response({"cost_currency": currency, "months": [_figure(one, currency) for one in found]})


class ServiceTagsView(FiguresView):
    required_permissions = {"get": "analytics.view", "put": "plan.edit"}
    throttle_scope = ""

    @extend_schema(operation_id="analytics_service_tags_retrieve", responses=TagsOutput)
    def get(self, request: Request) -> Response:
        """Which charges without a meter are of which service."""
        return Response(_tags(attribution.tags_of(self.organisation)))

    @extend_schema(
        operation_id="analytics_service_tags_update", request=TagsInput, responses=TagsOutput, examples=[TAGS]
    )
    def put(self, request: Request) -> Response:
        """Say it anew, for all of them."""
        given = TagsInput(data=request.data)
        given.is_valid(raise_exception=True)
        tags = {
            code: {
                "service": one["service"],
                "unit_cost": None if one.get("unit_cost") is None else f"{one['unit_cost']:f}",
            }
            for code, one in given.validated_data["services"].items()
        }
        reason = given.validated_data.get("reason", "")
        kept = attribution.tag_charges(organisation=self.organisation, tags=tags, actor=self.actor, reason=reason)
        return Response(_tags(kept))


def _tags(tags: dict[str, Any]) -> dict[str, Any]:
    return {
        "services": {
            code: {"service": tag.service, "unit_cost": None if tag.unit_cost is None else f"{tag.unit_cost:f}"}
            for code, tag in tags.items()
        }
    }


def _figure(one: ServiceFigure, currency: str) -> dict[str, Any]:
    margin = one.margin(currency)
    return {
        "month": one.month.isoformat(), "currency": one.currency, "service": one.service,
        "revenue": f"{quantize(one.revenue, one.currency):f}",
        "cost": None if one.cost is None else f"{quantize(one.cost, currency):f}",
        "margin": None if margin is None else f"{quantize(margin, currency):f}", "charges": sorted(one.charges),
    }  # fmt: skip
