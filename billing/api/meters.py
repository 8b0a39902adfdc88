"""What is counted, and how."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field, extend_schema_view
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from billing import clock, expressions
from billing.api.base import ReasonedChange, StrictSerializer, TenantViewSet
from billing.api.idempotency import idempotent
from billing.models import Meter
from billing.services import meter_costs, meters

TAGS = ["usage"]


class DeclaredInput(StrictSerializer):
    name = serializers.RegexField(meters.PROPERTY.pattern, max_length=60)
    required = serializers.BooleanField(default=False)  # type: ignore[assignment]  # of a shape, not of a field
    kind = serializers.ChoiceField(choices=["text", "number"], default="text")


class MeterFields(StrictSerializer):
    name = serializers.CharField(max_length=120, required=False)
    unit = serializers.CharField(max_length=40, required=False, allow_blank=True)
    properties = serializers.ListField(
        child=DeclaredInput(), required=False, max_length=meters.MAX_PROPERTIES,
        help_text="Declared: an event with another property, or without a required one, is refused. Empty: any will do.",
    )  # fmt: skip
    service = serializers.CharField(max_length=60, required=False, allow_blank=True, help_text="Service it earns for.")
    unit_cost = serializers.DecimalField(
        max_digits=21, decimal_places=12, min_value=0, required=False, allow_null=True,
        help_text="What a unit costs us, in the organisation's currency.",
    )  # fmt: skip
    unit_cost_from = serializers.DateField(
        required=False,
        help_text="First day on which the cost counts, from its beginning; the days before keep theirs. Left out: today, for a new "
        "meter all days.",
    )


class MeterChange(MeterFields, ReasonedChange):
    """What may change of a meter."""


class MeterInput(MeterFields):
    code = serializers.SlugField(max_length=60)
    name = serializers.CharField(max_length=120)
    aggregation = serializers.ChoiceField(choices=Meter.Aggregation.choices)
    recurring = serializers.BooleanField(required=False, help_text="The state is carried into the next window.")
    expression = serializers.CharField(
        max_length=expressions.MAX_LENGTH, required=False, allow_blank=True,
        help_text="Quantity of an event from its properties: numbers, + - * /, round ceil floor min max if.",
    )  # fmt: skip
    unique_property = serializers.CharField(max_length=60, required=False, allow_blank=True)
    rounding = serializers.ChoiceField(choices=Meter.Rounding.choices, required=False, allow_blank=True)
    rounding_decimals = serializers.IntegerField(min_value=-6, max_value=12, required=False)


class DatedCost(serializers.Serializer):
    unit_cost = serializers.CharField(allow_null=True)

    def get_fields(self) -> dict[str, Any]:
        """``from`` is a word of Python."""
        return {"from": serializers.DateField(), **super().get_fields()}


class MeterOutput(serializers.ModelSerializer):
    properties = serializers.ListField(child=serializers.DictField())
    unit_cost = serializers.SerializerMethodField(
        help_text="What a unit costs us today, in the organisation's currency."
    )
    unit_costs = serializers.SerializerMethodField(help_text="What a unit cost from which day on.")

    class Meta:
        model = Meter
        fields = [
            "id", "code", "name", "aggregation", "unit", "recurring", "expression", "unique_property", "rounding",
            "rounding_decimals", "properties", "service", "unit_cost", "unit_costs", "recorded_at",
        ]  # fmt: skip

    def get_unit_cost(self, meter: Meter) -> str | None:
        cost = meter_costs.cost_on(meter, self.context["today"])
        return None if cost is None else f"{cost:f}"

    @extend_schema_field(DatedCost(many=True))
    def get_unit_costs(self, meter: Meter) -> list[dict[str, str | None]]:
        return meter_costs.told(meter)


class ExpressionInput(StrictSerializer):
    expression = serializers.CharField(max_length=expressions.MAX_LENGTH)
    properties = serializers.DictField(required=False, help_text="Of an event to try it on.")
    quantity = serializers.DecimalField(max_digits=30, decimal_places=12, required=False)


class ExpressionOutput(serializers.Serializer):
    properties = serializers.ListField(child=serializers.CharField(), help_text="Names that the expression reads.")
    value = serializers.CharField(allow_null=True, help_text="Quantity of the event that was given.")


METERS = [
    OpenApiExample(
        "Calls", value={"code": "api-calls", "name": "API calls", "aggregation": "sum", "unit": "call"}, request_only=True
    ),
    OpenApiExample(
        "Storage",
        value={
            "code": "storage", "name": "Storage", "aggregation": "weighted", "recurring": True, "unit": "GB",
            "expression": "bytes / 1073741824", "rounding": "ceil", "rounding_decimals": 3,
            "properties": [{"name": "bytes", "required": True, "kind": "number"}, {"name": "region"}],
            "service": "storage", "unit_cost": "0.42",
        },
        request_only=True,
    ),
]  # fmt: skip
CHANGE = OpenApiExample(
    "Cost",
    value={"service": "storage", "unit_cost": "0.39", "unit_cost_from": "2026-06-01", "reason": "New contract"},
    request_only=True,
)
TRY = OpenApiExample(
    "Kilobytes begun",
    value={"expression": 'ceil(bytes / 1024) * if(region = "eu", 2, 1)', "properties": {"bytes": 3000, "region": "eu"}},
    request_only=True,
)


@extend_schema_view(list=extend_schema(tags=TAGS), retrieve=extend_schema(tags=TAGS))
class MeterViewSet(TenantViewSet):
    """What is counted, and how."""

    queryset = Meter.objects.prefetch_related("costs")
    serializer_class = MeterOutput
    required_permissions = {
        "list": "usage.view", "retrieve": "usage.view", "create": "plan.edit", "partial_update": "plan.edit",
        "evaluate": "usage.view",
    }  # fmt: skip

    def get_serializer_context(self) -> dict[str, Any]:
        if getattr(self, "swagger_fake_view", False):
            return {**super().get_serializer_context()}
        return {**super().get_serializer_context(), "today": clock.today(self.organisation)}

    @extend_schema(request=MeterInput, responses={201: MeterOutput}, examples=METERS, tags=TAGS)
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Begin to count something."""
        meter = meters.create_meter(organisation=self.organisation, actor=self.actor, **self.valid(MeterInput))
        return Response(self.get_serializer(meter).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=MeterChange, responses=MeterOutput, examples=[CHANGE], tags=TAGS)
    def partial_update(self, request: Request, pk: Any = None) -> Response:
        """Change words, declared properties, service or cost. The way of counting stays as it is."""
        meter = meters.update_meter(
            organisation=self.organisation, meter_id=self.get_object().pk, actor=self.actor, **self.valid(MeterChange)
        )
        return Response(self.get_serializer(meter).data)

    @extend_schema(request=ExpressionInput, responses=ExpressionOutput, examples=[TRY], tags=TAGS)
    @action(detail=False, methods=["post"])
    def evaluate(self, request: Request) -> Response:
        """Try an expression on an event, before a meter has it."""
        given = self.valid(ExpressionInput)
        tree = expressions.parse(given["expression"])
        expressions.require_value(tree)
        event = dict(given.get("properties") or {})
        if "quantity" in given:
            event["quantity"] = given["quantity"]
        value = f"{expressions.evaluate(tree, event):f}" if event or not expressions.names(tree) else None
        return Response({"properties": sorted(expressions.names(tree)), "value": value})
