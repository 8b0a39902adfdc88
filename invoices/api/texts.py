"""Text messages sent and to be sent, and the numbers that want none."""

import uuid
from collections.abc import Mapping
from typing import ClassVar

import django_filters
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_view
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from billing import masking
from billing.api.base import StrictSerializer, TenantViewSet
from billing.api.idempotency import idempotent
from invoices.models import TextMessage, TextOptOut
from invoices.services import texting

TAGS = ["texts"]
OPT_OUT = OpenApiExample("By telephone", value={"customer": "01900000-0000-7000-8000-000000000001"}, request_only=True)
OPT_IN = OpenApiExample("Asked for them again", value={"reason": "Asked for texts again by mail"}, request_only=True)


class TextMessageOutput(serializers.ModelSerializer):
    """A text; its recipient masked, its words left out: they name amounts."""

    recipient = serializers.SerializerMethodField()

    class Meta:
        model = TextMessage
        fields = [
            "id", "customer", "kind", "invoice", "recipient", "status", "send_after", "attempts", "gateway_ref", "error",
            "created_at", "sent_at",
        ]  # fmt: skip

    def get_recipient(self, message: TextMessage) -> str:
        return masking.mask_phone(message.recipient)


class TextMessageFilter(django_filters.FilterSet):
    customer = django_filters.UUIDFilter(field_name="customer_id")
    invoice = django_filters.UUIDFilter(field_name="invoice_id")
    kind = django_filters.CharFilter(max_length=40)
    status = django_filters.ChoiceFilter(choices=TextMessage.Status.choices)

    class Meta:
        model = TextMessage
        fields: list[str] = []


class TextOptOutInput(StrictSerializer):
    customer = serializers.UUIDField(help_text="Whose present number gets no more texts.")


class TextOptInInput(StrictSerializer):
    reason = serializers.CharField(min_length=3, max_length=300)


class TextOptOutOutput(serializers.ModelSerializer):
    class Meta:
        model = TextOptOut
        fields = ["id", "ending", "source", "created_at"]


@extend_schema_view(list=extend_schema(tags=TAGS), retrieve=extend_schema(tags=TAGS))
class TextMessageViewSet(TenantViewSet):
    """Texts due, sent and failed."""

    queryset = TextMessage.objects.all()
    serializer_class = TextMessageOutput
    filterset_class = TextMessageFilter
    required_permissions: ClassVar[Mapping[str, str]] = {"list": "mail.view", "retrieve": "mail.view"}


@extend_schema_view(list=extend_schema(tags=TAGS), retrieve=extend_schema(tags=TAGS))
class TextOptOutViewSet(TenantViewSet):
    """Numbers that want no texts, by their last digits. A number that answers STOP to the gateway comes here by itself."""

    queryset = TextOptOut.objects.all()
    serializer_class = TextOptOutOutput
    required_permissions: ClassVar[Mapping[str, str]] = {
        "list": "mail.view",
        "retrieve": "mail.view",
        "create": "customer.edit",
        "opt_in": "customer.edit",
    }

    @extend_schema(request=TextOptOutInput, responses={201: TextOptOutOutput}, examples=[OPT_OUT], tags=TAGS)
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Send no more texts to a customer's present number; what waits for it is not sent."""
        given = self.valid(TextOptOutInput)
        row = texting.opt_out(organisation=self.organisation, customer_id=given["customer"], actor=self.actor)
        return Response(self.get_serializer(row).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=TextOptInInput, responses={204: None}, examples=[OPT_IN], tags=TAGS)
    @action(detail=True, methods=["post"], url_path="opt-in")
    @idempotent(atomic=True)
    def opt_in(self, request: Request, pk: uuid.UUID) -> Response:
        """The owner of the number wants texts again, and said so."""
        row = self.get_object()
        texting.opt_in(opt_out_id=row.pk, actor=self.actor, **self.valid(TextOptInInput))
        return Response(status=status.HTTP_204_NO_CONTENT)
