"""MRR: the level of each subscription over time, and the movements of each customer made from it."""

from django.db import models

from billing.models.base import TenantModel
from billing.models.fields import AmountField


class MrrLevel(TenantModel):
    """MRR of a subscription from a time on, as one event said it. The same event writes it once."""

    subscription = models.ForeignKey("subscriptions.Subscription", on_delete=models.PROTECT, related_name="+")
    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="+")
    event_ref = models.BigIntegerField()
    mrr = AmountField()
    reason = models.CharField(max_length=30)
    effective_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["subscription", "event_ref"], name="mrr_level_once")]
        indexes = [models.Index(fields=["organisation", "customer", "effective_at"], name="mrr_level_time")]


class MrrMovement(TenantModel):
    """One net change of a customer's MRR (rules P1–P16 of docs/mrr.md)."""

    class Kind(models.TextChoices):
        NEW = "new_business"
        EXPANSION = "expansion"
        CONTRACTION = "contraction"
        CHURN = "churn"
        REACTIVATION = "reactivation"

    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(max_length=20, choices=Kind.choices)
    amount = AmountField(help_text="Signed change of MRR.")
    occurred_at = models.DateTimeField()
    month = models.DateField(help_text="First day of the month in the organisation's zone.")

    class Meta:
        verbose_name = "MRR movement"
        indexes = [models.Index(fields=["organisation", "month"], name="mrr_movement_month")]

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')} {self.amount}"
