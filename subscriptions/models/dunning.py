"""Dunning: policies with stages, and the cases that chase one debt each."""

from datetime import date, timedelta
from typing import Any

from django.db import models
from django_fsm import FSMField, transition

from billing.models.base import TenantModel
from billing.models.fields import AmountField


class DunningPolicy(TenantModel):
    """Stages as ``subscriptions/dunning_rules.py`` reads them. For the plans it names, else for all.

    [{"after_days": 1, "actions": ["mail:reminder_1"]}, …, {"after_days": 21, "actions": ["cancel", "write_off"]}]

    Never changed: another rule is another policy, open cases keep theirs.
    """

    class Scope(models.TextChoices):
        SUBSCRIPTION = "subscription"  # each subscription's debts are chased for themselves
        CUSTOMER = "customer"  # all debts of a customer are one chase, its measures meet all subscriptions

    code = models.SlugField(max_length=40)
    stages = models.JSONField(default=list)
    grace_days = models.PositiveSmallIntegerField(
        default=0, help_text="Days after the due date that do not count: stages are counted from their end."
    )
    scope = models.CharField(max_length=20, choices=Scope.choices, default=Scope.SUBSCRIPTION)
    plans = models.ManyToManyField("subscriptions.Plan", blank=True, related_name="dunning_policies")
    is_default = models.BooleanField(default=False)
    created_at = models.DateTimeField()
    archived_at = models.DateTimeField(null=True, blank=True, help_text="No new case follows it from then on.")

    class Meta:
        verbose_name_plural = "dunning policies"
        constraints = [
            models.UniqueConstraint(fields=["organisation", "code"], name="dunning_policy_code"),
            models.UniqueConstraint(
                fields=["organisation"], condition=models.Q(is_default=True), name="one_default_policy"
            ),
        ]

    def __str__(self) -> str:
        return self.code


class DunningCase(TenantModel):
    """One unpaid invoice being chased. Of several under one ``anchor`` only the oldest is acted upon."""

    class Status(models.TextChoices):
        OPEN = "open"
        RECOVERED = "recovered"
        EXHAUSTED = "exhausted"  # the last stage is taken, or a person wrote the invoice off
        CLOSED = "closed"  # voided or credited: nothing left to chase

    policy = models.ForeignKey(DunningPolicy, on_delete=models.PROTECT, related_name="cases")
    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="+")
    invoice = models.OneToOneField("invoices.Invoice", on_delete=models.PROTECT, related_name="dunning_case")
    subscription = models.ForeignKey(
        "subscriptions.Subscription", null=True, blank=True, on_delete=models.PROTECT, related_name="dunning_cases"
    )
    anchor = models.UUIDField(
        help_text="What is chased as one: the subscription, the customer (scope of the policy), or the invoice alone."
    )
    status = FSMField(choices=Status.choices, default=Status.OPEN, protected=True)
    stage = models.PositiveSmallIntegerField(default=0, help_text="Stages taken so far.")
    next_stage_on = models.DateField(null=True, blank=True, help_text="Empty: no stage is left.")
    attempts = models.PositiveSmallIntegerField(
        default=0,
        help_text="Debits that the payer's bank refused for now; refusals for good and own tries do not count.",
    )
    next_stage_attempts = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="So many attempts reach a stage; empty: attempts do not."
    )
    history = models.JSONField(default=list, help_text="[{stage, on, days_overdue, actions}]")
    held_because = models.CharField(
        max_length=300, blank=True,
        help_text="Why the stage that is reached could not be taken; every run tries it again. Empty: nothing is in the way.",
    )  # fmt: skip
    overdue_since = models.DateField(help_text="The day the invoice was due.")
    settled = models.JSONField(
        default=list, blank=True,
        help_text="Times since then in which the invoice was paid, until that was taken back: [[first day, first day after]].",
    )  # fmt: skip
    claimed = AmountField(help_text="What was due when the case was opened.")
    paid_before = AmountField(help_text="What had been paid by then.")
    recovered = AmountField(help_text="Of what was claimed, what was paid since.")
    recovered_by_stage = models.JSONField(
        default=dict, blank=True, help_text="The same by the stages taken when it came: {stage: amount}."
    )
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["organisation", "next_stage_on"], name="dunning_due", condition=models.Q(status="open")
            ),
            models.Index(fields=["organisation", "-id"], name="dunning_page"),
            models.Index(fields=["anchor", "overdue_since"], name="dunning_anchor", condition=models.Q(status="open")),
        ]

    def __str__(self) -> str:
        return f"overdue since {self.overdue_since}"

    @transition(status, source=[Status.OPEN, Status.EXHAUSTED], target=Status.RECOVERED)
    def recover(self, *, at: Any) -> None:
        """Also from exhausted: money that came late is still money."""
        self.closed_at, self.held_because = at, ""

    @transition(status, source=[Status.RECOVERED, Status.EXHAUSTED], target=Status.OPEN)
    def reopen(self, *, over_on: date, on: date) -> None:
        """It is due again; the stages taken stay taken, and the days in between do not count."""
        self.closed_at = None
        self.settle_between(over_on, on)

    def settle_between(self, first: date, until: date) -> None:
        """Nothing was owed from the day ``first`` to before ``until``."""
        if first < until:
            self.settled = [*self.settled, [first.isoformat(), until.isoformat()]]

    @property
    def settled_times(self) -> list[tuple[date, date]]:
        """Times in which nothing was owed: first day, and first day after."""
        return [(date.fromisoformat(first), date.fromisoformat(until)) for first, until in self.settled]

    @transition(status, source=Status.OPEN, target=Status.EXHAUSTED)
    def exhaust(self, *, at: Any) -> None:
        self.closed_at, self.held_because = at, ""

    @transition(status, source=[Status.OPEN, Status.EXHAUSTED], target=Status.CLOSED)
    def close(self, *, at: Any) -> None:
        self.closed_at, self.held_because = at, ""


class DunningPause(TenantModel):
    """A customer who is left alone until a day, and why. Days of a pause do not count towards any stage."""

    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="dunning_pauses")
    starts_on = models.DateField()
    until = models.DateField(help_text="Last day of the pause.")
    reason = models.CharField(max_length=300)
    made_by = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField()
    lifted_on = models.DateField(
        null=True, blank=True, help_text="The first day after the pause, once it has ended or was lifted."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["customer"], condition=models.Q(lifted_on__isnull=True), name="one_dunning_pause"
            ),
            models.CheckConstraint(condition=models.Q(until__gte=models.F("starts_on")), name="dunning_pause_days"),
        ]
        indexes = [models.Index(fields=["organisation", "-id"], name="dunning_pause_page")]

    def __str__(self) -> str:
        return f"paused until {self.until}"

    @property
    def ends_before(self) -> Any:
        """The first day after the pause: days from here on count again."""
        return self.lifted_on or self.until + timedelta(days=1)
