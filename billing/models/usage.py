"""Meters and usage events: what is counted, and the immutable measurements."""

from django.db import models

from billing.models.base import TenantModel, TenantQuerySet


class Meter(TenantModel):
    """What is counted and how: a count of events, or a sum or maximum of one of their properties."""

    class Aggregation(models.TextChoices):
        COUNT = "count"
        SUM = "sum"
        MAX = "max"

    code = models.SlugField(max_length=60)
    name = models.CharField(max_length=120)
    aggregation = models.CharField(max_length=10, choices=Aggregation.choices)
    unit = models.CharField(max_length=40, blank=True, help_text="Word on the invoice: GB, call, seat.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organisation", "code"], name="meter_code")]

    def __str__(self) -> str:
        return self.code


class UsageEvent(models.Model):
    """One measurement. ``event_id`` is the sender's key: the same id counts once."""

    id = models.BigAutoField(primary_key=True)
    organisation = models.ForeignKey("billing.Organisation", on_delete=models.PROTECT, related_name="+")
    event_id = models.CharField(max_length=100)
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="+")
    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="+")
    quantity = models.DecimalField(max_digits=30, decimal_places=12, default=1)
    properties = models.JSONField(default=dict, blank=True)
    occurred_at = models.DateTimeField()
    recorded_at = models.DateTimeField(auto_now_add=True)

    objects = TenantQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organisation", "event_id"], name="usage_event_once")]
        indexes = [models.Index(fields=["customer", "meter", "occurred_at"], name="usage_window", include=["quantity"])]

    def __str__(self) -> str:
        return self.event_id
