"""Plans and their versions."""

from typing import Any

from django.db.models import Prefetch
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_view
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import AmountSerializerField, ReasonedChange, StrictSerializer, TenantViewSet
from billing.api.idempotency import idempotent
from subscriptions.api.life_shapes import RulesShape
from subscriptions.api.price_shapes import PlanOutput, VersionInput, price_input
from subscriptions.models import Interval, Plan, PlanVersion, Price
from subscriptions.services import catalog
from subscriptions.services.plan_figures import figures

TAGS = ["plans"]


class PlanInput(StrictSerializer):
    code = serializers.SlugField(max_length=60)
    name = serializers.CharField(max_length=120)
    description = serializers.CharField(max_length=300, required=False, allow_blank=True)
    interval = serializers.ChoiceField(choices=Interval.choices)
    interval_count = serializers.IntegerField(min_value=1, max_value=365, default=1)
    trial_days = serializers.IntegerField(min_value=0, max_value=catalog.MAX_TRIAL_DAYS, default=0)
    prices_include_tax = serializers.BooleanField(default=False, help_text="Prices are what the customer pays in all.")
    rules = RulesShape(required=False)
    available_from = serializers.DateField(required=False, allow_null=True)
    available_until = serializers.DateField(
        required=False, allow_null=True, help_text="Last day on which one may subscribe."
    )
    versions = VersionInput(many=True, min_length=1, max_length=1, help_text="The first version.")


class PlanChange(ReasonedChange):
    """What may change of a plan. Code, interval, kind of prices and the prices themselves stay."""

    name = serializers.CharField(max_length=120, required=False)
    description = serializers.CharField(max_length=300, required=False, allow_blank=True)
    trial_days = serializers.IntegerField(min_value=0, max_value=catalog.MAX_TRIAL_DAYS, required=False)
    rules = RulesShape(required=False, help_text="As a whole: what is left out follows the organisation again.")
    available_from = serializers.DateField(required=False, allow_null=True)
    available_until = serializers.DateField(
        required=False, allow_null=True, help_text="Last day on which one may subscribe."
    )


class VersionFiguresOutput(serializers.Serializer):
    version = serializers.IntegerField(help_text="Number of the version.")
    currency = serializers.CharField()
    running = serializers.IntegerField(help_text="Subscriptions that have not ended.")
    paying = serializers.IntegerField(help_text="Those whose recurring price counts.")
    mrr = AmountSerializerField(help_text="Monthly recurring revenue, by the rule of docs/mrr.md.")


class PlanFiguresOutput(serializers.Serializer):
    plan = serializers.CharField()
    versions = VersionFiguresOutput(many=True, help_text="Newest first; versions without subscribers are left out.")


class PlanFilter(filters.FilterSet):
    code = filters.CharFilter(max_length=60)
    interval = filters.ChoiceFilter(choices=Interval.choices)
    archived = filters.BooleanFilter(field_name="archived_at", lookup_expr="isnull", exclude=True)


VERSION_EXAMPLE = {
    "prices": [
        {"code": "seats", "name": "Seats", "currency": "INR", "model": "per_unit", "unit_price": "499.00", "unit": "seat",
         "tax_category": "saas"},
        {"code": "calls", "name": "API calls", "currency": "INR", "model": "graduated", "meter": "api-calls",
         "tiers": [{"up_to": "1000", "unit_price": "0"}, {"up_to": None, "unit_price": "0.02"}], "tax_category": "saas"},
        {"code": "storage", "name": "Extra storage", "currency": "INR", "model": "package", "kind": "add_on",
         "unit_price": "199.00", "properties": {"package_size": "10"}, "unit": "GB", "tax_category": "saas"},
    ]
}  # fmt: skip
WHY = OpenApiExample("With a reason", value={"reason": "Replaced by another plan"}, request_only=True)
PLAN_EXAMPLE = OpenApiExample(
    "Seats and calls",
    value={"code": "team", "name": "Team", "interval": "month", "trial_days": 14, "versions": [VERSION_EXAMPLE]},
    request_only=True,
)


@extend_schema_view(list=extend_schema(tags=TAGS), retrieve=extend_schema(tags=TAGS))
class PlanViewSet(TenantViewSet):
    """Offers and what they cost."""

    queryset = Plan.objects.prefetch_related(
        Prefetch(
            "versions",
            PlanVersion.objects.prefetch_related(
                Prefetch("prices", Price.objects.select_related("meter").prefetch_related("filters"))
            ),
        )
    )
    serializer_class = PlanOutput
    filterset_class = PlanFilter
    required_permissions = {
        "list": "plan.view",
        "retrieve": "plan.view",
        "create": "plan.edit",
        "partial_update": "plan.edit",
        "versions": "plan.edit",
        "archive": "plan.edit",
        "offer_again": "plan.edit",
        "figures": "plan.view",
    }

    @extend_schema(request=PlanInput, responses={201: PlanOutput}, examples=[PLAN_EXAMPLE], tags=TAGS)
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Offer a plan, with the prices of its first version."""
        given = self.valid(PlanInput)
        first = given.pop("versions")[0]
        plan = catalog.create_plan(
            organisation=self.organisation,
            actor=self.actor,
            prices=[price_input(price) for price in first["prices"]],
            min_commitment=first.get("min_commitment"),
            effective_from=first.get("effective_from"),
            **given,
        )
        return self._answer(plan, status.HTTP_201_CREATED)

    @extend_schema(
        request=PlanChange,
        responses=PlanOutput,
        examples=[OpenApiExample("Sold until the summer", value={"available_until": "2027-06-30"}, request_only=True)],
        tags=TAGS,
    )
    def partial_update(self, request: Request, pk: Any = None) -> Response:
        """Change words, trial, the days on which it is offered, or its rules. Who has subscribed keeps what was agreed."""
        changes = self.valid(PlanChange)
        reason = changes.pop("reason", "")
        plan = catalog.update_plan(plan_id=self.get_object().pk, actor=self.actor, changes=changes, reason=reason)
        return self._answer(plan, status.HTTP_200_OK)

    @extend_schema(
        request=VersionInput,
        responses={201: PlanOutput},
        examples=[OpenApiExample("A new price", value=VERSION_EXAMPLE, request_only=True)],
        tags=TAGS,
    )
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def versions(self, request: Request, pk: Any = None) -> Response:
        """Add a version for new subscribers; those who have subscribed stay on theirs."""
        plan, given = self.get_object(), self.valid(VersionInput)
        catalog.add_version(
            plan_id=plan.pk,
            prices=[price_input(price) for price in given["prices"]],
            min_commitment=given.get("min_commitment"),
            actor=self.actor,
            effective_from=given.get("effective_from"),
        )
        return self._answer(plan, status.HTTP_201_CREATED)

    @extend_schema(request=ReasonedChange, responses=PlanOutput, examples=[WHY], tags=TAGS)
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def archive(self, request: Request, pk: Any = None) -> Response:
        """Offer the plan no more; running subscriptions stay as they are."""
        plan = catalog.archive_plan(plan_id=self.get_object().pk, actor=self.actor, **self.valid(ReasonedChange))
        return self._answer(plan, status.HTTP_200_OK)

    @extend_schema(request=ReasonedChange, responses=PlanOutput, examples=[WHY], tags=TAGS)
    @action(detail=True, methods=["post"], url_path="offer-again")
    @idempotent(atomic=True)
    def offer_again(self, request: Request, pk: Any = None) -> Response:
        """Offer an archived plan again, as it stands."""
        plan = catalog.offer_again(plan_id=self.get_object().pk, actor=self.actor, **self.valid(ReasonedChange))
        return self._answer(plan, status.HTTP_200_OK)

    @extend_schema(responses=PlanFiguresOutput, tags=TAGS, filters=False)
    @action(detail=True, methods=["get"])
    def figures(self, request: Request, pk: Any = None) -> Response:
        """Who is on each version of the plan, and the monthly recurring revenue that it brings in."""
        plan = self.get_object()
        versions = {version.pk: version.number for version in plan.versions.all()}
        found = figures(organisation=self.organisation, version_ids=list(versions))
        rows = sorted(found, key=lambda one: (-versions[one.version_id], one.currency))
        shown = [{"version": versions[one.version_id], "currency": one.currency, "running": one.running, "paying": one.paying,
                  "mrr": one.mrr} for one in rows]  # fmt: skip
        return Response(PlanFiguresOutput({"plan": plan.code, "versions": shown}).data)

    def _answer(self, plan: Plan, code: int) -> Response:
        return Response(PlanOutput(self.get_queryset().get(pk=plan.pk)).data, status=code)
