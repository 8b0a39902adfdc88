"""What the organisation chose about entitlements."""

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.api.base import ReasonedChange, StrictSerializer, TenantViewMixin
from subscriptions.api.features import TAGS
from subscriptions.entitlements import rules
from subscriptions.entitlements.policy import ACCESS, SEVERAL, SOLD_VERSIONS, policy_of
from subscriptions.services.entitlements import choices, features


class StatusAccess(StrictSerializer):
    """What each state of a subscription entitles to; ``paid_period``: until what is paid for is over."""

    def get_fields(self) -> dict[str, serializers.Field]:
        return {status: serializers.ChoiceField(choices=ACCESS, required=False) for status in rules.DEFAULT_STATUSES}


class ChoicesInput(StrictSerializer):
    several_subscriptions = serializers.ChoiceField(
        choices=SEVERAL, required=False, help_text="Quotas of several subscriptions of a customer."
    )
    statuses = StatusAccess(required=False)
    thresholds = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=1000), min_length=1, max_length=features.MAX_THRESHOLDS,
        required=False, help_text="Percent of a limit to tell of.",
    )  # fmt: skip
    mail_alerts = serializers.BooleanField(required=False, help_text="Also write to the customer then.")
    sold_versions = serializers.ChoiceField(
        choices=SOLD_VERSIONS, required=False,
        help_text="How entitlements of a plan version may change once somebody has it.",
    )  # fmt: skip


class ChoicesChange(ChoicesInput, ReasonedChange):
    """Some of the choices, and why they change."""


class EntitlementPolicyView(TenantViewMixin, APIView):
    """Choices that hold for all checks of the organisation."""

    required_permissions = {"get": "entitlement.view", "patch": "plan.edit"}

    @extend_schema(operation_id="entitlement_policy_retrieve", responses=ChoicesInput, tags=TAGS)
    def get(self, request: Request) -> Response:
        """The choices that hold."""
        return Response(choices.said(policy_of(self.organisation)))

    @extend_schema(
        operation_id="entitlement_policy_update",
        request=ChoicesChange,
        responses=ChoicesInput,
        examples=[
            OpenApiExample(
                "Tell earlier", value={"thresholds": [50, 90, 100], "statuses": {"paused": "none"}}, request_only=True
            )
        ],
        tags=TAGS,
    )
    def patch(self, request: Request) -> Response:
        """Change some of them; checks count them from now on."""
        given = ChoicesChange(data=request.data)
        given.is_valid(raise_exception=True)
        policy = choices.change_choices(organisation=self.organisation, actor=self.actor, **given.validated_data)
        return Response(choices.said(policy))
