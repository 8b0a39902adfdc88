"""Billing cycles: what was billed and what failed, in one list; and how customers are billed."""

import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from django.db.models import OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import AmountSerializerField, StrictSerializer, TenantViewSet
from billing.api.idempotency import idempotent
from subscriptions.models import BillingCycle, BillingTerms, DraftCycle, InterimInvoice, UsageThreshold
from subscriptions.models.billing import MAX_GRACE_DAYS
from subscriptions.selectors import as_uuid, customer_named, plan_named
from subscriptions.services import retrying, thresholds
from subscriptions.services.billing_terms import set_terms

WAITING = DraftCycle.objects.filter(finalized_at=None)
CYCLES, TERMS = ["billing cycles"], ["billing terms"]


class RetryCyclesInput(StrictSerializer):
    reason = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")


class BillingCycleOutput(serializers.ModelSerializer):
    subscription = serializers.UUIDField(source="subscription_id")
    external_id = serializers.CharField(source="subscription.external_id", help_text="Of the subscription.")
    customer = serializers.UUIDField(source="subscription.customer_id")
    plan = serializers.CharField(
        source="subscription.plan_version.plan.code", help_text="Of the subscription as it is now."
    )
    invoice = serializers.UUIDField(source="invoice_id", allow_null=True)
    invoice_status = serializers.CharField(source="invoice.status", allow_null=True, default=None)
    run = serializers.UUIDField(source="run_id", allow_null=True)
    draft_failure = serializers.CharField(
        default="",
        help_text="Why its draft could not be finalised when the grace was over; it is tried again every hour.",
    )

    class Meta:
        model = BillingCycle
        fields = [
            "id", "status", "kind", "subscription", "external_id", "customer", "plan", "starts_at", "ends_at", "at", "invoice",
            "invoice_status", "draft_failure", "run", "code", "reason",
        ]  # fmt: skip


class BillingCycleFilter(filters.FilterSet):
    status = filters.ChoiceFilter(choices=BillingCycle.Status.choices)
    draft = filters.BooleanFilter(method="by_draft", help_text="Whether its invoice is still a draft.")
    plan = filters.CharFilter(
        method="by_plan", max_length=60, help_text="Code or id: of the subscription as it is now."
    )
    customer = filters.CharFilter(method="by_customer", max_length=100, help_text="External id or id.")
    subscription = filters.UUIDFilter(field_name="subscription_id")
    run = filters.UUIDFilter(field_name="run_id")
    starts_from = filters.IsoDateTimeFilter(field_name="starts_at", lookup_expr="gte")
    starts_until = filters.IsoDateTimeFilter(field_name="starts_at", lookup_expr="lt")

    def by_draft(self, rows: QuerySet[Any], name: str, value: bool) -> QuerySet[Any]:  # noqa: FBT001
        return rows.filter(invoice__status="draft") if value else rows.exclude(invoice__status="draft")

    def by_plan(self, rows: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        plan = Q(subscription__plan_version__plan__code=value)
        pk = as_uuid(value)
        return rows.filter(plan | Q(subscription__plan_version__plan=pk) if pk else plan)

    def by_customer(self, rows: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        customer = Q(subscription__customer__external_id=value)
        pk = as_uuid(value)
        return rows.filter(customer | Q(subscription__customer=pk) if pk else customer)


@extend_schema_view(list=extend_schema(tags=CYCLES), retrieve=extend_schema(tags=CYCLES))
class BillingCycleViewSet(TenantViewSet):
    """Billed periods and failed ones, newest first."""

    queryset = BillingCycle.objects.select_related("subscription__plan_version__plan", "invoice").annotate(
        draft_failure=Coalesce(Subquery(WAITING.filter(period=OuterRef("pk")).values("failure")[:1]), Value(""))
    )
    serializer_class = BillingCycleOutput
    filterset_class = BillingCycleFilter
    required_permissions: ClassVar[Mapping[str, str]] = {
        "list": "billing_run.view",
        "retrieve": "billing_run.view",
        "retry": "billing_run.start",
    }

    @extend_schema(
        request=RetryCyclesInput,
        responses=BillingCycleOutput,
        tags=CYCLES,
        examples=[OpenApiExample("Mended", value={"reason": "The tax rate is there now"}, request_only=True)],
    )
    @action(detail=True, methods=["post"])
    @idempotent
    def retry(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Bill a failed cycle now; the answer is the failed cycle, taken up again."""
        given = self.valid(RetryCyclesInput)
        cycle = self.get_object()
        retrying.retry_cycle(organisation=self.organisation, cycle_id=cycle.pk, actor=self.actor, **given)
        return Response(self.get_serializer(self.get_object()).data)


class BillingTermsOutput(serializers.ModelSerializer):
    customer = serializers.UUIDField(source="customer_id", allow_null=True, help_text="Empty: the organisation's own.")

    class Meta:
        model = BillingTerms
        fields = ["id", "customer", "consolidate", "grace_days", "updated_at"]


class BillingTermsInput(StrictSerializer):
    customer = serializers.CharField(
        max_length=100, required=False, allow_null=True, help_text="External id or id; without one, the organisation."
    )
    consolidate = serializers.BooleanField(required=False, allow_null=True, default=None)
    grace_days = serializers.IntegerField(
        min_value=0, max_value=MAX_GRACE_DAYS, required=False, allow_null=True, default=None
    )


@extend_schema_view(list=extend_schema(tags=TERMS), retrieve=extend_schema(tags=TERMS))
class BillingTermsViewSet(TenantViewSet):
    """How customers are billed: consolidated or not, with days of grace. What is null is the organisation's, then the house's."""

    queryset = BillingTerms.objects.all()
    serializer_class = BillingTermsOutput
    required_permissions: ClassVar[Mapping[str, str]] = {
        "list": "billing_run.view",
        "retrieve": "billing_run.view",
        "create": "billing_run.start",
    }

    @extend_schema(
        request=BillingTermsInput,
        responses={201: BillingTermsOutput},
        tags=TERMS,
        examples=[OpenApiExample("For all", value={"consolidate": True, "grace_days": 3}, request_only=True)],
    )
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Set the terms of a customer or of the organisation, in the place of those it had."""
        given = self.valid(BillingTermsInput)
        name = given.pop("customer", None)
        customer_id = customer_named(self.organisation, name).pk if name is not None else None
        terms = set_terms(organisation=self.organisation, actor=self.actor, customer_id=customer_id, **given)
        return Response(self.get_serializer(terms).data, status=status.HTTP_201_CREATED)


class ThresholdOutput(serializers.ModelSerializer):
    plan = serializers.UUIDField(source="plan_id", allow_null=True)
    subscription = serializers.UUIDField(source="subscription_id", allow_null=True)
    amount = AmountSerializerField()

    class Meta:
        model = UsageThreshold
        fields = ["id", "plan", "subscription", "amount", "recurring", "created_at", "ended_at"]


class ThresholdInput(StrictSerializer):
    plan = serializers.CharField(max_length=60, required=False, help_text="Code or id; or a subscription.")
    subscription = serializers.UUIDField(required=False, help_text="Its own thresholds replace its plan's.")
    amount = AmountSerializerField(help_text="Price of the period's usage so far, before discounts and tax.")
    recurring = serializers.BooleanField(default=False, help_text="Again at every further amount of this size.")


class ThresholdFilter(filters.FilterSet):
    plan = filters.UUIDFilter(field_name="plan_id")
    subscription = filters.UUIDFilter(field_name="subscription_id")
    ended = filters.BooleanFilter(field_name="ended_at", lookup_expr="isnull", exclude=True)


@extend_schema_view(list=extend_schema(tags=TERMS), retrieve=extend_schema(tags=TERMS))
class UsageThresholdViewSet(TenantViewSet):
    """Amounts of usage at which it is invoiced in mid-period."""

    queryset = UsageThreshold.objects.all()
    serializer_class = ThresholdOutput
    filterset_class = ThresholdFilter
    required_permissions: ClassVar[Mapping[str, str]] = {
        "list": "plan.view",
        "retrieve": "plan.view",
        "create": "plan.edit",
        "end": "plan.edit",
    }

    @extend_schema(
        request=ThresholdInput,
        responses={201: ThresholdOutput},
        tags=TERMS,
        examples=[
            OpenApiExample(
                "Every 5,000 rupees",
                value={"plan": "team", "amount": {"amount": "5000.00", "currency": "INR"}, "recurring": True},
                request_only=True,
            )
        ],
    )
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Add a threshold to a plan or to one subscription."""
        given = self.valid(ThresholdInput)
        plan = given.pop("plan", None)
        threshold = thresholds.add_threshold(
            organisation=self.organisation,
            actor=self.actor,
            plan_id=plan_named(self.organisation, plan).pk if plan is not None else None,
            subscription_id=given.pop("subscription", None),
            **given,
        )
        return Response(self.get_serializer(threshold).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=None, responses=ThresholdOutput, tags=TERMS)
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def end(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """The threshold does not count any more."""
        ended = thresholds.end_threshold(threshold_id=self.get_object().pk, actor=self.actor)
        return Response(self.get_serializer(ended).data)


class InterimInvoiceOutput(serializers.ModelSerializer):
    subscription = serializers.UUIDField(source="subscription_id")
    invoice = serializers.UUIDField(source="invoice_id")
    threshold = AmountSerializerField(help_text="The amount that was passed; 0: usage that is charged in advance.")
    used = AmountSerializerField()

    class Meta:
        model = InterimInvoice
        fields = [
            "id",
            "subscription",
            "invoice",
            "number",
            "threshold",
            "used",
            "usage_from",
            "usage_until",
            "issued_at",
        ]


class InterimInvoiceFilter(filters.FilterSet):
    subscription = filters.UUIDFilter(field_name="subscription_id")


@extend_schema_view(
    list=extend_schema(tags=TERMS),
    retrieve=extend_schema(tags=TERMS, responses=OpenApiResponse(InterimInvoiceOutput)),
)
class InterimInvoiceViewSet(TenantViewSet):
    """Invoices that were issued in mid-period: over usage that is charged in advance, or because a threshold was passed."""

    queryset = InterimInvoice.objects.all()
    serializer_class = InterimInvoiceOutput
    filterset_class = InterimInvoiceFilter
    required_permissions: ClassVar[Mapping[str, str]] = {"list": "invoice.view", "retrieve": "invoice.view"}
