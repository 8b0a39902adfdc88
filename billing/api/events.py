"""Events, and the applications that are told of them."""

from typing import Any

from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_view
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import StrictSerializer, TenantGenericViewSet, TenantViewSet
from billing.api.idempotency import idempotent
from billing.models import Event, WebhookDelivery, WebhookEndpoint
from billing.services import webhooks


class EventOutput(serializers.ModelSerializer):
    id = serializers.UUIDField(source="uid")
    sequence = serializers.IntegerField(source="pk")
    payload = serializers.DictField()

    class Meta:
        model = Event
        fields = [
            "id",
            "sequence",
            "type",
            "aggregate_type",
            "aggregate_id",
            "payload",
            "occurred_at",
            "correlation_id",
        ]


class EventFilter(filters.FilterSet):
    type = filters.CharFilter(max_length=60)
    aggregate_id = filters.UUIDFilter()
    correlation_id = filters.CharFilter(max_length=64)
    since = filters.IsoDateTimeFilter(field_name="occurred_at", lookup_expr="gte")


@extend_schema_view(list=extend_schema(tags=["events"]))
class EventViewSet(mixins.ListModelMixin, TenantGenericViewSet):
    """What happened, newest first."""

    queryset = Event.objects.all()
    serializer_class = EventOutput
    filterset_class = EventFilter
    required_permissions = {"list": "event.view"}


class EndpointInput(StrictSerializer):
    url = serializers.URLField(max_length=500)
    event_types = serializers.ListField(
        child=serializers.CharField(max_length=60), required=False, max_length=100, help_text="Empty: all of them."
    )


class EndpointChange(StrictSerializer):
    url = serializers.URLField(max_length=500, required=False)
    event_types = serializers.ListField(child=serializers.CharField(max_length=60), required=False, max_length=100)
    active = serializers.BooleanField(required=False)


class EndpointOutput(serializers.ModelSerializer):
    event_types = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = WebhookEndpoint
        fields = ["id", "url", "event_types", "active", "disabled_reason", "recorded_at"]


class NewEndpointOutput(EndpointOutput):
    class Meta(EndpointOutput.Meta):
        fields = [*EndpointOutput.Meta.fields, "secret"]


EXAMPLE = OpenApiExample(
    "Paid invoices",
    value={"url": "https://app.example.com/hooks", "event_types": ["invoice.paid"]},
    request_only=True,
)
PAUSE_EXAMPLE = OpenApiExample("Switch it off", value={"active": False}, request_only=True)


@extend_schema_view(list=extend_schema(tags=["webhooks"]), retrieve=extend_schema(tags=["webhooks"]))
class WebhookEndpointViewSet(TenantViewSet):
    """Where events are sent, signed as Standard Webhooks says. The secret is shown when it is made."""

    queryset = WebhookEndpoint.objects.all()
    serializer_class = EndpointOutput
    required_permissions = {
        "list": "webhook.view",
        "retrieve": "webhook.view",
        **dict.fromkeys(("create", "partial_update", "destroy", "rotate_secret"), "webhook.edit"),
    }

    @extend_schema(request=EndpointInput, responses={201: NewEndpointOutput}, examples=[EXAMPLE], tags=["webhooks"])
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Begin to send events to an address."""
        endpoint = webhooks.create_endpoint(
            organisation=self.organisation, actor=self.actor, **self.valid(EndpointInput)
        )
        return Response(NewEndpointOutput(endpoint).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=EndpointChange, responses=EndpointOutput, examples=[PAUSE_EXAMPLE], tags=["webhooks"])
    def partial_update(self, request: Request, pk: Any = None) -> Response:
        """Change address or wanted types, or switch it off and on."""
        endpoint = webhooks.update_endpoint(
            organisation=self.organisation,
            endpoint_id=self.get_object().pk,
            actor=self.actor,
            **self.valid(EndpointChange),
        )
        return Response(EndpointOutput(endpoint).data)

    @extend_schema(responses={204: None}, tags=["webhooks"])
    def destroy(self, request: Request, pk: Any = None) -> Response:
        """Stop sending to this address."""
        webhooks.delete_endpoint(organisation=self.organisation, endpoint_id=self.get_object().pk, actor=self.actor)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses=NewEndpointOutput, tags=["webhooks"])
    @action(detail=True, methods=["post"], url_path="rotate-secret")
    @idempotent(atomic=True)
    def rotate_secret(self, request: Request, pk: Any = None) -> Response:
        """A new secret; messages carry signatures of both for 24 hours."""
        endpoint = webhooks.rotate_secret(
            organisation=self.organisation, endpoint_id=self.get_object().pk, actor=self.actor
        )
        return Response(NewEndpointOutput(endpoint).data)


class DeliveryOutput(serializers.ModelSerializer):
    event = serializers.UUIDField(source="event.uid")
    event_type = serializers.CharField(source="event.type")

    class Meta:
        model = WebhookDelivery
        fields = [
            "id", "endpoint", "event", "event_type", "status", "attempts", "next_attempt_at", "response_status", "error",
            "delivered_at", "recorded_at",
        ]  # fmt: skip


class DeliveryFilter(filters.FilterSet):
    status = filters.ChoiceFilter(choices=WebhookDelivery.Status.choices)
    endpoint = filters.UUIDFilter(field_name="endpoint_id")


@extend_schema_view(list=extend_schema(tags=["webhooks"]), retrieve=extend_schema(tags=["webhooks"]))
class WebhookDeliveryViewSet(TenantViewSet):
    """Messages on their way, delivered, or dead."""

    queryset = WebhookDelivery.objects.select_related("event")
    serializer_class = DeliveryOutput
    filterset_class = DeliveryFilter
    required_permissions = {"list": "webhook.view", "retrieve": "webhook.view", "replay": "webhook.replay"}

    @extend_schema(request=None, responses=DeliveryOutput, tags=["webhooks"])
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def replay(self, request: Request, pk: Any = None) -> Response:
        """Send a delivered or dead message once more."""
        delivery = webhooks.replay(
            organisation_id=self.organisation.pk, delivery_id=self.get_object().pk, actor=self.actor
        )
        return Response(DeliveryOutput(delivery).data)
