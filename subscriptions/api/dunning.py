"""Dunning: the policies of the organisation and the debts being chased."""

from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_view
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import AmountSerializerField, StrictSerializer, TenantViewSet
from billing.api.idempotency import idempotent
from subscriptions import dunning_rules as rules
from subscriptions.models import DunningCase, DunningPolicy
from subscriptions.services import dunning


class StageField(StrictSerializer):
    after_days = serializers.IntegerField(min_value=1, max_value=rules.MAX_DAYS, help_text="Days after the due date.")
    actions = serializers.ListField(
        child=serializers.ChoiceField(choices=sorted(rules.ACTIONS)), allow_empty=False, max_length=len(rules.ACTIONS)
    )


class DunningPolicyInput(StrictSerializer):
    code = serializers.SlugField(max_length=40)
    stages = StageField(many=True, min_length=1, max_length=rules.MAX_STAGES)
    plans = serializers.ListField(
        child=serializers.SlugField(max_length=60),
        required=False,
        max_length=200,
        help_text="Codes; empty: for all plans.",
    )
    is_default = serializers.BooleanField(default=False)


class DunningPolicyOutput(serializers.ModelSerializer):
    stages = StageField(many=True)
    plans = serializers.SlugRelatedField("code", many=True, read_only=True)

    class Meta:
        model = DunningPolicy
        fields = ["id", "code", "stages", "plans", "is_default", "created_at"]


class StepOutput(serializers.Serializer):
    stage = serializers.IntegerField()
    on = serializers.DateField()
    days_overdue = serializers.IntegerField()
    actions = serializers.ListField(child=serializers.CharField())


class DunningCaseOutput(serializers.ModelSerializer):
    policy = serializers.CharField(source="policy.code")
    invoice_number = serializers.CharField(source="invoice.number")
    claimed = AmountSerializerField()
    recovered = AmountSerializerField()
    history = StepOutput(many=True)

    class Meta:
        model = DunningCase
        fields = [
            "id", "policy", "customer", "invoice", "invoice_number", "subscription", "status", "stage", "next_stage_on",
            "overdue_since", "claimed", "recovered", "history", "opened_at", "closed_at",
        ]  # fmt: skip


class DunningCaseFilter(filters.FilterSet):
    status = filters.ChoiceFilter(choices=DunningCase.Status.choices)
    customer = filters.UUIDFilter(field_name="customer_id")
    subscription = filters.UUIDFilter(field_name="subscription_id")
    invoice = filters.UUIDFilter(field_name="invoice_id")


EXAMPLE = OpenApiExample("Gentle", value={"code": "gentle", "stages": rules.DEFAULT_STAGES}, request_only=True)


@extend_schema_view(list=extend_schema(tags=["dunning"]), retrieve=extend_schema(tags=["dunning"]))
class DunningPolicyViewSet(TenantViewSet):
    """When unpaid invoices lead to which letters and measures."""

    queryset = DunningPolicy.objects.prefetch_related("plans")
    serializer_class = DunningPolicyOutput
    required_permissions = {"list": "dunning.view", "retrieve": "dunning.view", "create": "dunning.edit"}

    @extend_schema(
        request=DunningPolicyInput, responses={201: DunningPolicyOutput}, examples=[EXAMPLE], tags=["dunning"]
    )
    @idempotent
    def create(self, request: Request) -> Response:
        """Add a policy. A new default takes the place of the old one; open cases keep theirs."""
        policy = dunning.create_policy(
            organisation=self.organisation, actor=self.actor, **self.valid(DunningPolicyInput)
        )
        return Response(self.get_serializer(policy).data, status=status.HTTP_201_CREATED)


@extend_schema_view(list=extend_schema(tags=["dunning"]), retrieve=extend_schema(tags=["dunning"]))
class DunningCaseViewSet(TenantViewSet):
    """Unpaid invoices being chased, and how far."""

    queryset = DunningCase.objects.select_related("policy", "invoice")
    serializer_class = DunningCaseOutput
    filterset_class = DunningCaseFilter
    required_permissions = {"list": "dunning.view", "retrieve": "dunning.view"}
