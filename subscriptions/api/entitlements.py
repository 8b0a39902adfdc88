"""May this customer do that? And: this was used."""

from collections.abc import Callable
from typing import Any

from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.api.base import AmountSerializerField, StrictSerializer, TenantGenericViewSet, TenantViewMixin, wire
from billing.api.idempotency import idempotent
from subscriptions.api.features import TAGS, QuantityField
from subscriptions.entitlements import checking
from subscriptions.entitlements.checking import Answer, Question
from subscriptions.models import Consumption, EntitlementAlert
from subscriptions.services.entitlements import consuming

MAX_QUESTIONS = 200
ASKED: dict[str, Any] = {"max_length": 100, "help_text": "Id or external id."}


class QuestionInput(StrictSerializer):
    customer = serializers.CharField(**ASKED)
    feature = serializers.CharField(max_length=60, help_text="Code.")
    quantity = QuantityField(
        required=False,
        min_value=0,
        help_text="How much more; of a static number: the total wanted. Default: 1. 0: whether it is given at all.",
    )


class QuestionsInput(StrictSerializer):
    questions = QuestionInput(many=True, min_length=1, max_length=MAX_QUESTIONS)


class UpgradeOutput(serializers.Serializer):
    plan = serializers.CharField()
    name = serializers.CharField()
    version = serializers.IntegerField()
    monthly = AmountSerializerField(help_text="At the customer's quantity, minimums included, without usage and tax.")


class AnswerOutput(serializers.Serializer):
    """``remaining`` and ``limit`` null: unlimited, or nothing is counted."""

    customer = serializers.CharField()
    feature = serializers.CharField()
    name = serializers.CharField(allow_blank=True)
    kind = serializers.CharField(allow_blank=True)
    unit = serializers.CharField(allow_blank=True)
    allowed = serializers.BooleanField()
    why = serializers.CharField(
        help_text="included, within_limit, unlimited, overage, released; or not_included, limit_reached, no_subscription, "
        "subscription_<status>, feature_archived, unknown_customer, unknown_feature."
    )
    quantity = QuantityField()
    limit = serializers.CharField(allow_null=True)
    used = serializers.CharField(allow_null=True)
    remaining = serializers.CharField(allow_null=True)
    overage = serializers.CharField(help_text="How much of the quantity is beyond a soft limit.")
    value = serializers.CharField(allow_blank=True, help_text="Of a static feature.")
    resets_at = serializers.DateTimeField(allow_null=True)
    upgrade_to = UpgradeOutput(allow_null=True, help_text="The cheapest plan that would allow what is refused.")


class AnswersOutput(serializers.Serializer):
    answers = AnswerOutput(many=True, help_text="In the order of the questions.")


class EntitlementsOutput(serializers.Serializer):
    customer = serializers.CharField()
    entitlements = AnswerOutput(many=True)


class ConsumptionInput(StrictSerializer):
    customer = serializers.CharField(**ASKED)
    feature = serializers.CharField(max_length=60, help_text="Code of a quota.")
    quantity = QuantityField(required=False, help_text="Above 0. Default: 1.", min_value=0)
    key = serializers.CharField(max_length=100, help_text="Your id of this consumption: the same one counts once.")


class ConsumedOutput(AnswerOutput):
    consumed = serializers.BooleanField(help_text="False: refused; nothing was taken, and the key is free.")
    consumption = serializers.UUIDField(allow_null=True)
    replayed = serializers.BooleanField(help_text="It was counted before.")


def answered(answer: Answer) -> dict[str, Any]:
    """An answer as it goes over the wire."""
    verdict, better = answer.verdict, answer.upgrade_to
    return {
        "customer": answer.customer,
        "feature": answer.feature,
        "name": answer.name,
        "kind": answer.kind,
        "unit": answer.unit,
        "allowed": verdict.allowed,
        "why": verdict.why,
        "quantity": _text(abs(answer.quantity)),
        "limit": _text(verdict.limit),
        "used": _text(verdict.used),
        "remaining": _text(verdict.remaining),
        "overage": _text(verdict.overage),
        "value": verdict.value,
        "resets_at": answer.resets_at.strftime("%Y-%m-%dT%H:%M:%SZ") if answer.resets_at else None,
        "upgrade_to": None
        if better is None
        else {"plan": better.plan, "name": better.name, "version": better.version, "monthly": wire(better.monthly)},
    }


def _text(value: Any) -> str | None:
    return None if value is None else f"{value.normalize() + 0:f}"


CUSTOMER = OpenApiParameter("customer", OpenApiTypes.STR, required=True, description="Id or external id.")
FEATURE = OpenApiParameter("feature", OpenApiTypes.STR, required=True, description="Code.")
HOW_MUCH = OpenApiParameter(
    "quantity", {"type": "string", "pattern": r"^\d{1,15}(\.\d{1,6})?$"}, description="How much more; default: 1."
)
QUESTION = {"customer": "company-0001", "feature": "exports", "quantity": "5"}
USED = {"customer": "company-0001", "feature": "exports", "quantity": "5", "key": "export-2026-04-01-17"}


class CheckView(TenantViewMixin, APIView):
    """One question, or many at once."""

    required_permissions = {"get": "entitlement.view", "post": "entitlement.view"}
    throttle_scope = "ingest"

    @extend_schema(
        operation_id="entitlements_check",
        parameters=[CUSTOMER, FEATURE, HOW_MUCH],
        responses=AnswerOutput,
        tags=TAGS,
    )
    def get(self, request: Request) -> Response:
        """Whether a customer may use a feature now, why, how much is left, and which plan would allow it."""
        serializer = QuestionInput(data=request.query_params.dict())
        serializer.is_valid(raise_exception=True)
        answer = checking.check(organisation=self.organisation, question=Question(**serializer.validated_data))
        return Response(answered(answer))

    @extend_schema(
        operation_id="entitlements_check_many",
        request=QuestionsInput,
        responses=AnswersOutput,
        examples=[OpenApiExample("2", value={"questions": [QUESTION, QUESTION | {"feature": "sso", "quantity": "1"}]}, request_only=True)],
        tags=TAGS,
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        """Up to 200 questions about any customers; what is unknown is answered so and does not stop the others."""
        serializer = QuestionsInput(data=request.data)
        serializer.is_valid(raise_exception=True)
        questions = [Question(**one) for one in serializer.validated_data["questions"]]
        answers = checking.check_many(organisation=self.organisation, questions=questions)
        return Response({"answers": [answered(one) for one in answers]})


class CustomerInput(StrictSerializer):
    customer = serializers.CharField(**ASKED)


class EntitlementsView(TenantViewMixin, APIView):
    """Everything one customer has."""

    required_permissions = {"get": "entitlement.view"}

    @extend_schema(operation_id="entitlements_list", parameters=[CUSTOMER], responses=EntitlementsOutput, tags=TAGS)
    def get(self, request: Request) -> Response:
        """Every feature as this customer has it: limit, used, remaining, when it is full again."""
        serializer = CustomerInput(data=request.query_params.dict())
        serializer.is_valid(raise_exception=True)
        customer = serializer.validated_data["customer"]
        found = checking.entitlements_of(organisation=self.organisation, customer=customer)
        return Response({"customer": customer, "entitlements": [answered(one) for one in found]})


class MovingView(TenantViewMixin, APIView):
    """Base of what changes a counter."""

    required_permissions = {"post": "usage.ingest"}
    throttle_scope = "ingest"

    def move(self, request: Request, act: Callable[..., consuming.Consumed]) -> Response:
        """Do ``act`` and answer how the quota stands afterwards."""
        serializer = ConsumptionInput(data=request.data)
        serializer.is_valid(raise_exception=True)
        given = {"quantity": checking.ONE} | serializer.validated_data
        done = act(organisation=self.organisation, **given)
        return Response(
            answered(done.answer)
            | {
                "consumed": done.consumption_id is not None,
                "consumption": done.consumption_id,
                "replayed": done.replayed,
            }
        )


class ConsumeView(MovingView):
    @extend_schema(
        operation_id="entitlements_consume",
        request=ConsumptionInput,
        responses=ConsumedOutput,
        examples=[OpenApiExample("Five exports", value=USED, request_only=True)],
        tags=TAGS,
    )
    @idempotent(atomic=True)
    def post(self, request: Request) -> Response:
        """Take some of a quota, or nothing at all: a hard limit is never passed, whoever asks at the same moment.

        A refusal is an answer (``consumed`` false), not an error. The same ``key`` counts once.
        """
        return self.move(request, consuming.consume)


class ReleaseView(MovingView):
    @extend_schema(
        operation_id="entitlements_release",
        request=ConsumptionInput,
        responses=ConsumedOutput,
        examples=[OpenApiExample("A project less", value=USED | {"feature": "projects", "quantity": "1"}, request_only=True)],
        tags=TAGS,
    )  # fmt: skip
    @idempotent(atomic=True)
    def post(self, request: Request) -> Response:
        """Give back what was taken in the present window: a project is deleted, an export has failed."""
        return self.move(request, consuming.release)


class ConsumptionOutput(serializers.ModelSerializer):
    feature = serializers.CharField(source="feature.code")
    quantity = QuantityField(help_text="Negative: released.")
    used = QuantityField()
    limit = QuantityField(allow_null=True)
    overage = QuantityField()

    class Meta:
        model = Consumption
        fields = ["id", "key", "customer", "feature", "quantity", "used", "limit", "overage", "window_start", "at"]


class AboutFeature(filters.FilterSet):
    customer = filters.UUIDFilter(field_name="customer_id")
    feature = filters.CharFilter(field_name="feature__code", max_length=60)


@extend_schema_view(list=extend_schema(tags=TAGS))
class ConsumptionViewSet(mixins.ListModelMixin, TenantGenericViewSet):
    """What was consumed and released, newest first."""

    queryset = Consumption.objects.select_related("feature")
    serializer_class = ConsumptionOutput
    filterset_class = AboutFeature
    required_permissions = {"list": "entitlement.view"}


class AlertOutput(serializers.ModelSerializer):
    feature = serializers.CharField(source="feature.code")
    used = serializers.DecimalField(max_digits=30, decimal_places=12, normalize_output=True)
    limit = QuantityField()

    class Meta:
        model = EntitlementAlert
        fields = ["id", "customer", "feature", "threshold", "used", "limit", "window_start", "window_end", "at"]


@extend_schema_view(list=extend_schema(tags=TAGS))
class AlertViewSet(mixins.ListModelMixin, TenantGenericViewSet):
    """Thresholds that were reached, newest first; each once per window."""

    queryset = EntitlementAlert.objects.select_related("feature")
    serializer_class = AlertOutput
    filterset_class = AboutFeature
    required_permissions = {"list": "entitlement.view"}
