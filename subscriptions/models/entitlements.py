"""Entitlements: features, what plan versions give of them, exceptions for customers, and what was consumed."""

from django.db import models
from django.db.models import F, Q

from billing.models.base import TenantModel, TenantQuerySet
from subscriptions.models.plans import PlanVersion
from subscriptions.models.subscriptions import Subscription


class LimitField(models.DecimalField):
    """A quantity of a feature: numeric(24, 6); empty where it is a limit: none."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **({"max_digits": 24, "decimal_places": 6} | kwargs))  # type: ignore[arg-type]


class Feature(TenantModel):
    """Something a customer may be entitled to."""

    class Kind(models.TextChoices):
        BOOLEAN = "boolean"  # there or not
        QUOTA = "quota"  # so much per window, consumed through us
        STATIC = "static"  # a value that the application acts upon
        METERED = "metered"  # so much per window of what a billing meter measures

    class Reset(models.TextChoices):
        """When a quota is full again. Days, weeks, months and years are the calendar's, in the organisation's time zone."""

        BILLING_PERIOD = "billing_period"
        DAY = "day"
        WEEK = "week"
        MONTH = "month"
        YEAR = "year"
        NEVER = "never"  # what is taken stays taken until it is released

    code = models.SlugField(max_length=60)
    name = models.CharField(max_length=120)
    description = models.CharField(max_length=300, blank=True)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    unit = models.CharField(max_length=40, blank=True, help_text="Word for one of it: export, seat, GB.")
    meter = models.ForeignKey("billing.Meter", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    reset = models.CharField(max_length=20, choices=Reset.choices, default=Reset.BILLING_PERIOD)
    is_soft = models.BooleanField(default=False, help_text="Beyond the limit: allowed, and flagged as overage.")
    choices = models.JSONField(
        default=list, blank=True, help_text="Of a static feature: its values, least generous first; empty: any value."
    )
    thresholds = models.JSONField(
        default=list, blank=True, help_text="Percent of the limit to tell of; empty: the organisation's choice."
    )
    created_at = models.DateTimeField()
    archived_at = models.DateTimeField(null=True, blank=True, help_text="Nobody is entitled to it any more.")

    class Meta:
        ordering = ["code"]
        constraints = [
            models.UniqueConstraint(fields=["organisation", "code"], name="feature_code"),
            models.CheckConstraint(
                condition=Q(kind="metered", meter__isnull=False) | (~Q(kind="metered") & Q(meter__isnull=True)),
                name="feature_meter_by_kind",
            ),
        ]

    def __str__(self) -> str:
        return self.code


class EntitlementTerms(TenantModel):
    """What is given of a feature: the columns that plans, overrides and grants share."""

    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="+")
    enabled = models.BooleanField(default=True, help_text="False: not given at all.")
    limit = LimitField(null=True, blank=True, help_text="Of a quota or a metered feature; empty: unlimited.")
    value = models.CharField(max_length=200, blank=True, help_text="Of a static feature.")
    is_soft = models.BooleanField(null=True, blank=True, help_text="Empty: as the feature says.")
    per_unit = models.BooleanField(default=False, help_text="The limit counts once per unit of the subscription.")

    class Meta:
        abstract = True


class PlanEntitlement(EntitlementTerms):
    """What a plan version gives of a feature, by itself or with an add-on that was taken; without a row: nothing."""

    version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="entitlements")
    add_on = models.SlugField(
        max_length=60, blank=True, default="", db_default="", db_index=False,
        help_text="Code of the add-on that gives it, to who took it; then a limit per unit is per unit of the add-on. Empty: the plan.",
    )  # fmt: skip

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["version", "feature", "add_on"], name="plan_entitlement_once"),
            models.CheckConstraint(condition=Q(limit__isnull=True) | Q(limit__gte=0), name="plan_entitlement_limit"),
        ]

    def __str__(self) -> str:
        return f"{self.feature} of {self.version}"


class EntitlementGrant(EntitlementTerms):
    """An exception for one customer, with its reason: an override stands instead of the plan, a grant adds to it."""

    class Kind(models.TextChoices):
        OVERRIDE = "override"
        GRANT = "grant"

    class Ended(models.TextChoices):
        REVOKED = "revoked"
        EXPIRED = "expired"
        REPLACED = "replaced"

    kind = models.CharField(max_length=10, choices=Kind.choices)
    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="entitlement_grants")
    subscription = models.ForeignKey(
        Subscription,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="entitlement_grants",
        help_text="Empty: of the customer as a whole.",
    )
    starts_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Exclusive; a grant always has one.")
    reason = models.CharField(max_length=500)
    actor_label = models.CharField(max_length=200, help_text="Who decided it.")
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    ended = models.CharField(max_length=10, choices=Ended.choices, blank=True)
    ended_reason = models.CharField(max_length=500, blank=True)
    ended_label = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["customer", "feature", "subscription"],
                condition=Q(kind="override", ended_at__isnull=True),
                nulls_distinct=False,
                name="one_override",
            ),
            models.CheckConstraint(condition=~Q(kind="grant") | Q(expires_at__isnull=False), name="grant_expires"),
            models.CheckConstraint(
                condition=Q(expires_at__isnull=True) | Q(expires_at__gt=F("starts_at")), name="grant_lasts"
            ),
            models.CheckConstraint(condition=Q(limit__isnull=True) | Q(limit__gte=0), name="grant_limit"),
        ]
        indexes = [
            models.Index(fields=["customer"], name="grant_running", condition=Q(ended_at__isnull=True)),
            models.Index(
                fields=["organisation", "expires_at"],
                name="grant_expiring",
                condition=Q(ended_at__isnull=True, expires_at__isnull=False),
            ),
            models.Index(fields=["organisation", "-id"], name="grant_page"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.feature} for {self.customer}"


class QuotaCounter(TenantModel):
    """What a customer has consumed of a quota in the present window: the sum of its consumptions, and their lock."""

    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="+")
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="+")
    window_start = models.DateTimeField()
    used = LimitField(default=0)
    last_at = models.DateTimeField(help_text="Of the last consumption.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["customer", "feature"], name="quota_counter_once"),
            models.CheckConstraint(condition=Q(used__gte=0), name="quota_counter_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.used} of {self.feature} by {self.customer}"


class Consumption(TenantModel):
    """That something of a quota was consumed, or released (negative). Append only; ``key`` is the sender's, and counts once."""

    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="+", db_index=False)
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="+")
    key = models.CharField(max_length=100)
    quantity = LimitField()
    used = LimitField(help_text="In its window, with this one.")
    limit = LimitField(null=True, blank=True, help_text="That held then; empty: unlimited.")
    window_start = models.DateTimeField()
    overage = LimitField(default=0, help_text="How much of the quantity was beyond a soft limit.")
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["organisation", "key"], name="consumption_key")]
        indexes = [
            models.Index(fields=["customer", "feature", "at"], name="consumption_window", include=["quantity"]),
            models.Index(fields=["organisation", "-id"], name="consumption_page"),
        ]

    def __str__(self) -> str:
        return self.key


class EntitlementAlert(TenantModel):
    """That a customer reached a threshold of a limit: told once per window and threshold."""

    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="entitlement_alerts")
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="+")
    threshold = models.PositiveSmallIntegerField(help_text="Percent of the limit.")
    window_start = models.DateTimeField()
    window_end = models.DateTimeField(null=True, blank=True)
    used = models.DecimalField(max_digits=30, decimal_places=12)
    limit = LimitField()
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["customer", "feature", "window_start", "threshold"], name="entitlement_alert_once"
            )
        ]
        indexes = [models.Index(fields=["organisation", "-id"], name="entitlement_alert_page")]

    def __str__(self) -> str:
        return f"{self.threshold} % of {self.feature} by {self.customer}"


class EntitlementCatalogue(models.Model):
    """Which state an organisation's features and plans are in: the database gives every change of them a new number.

    Triggers write it in the transaction of the change, so it can never be older than what it stands for.
    """

    organisation = models.OneToOneField(
        "billing.Organisation", primary_key=True, on_delete=models.CASCADE, related_name="+"
    )
    version = models.BigIntegerField()

    objects = TenantQuerySet.as_manager()

    def __str__(self) -> str:
        return str(self.version)
