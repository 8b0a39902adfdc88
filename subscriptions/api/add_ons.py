"""Add-ons of a subscription: what its plan offers, what it takes, and taking another quantity."""

import uuid
from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.api.base import AmountSerializerField, TenantViewMixin
from billing.api.idempotency import idempotent
from subscriptions.api.life_shapes import AddOnsInput
from subscriptions.api.serializers import IssuedOutput
from subscriptions.models import Subscription
from subscriptions.selectors import subscriptions_of
from subscriptions.services import add_ons


class OfferOutput(serializers.Serializer):
    code = serializers.CharField(source="component.code")
    name = serializers.CharField(source="component.name")
    unit = serializers.CharField(source="component.unit")
    quantity = serializers.IntegerField(help_text="Taken now.")
    amount = AmountSerializerField(help_text="Of the quantity, for a whole period, without tax.")


class AddOnsOutput(serializers.Serializer):
    subscription = serializers.UUIDField()
    offers = OfferOutput(many=True)
    documents = IssuedOutput(allow_null=True, help_text="What was issued by the change.")


class AddOnsView(TenantViewMixin, APIView):
    """What a subscription takes beside its plan."""

    required_permissions = {"get": "subscription.view", "post": "subscription.edit"}

    def _subscription(self, pk: uuid.UUID) -> Subscription:
        return get_object_or_404(subscriptions_of(self.organisation), pk=pk)

    @extend_schema(responses=AddOnsOutput, tags=["subscriptions"], operation_id="subscriptions_add_ons_retrieve")
    def get(self, request: Request, pk: uuid.UUID) -> Response:
        """The add-ons that the plan offers, and how many of each are taken."""
        return self._shown(self._subscription(pk), None)

    @extend_schema(
        request=AddOnsInput,
        responses=AddOnsOutput,
        examples=[OpenApiExample("Three more", value={"add_ons": {"storage": 3}}, request_only=True)],
        tags=["subscriptions"],
        operation_id="subscriptions_add_ons_create",
    )
    @idempotent(atomic=True)
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        """Take other quantities: the rest of the period is charged or credited by the day."""
        serializer = AddOnsInput(data=request.data)
        serializer.is_valid(raise_exception=True)
        subscription = self._subscription(pk)
        changed = add_ons.set_add_ons(
            organisation=self.organisation, subscription_id=subscription.pk, actor=self.actor,
            **serializer.validated_data,
        )  # fmt: skip
        return self._shown(self._subscription(pk), changed.issued)

    def _shown(self, subscription: Subscription, issued: Any) -> Response:
        shown = {"subscription": subscription.pk, "offers": add_ons.offers(subscription), "documents": issued}
        return Response(AddOnsOutput(shown).data)
