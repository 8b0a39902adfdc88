"""Dunning: policies with stages, and the cases that chase one debt each."""

from typing import Any

from django.db import models
from django_fsm import FSMField, transition

from billing.models.base import TenantModel


class DunningPolicy(TenantModel):
    """Stages by days overdue: [{"after_days": 1, "actions": ["mail:reminder_1"]}, …, {"after_days": 21, "actions": ["cancel", "write_off"]}].

    Actions: ``mail:<kind>``, ``suspend``, ``cancel``, ``write_off``.
    """

    code = models.SlugField(max_length=40)
    stages = models.JSONField(default=list)
    is_default = models.BooleanField(default=False)

    class Meta:
        verbose_name_plural = "dunning policies"
        constraints = [
            models.UniqueConstraint(fields=["organisation", "code"], name="dunning_policy_code"),
            models.UniqueConstraint(fields=["organisation"], condition=models.Q(is_default=True), name="one_default_policy"),
        ]

    def __str__(self) -> str:
        return self.code


class DunningCase(TenantModel):
    """One unpaid invoice being chased."""

    class Status(models.TextChoices):
        OPEN = "open"
        RECOVERED = "recovered"
        EXHAUSTED = "exhausted"
        CLOSED = "closed"  # voided or credited: nothing left to chase

    policy = models.ForeignKey(DunningPolicy, on_delete=models.PROTECT, related_name="cases")
    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="+")
    invoice = models.OneToOneField("invoices.Invoice", on_delete=models.PROTECT, related_name="dunning_case")
    subscription = models.ForeignKey("subscriptions.Subscription", null=True, blank=True, on_delete=models.PROTECT, related_name="dunning_cases")
    status = FSMField(choices=Status.choices, default=Status.OPEN, protected=True)
    stage = models.PositiveSmallIntegerField(default=0, help_text="Stages taken so far.")
    history = models.JSONField(default=list, help_text="[{stage, at, actions}]")
    overdue_since = models.DateField()
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["organisation", "overdue_since"], name="dunning_open", condition=models.Q(status="open"))]

    @transition(status, source=Status.OPEN, target=Status.RECOVERED)
    def recover(self, *, at: Any) -> None:
        self.closed_at = at

    @transition(status, source=Status.OPEN, target=Status.EXHAUSTED)
    def exhaust(self, *, at: Any) -> None:
        self.closed_at = at

    @transition(status, source=Status.OPEN, target=Status.CLOSED)
    def close(self, *, at: Any) -> None:
        self.closed_at = at
