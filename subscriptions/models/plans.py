"""Plans, their immutable versions and the prices of each."""

from django.db import models

from billing.models.base import TenantModel
from billing.models.fields import UnitPriceField


class Interval(models.TextChoices):
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


class Plan(TenantModel):
    """An offer. What it costs is said by its versions."""

    code = models.SlugField(max_length=60)
    name = models.CharField(max_length=120)
    description = models.CharField(max_length=300, blank=True)
    interval = models.CharField(max_length=10, choices=Interval.choices)
    interval_count = models.PositiveSmallIntegerField(default=1)
    trial_days = models.PositiveSmallIntegerField(default=0)
    prices_include_tax = models.BooleanField(default=False, help_text="Its prices are what the customer pays in all.")
    rules = models.JSONField(
        default=dict,
        blank=True,
        help_text="How its subscriptions live, where it differs from the organisation's settings.",
    )
    available_from = models.DateField(null=True, blank=True)
    available_until = models.DateField(null=True, blank=True, help_text="Last day on which one may subscribe.")
    created_at = models.DateTimeField()
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organisation", "code"], name="plan_code"),
            models.CheckConstraint(condition=models.Q(interval_count__gte=1), name="plan_interval_positive"),
        ]

    def __str__(self) -> str:
        return self.code


class PlanVersion(TenantModel):
    """The prices of a plan from a day on. Subscribers stay on the version they took."""

    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveSmallIntegerField()
    effective_from = models.DateTimeField()
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["plan", "number"], name="plan_version_number")]

    def __str__(self) -> str:
        return f"{self.plan} v{self.number}"


class Price(TenantModel):
    """One priced component of a plan version in one currency.

    ``tiers`` (graduated): [{"up_to": "100" or null, "unit_price": "0.02", "flat_fee": "0"}], in ascending order, last open.
    """

    class Model(models.TextChoices):
        FLAT = "flat"  # unit_price once a period
        PER_UNIT = "per_unit"  # unit_price × quantity of the subscription, or × usage where a meter is set
        GRADUATED = "graduated"  # each unit at the price of its tier

    version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="prices")
    code = models.SlugField(max_length=60)
    name = models.CharField(max_length=120, help_text="As the invoice line says it.")
    currency = models.CharField(max_length=3)
    model = models.CharField(max_length=20, choices=Model.choices)
    unit_price = UnitPriceField(null=True, blank=True)
    tiers = models.JSONField(default=list, blank=True)
    meter = models.ForeignKey(
        "billing.Meter",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Set: billed in arrears by usage.",
    )
    unit = models.CharField(max_length=40, blank=True)
    tax_category = models.CharField(max_length=40, blank=True)
    position = models.PositiveSmallIntegerField(default=1)

    class Meta:
        ordering = ["position", "code"]
        constraints = [models.UniqueConstraint(fields=["version", "code", "currency"], name="price_once")]

    def __str__(self) -> str:
        return f"{self.code} {self.currency}"
