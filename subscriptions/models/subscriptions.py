"""Subscriptions, the periods they were billed for, planned changes and billing runs."""

from typing import Any
from zoneinfo import ZoneInfo

from django.db import models
from django_fsm import FSMField, transition

from billing.models.base import TenantModel
from subscriptions.models.plans import PlanVersion


class Proration(models.TextChoices):
    """How a part of a period is charged and given back."""

    DAY = "day"
    SECOND = "second"
    NONE = "none"  # a period begun is charged whole; changes count from the next one


class Credit(models.TextChoices):
    """What becomes of the days that were paid for and are not used."""

    NONE = "none"
    PRORATED = "prorated"  # credit note: less is due, or the customer has credit
    REFUND = "refund"  # credit note, and what was paid goes back where it came from


class Subscription(TenantModel):
    """A running agreement of a customer to a plan version, in one currency."""

    class Status(models.TextChoices):
        PENDING = "pending"  # starts in the future
        INCOMPLETE = "incomplete"  # waits for its first invoice to be paid
        TRIALING = "trialing"
        ACTIVE = "active"
        PAST_DUE = "past_due"
        PAUSED = "paused"
        SUSPENDED = "suspended"
        CANCELLED = "cancelled"
        EXPIRED = "expired"

    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="subscriptions")
    beneficiary = models.ForeignKey(
        "billing.Beneficiary", null=True, blank=True, on_delete=models.PROTECT, related_name="subscriptions"
    )
    external_id = models.CharField(max_length=100)
    plan_version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="subscriptions")
    currency = models.CharField(max_length=3)
    quantity = models.PositiveIntegerField(default=1, help_text="Seats, meals a day: what per-unit prices multiply.")
    add_ons = models.JSONField(default=dict, blank=True, help_text="Quantities of the plan's add-ons, by component.")
    status = FSMField(choices=Status.choices, default=Status.PENDING, protected=True)
    method = models.ForeignKey(
        "payments.PaymentMethod", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    collect_automatically = models.BooleanField(default=True)
    net_days = models.PositiveSmallIntegerField(default=0, help_text="Days from issue to due.")
    started_at = models.DateTimeField(help_text="Start of the agreement.")
    trial_ends_at = models.DateTimeField(null=True, blank=True)
    trial_price = models.DecimalField(
        max_digits=19, decimal_places=4, null=True, blank=True, help_text="What the trial costs; empty: nothing."
    )
    trial_notice_at = models.DateTimeField(
        null=True, blank=True, help_text="When the customer was told that the trial ends."
    )
    time_zone = models.CharField(
        max_length=60, blank=True, help_text="Where its days begin and end; empty: the organisation's."
    )
    proration = models.CharField(max_length=10, choices=Proration.choices, default=Proration.DAY)
    gate_days = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Days to pay the first invoice before it is active; empty: active at once."
    )
    activate_by = models.DateTimeField(
        null=True, blank=True, help_text="While incomplete: when it expires unless the first invoice is paid."
    )
    anchor_on = models.DateField(
        help_text="Day that fixes where periods begin; its day of the month is kept over short months."
    )
    period_number = models.PositiveIntegerField(default=0, help_text="Periods since the anchor; the current one.")
    period_start = models.DateTimeField(null=True, blank=True)
    period_end = models.DateTimeField(null=True, blank=True, help_text="Exclusive.")
    next_billing_at = models.DateTimeField(null=True, blank=True, help_text="When the billing run has to look at it.")
    next_change_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When the next planned thing happens: trial ends, change, cancellation, resume, expiry.",
    )
    usage_from = models.DateTimeField(
        null=True, blank=True, help_text="Usage before this time is billed; empty: none counts yet."
    )
    usage_version = models.ForeignKey(
        PlanVersion,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Prices the usage of the period that just ended; empty: the plan version.",
    )
    earlier_terms = models.JSONField(
        default=list,
        blank=True,
        help_text="Quantities that were in force earlier in the time that usage_from begins: lines.Stretch, in order.",
    )
    ends_at = models.DateTimeField(
        null=True, blank=True, help_text="End of the agreement, or of its present term: renewal or expiry."
    )
    term_interval = models.CharField(max_length=10, blank=True, help_text="Empty: no fixed term.")
    term_count = models.PositiveSmallIntegerField(default=0, help_text="Intervals in a term.")
    term_anchor_on = models.DateField(null=True, blank=True, help_text="Day from which terms are counted.")
    term_number = models.PositiveIntegerField(default=0, help_text="Terms since the anchor; the present one.")
    renewals_left = models.PositiveIntegerField(null=True, blank=True, help_text="Terms to come; empty: without end.")
    notice_days = models.PositiveSmallIntegerField(
        default=0, help_text="Days before a term's end by which it has to be cancelled."
    )
    last_term = models.PositiveIntegerField(
        null=True, blank=True, help_text="Term after which it does not renew, because that was asked; empty: as agreed."
    )
    next_term = models.JSONField(
        null=True, blank=True, help_text="Term that follows at the end ({}: none, open-ended); empty: as agreed."
    )
    cancel_at = models.DateTimeField(null=True, blank=True)
    cancel_credit = models.CharField(
        max_length=10, choices=Credit.choices, default=Credit.NONE, help_text="What is given back when it ends."
    )
    cancelled_at = models.DateTimeField(null=True, blank=True)
    cancel_reason = models.CharField(max_length=200, blank=True)
    paused_at = models.DateTimeField(null=True, blank=True)
    resume_at = models.DateTimeField(null=True, blank=True)
    restricted_at = models.DateTimeField(
        null=True, blank=True, help_text="Service is cut down since then, because of a debt; it is still billed."
    )
    failure = models.CharField(max_length=300, blank=True, help_text="Why the billing run set it aside.")
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField()
    version = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organisation", "external_id"], name="subscription_external_id")]
        indexes = [
            models.Index(
                fields=["organisation", "next_billing_at"],
                name="subscription_due",
                condition=models.Q(next_billing_at__isnull=False, failure=""),
            ),
            models.Index(
                fields=["organisation", "next_change_at"],
                name="subscription_change_due",
                condition=models.Q(next_change_at__isnull=False),
            ),
            models.Index(fields=["customer", "-id"], name="subscription_customer"),
            models.Index(fields=["organisation", "-id"], name="subscription_page"),
        ]

    def __str__(self) -> str:
        return self.external_id

    _LIVE = [Status.TRIALING, Status.ACTIVE, Status.PAST_DUE]

    @transition(status, source=[Status.PENDING, Status.INCOMPLETE], target=Status.TRIALING)
    def start_trial(self) -> None:
        self.activate_by = None

    @transition(status, source=[Status.PENDING, Status.TRIALING], target=Status.INCOMPLETE)
    def await_payment(self, *, until: Any) -> None:
        self.activate_by = until

    def wait_longer(self, *, until: Any) -> None:
        """The first invoice came late: the time to pay it ends later too."""
        self.activate_by = until

    @transition(status, source=[Status.PENDING, Status.TRIALING, Status.INCOMPLETE], target=Status.ACTIVE)
    def activate(self) -> None:
        self.activate_by = None

    @transition(status, source=Status.ACTIVE, target=Status.PAST_DUE)
    def fall_behind(self) -> None: ...

    @transition(status, source=[Status.PAST_DUE, Status.SUSPENDED], target=Status.ACTIVE)
    def recover(self) -> None: ...

    @transition(status, source=Status.ACTIVE, target=Status.PAUSED)
    def pause(self, *, at: Any, resume_at: Any) -> None:
        self.paused_at, self.resume_at = at, resume_at

    @transition(status, source=Status.PAUSED, target=Status.ACTIVE)
    def resume(self) -> None:
        self.paused_at = self.resume_at = None

    @transition(status, source=[Status.ACTIVE, Status.PAST_DUE], target=Status.SUSPENDED)
    def suspend(self) -> None: ...

    @transition(
        status,
        source=[Status.PENDING, Status.INCOMPLETE, *_LIVE, Status.PAUSED, Status.SUSPENDED],
        target=Status.CANCELLED,
    )
    def cancel(self, *, at: Any, reason: str) -> None:
        self.cancelled_at, self.cancel_reason, self.next_billing_at = at, reason, None
        self.activate_by = None

    @transition(status, source=[Status.INCOMPLETE, *_LIVE, Status.PAUSED, Status.SUSPENDED], target=Status.EXPIRED)
    def expire(self) -> None:
        self.next_billing_at = self.activate_by = None

    @transition(status, source=Status.CANCELLED, target=Status.ACTIVE)
    def reactivate(self) -> None:
        self.cancelled_at, self.cancel_reason, self.cancel_credit = None, "", Credit.NONE

    @property
    def has_ended(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.status in (self.Status.CANCELLED, self.Status.EXPIRED)


class PlannedChange(TenantModel):
    """Something planned for a time: other terms (plan, quantity; what is empty stays), or a pause."""

    class Status(models.TextChoices):
        PLANNED = "planned"
        APPLIED = "applied"
        CANCELLED = "cancelled"

    class Kind(models.TextChoices):
        TERMS = "terms"
        PAUSE = "pause"

    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="changes")
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.TERMS)
    plan_version = models.ForeignKey(PlanVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    quantity = models.PositiveIntegerField(null=True, blank=True)
    prorate = models.BooleanField(
        default=True, help_text="Within a period: credit and charge the rest of it. False: from the next one on."
    )
    credit = models.CharField(max_length=10, choices=Credit.choices, default=Credit.NONE, help_text="Of a pause.")
    resume_at = models.DateTimeField(null=True, blank=True, help_text="Of a pause; empty: until it is resumed.")
    reason = models.CharField(max_length=200, blank=True)
    add_ons = models.JSONField(null=True, blank=True, help_text="Empty: those that the subscription has.")
    effective_at = models.DateTimeField()
    status = FSMField(choices=Status.choices, default=Status.PLANNED, protected=True)
    created_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(
                fields=["subscription", "effective_at"],
                name="change_planned",
                condition=models.Q(status="planned"),
            )
        ]

    @transition(status, source=Status.PLANNED, target=Status.APPLIED)
    def apply(self) -> None: ...

    @transition(status, source=Status.PLANNED, target=Status.CANCELLED)
    def cancel(self) -> None: ...


class BillingRun(TenantModel):
    """One pass over what is due: how many, how far, how much."""

    class Status(models.TextChoices):
        PENDING = "pending"  # asked for, waits for a worker
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    due_at = models.DateTimeField(help_text="Everything due at or before this time is billed.")
    status = FSMField(choices=Status.choices, default=Status.PENDING, protected=True)
    due_count = models.PositiveIntegerField(default=0, help_text="Subscriptions due when it began.")
    billed_count = models.PositiveIntegerField(default=0, help_text="Periods billed so far.")
    failed_count = models.PositiveIntegerField(default=0)
    invoice_count = models.PositiveIntegerField(default=0)
    draft_count = models.PositiveIntegerField(default=0, help_text="Of the invoices, those that are drafts at first.")
    totals = models.JSONField(default=dict, help_text="Invoiced total per currency.")
    failures = models.JSONField(default=list, help_text="First failures: subscription and reason.")
    started_at = models.DateTimeField(help_text="On the organisation's clock.")
    heartbeat_at = models.DateTimeField(
        null=True, blank=True, help_text="Wall clock of the last chunk; an old one means that the worker died."
    )
    finished_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        due_at = self.due_at.astimezone(ZoneInfo(self.organisation.time_zone))
        return f"run until {due_at:%Y-%m-%d %H:%M}"

    @transition(status, source=[Status.PENDING, Status.RUNNING, Status.FAILED], target=Status.RUNNING)
    def begin(self, *, heartbeat_at: Any) -> None:
        """Also from running: another worker takes up what a dead one left."""
        self.heartbeat_at, self.finished_at, self.error = heartbeat_at, None, ""

    @transition(status, source=[Status.RUNNING, Status.FAILED], target=Status.DONE)
    def finish(self, *, at: Any) -> None:
        self.finished_at = at

    @transition(status, source=Status.RUNNING, target=Status.FAILED)
    def fail(self, *, at: Any, error: str) -> None:
        self.finished_at, self.error = at, error


class BilledPeriod(TenantModel):
    """That a period of a subscription was billed: the unique constraint is the promise of exactly once."""

    subscription = models.ForeignKey(
        Subscription, on_delete=models.PROTECT, related_name="billed_periods", db_index=False
    )
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    kind = models.CharField(
        max_length=10,
        default="cycle",
        help_text="cycle, change<n> (billed by a change), final<n> (usage up to an end or a pause).",
    )
    invoice = models.ForeignKey(
        "invoices.Invoice",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="billed_periods",
        help_text="Empty: nothing to invoice.",
    )
    run = models.ForeignKey(BillingRun, null=True, blank=True, on_delete=models.SET_NULL, related_name="billed_periods")
    billed_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["subscription", "starts_at", "kind"], name="period_billed_once")]
        indexes = [models.Index(fields=["organisation", "-id"], name="period_page")]
