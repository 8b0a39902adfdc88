"""Plan migrations: moving those who have subscribed to other prices, and what became of each of them."""

from typing import Any

from django.db import models
from django_fsm import FSMField, transition

from billing.models.base import TenantModel
from subscriptions.models.plans import Plan, PlanVersion
from subscriptions.models.subscriptions import Subscription


class PlanMigration(TenantModel):
    """The decision to move the subscribers of a plan (or of one of its versions) to another version."""

    class When(models.TextChoices):
        NOW = "now"
        RENEWAL = "renewal"  # each at the end of its running period
        DATE = "date"  # each with its first period that begins at starts_at or later

    class Status(models.TextChoices):
        PLANNED = "planned"  # waits for starts_at or for a worker
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"
        CANCELLED = "cancelled"

    from_plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="+")
    from_version = models.ForeignKey(
        PlanVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="+", help_text="Empty: all others."
    )
    to_version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="+")
    when = models.CharField(max_length=10, choices=When.choices)
    starts_at = models.DateTimeField(help_text="From when on it is carried out.")
    prorate = models.BooleanField(default=True, help_text="Moved now: credit and charge the rest of the period.")
    reason = models.CharField(max_length=200, blank=True)
    actor = models.CharField(max_length=120, blank=True, help_text="Who decided it.")
    status = FSMField(choices=Status.choices, default=Status.PLANNED, protected=True)
    total_count = models.PositiveIntegerField(default=0, help_text="Subscriptions chosen when it began.")
    moved_count = models.PositiveIntegerField(default=0)
    failed_count = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField(null=True, blank=True, help_text="Wall clock of the last chunk.")
    finished_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.from_plan} to {self.to_version}"

    @transition(status, source=[Status.PLANNED, Status.RUNNING, Status.FAILED], target=Status.RUNNING)
    def begin(self, *, heartbeat_at: Any) -> None:
        """Also from running: another worker takes up what a dead one left."""
        self.heartbeat_at, self.finished_at, self.error = heartbeat_at, None, ""

    @transition(status, source=[Status.DONE, Status.FAILED], target=Status.PLANNED)
    def take_up_again(self) -> None:
        self.finished_at, self.error = None, ""

    @transition(status, source=Status.RUNNING, target=Status.DONE)
    def finish(self, *, at: Any) -> None:
        self.finished_at = at

    @transition(status, source=Status.RUNNING, target=Status.FAILED)
    def fail(self, *, at: Any, error: str) -> None:
        self.finished_at, self.error = at, error

    @transition(status, source=Status.PLANNED, target=Status.CANCELLED)
    def cancel(self, *, at: Any) -> None:
        self.finished_at = at


class PlanMigrationItem(TenantModel):
    """One subscription of a migration; the unique constraint says that it is moved once."""

    class Status(models.TextChoices):
        PENDING = "pending"
        MOVED = "moved"  # the new terms hold
        PLANNED = "planned"  # they take hold at the end of the period
        SKIPPED = "skipped"  # it had ended, or somebody changed its plan before
        REFUSED = "refused"  # reason says why; it can be tried again

    migration = models.ForeignKey(PlanMigration, on_delete=models.PROTECT, related_name="items", db_index=False)
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="migration_items")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PENDING)
    reason = models.CharField(max_length=300, blank=True)
    currency = models.CharField(max_length=3)
    mrr_before = models.DecimalField(max_digits=19, decimal_places=4, default=0)
    mrr_after = models.DecimalField(max_digits=19, decimal_places=4, default=0)
    done_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["migration", "subscription"], name="plan_migration_once")]
        indexes = [models.Index(fields=["migration", "status", "id"], name="plan_migration_page")]
