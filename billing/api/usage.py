"""Meters, and the measurements sent to them."""

from dataclasses import asdict
from decimal import Decimal
from typing import Any

from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_view
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import StrictSerializer, TenantGenericViewSet, TenantViewSet
from billing.errors import InvalidInput
from billing.models import Meter, UsageEvent
from billing.services import meters, usage

MAX_BATCH = 1000


class MeterInput(StrictSerializer):
    code = serializers.SlugField(max_length=60)
    name = serializers.CharField(max_length=120)
    aggregation = serializers.ChoiceField(choices=Meter.Aggregation.choices)
    unit = serializers.CharField(max_length=40, required=False, allow_blank=True)


class MeterOutput(serializers.ModelSerializer):
    class Meta:
        model = Meter
        fields = ["id", "code", "name", "aggregation", "unit", "recorded_at"]


METER_EXAMPLE = OpenApiExample(
    "Calls", value={"code": "api-calls", "name": "API calls", "aggregation": "sum", "unit": "call"}, request_only=True
)


@extend_schema_view(list=extend_schema(tags=["usage"]), retrieve=extend_schema(tags=["usage"]))
class MeterViewSet(TenantViewSet):
    """What is counted, and how."""

    queryset = Meter.objects.all()
    serializer_class = MeterOutput
    required_permissions = {"list": "usage.view", "retrieve": "usage.view", "create": "plan.edit"}

    @extend_schema(request=MeterInput, responses={201: MeterOutput}, examples=[METER_EXAMPLE], tags=["usage"])
    def create(self, request: Request) -> Response:
        """Begin to count something."""
        meter = meters.create_meter(organisation=self.organisation, actor=self.actor, **self.valid(MeterInput))
        return Response(MeterOutput(meter).data, status=status.HTTP_201_CREATED)


class UsageEventShape(serializers.Serializer):
    """What an event looks like; read by the service itself, which gives each event of a batch its own verdict."""

    event_id = serializers.CharField(max_length=100, help_text="Your key: the same id counts once.")
    meter = serializers.CharField(max_length=60, help_text="Code of the meter.")
    customer = serializers.CharField(max_length=100, help_text="Id or external id.")
    quantity = serializers.DecimalField(max_digits=30, decimal_places=12, min_value=Decimal(0), default=Decimal(1))
    occurred_at = serializers.DateTimeField()
    properties = serializers.DictField(required=False)


class BatchShape(serializers.Serializer):
    events = serializers.ListField(child=UsageEventShape(), allow_empty=False, max_length=MAX_BATCH)


class VerdictOutput(serializers.Serializer):
    event_id = serializers.CharField(allow_blank=True)
    status = serializers.ChoiceField(choices=["accepted", "duplicate", "rejected"])
    field = serializers.CharField(allow_blank=True, help_text="Which field was not accepted.")
    reason = serializers.CharField(allow_blank=True)


class BatchOutput(serializers.Serializer):
    accepted = serializers.IntegerField()
    duplicates = serializers.IntegerField()
    rejected = serializers.IntegerField()
    verdicts = VerdictOutput(many=True)


class UsageEventOutput(serializers.ModelSerializer):
    meter = serializers.CharField(source="meter.code")
    quantity = serializers.DecimalField(max_digits=30, decimal_places=12)
    properties = serializers.DictField()

    class Meta:
        model = UsageEvent
        fields = ["event_id", "meter", "customer", "quantity", "properties", "occurred_at", "recorded_at"]


class UsageFilter(filters.FilterSet):
    customer = filters.UUIDFilter(field_name="customer_id")
    meter = filters.CharFilter(field_name="meter__code", max_length=60)
    since = filters.IsoDateTimeFilter(field_name="occurred_at", lookup_expr="gte")
    until = filters.IsoDateTimeFilter(field_name="occurred_at", lookup_expr="lt")


EVENT = {
    "event_id": "calls-1-1",
    "meter": "api-calls",
    "customer": "company-0001",
    "quantity": "250",
    "occurred_at": "2026-04-01T11:00:00Z",
    "properties": {"region": "eu"},
}
EVENT_EXAMPLE = OpenApiExample("A measurement", value=EVENT, request_only=True)
BATCH_EXAMPLE = OpenApiExample("A batch", value={"events": [EVENT]}, request_only=True)


class NotAccepted(InvalidInput):
    code = "usage_event_rejected"


@extend_schema_view(list=extend_schema(tags=["usage"]))
class UsageEventViewSet(mixins.ListModelMixin, TenantGenericViewSet):
    """Immutable measurements. Sending one again is safe: the same event id counts once."""

    queryset = UsageEvent.objects.select_related("meter")
    serializer_class = UsageEventOutput
    filterset_class = UsageFilter
    required_permissions = {"list": "usage.view", "create": "usage.ingest", "batch": "usage.ingest"}
    throttle_scope = "ingest"

    @extend_schema(
        request=UsageEventShape,
        responses={200: VerdictOutput, 201: VerdictOutput},
        examples=[EVENT_EXAMPLE],
        tags=["usage"],
    )
    def create(self, request: Request) -> Response:
        """Take in one measurement: 201 when it is new, 200 when it was known."""
        (verdict,) = usage.ingest(organisation=self.organisation, events=[request.data])
        if verdict.status == "rejected":
            raise NotAccepted(verdict.reason, field=verdict.field)
        return Response(asdict(verdict), status=201 if verdict.status == "accepted" else 200)

    @extend_schema(request=BatchShape, responses=BatchOutput, examples=[BATCH_EXAMPLE], tags=["usage"])
    @action(detail=False, methods=["post"])
    def batch(self, request: Request) -> Response:
        """Take in up to 1000 measurements, each with its own verdict; a bad one does not stop the others."""
        events = _events_of(request.data)
        verdicts = usage.ingest(organisation=self.organisation, events=events)
        counts = dict.fromkeys(("accepted", "duplicate", "rejected"), 0)
        for verdict in verdicts:
            counts[verdict.status] += 1
        return Response(
            {
                "accepted": counts["accepted"],
                "duplicates": counts["duplicate"],
                "rejected": counts["rejected"],
                "verdicts": [vars(verdict) for verdict in verdicts],
            }
        )


def _events_of(data: Any) -> list[Any]:
    if not isinstance(data, dict) or set(data) != {"events"} or not isinstance(data["events"], list):
        raise InvalidInput('Expected {"events": [...]}.', field="events")
    if not 1 <= len(data["events"]) <= MAX_BATCH:
        raise InvalidInput(f"Expected 1 to {MAX_BATCH} events.", field="events")
    return data["events"]
