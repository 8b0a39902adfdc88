"""Price experiments: variants of an offer, who was shown which, and what came of it."""

from typing import Any

from django.db import models
from django.db.models import Q
from django_fsm import FSMField, transition

from billing.models.base import TenantModel


class Experiment(TenantModel):
    """Which of several offers sells better. Customers are assigned by the hash of salt and customer, never by chance."""

    class Status(models.TextChoices):
        DRAFT = "draft"
        RUNNING = "running"
        STOPPED = "stopped"

    code = models.SlugField(max_length=60)
    name = models.CharField(max_length=120)
    salt = models.CharField(
        max_length=32, help_text="Keeps experiments apart: the same customers fall elsewhere in each."
    )
    status = FSMField(choices=Status.choices, default=Status.DRAFT, protected=True)
    min_sample = models.PositiveIntegerField(
        default=100, help_text="Exposures of each variant before anything is said of a difference."
    )
    conversion_days = models.PositiveSmallIntegerField(
        default=30, help_text="Days after the first exposure in which a subscription counts."
    )
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    stopped_at = models.DateTimeField(null=True, blank=True)
    conclusion = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organisation", "code"], name="experiment_code")]
        indexes = [models.Index(fields=["organisation", "-id"], name="experiment_page")]

    def __str__(self) -> str:
        return self.code

    @transition(status, source=Status.DRAFT, target=Status.RUNNING)
    def start(self, *, at: Any) -> None:
        self.started_at = at

    @transition(status, source=Status.RUNNING, target=Status.STOPPED)
    def stop(self, *, at: Any, conclusion: str) -> None:
        self.stopped_at, self.conclusion = at, conclusion


class ExperimentVariant(TenantModel):
    """One offer of an experiment: a plan, its share, and which it is compared with (the control)."""

    experiment = models.ForeignKey(Experiment, on_delete=models.PROTECT, related_name="variants")
    code = models.SlugField(max_length=40)
    plan = models.ForeignKey("subscriptions.Plan", on_delete=models.PROTECT, related_name="+")
    weight = models.PositiveSmallIntegerField(
        help_text="Its share of those to be assigned, among all weights; 0: nobody new."
    )
    position = models.PositiveSmallIntegerField()
    is_control = models.BooleanField(default=False)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["experiment", "code"], name="variant_code"),
            models.UniqueConstraint(fields=["experiment", "plan"], name="variant_plan"),
            models.UniqueConstraint(fields=["experiment"], condition=Q(is_control=True), name="one_control"),
        ]

    def __str__(self) -> str:
        return self.code


class Exposure(TenantModel):
    """That a customer was shown a variant, and whether a subscription to it followed. Assigned once, for good."""

    experiment = models.ForeignKey(Experiment, on_delete=models.PROTECT, related_name="exposures")
    variant = models.ForeignKey(ExperimentVariant, on_delete=models.PROTECT, related_name="exposures")
    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="+")
    source = models.CharField(max_length=20, help_text="What showed it first: event, quote or subscription.")
    exposed_at = models.DateTimeField()
    converted_at = models.DateTimeField(null=True, blank=True)
    subscription = models.ForeignKey(
        "subscriptions.Subscription", null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["experiment", "customer"], name="exposed_once")]
        indexes = [
            models.Index(fields=["organisation", "-id"], name="exposure_page"),
            models.Index(fields=["customer"], name="exposure_open", condition=Q(converted_at__isnull=True)),
        ]
