"""Shapes of prices, quotes and plan versions on the wire."""

from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing.api.base import AmountSerializerField, PlainJSONField, StrictSerializer
from subscriptions import pricing
from subscriptions.api.life_shapes import AddOnsField, RulesShape
from subscriptions.models import Plan, PlanVersion, Price, PriceFilter
from subscriptions.pricing import selection
from subscriptions.services import catalog
from subscriptions.services.catalog import FilterInput, PriceInput

CURRENCY = {"min_length": 3, "max_length": 3}
UNIT_PRICE = {"max_digits": 27, "decimal_places": 12, "min_value": 0, "required": False, "allow_null": True}
QUANTITY = {"max_digits": 24, "decimal_places": 6, "min_value": 0}
EXACT = {"max_digits": 80, "decimal_places": 30, "normalize_output": True}
MAX_EVENTS = 1000


class TierInput(StrictSerializer):
    up_to = serializers.CharField(max_length=40, allow_null=True, help_text="Last unit of the tier; null: without end.")
    unit_price = serializers.CharField(max_length=40, required=False)
    rate = serializers.CharField(max_length=40, required=False, help_text="In percent: graduated_percentage only.")
    flat_fee = serializers.CharField(max_length=40, default="0", help_text="Due once when the tier is entered.")


class PropertiesInput(StrictSerializer):
    """What a model needs beside prices: decimals as strings."""

    package_size = serializers.CharField(max_length=40, required=False, help_text="package: units in one.")
    rate = serializers.CharField(max_length=40, required=False, help_text="percentage: in percent.")
    fixed_fee = serializers.CharField(max_length=40, required=False, help_text="percentage: of each event.")
    free_units = serializers.CharField(max_length=40, required=False, help_text="package, percentage.")
    free_events = serializers.CharField(max_length=40, required=False, help_text="percentage: the first ones.")
    min_per_event = serializers.CharField(max_length=40, required=False, help_text="percentage.")
    max_per_event = serializers.CharField(max_length=40, required=False, help_text="percentage.")


class ConditionsField(serializers.DictField):
    """Property names and the values each may have."""

    child = serializers.ListField(
        child=serializers.CharField(max_length=selection.MAX_LENGTH), min_length=1, max_length=selection.MAX_VALUES
    )


class FilterShape(StrictSerializer):
    key = serializers.SlugField(max_length=60)
    name = serializers.CharField(max_length=120, required=False, allow_blank=True)
    conditions = ConditionsField(help_text='{"region": ["eu", "us"]}: each property has one of its values.')
    unit_price = serializers.DecimalField(**UNIT_PRICE)
    tiers = TierInput(many=True, required=False, max_length=pricing.MAX_TIERS)
    properties = PropertiesInput(required=False)


class RuleShape(StrictSerializer):
    """What a model prices by."""

    currency = serializers.CharField(**CURRENCY)
    model = serializers.ChoiceField(choices=Price.Model.choices)
    unit_price = serializers.DecimalField(**UNIT_PRICE)
    tiers = TierInput(many=True, required=False, max_length=pricing.MAX_TIERS)
    properties = PropertiesInput(required=False)


class PriceSerializer(RuleShape):
    code = serializers.SlugField(max_length=60)
    name = serializers.CharField(max_length=120, help_text="As the invoice line says it.")
    kind = serializers.ChoiceField(
        choices=Price.Kind.choices, default=Price.Kind.RECURRING,
        help_text="add_on: taken with a quantity of its own; one_off: charged once, with the first bill.",
    )  # fmt: skip
    meter = serializers.CharField(
        max_length=60, required=False, allow_null=True, help_text="Code or id: billed by usage."
    )
    pay_in_advance = serializers.BooleanField(
        required=False, allow_null=True,
        help_text="Default: in advance without a meter, in arrears with one. True with a meter: usage is invoiced soon after it "
        "happens, up to the highest level of the period; not for volume prices and meters weighted by time.",
    )  # fmt: skip
    prorated = serializers.BooleanField(default=True, help_text="A part of a period costs its days; else the whole.")
    min_commitment = serializers.DecimalField(
        max_digits=19, decimal_places=4, min_value=0, required=False, allow_null=True,
        help_text="What the usage of a period comes to at least.",
    )  # fmt: skip
    filters = FilterShape(many=True, required=False, max_length=selection.MAX_FILTERS)
    group_by = serializers.ListField(
        child=serializers.CharField(max_length=selection.MAX_LENGTH), required=False, max_length=selection.MAX_GROUPS,
        help_text="Event properties: a line for each of their values.",
    )  # fmt: skip
    unit = serializers.CharField(max_length=40, required=False, allow_blank=True)
    tax_category = serializers.CharField(max_length=40, required=False, allow_blank=True)


class CommitmentField(PlainJSONField):
    """Amounts as decimal strings by currency."""

    child = serializers.CharField(max_length=24)


class VersionInput(StrictSerializer):
    effective_from = serializers.DateTimeField(
        required=False, help_text="From when new subscribers get it; default: now."
    )
    min_commitment = CommitmentField(
        required=False,
        help_text='What a period comes to at least: {"INR": "5000.00"}, in every currency of the prices.',
    )
    prices = PriceSerializer(many=True, min_length=1, max_length=catalog.MAX_PRICES)


def price_input(given: dict[str, Any]) -> PriceInput:
    """A price of the wire as the catalogue takes it."""
    filters = tuple(FilterInput(**one) for one in given.get("filters", ()))
    return PriceInput(**{**given, "filters": filters})


class TierOutput(serializers.Serializer):
    up_to = serializers.CharField(allow_null=True)
    unit_price = serializers.CharField(required=False)
    rate = serializers.CharField(required=False)
    flat_fee = serializers.CharField()


class FilterOutput(serializers.ModelSerializer):
    conditions = serializers.DictField(child=serializers.ListField(child=serializers.CharField()))
    unit_price = serializers.DecimalField(max_digits=30, decimal_places=12, normalize_output=True, allow_null=True)
    tiers = TierOutput(many=True)
    properties = serializers.DictField(child=serializers.CharField())

    class Meta:
        model = PriceFilter
        fields = ["key", "name", "conditions", "unit_price", "tiers", "properties"]


class PriceOutput(serializers.ModelSerializer):
    unit_price = serializers.DecimalField(max_digits=30, decimal_places=12, normalize_output=True, allow_null=True)
    tiers = TierOutput(many=True)
    properties = serializers.DictField(child=serializers.CharField())
    meter = serializers.CharField(source="meter.code", default=None, allow_null=True)
    filters = FilterOutput(many=True)
    group_by = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = Price
        fields = [
            "code", "name", "kind", "currency", "model", "unit_price", "tiers", "properties", "meter", "pay_in_advance",
            "prorated", "min_commitment", "filters", "group_by", "unit", "tax_category", "position",
        ]  # fmt: skip


class VersionOutput(serializers.ModelSerializer):
    min_commitment = serializers.DictField(child=serializers.CharField())
    prices = PriceOutput(many=True)

    class Meta:
        model = PlanVersion
        fields = ["id", "number", "effective_from", "created_at", "min_commitment", "prices"]


class PlanOutput(serializers.ModelSerializer):
    versions = VersionOutput(many=True, help_text="Newest first.")
    rules = serializers.SerializerMethodField(help_text="What was said; what is left out follows the organisation.")

    class Meta:
        model = Plan
        fields = [
            "id", "code", "name", "description", "interval", "interval_count", "trial_days", "prices_include_tax", "rules",
            "available_from", "available_until", "created_at", "archived_at", "versions",
        ]  # fmt: skip

    @extend_schema_field(RulesShape)
    def get_rules(self, plan: Plan) -> dict[str, Any]:
        """As they are stored: a rule that was not said is another thing than one that says "none"."""
        return plan.rules


class EventsInput(StrictSerializer):
    """Where the model looks at single events: how many, what they say they cost, and the quantity of each in order of time."""

    events = serializers.IntegerField(min_value=0, max_value=10**9, required=False)
    amount = serializers.DecimalField(
        max_digits=24, decimal_places=6, min_value=0, required=False, help_text="dynamic: sum of the events' prices."
    )
    values = serializers.ListField(
        child=serializers.DecimalField(**QUANTITY), required=False, max_length=MAX_EVENTS,
        help_text="percentage with limits or an allowance for each event.",
    )  # fmt: skip


class UsageInput(EventsInput):
    component = serializers.SlugField(max_length=60)
    quantity = serializers.DecimalField(**QUANTITY)
    properties = PlainJSONField(required=False, help_text="Which filter the usage takes.")


class QuoteInput(StrictSerializer):
    """Either a ``plan``, or a ``price`` that is on no plan yet."""

    plan = serializers.CharField(max_length=60, required=False, help_text="Code or id.")
    customer = serializers.CharField(
        max_length=100, required=False,
        help_text="External id or id: what this customer is offered. While an experiment runs on the plan, the quote assigns a variant.",
    )  # fmt: skip
    currency = serializers.CharField(
        required=False, help_text="Of the plan's prices; default: the organisation's.", **CURRENCY
    )
    usage = UsageInput(
        many=True, required=False, max_length=catalog.MAX_PRICES, help_text="Units of metered components."
    )
    add_ons = AddOnsField(required=False, help_text="Quantities of the plan's add-ons.")
    price = RuleShape(required=False)
    measured = EventsInput(required=False, help_text="Of the price: the events behind the quantity.")
    quantity = serializers.DecimalField(default=Decimal(1), **QUANTITY)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("plan" in attrs) == ("price" in attrs):
            raise serializers.ValidationError("Give either a plan or a price.")
        if "plan" in attrs and attrs["quantity"] != attrs["quantity"].to_integral_value():
            raise serializers.ValidationError({"quantity": ["A subscription's quantity is a whole number."]})
        for name in ("usage", "add_ons", "customer"):
            if "price" in attrs and name in attrs:
                raise serializers.ValidationError({name: ["Belongs to a plan; of a price give quantity and measured."]})
        return attrs


class QuotedTier(serializers.Serializer):
    label = serializers.CharField(help_text="free, package, rate, fixed_fee, limits; empty: a tier.")
    up_to = serializers.DecimalField(**EXACT, allow_null=True)
    quantity = serializers.DecimalField(**EXACT)
    unit_price = serializers.DecimalField(**EXACT)
    rate = serializers.DecimalField(**EXACT, allow_null=True)
    flat_fee = serializers.DecimalField(**EXACT)
    amount = serializers.DecimalField(**EXACT, help_text="Not rounded.")


class QuotedComponent(serializers.Serializer):
    code = serializers.CharField()
    name = serializers.CharField()
    model = serializers.CharField()
    kind = serializers.CharField()
    filter = serializers.CharField(help_text="Key of the filter whose price it is; empty: the component's own.")
    quantity = serializers.DecimalField(**EXACT, source="priced.quantity")
    unit_price = serializers.DecimalField(**EXACT, source="priced.unit_price")
    amount = AmountSerializerField(source="priced.amount")
    tiers = QuotedTier(many=True, source="priced.tiers")


class QuoteOutput(serializers.Serializer):
    plan_version = serializers.UUIDField(allow_null=True, source="version.pk", default=None)
    variant = serializers.CharField(help_text="Of the experiment that the customer takes part in; empty: of none.")
    components = QuotedComponent(many=True, source="lines")
    minimum = AmountSerializerField(help_text="What is missing to the plan's minimum commitment.")
    total = AmountSerializerField(help_text="Of one period, without tax.")
    one_off = AmountSerializerField(help_text="Charged once, with the first bill; not in the total.")
