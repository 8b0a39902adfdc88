"""Measurements: sent one by one or in batches, corrected, parked."""

import uuid
from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Any, cast

from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_view
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.api.base import ReasonedChange, StrictSerializer, TenantGenericViewSet, TenantViewMixin, TenantViewSet
from billing.api.idempotency import idempotent
from billing.errors import InvalidInput
from billing.models import ParkedUsage, UsageEvent, UsageRevision
from billing.services import parking, unparking, usage, usage_policy, usage_revisions

MAX_BATCH = 1000
TAGS = ["usage"]


class UsageEventShape(serializers.Serializer):
    """What an event looks like; read by the service itself, which gives each event of a batch its own verdict."""

    event_id = serializers.CharField(max_length=100, help_text="Your key: the same id counts once.")
    meter = serializers.CharField(max_length=60, help_text="Code of the meter.")
    customer = serializers.CharField(max_length=100, help_text="Id or external id.")
    subscription = serializers.CharField(
        max_length=100, required=False, help_text="Id or external id; needed where a customer has several on the meter."
    )
    quantity = serializers.DecimalField(max_digits=30, decimal_places=12, default=Decimal(1))
    amount = serializers.DecimalField(
        max_digits=30, decimal_places=12, min_value=Decimal(0), required=False, help_text="Price, for dynamic charges."
    )
    occurred_at = serializers.DateTimeField()
    properties = serializers.DictField(required=False)


class BatchShape(serializers.Serializer):
    events = serializers.ListField(child=UsageEventShape(), allow_empty=False, max_length=MAX_BATCH)


class VerdictOutput(serializers.Serializer):
    event_id = serializers.CharField(allow_blank=True)
    status = serializers.ChoiceField(choices=["accepted", "duplicate", "parked", "rejected"])
    field = serializers.CharField(allow_blank=True, help_text="Which field was not accepted.")
    reason = serializers.CharField(allow_blank=True)


class BatchOutput(serializers.Serializer):
    accepted = serializers.IntegerField()
    duplicates = serializers.IntegerField()
    parked = serializers.IntegerField()
    rejected = serializers.IntegerField()
    verdicts = VerdictOutput(many=True)


class UsageEventOutput(serializers.ModelSerializer):
    meter = serializers.CharField(source="meter.code")
    quantity = serializers.DecimalField(max_digits=30, decimal_places=12)
    subscription = serializers.SerializerMethodField()
    properties = serializers.DictField()

    class Meta:
        model = UsageEvent
        fields = [
            "event_id", "meter", "customer", "subscription", "quantity", "amount", "properties", "occurred_at", "recorded_at",
        ]  # fmt: skip

    def get_subscription(self, event: UsageEvent) -> uuid.UUID | None:
        return event.subscription_ref if event.subscription_ref.int else None


class UsageFilter(filters.FilterSet):
    customer = filters.UUIDFilter(field_name="customer_id")
    meter = filters.CharFilter(field_name="meter__code", max_length=60)
    subscription = filters.UUIDFilter(field_name="subscription_ref")
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


@extend_schema_view(list=extend_schema(tags=TAGS))
class UsageEventViewSet(mixins.ListModelMixin, TenantGenericViewSet):
    """Immutable measurements. Sending one again is safe: the same event id counts once."""

    queryset = UsageEvent.objects.select_related("meter")
    serializer_class = UsageEventOutput
    filterset_class = UsageFilter
    required_permissions = {"list": "usage.view", "create": "usage.ingest", "batch": "usage.ingest"}
    throttle_scope = "ingest"

    @extend_schema(
        request=UsageEventShape,
        responses={200: VerdictOutput, 201: VerdictOutput, 202: VerdictOutput},
        examples=[EVENT_EXAMPLE],
        tags=TAGS,
    )
    def create(self, request: Request) -> Response:
        """Take in one measurement: 201 when it is new, 200 when it was known, 202 when it is parked."""
        (verdict,) = usage.ingest(organisation=self.organisation, events=[cast(Mapping[str, Any], request.data)])
        if verdict.status == usage.REJECTED:
            raise NotAccepted(verdict.reason, field=verdict.field)
        return Response(asdict(verdict), status={usage.ACCEPTED: 201, usage.PARKED: 202}.get(verdict.status, 200))

    @extend_schema(request=BatchShape, responses=BatchOutput, examples=[BATCH_EXAMPLE], tags=TAGS)
    @action(detail=False, methods=["post"])
    def batch(self, request: Request) -> Response:
        """Take in up to 1000 measurements, each with its own verdict; a bad one does not stop the others."""
        events = _events_of(request.data)
        verdicts = usage.ingest(organisation=self.organisation, events=events)
        counts = dict.fromkeys((usage.ACCEPTED, usage.DUPLICATE, usage.PARKED, usage.REJECTED), 0)
        for verdict in verdicts:
            counts[verdict.status] += 1
        return Response(
            {
                "accepted": counts[usage.ACCEPTED],
                "duplicates": counts[usage.DUPLICATE],
                "parked": counts[usage.PARKED],
                "rejected": counts[usage.REJECTED],
                "verdicts": [vars(verdict) for verdict in verdicts],
            }
        )


def _events_of(data: Any) -> list[Any]:
    if not isinstance(data, dict) or set(data) != {"events"} or not isinstance(data["events"], list):
        raise InvalidInput('Expected {"events": [...]}.', field="events")
    if not 1 <= len(data["events"]) <= MAX_BATCH:
        raise InvalidInput(f"Expected 1 to {MAX_BATCH} events.", field="events")
    return data["events"]


class RevisionInput(StrictSerializer):
    event_id = serializers.CharField(max_length=100)
    kind = serializers.ChoiceField(choices=UsageRevision.Kind.choices)
    quantity = serializers.DecimalField(
        max_digits=30, decimal_places=12, required=False, help_text="With `replace`: the quantity that counts."
    )
    reason = serializers.CharField(min_length=3, max_length=300)


class RevisionOutput(serializers.ModelSerializer):
    meter = serializers.CharField(source="meter.code")

    class Meta:
        model = UsageRevision
        fields = [
            "id", "event_id", "meter", "customer", "kind", "quantity", "number", "is_current", "reason", "made_by", "made_at",
            "occurred_at",
        ]  # fmt: skip


class RevisionFilter(filters.FilterSet):
    customer = filters.UUIDFilter(field_name="customer_id")
    event_id = filters.CharFilter(max_length=100)


REVISIONS = [
    OpenApiExample(
        "A correction",
        value={"event_id": "calls-1-1", "kind": "replace", "quantity": "205", "reason": "Counted twice by the proxy"},
        request_only=True,
    ),
    OpenApiExample(
        "A void", value={"event_id": "calls-1-2", "kind": "void", "reason": "A test of ours"}, request_only=True
    ),
]


@extend_schema_view(list=extend_schema(tags=TAGS), retrieve=extend_schema(tags=TAGS))
class UsageRevisionViewSet(TenantViewSet):
    """Corrections and voids of measurements. The measurement stays; what was billed of it is settled on the next invoice."""

    queryset = UsageRevision.objects.select_related("meter")
    serializer_class = RevisionOutput
    filterset_class = RevisionFilter
    required_permissions = {"list": "usage.view", "retrieve": "usage.view", "create": "usage.ingest"}

    @extend_schema(request=RevisionInput, responses={201: RevisionOutput}, examples=REVISIONS, tags=TAGS)
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Correct or void a measurement."""
        given = self.valid(RevisionInput)
        who: dict[str, Any] = {"organisation": self.organisation, "actor": self.actor}
        told: dict[str, Any] = {"event_id": given["event_id"], "reason": given["reason"]}
        if given["kind"] == UsageRevision.Kind.VOID:
            if "quantity" in given:
                raise InvalidInput("A void has no quantity.", field="quantity")
            revision = usage_revisions.void_event(**who, **told)
        elif "quantity" not in given:
            raise InvalidInput("Say which quantity counts.", field="quantity")
        else:
            revision = usage_revisions.replace_quantity(**who, **told, quantity=f"{given['quantity']:f}")
        return Response(RevisionOutput(revision).data, status=status.HTTP_201_CREATED)


class ParkedOutput(serializers.ModelSerializer):
    payload = serializers.DictField()

    class Meta:
        model = ParkedUsage
        fields = ["id", "event_id", "payload", "field", "reason", "status", "tries", "parked_at", "settled_at"]


class ParkedFilter(filters.FilterSet):
    status = filters.ChoiceFilter(choices=ParkedUsage.Status.choices)
    event_id = filters.CharFilter(max_length=100)


class DismissInput(StrictSerializer):
    reason = serializers.CharField(min_length=3, max_length=300)


class RetriedOutput(serializers.Serializer):
    accepted = serializers.IntegerField()


DISMISS = OpenApiExample("Not wanted", value={"reason": "Sent by a test system"}, request_only=True)


@extend_schema_view(list=extend_schema(tags=TAGS), retrieve=extend_schema(tags=TAGS))
class ParkedUsageViewSet(TenantViewSet):
    """Events that could not be taken in yet. They are tried again when what they name appears, or when asked for."""

    queryset = ParkedUsage.objects.all()
    serializer_class = ParkedOutput
    filterset_class = ParkedFilter
    required_permissions = {
        "list": "usage.view", "retrieve": "usage.view", "retry": "usage.ingest", "dismiss": "usage.ingest",
    }  # fmt: skip

    @extend_schema(request=None, responses=RetriedOutput, tags=TAGS)
    @action(detail=False, methods=["post"])
    @idempotent
    def retry(self, request: Request) -> Response:
        """Try all that wait again now."""
        return Response({"accepted": unparking.retry_parked(organisation_id=self.organisation.pk)})

    @extend_schema(request=DismissInput, responses=ParkedOutput, examples=[DISMISS], tags=TAGS)
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def dismiss(self, request: Request, pk: Any = None) -> Response:
        """Decide that the event is not wanted."""
        row = parking.dismiss(
            organisation=self.organisation, parked_id=self.get_object().pk, actor=self.actor, **self.valid(DismissInput)
        )
        return Response(ParkedOutput(row).data)


class PolicyOutput(serializers.Serializer):
    unknown = serializers.ChoiceField(choices=["refuse", "park"])
    too_late = serializers.ChoiceField(choices=["refuse", "park"])
    late_days = serializers.IntegerField()
    retention_months = serializers.IntegerField()


class PolicyInput(ReasonedChange):
    unknown = serializers.ChoiceField(
        choices=["refuse", "park"], required=False, help_text="Events whose meter, customer or property is unknown."
    )
    too_late = serializers.ChoiceField(
        choices=["refuse", "park"], required=False, help_text="Events whose billed window is closed."
    )
    late_days = serializers.IntegerField(
        min_value=0,
        max_value=366,
        required=False,
        help_text="How long after its end a billed window takes in late usage.",
    )
    retention_months = serializers.IntegerField(
        min_value=0, max_value=usage_policy.MAX_MONTHS, required=False, help_text="0 keeps everything."
    )


POLICY = OpenApiExample(
    "Park what is unknown",
    value={"unknown": "park", "late_days": 45, "reason": "Meters are set up after the first events"},
    request_only=True,
)


class UsagePolicyView(TenantViewMixin, APIView):
    """What the organisation does with usage that is unknown, late or old."""

    required_permissions = {"get": "usage.view", "patch": "plan.edit"}

    @extend_schema(operation_id="usage_policy_retrieve", responses=PolicyOutput, tags=TAGS)
    def get(self, request: Request) -> Response:
        """The choices that hold."""
        return Response(asdict(usage_policy.policy_of(self.organisation)))

    @extend_schema(
        operation_id="usage_policy_update", request=PolicyInput, responses=PolicyOutput, examples=[POLICY], tags=TAGS
    )
    def patch(self, request: Request) -> Response:
        """Change some of them."""
        given = PolicyInput(data=request.data)
        given.is_valid(raise_exception=True)
        policy = usage_policy.change_policy(organisation=self.organisation, actor=self.actor, **given.validated_data)
        return Response(asdict(policy))
