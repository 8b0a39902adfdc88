"""Plans, their versions, and quotes."""

from decimal import Decimal
from typing import Any

from django.db.models import Prefetch
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_view
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing import money
from billing.api.base import AmountSerializerField, StrictSerializer, TenantViewMixin, TenantViewSet
from billing.api.idempotency import idempotent
from subscriptions import pricing
from subscriptions.lines import Component
from subscriptions.models import Interval, Plan, PlanVersion, Price
from subscriptions.selectors import plan_named
from subscriptions.services import catalog, quoting
from subscriptions.services.catalog import PriceInput

TAGS = ["plans"]
CURRENCY = {"min_length": 3, "max_length": 3}


class TierInput(StrictSerializer):
    up_to = serializers.CharField(max_length=40, allow_null=True, help_text="Last unit of the tier; null: without end.")
    unit_price = serializers.CharField(max_length=40)
    flat_fee = serializers.CharField(max_length=40, default="0", help_text="Due once when the tier is entered.")


class PriceSerializer(StrictSerializer):
    code = serializers.SlugField(max_length=60)
    name = serializers.CharField(max_length=120, help_text="As the invoice line says it.")
    currency = serializers.CharField(**CURRENCY)
    model = serializers.ChoiceField(choices=Price.Model.choices)
    unit_price = serializers.DecimalField(
        max_digits=27, decimal_places=12, min_value=0, required=False, allow_null=True
    )
    tiers = TierInput(many=True, required=False, max_length=pricing.MAX_TIERS)
    meter = serializers.CharField(
        max_length=60, required=False, allow_null=True, help_text="Code or id: billed by usage, in arrears."
    )
    unit = serializers.CharField(max_length=40, required=False, allow_blank=True)
    tax_category = serializers.CharField(max_length=40, required=False, allow_blank=True)


class VersionInput(StrictSerializer):
    effective_from = serializers.DateTimeField(
        required=False, help_text="From when new subscribers get it; default: now."
    )
    prices = PriceSerializer(many=True, min_length=1, max_length=catalog.MAX_PRICES)


class PlanInput(StrictSerializer):
    code = serializers.SlugField(max_length=60)
    name = serializers.CharField(max_length=120)
    description = serializers.CharField(max_length=300, required=False, allow_blank=True)
    interval = serializers.ChoiceField(choices=Interval.choices)
    interval_count = serializers.IntegerField(min_value=1, max_value=365, default=1)
    trial_days = serializers.IntegerField(min_value=0, max_value=catalog.MAX_TRIAL_DAYS, default=0)
    available_from = serializers.DateField(required=False, allow_null=True)
    available_until = serializers.DateField(
        required=False, allow_null=True, help_text="Last day on which one may subscribe."
    )
    versions = VersionInput(many=True, min_length=1, max_length=1, help_text="The first version.")


class TierOutput(serializers.Serializer):
    up_to = serializers.CharField(allow_null=True)
    unit_price = serializers.CharField()
    flat_fee = serializers.CharField()


class PriceOutput(serializers.ModelSerializer):
    unit_price = serializers.DecimalField(max_digits=30, decimal_places=12, normalize_output=True, allow_null=True)
    tiers = TierOutput(many=True)
    meter = serializers.CharField(source="meter.code", default=None, allow_null=True)

    class Meta:
        model = Price
        fields = [
            "code",
            "name",
            "currency",
            "model",
            "unit_price",
            "tiers",
            "meter",
            "unit",
            "tax_category",
            "position",
        ]


class VersionOutput(serializers.ModelSerializer):
    prices = PriceOutput(many=True)

    class Meta:
        model = PlanVersion
        fields = ["id", "number", "effective_from", "created_at", "prices"]


class PlanOutput(serializers.ModelSerializer):
    versions = VersionOutput(many=True, help_text="Newest first.")

    class Meta:
        model = Plan
        fields = [
            "id", "code", "name", "description", "interval", "interval_count", "trial_days", "available_from",
            "available_until", "created_at", "archived_at", "versions",
        ]  # fmt: skip


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
    ]
}  # fmt: skip
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
            "versions", PlanVersion.objects.prefetch_related(Prefetch("prices", Price.objects.select_related("meter")))
        )
    )
    serializer_class = PlanOutput
    filterset_class = PlanFilter
    required_permissions = {
        "list": "plan.view",
        "retrieve": "plan.view",
        "create": "plan.edit",
        "versions": "plan.edit",
        "archive": "plan.edit",
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
            prices=[PriceInput(**price) for price in first["prices"]],
            effective_from=first.get("effective_from"),
            **given,
        )
        return self._answer(plan, status.HTTP_201_CREATED)

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
            prices=[PriceInput(**price) for price in given["prices"]],
            actor=self.actor,
            effective_from=given.get("effective_from"),
        )
        return self._answer(plan, status.HTTP_201_CREATED)

    @extend_schema(request=None, responses=PlanOutput, tags=TAGS)
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def archive(self, request: Request, pk: Any = None) -> Response:
        """Offer the plan no more; running subscriptions stay as they are."""
        plan = catalog.archive_plan(plan_id=self.get_object().pk, actor=self.actor)
        return self._answer(plan, status.HTTP_200_OK)

    def _answer(self, plan: Plan, code: int) -> Response:
        return Response(PlanOutput(self.get_queryset().get(pk=plan.pk)).data, status=code)


class QuotedPriceInput(StrictSerializer):
    currency = serializers.CharField(**CURRENCY)
    model = serializers.ChoiceField(choices=Price.Model.choices)
    unit_price = serializers.DecimalField(
        max_digits=27, decimal_places=12, min_value=0, required=False, allow_null=True
    )
    tiers = TierInput(many=True, required=False, max_length=pricing.MAX_TIERS)


class UsageInput(StrictSerializer):
    component = serializers.SlugField(max_length=60)
    quantity = serializers.DecimalField(max_digits=24, decimal_places=6, min_value=0)


class QuoteInput(StrictSerializer):
    """Either a ``plan``, or a ``price`` that is on no plan yet."""

    plan = serializers.CharField(max_length=60, required=False, help_text="Code or id.")
    currency = serializers.CharField(
        required=False, help_text="Of the plan's prices; default: the organisation's.", **CURRENCY
    )
    usage = UsageInput(
        many=True, required=False, max_length=catalog.MAX_PRICES, help_text="Units of metered components."
    )
    price = QuotedPriceInput(required=False)
    quantity = serializers.DecimalField(max_digits=24, decimal_places=6, min_value=0, default=Decimal(1))

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("plan" in attrs) == ("price" in attrs):
            raise serializers.ValidationError("Give either a plan or a price.")
        if "plan" in attrs and attrs["quantity"] != attrs["quantity"].to_integral_value():
            raise serializers.ValidationError({"quantity": ["A subscription's quantity is a whole number."]})
        return attrs


class QuotedTier(serializers.Serializer):
    up_to = serializers.DecimalField(max_digits=60, decimal_places=24, normalize_output=True, allow_null=True)
    quantity = serializers.DecimalField(max_digits=60, decimal_places=24, normalize_output=True)
    unit_price = serializers.DecimalField(max_digits=60, decimal_places=24, normalize_output=True)
    flat_fee = serializers.DecimalField(max_digits=60, decimal_places=24, normalize_output=True)
    amount = serializers.DecimalField(max_digits=80, decimal_places=30, normalize_output=True, help_text="Not rounded.")


class QuotedComponent(serializers.Serializer):
    code = serializers.CharField()
    name = serializers.CharField()
    model = serializers.CharField()
    quantity = serializers.DecimalField(max_digits=60, decimal_places=24, normalize_output=True)
    unit_price = serializers.DecimalField(max_digits=60, decimal_places=24, normalize_output=True)
    amount = AmountSerializerField()
    tiers = QuotedTier(many=True)


class QuoteOutput(serializers.Serializer):
    plan_version = serializers.UUIDField(allow_null=True)
    components = QuotedComponent(many=True)
    total = AmountSerializerField(help_text="Of one period, without tax.")


QUOTE_EXAMPLES = [
    OpenApiExample(
        "A plan",
        value={"plan": "team", "quantity": "12", "usage": [{"component": "calls", "quantity": "25000"}]},
        request_only=True,
    ),
    OpenApiExample(
        "A price",
        value={
            "price": {"currency": "INR", "model": "graduated", "tiers": VERSION_EXAMPLE["prices"][1]["tiers"]},
            "quantity": "2500",
        },
        request_only=True,
    ),
]


class QuoteView(TenantViewMixin, APIView):
    """What quantities cost, with the tiers behind it."""

    required_permissions = {"post": "plan.view"}

    @extend_schema(
        request=QuoteInput, responses=QuoteOutput, examples=QUOTE_EXAMPLES, tags=TAGS, operation_id="prices_quote"
    )
    def post(self, request: Request) -> Response:
        """Price a quantity; nothing is written."""
        serializer = QuoteInput(data=request.data)
        serializer.is_valid(raise_exception=True)
        given = serializer.validated_data
        found = self._of_price(given) if "price" in given else self._of_plan(given)
        components = [
            {
                "code": line.code, "name": line.name, "model": line.model, "quantity": line.priced.quantity,
                "unit_price": line.priced.unit_price, "amount": line.priced.amount, "tiers": line.priced.tiers,
            }
            for line in found.lines
        ]  # fmt: skip
        answer = {
            "plan_version": found.version.pk if found.version else None,
            "components": components,
            "total": found.total,
        }
        return Response(QuoteOutput(answer).data)

    def _of_plan(self, given: dict[str, Any]) -> quoting.Quote:
        return quoting.quote(
            organisation=self.organisation,
            plan_id=plan_named(self.organisation, given["plan"]).pk,
            currency=given.get("currency", ""),
            quantity=int(given["quantity"]),
            usage=[quoting.Measured(**item) for item in given.get("usage", [])],
        )

    def _of_price(self, given: dict[str, Any]) -> quoting.Quote:
        price = given["price"]
        graduated = price["model"] == pricing.GRADUATED
        component = Component(
            code="price",
            name="Price",
            currency=money.currency_of(price["currency"]).code,
            model=price["model"],
            unit_price=None if graduated else price.get("unit_price"),
            tiers=pricing.parse_tiers(price.get("tiers", [])) if graduated else (),
        )
        return quoting.quote_component(component=component, quantity=given["quantity"])
