"""Shapes of price experiments on the wire. Rates and differences of rates are numbers between -1 and 1: nothing here is money."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from rest_framework import serializers

from billing.api.base import AmountSerializerField, StrictSerializer
from subscriptions.models import Experiment, ExperimentExposure, ExperimentVariant
from subscriptions.services.experiments import drafting, running
from subscriptions.services.experiments.drafting import VariantInput

RATE = {"max_digits": 7, "decimal_places": 6, "min_value": Decimal("0.000001"), "max_value": Decimal("0.999999")}
PERCENT = {"min_value": 1, "max_value": drafting.WHOLE}
REASON = {"min_length": 3, "max_length": 200}


class VariantShape(StrictSerializer):
    code = serializers.SlugField(max_length=60)
    name = serializers.CharField(max_length=120, required=False, allow_blank=True)
    plan = serializers.CharField(max_length=60, required=False, help_text="Code or id; default: the experiment's.")
    version = serializers.IntegerField(
        min_value=1, max_value=32767, required=False, help_text="Number; default: the newest."
    )
    weight = serializers.IntegerField(help_text="Percent of those who take part; all come to 100.", **PERCENT)
    control = serializers.BooleanField(
        default=False,
        help_text="What the others are compared with: a version of the experiment's plan. Default: the first.",
    )


class ExperimentChange(StrictSerializer):
    plan = serializers.CharField(max_length=60, required=False, help_text="Code or id; with it give the variants anew.")
    name = serializers.CharField(max_length=120, required=False)
    hypothesis = serializers.CharField(max_length=500, required=False, allow_blank=True)
    variants = VariantShape(
        many=True, required=False, min_length=drafting.MIN_VARIANTS, max_length=drafting.MAX_VARIANTS
    )
    allocation_percent = serializers.IntegerField(
        required=False,
        help_text="Share of the customers who take part; the others get the control's prices.",
        **PERCENT,
    )
    exclude_subscribers = serializers.BooleanField(
        required=False, help_text="Who subscribes to one of its plans already takes no part."
    )
    conversion_days = serializers.IntegerField(
        min_value=1, max_value=drafting.MAX_DAYS, required=False, help_text="Days in which a subscription counts."
    )


class ExperimentInput(ExperimentChange):
    code = serializers.SlugField(max_length=60)
    plan = serializers.CharField(max_length=60, help_text="Code or id.")
    name = serializers.CharField(max_length=120)
    variants = VariantShape(many=True, min_length=drafting.MIN_VARIANTS, max_length=drafting.MAX_VARIANTS)


class PlanInput(StrictSerializer):
    """What it is to be decided by, said before it runs."""

    baseline_rate = serializers.DecimalField(help_text="Expected rate of the control: 0.05 is 5 %.", **RATE)
    minimum_effect = serializers.DecimalField(
        help_text="Least difference of rates worth finding: 0.01 is one percentage point.", **RATE
    )
    significance = serializers.DecimalField(
        max_digits=5, decimal_places=4, min_value=running.RISKS[0], max_value=running.RISKS[1], required=False,
        help_text="Accepted risk to see a difference where none is; default 0.05.",
    )  # fmt: skip
    power = serializers.DecimalField(
        max_digits=5, decimal_places=4, min_value=running.POWERS[0], max_value=running.POWERS[1], required=False,
        help_text="Wanted chance to see the least difference; default 0.8.",
    )  # fmt: skip


class SampleInput(PlanInput):
    variants = serializers.IntegerField(min_value=2, max_value=drafting.MAX_VARIANTS, default=2)


class StartInput(PlanInput):
    planned_sample = serializers.IntegerField(
        min_value=2, max_value=running.MAX_SAMPLE, required=False,
        help_text="Customers of each variant before anything is claimed; default: as many as that takes.",
    )  # fmt: skip
    starts_at = serializers.DateTimeField(required=False, help_text="Default: now.")
    ends_at = serializers.DateTimeField(required=False, help_text="When it stops by itself.")


class WeightsField(serializers.DictField):
    """Percentages by the variant's code, one for each."""

    child = serializers.IntegerField(min_value=0, max_value=drafting.WHOLE)


class ReweighInput(StrictSerializer):
    weights = WeightsField(required=False, help_text="Percentages by variant; 0: nobody new.")
    allocation_percent = serializers.IntegerField(required=False, **PERCENT)
    reason = serializers.CharField(**REASON)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs.keys() & {"weights", "allocation_percent"}:
            raise serializers.ValidationError("Give weights, allocation_percent, or both.")
        return attrs


class StopInput(StrictSerializer):
    reason = serializers.CharField(**REASON)


class ConcludeInput(StopInput):
    variant = serializers.SlugField(max_length=60, help_text="Code of the one that was decided for.")


class AssignInput(StrictSerializer):
    customer = serializers.CharField(max_length=100, help_text="External id or id.")


class VariantOutput(serializers.ModelSerializer):
    plan = serializers.CharField(source="version.plan.code")
    version = serializers.IntegerField(source="version.number")
    plan_version = serializers.UUIDField(source="version_id")
    control = serializers.BooleanField(source="is_control")

    class Meta:
        model = ExperimentVariant
        fields = ["code", "name", "plan", "version", "plan_version", "weight", "control"]


class ExperimentOutput(serializers.ModelSerializer):
    plan = serializers.CharField(source="plan.code")
    variants = VariantOutput(many=True)
    chosen = serializers.CharField(source="chosen.code", default=None, allow_null=True)
    conclusion = serializers.DictField(help_text="The figures and words as they stood when it was decided.")

    class Meta:
        model = Experiment
        fields = [
            "id", "code", "name", "hypothesis", "plan", "status", "variants", "allocation_percent", "exclude_subscribers",
            "conversion_days", "baseline_rate", "minimum_effect", "significance", "power", "planned_sample", "starts_at", "ends_at",
            "look_count", "reweighed_at", "started_at", "stopped_at", "concluded_at", "chosen", "conclusion", "created_at",
        ]  # fmt: skip


class AssignmentOutput(serializers.Serializer):
    experiment = serializers.CharField(source="experiment.code")
    takes_part = serializers.BooleanField(help_text="False: the control's prices, and it is not counted.")
    why = serializers.CharField(help_text="enrolled, not_allocated, existing_subscriber or not_running.")
    variant = serializers.CharField(source="variant.code")
    plan = serializers.CharField(source="version.plan.code")
    version = serializers.IntegerField(source="version.number")
    plan_version = serializers.UUIDField(source="version.pk")
    exposed_at = serializers.DateTimeField(source="exposure.exposed_at", default=None, allow_null=True)


class ExposureOutput(serializers.ModelSerializer):
    customer = serializers.CharField(source="customer.external_id")
    variant = serializers.CharField(source="variant.code")
    subscription = serializers.CharField(source="subscription.external_id", default=None, allow_null=True)

    class Meta:
        model = ExperimentExposure
        fields = ["id", "customer", "variant", "channel", "exposed_at", "subscription", "converted_at"]


class IntervalOutput(serializers.Serializer):
    low = serializers.FloatField()
    high = serializers.FloatField()


class RateOutput(serializers.Serializer):
    count = serializers.IntegerField(source="successes")
    rate = serializers.FloatField(source="value")
    interval = IntervalOutput(help_text="Wilson.")


class SignificanceOutput(serializers.Serializer):
    p = serializers.FloatField(help_text="How often chance alone would make equal rates differ as much.")
    method = serializers.CharField(help_text="fisher (small counts) or z.")


class VariantFiguresOutput(serializers.Serializer):
    variant = serializers.CharField(source="variant.code")
    plan = serializers.CharField(source="variant.version.plan.code")
    version = serializers.IntegerField(source="variant.version.number")
    control = serializers.BooleanField(source="counted.is_control")
    weight = serializers.IntegerField(source="counted.weight")
    exposed = serializers.IntegerField(source="counted.exposed")
    converted = RateOutput(help_text="A subscription was created.")
    paid = RateOutput(help_text="Its first invoice is paid.")
    exposed_on_subscribing = serializers.IntegerField(source="counted.at_once")
    waiting = serializers.IntegerField(source="counted.waiting", help_text="Not subscribed, but still in time to.")
    revenue = serializers.ListField(
        child=AmountSerializerField(), help_text="Invoiced without tax less what was credited, by currency."
    )
    revenue_per_customer = serializers.ListField(
        child=AmountSerializerField(), source="per_customer", help_text="Of those exposed."
    )


class VariantComparisonOutput(serializers.Serializer):
    variant = serializers.CharField(source="code")
    control = serializers.CharField()
    claim = serializers.CharField(help_text="not_enough, no_difference, better or worse.")
    words = serializers.CharField()
    difference = serializers.FloatField(help_text="Of the rates of conversion, to the control's.")
    interval = IntervalOutput(help_text="Newcombe.")
    test = SignificanceOutput()
    risk = serializers.FloatField(help_text="p below it counts; several variants share the accepted risk.")
    paid_difference = serializers.FloatField(help_text="For information: the sample was not planned for it.")
    paid_interval = IntervalOutput()
    paid_test = SignificanceOutput()


class FiguresOutput(serializers.Serializer):
    experiment = serializers.CharField(source="experiment.code")
    status = serializers.CharField(source="experiment.status")
    at = serializers.DateTimeField()
    planned_sample = serializers.IntegerField(source="experiment.planned_sample")
    is_full = serializers.BooleanField(source="verdict.is_full", help_text="Every variant has its planned sample.")
    look_count = serializers.IntegerField(
        source="experiment.look_count", help_text="Times they were read before the sample was full, this one included."
    )
    words = serializers.CharField(source="verdict.words")
    cautions = serializers.ListField(child=serializers.CharField(), source="verdict.cautions")
    variants = VariantFiguresOutput(many=True)
    comparisons = VariantComparisonOutput(many=True, source="verdict.comparisons")


class SampleOutput(serializers.Serializer):
    sample = serializers.IntegerField(help_text="Customers of each variant.")


def variant_inputs(given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` with its variants as the services take them."""
    if "variants" not in given:
        return dict(given)
    return {**given, "variants": [VariantInput(**one) for one in given["variants"]]}
