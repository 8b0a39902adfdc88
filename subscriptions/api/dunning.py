"""Dunning: the policies of the organisation, the debts being chased, and customers who are left alone."""

import uuid

from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_view
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import AmountSerializerField, StrictSerializer, TenantViewSet
from billing.api.idempotency import idempotent
from subscriptions import dunning_rules as rules
from subscriptions.models import DunningCase, DunningPause, DunningPolicy
from subscriptions.services import dunning_pauses, dunning_policies


class StageField(StrictSerializer):
    after_days = serializers.IntegerField(
        min_value=1,
        max_value=rules.MAX_DAYS,
        required=False,
        help_text="Days after the due date, less grace and pauses.",
    )
    after_attempts = serializers.IntegerField(
        min_value=1,
        max_value=rules.MAX_ATTEMPTS,
        required=False,
        help_text="Debits refused for now. Refusals for good, faults and the customer's own tries do not count.",
    )
    match = serializers.ChoiceField(
        choices=[rules.ANY, rules.ALL], required=False, help_text="Where both are given: any (default), or all of them."
    )
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
    grace_days = serializers.IntegerField(
        min_value=0, max_value=rules.MAX_GRACE, default=0, help_text="Days after the due date that do not count."
    )
    scope = serializers.ChoiceField(
        choices=DunningPolicy.Scope.choices,
        default=DunningPolicy.Scope.SUBSCRIPTION,
        help_text="Chase each subscription's debts for themselves, or all of a customer as one.",
    )


class DunningReason(StrictSerializer):
    reason = serializers.CharField(max_length=300, min_length=3)


class DunningPolicyOutput(serializers.ModelSerializer):
    stages = StageField(many=True)
    plans = serializers.SlugRelatedField("code", many=True, read_only=True)

    class Meta:
        model = DunningPolicy
        fields = ["id", "code", "stages", "plans", "is_default", "grace_days", "scope", "created_at", "archived_at"]


class StepOutput(serializers.Serializer):
    stage = serializers.IntegerField()
    on = serializers.DateField()
    days_overdue = serializers.IntegerField()
    attempts = serializers.IntegerField(required=False)
    actions = serializers.ListField(child=serializers.CharField())
    skipped = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="What there was nothing to do to."
    )


class DunningCaseOutput(serializers.ModelSerializer):
    policy = serializers.CharField(source="policy.code")
    invoice_number = serializers.CharField(source="invoice.number")
    claimed = AmountSerializerField()
    recovered = AmountSerializerField()
    recovered_by_stage = serializers.DictField(
        child=serializers.CharField(), help_text="Amounts by the stages taken when they came; 0: before the first."
    )
    history = StepOutput(many=True)

    class Meta:
        model = DunningCase
        fields = [
            "id", "policy", "customer", "invoice", "invoice_number", "subscription", "status", "stage", "next_stage_on",
            "next_stage_attempts", "attempts", "overdue_since", "claimed", "recovered", "recovered_by_stage",
            "held_because", "history", "opened_at", "closed_at",
        ]  # fmt: skip


class DunningCaseFilter(filters.FilterSet):
    status = filters.ChoiceFilter(choices=DunningCase.Status.choices)
    customer = filters.UUIDFilter(field_name="customer_id")
    subscription = filters.UUIDFilter(field_name="subscription_id")
    invoice = filters.UUIDFilter(field_name="invoice_id")
    stage = filters.NumberFilter(min_value=0, max_value=rules.MAX_STAGES)


class DunningPauseInput(StrictSerializer):
    customer = serializers.UUIDField(help_text="The customer's id.")
    until = serializers.DateField(help_text="Last day of the pause, a year from now at most.")
    reason = serializers.CharField(max_length=300, min_length=3)


class DunningPauseOutput(serializers.ModelSerializer):
    class Meta:
        model = DunningPause
        fields = ["id", "customer", "starts_on", "until", "reason", "made_by", "created_at", "lifted_on"]


class DunningPauseFilter(filters.FilterSet):
    customer = filters.UUIDFilter(field_name="customer_id")


EXAMPLE = OpenApiExample("Gentle", value={"code": "gentle", "stages": rules.DEFAULT_STAGES}, request_only=True)
BY_ATTEMPTS = OpenApiExample(
    "By days and attempts, with texts",
    value={
        "code": "cards",
        "grace_days": 3,
        "stages": [
            {"after_days": 1, "actions": ["mail:reminder_1", "sms:reminder_1", "retry"]},
            {"after_days": 7, "after_attempts": 3, "match": "any", "actions": ["mail:final_notice", "restrict"]},
            {"after_days": 14, "actions": ["suspend"]},
            {"after_days": 30, "actions": ["cancel", "write_off"]},
        ],
    },
    request_only=True,
)
PAUSE = OpenApiExample(
    "Until the cheque clears",
    value={"customer": "01900000-0000-7000-8000-000000000001", "until": "2026-07-10", "reason": "Cheque is on its way"},
    request_only=True,
)
REASON = OpenApiExample("Why", value={"reason": "Paid at the counter, booked tomorrow"}, request_only=True)


@extend_schema_view(list=extend_schema(tags=["dunning"]), retrieve=extend_schema(tags=["dunning"]))
class DunningPolicyViewSet(TenantViewSet):
    """When unpaid invoices lead to which letters and measures."""

    queryset = DunningPolicy.objects.prefetch_related("plans")
    serializer_class = DunningPolicyOutput
    required_permissions = {
        "list": "dunning.view",
        "retrieve": "dunning.view",
        "create": "dunning.edit",
        "archive": "dunning.edit",
    }

    @extend_schema(
        request=DunningPolicyInput,
        responses={201: DunningPolicyOutput},
        examples=[EXAMPLE, BY_ATTEMPTS],
        tags=["dunning"],
    )
    @idempotent
    def create(self, request: Request) -> Response:
        """Add a policy. A new default takes the place of the old one; open cases keep theirs."""
        policy = dunning_policies.create_policy(
            organisation=self.organisation, actor=self.actor, **self.valid(DunningPolicyInput)
        )
        return Response(self.get_serializer(policy).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=DunningReason, responses=DunningPolicyOutput, examples=[REASON], tags=["dunning"])
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def archive(self, request: Request, pk: uuid.UUID) -> Response:
        """Put a policy away: no new case follows it, open ones go on. The default cannot be put away."""
        policy = self.get_object()
        found = dunning_policies.archive_policy(policy_id=policy.pk, actor=self.actor, **self.valid(DunningReason))
        return Response(self.get_serializer(found).data)


@extend_schema_view(list=extend_schema(tags=["dunning"]), retrieve=extend_schema(tags=["dunning"]))
class DunningCaseViewSet(TenantViewSet):
    """Unpaid invoices being chased, and how far."""

    queryset = DunningCase.objects.select_related("policy", "invoice")
    serializer_class = DunningCaseOutput
    filterset_class = DunningCaseFilter
    required_permissions = {"list": "dunning.view", "retrieve": "dunning.view"}


@extend_schema_view(list=extend_schema(tags=["dunning"]), retrieve=extend_schema(tags=["dunning"]))
class DunningPauseViewSet(TenantViewSet):
    """Customers who are left alone until a day, and why. Days of a pause count towards no stage."""

    queryset = DunningPause.objects.all()
    serializer_class = DunningPauseOutput
    filterset_class = DunningPauseFilter
    required_permissions = {
        "list": "dunning.view",
        "retrieve": "dunning.view",
        "create": "dunning.edit",
        "lift": "dunning.edit",
    }

    @extend_schema(request=DunningPauseInput, responses={201: DunningPauseOutput}, examples=[PAUSE], tags=["dunning"])
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Leave a customer alone from today until the end of a day. One pause at a time."""
        given = self.valid(DunningPauseInput)
        made = dunning_pauses.pause(
            organisation=self.organisation,
            customer_id=given["customer"],
            until=given["until"],
            reason=given["reason"],
            actor=self.actor,
        )
        return Response(self.get_serializer(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=DunningReason, responses=DunningPauseOutput, examples=[REASON], tags=["dunning"])
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def lift(self, request: Request, pk: uuid.UUID) -> Response:
        """End a pause today."""
        found = self.get_object()
        lifted = dunning_pauses.lift(pause_id=found.pk, actor=self.actor, **self.valid(DunningReason))
        return Response(self.get_serializer(lifted).data)
