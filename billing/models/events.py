"""Outbox, deliveries to handlers and to tenants' applications, idempotency records and the audit trail."""

from django.db import models

from billing.models.base import TenantModel, TenantQuerySet
from billing.models.fields import EncryptedTextField


class Event(models.Model):
    """A fact, written in the transaction that made it true. ``id`` gives the order within an aggregate."""

    id = models.BigAutoField(primary_key=True)
    uid = models.UUIDField(unique=True)
    organisation = models.ForeignKey("billing.Organisation", on_delete=models.PROTECT, related_name="+")
    type = models.CharField(max_length=60)
    aggregate_type = models.CharField(max_length=40)
    aggregate_id = models.UUIDField()
    payload = models.JSONField(default=dict)
    occurred_at = models.DateTimeField(help_text="On the organisation's clock.")
    correlation_id = models.CharField(max_length=64, blank=True)
    dispatched_at = models.DateTimeField(
        null=True, blank=True, help_text="Wall clock; when every consumer had it, or was noted as owing."
    )
    recorded_at = models.DateTimeField(auto_now_add=True)

    objects = TenantQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(
                fields=["organisation", "id"], name="event_pending", condition=models.Q(dispatched_at__isnull=True)
            ),
            models.Index(fields=["organisation", "type", "id"], name="event_type"),
            models.Index(fields=["aggregate_id", "id"], name="event_aggregate"),
        ]

    def __str__(self) -> str:
        return f"{self.type} #{self.pk}"


class EventHandling(models.Model):
    """That one consumer has handled one event, or why not yet: it failed, or waits behind one. Dead ones wait for a person."""

    class Status(models.TextChoices):
        DONE = "done"
        WAITING = "waiting"
        FAILED = "failed"
        DEAD = "dead"

    id = models.BigAutoField(primary_key=True)
    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="handlings")
    consumer = models.CharField(max_length=80)
    status = models.CharField(max_length=10, choices=Status.choices)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)
    handled_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = "event handed over"
        verbose_name_plural = "events handed over"
        constraints = [models.UniqueConstraint(fields=["event", "consumer"], name="event_handled_once")]
        indexes = [
            models.Index(
                fields=["next_attempt_at"], name="event_owed", condition=models.Q(status__in=["waiting", "failed"])
            ),
            models.Index(fields=["id"], name="event_dead", condition=models.Q(status="dead")),
        ]

    def __str__(self) -> str:
        return f"{self.consumer}: event {self.event_id}"


class WebhookEndpoint(TenantModel):
    """Where a tenant's application wants its events, signed as Standard Webhooks says."""

    url = models.URLField(max_length=500)
    event_types = models.JSONField(default=list, help_text="Empty: all of them.")
    secret = EncryptedTextField()
    previous_secret = EncryptedTextField(blank=True)
    previous_secret_until = models.DateTimeField(null=True, blank=True)
    active = models.BooleanField(default=True)
    disabled_reason = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return self.url


class WebhookDelivery(TenantModel):
    """One event on its way to one endpoint: retried with back-off, then dead until replayed."""

    class Status(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        DEAD = "dead"

    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries")
    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="+")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(help_text="Wall clock.")
    response_status = models.PositiveSmallIntegerField(null=True, blank=True)
    error = models.CharField(max_length=300, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "webhook deliveries"
        constraints = [models.UniqueConstraint(fields=["endpoint", "event"], name="webhook_delivered_once")]
        indexes = [models.Index(fields=["next_attempt_at"], name="webhook_due", condition=models.Q(status="pending"))]

    def __str__(self) -> str:
        return f"event {self.event_id}: {self.status}"


class IdempotencyRecord(TenantModel):
    """The answer given to an Idempotency-Key. Same key and body: the same answer again."""

    key = models.CharField(max_length=255)
    method = models.CharField(max_length=8)
    path = models.CharField(max_length=300)
    request_hash = models.CharField(max_length=64)
    locked_until = models.DateTimeField(help_text="Wall clock; a running request holds the key until then.")
    response_status = models.PositiveSmallIntegerField(null=True, blank=True)
    response_body = models.BinaryField(null=True, blank=True)
    response_type = models.CharField(max_length=80, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organisation", "key"], name="idempotency_key")]


class AuditRecord(TenantModel):
    """Who did what to what, when, from which value to which, and why. Append only (migration 0002)."""

    actor_type = models.CharField(max_length=20, help_text="user, api_key, system.")
    actor_id = models.CharField(max_length=64, blank=True)
    actor_label = models.CharField(max_length=120, blank=True)
    action = models.CharField(max_length=80)
    target_type = models.CharField(max_length=60)
    target_id = models.CharField(max_length=64)
    before = models.JSONField(default=dict, blank=True)
    after = models.JSONField(default=dict, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    correlation_id = models.CharField(max_length=64, blank=True)
    address = models.GenericIPAddressField(null=True, blank=True)
    occurred_at = models.DateTimeField(help_text="On the organisation's clock.")

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["organisation", "-id"], name="audit_page"),
            models.Index(fields=["target_id"], name="audit_target"),
        ]

    def __str__(self) -> str:
        return f"{self.action} by {self.actor_label or self.actor_type}"
