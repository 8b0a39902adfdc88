"""Price experiments: which prices are compared, who was shown which, and what was decided."""

from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django_fsm import FSMField, transition

from billing.models import Customer
from billing.models.base import TenantModel
from subscriptions.models.plans import Plan, PlanVersion
from subscriptions.models.subscriptions import Subscription


class Experiment(TenantModel):
    """A comparison of prices among those who come to subscribe to a plan.

    What is decided by it, and when, is said before it runs (``planned_sample``, ``minimum_effect``) and stays as it was said.
    """

    class Status(models.TextChoices):
        DRAFT = "draft"  # may still be changed; nobody is shown anything
        RUNNING = "running"  # customers are assigned to variants
        STOPPED = "stopped"  # nobody new; who was shown a price still gets it
        CONCLUDED = "concluded"  # decided; everybody gets what the plan offers

    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="experiments")
    code = models.SlugField(max_length=60)
    name = models.CharField(max_length=120)
    hypothesis = models.CharField(max_length=500, blank=True, help_text="What is expected, and why.")
    salt = models.CharField(max_length=32, help_text="Makes its assignment independent of that of other experiments.")
    status = FSMField(choices=Status.choices, default=Status.DRAFT, protected=True)
    allocation_percent = models.PositiveSmallIntegerField(
        default=100,
        validators=[MinValueValidator(1), MaxValueValidator(100)],
        help_text="Share of the customers who take part; the others get the control's prices and are not counted.",
    )
    exclude_subscribers = models.BooleanField(
        default=True, help_text="Who subscribes to one of its plans already takes no part."
    )
    conversion_days = models.PositiveSmallIntegerField(
        default=30, help_text="Days after a customer was first shown a price in which a subscription counts."
    )
    starts_at = models.DateTimeField(null=True, blank=True, help_text="From when on customers are assigned.")
    ends_at = models.DateTimeField(null=True, blank=True, help_text="When it stops by itself.")
    baseline_rate = models.DecimalField(
        max_digits=7, decimal_places=6, null=True, blank=True, help_text="Expected rate of conversion of the control."
    )
    minimum_effect = models.DecimalField(
        max_digits=7, decimal_places=6, null=True, blank=True, help_text="Least difference of rates worth finding."
    )
    significance = models.DecimalField(
        max_digits=5, decimal_places=4, default="0.05", help_text="Accepted risk to see a difference where none is."
    )
    power = models.DecimalField(
        max_digits=5, decimal_places=4, default="0.8", help_text="Wanted chance to see the least difference."
    )
    planned_sample = models.PositiveIntegerField(
        null=True, blank=True, help_text="Customers of each variant before anything is claimed."
    )
    look_count = models.PositiveIntegerField(
        default=0, help_text="Times its figures were read before the sample was full."
    )
    looked_exposed = models.PositiveIntegerField(default=0, help_text="Customers exposed at the last of these times.")
    reweighed_at = models.DateTimeField(
        null=True, blank=True, help_text="When weights or share were last changed in its run."
    )
    started_at = models.DateTimeField(null=True, blank=True)
    stopped_at = models.DateTimeField(null=True, blank=True)
    concluded_at = models.DateTimeField(null=True, blank=True)
    chosen = models.ForeignKey(
        "ExperimentVariant",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="What was decided for.",
    )
    conclusion = models.JSONField(default=dict, blank=True, help_text="The figures as they stood when it was decided.")
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["organisation", "code"], name="experiment_code"),
            models.UniqueConstraint(
                fields=["plan"], condition=models.Q(status__in=["running", "stopped"]), name="experiment_one_per_plan"
            ),
            models.CheckConstraint(
                condition=models.Q(allocation_percent__gte=1, allocation_percent__lte=100), name="experiment_allocation"
            ),
            models.CheckConstraint(
                condition=models.Q(status="draft") | models.Q(planned_sample__gte=1, starts_at__isnull=False),
                name="experiment_planned",
            ),
        ]

    def __str__(self) -> str:
        return self.code

    @transition(status, source=Status.DRAFT, target=Status.RUNNING)
    def start(self, *, at: Any) -> None:
        self.started_at = at

    @transition(status, source=Status.RUNNING, target=Status.STOPPED)
    def stop(self, *, at: Any) -> None:
        self.stopped_at = at

    @transition(status, source=Status.STOPPED, target=Status.CONCLUDED)
    def conclude(self, *, at: Any, chosen: "ExperimentVariant", conclusion: dict[str, Any]) -> None:
        self.concluded_at, self.chosen, self.conclusion = at, chosen, conclusion


class ExperimentVariant(TenantModel):
    """One of the prices that are compared: a version of the experiment's plan, or of another one."""

    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="variants")
    code = models.SlugField(max_length=60)
    name = models.CharField(max_length=120)
    version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="+")
    weight = models.PositiveSmallIntegerField(help_text="Percent of those who take part.")
    is_control = models.BooleanField(default=False, help_text="What the others are compared with.")
    position = models.PositiveSmallIntegerField(default=1)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["experiment", "code"], name="experiment_variant_code"),
            models.UniqueConstraint(fields=["experiment", "version"], name="experiment_variant_version"),
            models.UniqueConstraint(
                fields=["experiment"], condition=models.Q(is_control=True), name="experiment_one_control"
            ),
            models.CheckConstraint(condition=models.Q(weight__lte=100), name="experiment_variant_weight"),
        ]

    def __str__(self) -> str:
        return self.code


class ExperimentExposure(TenantModel):
    """That a customer was shown a variant, and what came of it. The variant stays, whatever happens to weights."""

    class Channel(models.TextChoices):
        ASSIGN = "assign"  # an application asked
        QUOTE = "quote"
        SUBSCRIBE = "subscribe"  # shown nothing before

    experiment = models.ForeignKey(Experiment, on_delete=models.PROTECT, related_name="exposures", db_index=False)
    variant = models.ForeignKey(ExperimentVariant, on_delete=models.PROTECT, related_name="exposures")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    channel = models.CharField(max_length=10, choices=Channel.choices)
    exposed_at = models.DateTimeField()
    subscription = models.ForeignKey(
        Subscription,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="The first one taken.",
    )
    converted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["experiment", "customer"], name="experiment_exposed_once"),
            models.CheckConstraint(
                condition=models.Q(subscription__isnull=True, converted_at__isnull=True)
                | models.Q(subscription__isnull=False, converted_at__isnull=False),
                name="experiment_converted_by_one",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.experiment}: {self.variant}"
