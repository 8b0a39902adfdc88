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
    """The prices of a plan from a day on. Subscribers stay on the version they took.

    ``min_commitment`` says what a period comes to at least, by currency: ``{"INR": "5000.00"}``; empty: nothing.
    """

    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveSmallIntegerField()
    effective_from = models.DateTimeField()
    min_commitment = models.JSONField(default=dict, blank=True, help_text="Least amount of a period, by currency.")
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["plan", "number"], name="plan_version_number")]

    def __str__(self) -> str:
        return f"{self.plan} v{self.number}"


class Price(TenantModel):
    """One priced component of a plan version in one currency.

    ``tiers``: [{"up_to": "100" or null, "unit_price": "0.02", "flat_fee": "0"}], in ascending order, last open; those of
    graduated_percentage have a ``rate`` in percent instead of the ``unit_price``. ``properties`` holds what else the model
    needs (``pricing.NEEDS`` lists it): package_size, rate, fixed_fee, free_units, free_events, min_per_event, max_per_event.
    """

    class Model(models.TextChoices):
        FLAT = "flat"  # unit_price once a period
        PER_UNIT = "per_unit"  # unit_price × quantity of the subscription, or × usage where a meter is set
        GRADUATED = "graduated"  # each unit at the price of its tier
        VOLUME = "volume"  # all units at the price of the tier that the last one falls into
        PACKAGE = "package"  # unit_price for each package begun
        PERCENTAGE = "percentage"  # a rate of the amounts measured, and a fee for each event
        GRADUATED_PERCENTAGE = "graduated_percentage"  # each part of the amount at the rate of its tier
        DYNAMIC = "dynamic"  # what the events say they cost

    class Kind(models.TextChoices):
        RECURRING = "recurring"  # part of the plan
        ADD_ON = "add_on"  # taken with a quantity of its own, or not at all
        ONE_OFF = "one_off"  # once, when the subscription is billed for the first time

    version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="prices")
    code = models.SlugField(max_length=60)
    name = models.CharField(max_length=120, help_text="As the invoice line says it.")
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.RECURRING)
    currency = models.CharField(max_length=3)
    model = models.CharField(max_length=20, choices=Model.choices)
    unit_price = UnitPriceField(null=True, blank=True)
    tiers = models.JSONField(default=list, blank=True)
    properties = models.JSONField(default=dict, blank=True, help_text="Parameters of the model, decimals as strings.")
    meter = models.ForeignKey(
        "billing.Meter",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Set: billed by usage.",
    )
    pay_in_advance = models.BooleanField(
        default=True, help_text="Billed when the period begins; a metered one: soon after the usage."
    )
    prorated = models.BooleanField(default=True, help_text="A part of a period costs its days; else the whole price.")
    min_commitment = models.DecimalField(
        max_digits=19, decimal_places=4, null=True, blank=True, help_text="What usage of a period comes to at least."
    )
    group_by = models.JSONField(
        default=list, blank=True, help_text="Event properties: one line for each of their values."
    )
    unit = models.CharField(max_length=40, blank=True)
    tax_category = models.CharField(max_length=40, blank=True)
    position = models.PositiveSmallIntegerField(default=1)

    class Meta:
        ordering = ["position", "code"]
        constraints = [models.UniqueConstraint(fields=["version", "code", "currency"], name="price_once")]

    def __str__(self) -> str:
        return f"{self.code} {self.currency}"


class PriceFilter(TenantModel):
    """Another price for the usage whose properties fit. An event takes the most specific filter that fits, else the price itself.

    ``conditions``: {"region": ["eu", "us"]}; every property has to have one of its values. The model is the price's.
    """

    price = models.ForeignKey(Price, on_delete=models.PROTECT, related_name="filters")
    key = models.SlugField(max_length=60)
    name = models.CharField(max_length=120, help_text="As the invoice line says it.")
    conditions = models.JSONField()
    unit_price = UnitPriceField(null=True, blank=True)
    tiers = models.JSONField(default=list, blank=True)
    properties = models.JSONField(default=dict, blank=True)
    position = models.PositiveSmallIntegerField(default=1)

    class Meta:
        ordering = ["position", "key"]
        constraints = [models.UniqueConstraint(fields=["price", "key"], name="price_filter_once")]

    def __str__(self) -> str:
        return self.key
