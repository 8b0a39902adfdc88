"""Features, what plan versions give of them, and exceptions for customers."""

from typing import Any

from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_view
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import StrictSerializer, TenantGenericViewSet, TenantViewSet
from billing.api.idempotency import idempotent
from subscriptions.models import EntitlementGrant, Feature, PlanEntitlement
from subscriptions.selectors import customer_named, plan_named
from subscriptions.services.entitlements import features, grants
from subscriptions.services.entitlements.terms import TermsInput, set_plan_entitlements

TAGS = ["entitlements"]
QUANTITY: dict[str, Any] = {"max_digits": 21, "decimal_places": 6, "normalize_output": True}
REASON: dict[str, Any] = {"min_length": 3, "max_length": 500, "help_text": "Kept in the audit trail."}


class QuantityField(serializers.DecimalField):
    """A quantity on the wire: a decimal string without superfluous zeros."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**(QUANTITY | kwargs))


class FeatureWords(StrictSerializer):
    """What may be changed later."""

    name = serializers.CharField(max_length=120)
    description = serializers.CharField(max_length=300, required=False, allow_blank=True)
    unit = serializers.CharField(max_length=40, required=False, allow_blank=True, help_text="Word for one of it.")
    reset = serializers.ChoiceField(
        choices=Feature.Reset.choices, required=False, help_text="When a quota is full again."
    )
    is_soft = serializers.BooleanField(required=False, help_text="Beyond the limit: allowed, and flagged as overage.")
    choices = serializers.ListField(
        child=serializers.CharField(max_length=200),
        required=False,
        max_length=features.MAX_CHOICES,
        help_text="Values of a static feature, least generous first; empty: any.",
    )
    thresholds = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=1000),
        required=False,
        max_length=features.MAX_THRESHOLDS,
        help_text="Percent of the limit to tell of; empty: the organisation's choice, 75, 90 and 100 by default.",
    )


class FeatureInput(FeatureWords):
    code = serializers.SlugField(max_length=60)
    kind = serializers.ChoiceField(choices=Feature.Kind.choices)
    meter = serializers.CharField(max_length=60, required=False, help_text="Code or id, of a metered feature.")


class FeatureChange(FeatureWords):
    name = serializers.CharField(max_length=120, required=False)


class FeatureReasonInput(StrictSerializer):
    reason = serializers.CharField(**REASON)


class FeatureOutput(serializers.ModelSerializer):
    meter = serializers.CharField(source="meter.code", default=None, allow_null=True)
    choices = serializers.ListField(child=serializers.CharField())
    thresholds = serializers.ListField(child=serializers.IntegerField())

    class Meta:
        model = Feature
        fields = [
            "id", "code", "name", "description", "kind", "unit", "meter", "reset", "is_soft", "choices", "thresholds",
            "created_at", "archived_at",
        ]  # fmt: skip


class FeatureFilter(filters.FilterSet):
    code = filters.CharFilter(max_length=60)
    kind = filters.ChoiceFilter(choices=Feature.Kind.choices)
    archived = filters.BooleanFilter(field_name="archived_at", lookup_expr="isnull", exclude=True)


FEATURE = {"code": "exports", "name": "Exports", "kind": "quota", "unit": "export", "thresholds": [80, 100]}


@extend_schema_view(list=extend_schema(tags=TAGS), retrieve=extend_schema(tags=TAGS))
class FeatureViewSet(TenantViewSet):
    """What a customer may be entitled to."""

    queryset = Feature.objects.select_related("meter")
    serializer_class = FeatureOutput
    filterset_class = FeatureFilter
    required_permissions = {
        "list": "entitlement.view",
        "retrieve": "entitlement.view",
        "create": "plan.edit",
        "partial_update": "plan.edit",
        "archive": "plan.edit",
    }

    @extend_schema(
        request=FeatureInput,
        responses={201: FeatureOutput},
        examples=[OpenApiExample("A quota", value=FEATURE, request_only=True)],
        tags=TAGS,
    )
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Add a feature. Plans give it once they say so."""
        feature = features.create_feature(organisation=self.organisation, actor=self.actor, **self.valid(FeatureInput))
        return Response(self.get_serializer(feature).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        request=FeatureChange,
        responses=FeatureOutput,
        examples=[OpenApiExample("Soft from now on", value={"is_soft": True}, request_only=True)],
        tags=TAGS,
    )
    def partial_update(self, request: Request, pk: Any = None) -> Response:
        """Change words, reset, softness, choices or thresholds; kind, code and meter stay."""
        feature = features.update_feature(
            feature_id=self.get_object().pk, actor=self.actor, changes=self.valid(FeatureChange)
        )
        return Response(self.get_serializer(feature).data)

    @extend_schema(
        request=FeatureReasonInput,
        responses=FeatureOutput,
        examples=[OpenApiExample("Gone", value={"reason": "Replaced by reports"}, request_only=True)],
        tags=TAGS,
    )
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def archive(self, request: Request, pk: Any = None) -> Response:
        """Nobody is entitled to it any more."""
        feature = features.archive_feature(
            feature_id=self.get_object().pk, actor=self.actor, reason=self.valid(FeatureReasonInput)["reason"]
        )
        return Response(self.get_serializer(feature).data)


class TermsFields(StrictSerializer):
    """What is given of a feature."""

    feature = serializers.SlugField(max_length=60)
    enabled = serializers.BooleanField(required=False, help_text="False: not given at all.")
    limit = QuantityField(
        required=False,
        allow_null=True,
        min_value=0,
        help_text="Of a quota or a metered feature; null or left out: unlimited.",
    )
    value = serializers.CharField(max_length=200, required=False, allow_blank=True, help_text="Of a static feature.")
    is_soft = serializers.BooleanField(required=False, allow_null=True, help_text="Null: as the feature says.")
    per_unit = serializers.BooleanField(required=False, help_text="The limit counts once per unit of the subscription.")


class PlanTermsInput(TermsFields):
    add_on = serializers.SlugField(
        max_length=60, required=False, allow_blank=True,
        help_text="Code of the version's add-on that gives it, to who takes it; per_unit is then per unit of the add-on.",
    )  # fmt: skip
    remove = serializers.BooleanField(required=False, help_text="Give it no more.")


class PlanEntitlementsInput(StrictSerializer):
    plan = serializers.CharField(max_length=60, help_text="Code or id.")
    version = serializers.IntegerField(
        min_value=1, max_value=32767, required=False, help_text="Number; default: the newest."
    )
    entitlements = PlanTermsInput(many=True, min_length=1, max_length=200)
    reason = serializers.CharField(max_length=500, required=False, allow_blank=True)


class TermsOutput(serializers.ModelSerializer):
    feature = serializers.CharField(source="feature.code")
    limit = QuantityField(allow_null=True)


class PlanEntitlementOutput(TermsOutput):
    plan = serializers.CharField(source="version.plan.code")
    version = serializers.IntegerField(source="version.number")

    class Meta:
        model = PlanEntitlement
        fields = ["id", "plan", "version", "feature", "add_on", "enabled", "limit", "value", "is_soft", "per_unit"]


class VersionEntitlementsOutput(serializers.Serializer):
    plan = serializers.CharField()
    version = serializers.IntegerField()
    entitlements = PlanEntitlementOutput(many=True, help_text="All that the version gives now.")


class PlanEntitlementFilter(filters.FilterSet):
    plan = filters.CharFilter(field_name="version__plan__code", max_length=60)
    version = filters.NumberFilter(field_name="version__number", min_value=1, max_value=32767)
    feature = filters.CharFilter(field_name="feature__code", max_length=60)


PLAN_TERMS = {
    "plan": "team",
    "entitlements": [
        {"feature": "exports", "limit": "1000", "is_soft": False},
        {"feature": "sso"},
        {"feature": "exports", "add_on": "storage", "limit": "50", "per_unit": True},
    ],
}


@extend_schema_view(list=extend_schema(tags=TAGS))
class PlanEntitlementViewSet(mixins.ListModelMixin, TenantGenericViewSet):
    """What plan versions give of features."""

    queryset = PlanEntitlement.objects.select_related("version__plan", "feature")
    serializer_class = PlanEntitlementOutput
    filterset_class = PlanEntitlementFilter
    required_permissions = {"list": "entitlement.view", "create": "plan.edit"}

    @extend_schema(
        request=PlanEntitlementsInput,
        responses={200: VersionEntitlementsOutput},
        examples=[OpenApiExample("A plan", value=PLAN_TERMS, request_only=True)],
        tags=TAGS,
    )
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Give, change or take away features of a plan version; answers what the version gives afterwards.

        A version that was sold may only become more generous, unless the organisation chose otherwise.
        """
        given = self.valid(PlanEntitlementsInput)
        version = set_plan_entitlements(
            plan_id=plan_named(self.organisation, given["plan"]).pk,
            number=given.get("version"),
            entitlements=[TermsInput(**one) for one in given["entitlements"]],
            actor=self.actor,
            reason=given.get("reason", ""),
        )
        rows = self.get_queryset().filter(version=version).order_by("feature__code")
        answer = {"plan": given["plan"], "version": version.number, "entitlements": rows}
        return Response(VersionEntitlementsOutput(answer).data)


class GrantInput(TermsFields):
    kind = serializers.ChoiceField(
        choices=EntitlementGrant.Kind.choices,
        help_text="An override stands instead of what plans give, a grant adds to it.",
    )
    customer = serializers.CharField(max_length=100, help_text="Id or external id.")
    subscription = serializers.UUIDField(required=False, allow_null=True)
    starts_at = serializers.DateTimeField(required=False, help_text="Default: now.")
    expires_at = serializers.DateTimeField(required=False, allow_null=True, help_text="A grant needs one.")
    reason = serializers.CharField(**REASON)


class GrantOutput(TermsOutput):
    class Meta:
        model = EntitlementGrant
        fields = [
            "id", "kind", "customer", "subscription", "feature", "enabled", "limit", "value", "is_soft", "per_unit", "starts_at",
            "expires_at", "reason", "actor_label", "created_at", "ended_at", "ended", "ended_reason",
        ]  # fmt: skip


class GrantFilter(filters.FilterSet):
    customer = filters.UUIDFilter(field_name="customer_id")
    subscription = filters.UUIDFilter(field_name="subscription_id")
    feature = filters.CharFilter(field_name="feature__code", max_length=60)
    kind = filters.ChoiceFilter(choices=EntitlementGrant.Kind.choices)
    running = filters.BooleanFilter(field_name="ended_at", lookup_expr="isnull")


GRANT = {
    "kind": "grant",
    "customer": "company-0001",
    "feature": "exports",
    "limit": "500",
    "expires_at": "2026-12-31T00:00:00Z",
    "reason": "Year-end reports, agreed with sales",
}


@extend_schema_view(list=extend_schema(tags=TAGS), retrieve=extend_schema(tags=TAGS))
class GrantViewSet(TenantViewSet):
    """Overrides and temporary grants, each with its reason."""

    queryset = EntitlementGrant.objects.select_related("feature")
    serializer_class = GrantOutput
    filterset_class = GrantFilter
    required_permissions = {
        "list": "entitlement.view",
        "retrieve": "entitlement.view",
        "create": "entitlement.grant",
        "revoke": "entitlement.grant",
    }

    @extend_schema(
        request=GrantInput,
        responses={201: GrantOutput},
        examples=[OpenApiExample("A grant", value=GRANT, request_only=True)],
        tags=TAGS,
    )
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Make an exception for a customer. A new override replaces the one before it."""
        given = self.valid(GrantInput)
        about = {name: given.pop(name) for name in ("kind", "reason")}
        times = {name: given.pop(name, None) for name in ("starts_at", "expires_at")}
        grant = grants.give(
            organisation=self.organisation,
            customer_id=customer_named(self.organisation, given.pop("customer")).pk,
            subscription_id=given.pop("subscription", None),
            terms=TermsInput(**given),
            actor=self.actor,
            **about,
            **times,
        )
        return Response(self.get_serializer(grant).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        request=FeatureReasonInput,
        responses=GrantOutput,
        examples=[OpenApiExample("Over", value={"reason": "The reports are done"}, request_only=True)],
        tags=TAGS,
    )
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def revoke(self, request: Request, pk: Any = None) -> Response:
        """End an exception now."""
        grant = grants.revoke(
            grant_id=self.get_object().pk, actor=self.actor, reason=self.valid(FeatureReasonInput)["reason"]
        )
        return Response(self.get_serializer(grant).data)
