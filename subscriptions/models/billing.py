"""What the billing run keeps beside its periods: terms of billing, drafts that wait, invoices in mid-period, failures."""

from django.db import models

from billing.models.base import TenantModel, TenantQuerySet
from billing.models.fields import AmountField
from subscriptions.models.plans import Plan
from subscriptions.models.subscriptions import BilledPeriod, BillingRun, Subscription

MAX_GRACE_DAYS = 60


class BillingTerms(TenantModel):
    """How a customer is billed; the row without a customer is the organisation's own choice. Empty: the next wider one's.

    The customer's comes first, then the organisation's, then the house's: no consolidation, no grace.
    """

    customer = models.ForeignKey(
        "billing.Customer", null=True, blank=True, on_delete=models.PROTECT, related_name="billing_terms"
    )
    consolidate = models.BooleanField(
        null=True, help_text="Subscriptions that are due on the same day on the same terms share an invoice."
    )
    grace_days = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Days for which an invoice stays a draft, for late usage and edits by hand."
    )
    updated_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "billing terms"
        constraints = [
            models.UniqueConstraint(fields=["customer"], name="billing_terms_of_customer"),
            models.UniqueConstraint(
                fields=["organisation"], condition=models.Q(customer__isnull=True), name="billing_terms_of_house"
            ),
            models.CheckConstraint(condition=models.Q(grace_days__lte=MAX_GRACE_DAYS), name="billing_terms_grace"),
        ]

    def __str__(self) -> str:
        return str(self.customer) if self.customer_id else "organisation"


class UsageThreshold(TenantModel):
    """An amount of current usage at which it is invoiced in mid-period. A subscription's own ones replace its plan's."""

    currency: str  # the column that the amount has
    plan = models.ForeignKey(Plan, null=True, blank=True, on_delete=models.PROTECT, related_name="usage_thresholds")
    subscription = models.ForeignKey(
        Subscription, null=True, blank=True, on_delete=models.PROTECT, related_name="usage_thresholds"
    )
    amount = AmountField(help_text="Price of the period's usage so far, before discounts and tax.")
    recurring = models.BooleanField(default=False, help_text="Again at every further amount of this size.")
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True, help_text="Does not count any more.")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(plan__isnull=False, subscription__isnull=True)
                | models.Q(plan__isnull=True, subscription__isnull=False),
                name="threshold_of_plan_or_subscription",
            ),
            models.CheckConstraint(condition=models.Q(amount__gt=0), name="threshold_positive"),
            models.UniqueConstraint(
                fields=["plan", "currency", "amount"],
                condition=models.Q(plan__isnull=False, ended_at__isnull=True),
                name="threshold_of_plan_once",
            ),
            models.UniqueConstraint(
                fields=["subscription", "currency", "amount"],
                condition=models.Q(subscription__isnull=False, ended_at__isnull=True),
                name="threshold_of_subscription_once",
            ),
        ]
        indexes = [models.Index(fields=["organisation", "-id"], name="threshold_page")]

    def __str__(self) -> str:
        return f"{self.plan or self.subscription} {self.amount}"


class InterimInvoice(TenantModel):
    """An invoice over what was used so far, because it is charged in advance or a threshold was passed; the period's last
    invoice takes it off.

    It counts while the subscription's ``usage_from`` is the one noted here, that is, until its usage window is billed.
    """

    currency: str  # the column that the amounts share
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="interim_invoices")
    usage_from = models.DateTimeField(help_text="Start of the usage window.")
    usage_until = models.DateTimeField(help_text="Usage before this time is on it.")
    number = models.PositiveSmallIntegerField(help_text="1 for the first of its window.")
    threshold = AmountField(help_text="The amount that was passed; 0: charged in advance.")
    used = AmountField(
        help_text="Price of the window's usage so far that is charged afterwards; of an invoice in advance: of that usage."
    )
    invoice = models.OneToOneField("invoices.Invoice", on_delete=models.PROTECT, related_name="interim")
    issued_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["subscription", "usage_from", "number"], name="interim_invoice_once")
        ]
        indexes = [models.Index(fields=["organisation", "-id"], name="interim_page")]

    def __str__(self) -> str:
        return f"{self.subscription} {self.number}"


class DraftCycle(TenantModel):
    """A billed period whose invoice is still a draft. ``terms`` are what it was priced from, to price it again."""

    period = models.OneToOneField(BilledPeriod, on_delete=models.PROTECT, related_name="draft_cycle")
    invoice = models.ForeignKey(
        "invoices.Invoice",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="draft_cycles",
        help_text="Empty: nothing to invoice so far.",
    )
    terms = models.JSONField(help_text="The subscription's columns as the run read them.")
    finalize_at = models.DateTimeField(help_text="When the grace ends.")
    finalized_at = models.DateTimeField(null=True, blank=True)
    failure = models.CharField(max_length=300, blank=True, help_text="Why it could not be finalised.")

    class Meta:
        indexes = [
            models.Index(
                fields=["organisation", "finalize_at"],
                name="draft_cycle_due",
                condition=models.Q(finalized_at__isnull=True),
            )
        ]

    def __str__(self) -> str:
        return f"{self.period_id} until {self.finalize_at:%Y-%m-%d}"


class DraftEdit(TenantModel):
    """A decision by hand about a draft of the run; edits are made again on the lines whenever the draft is refreshed."""

    class Kind(models.TextChoices):
        ADD = "add"  # a line of its own
        DROP = "drop"  # the line does not count
        SET = "set"  # the line costs something else

    currency: str  # the column that the amount has
    invoice = models.ForeignKey("invoices.Invoice", on_delete=models.PROTECT, related_name="draft_edits")
    kind = models.CharField(max_length=4, choices=Kind.choices)
    code = models.CharField(max_length=60, blank=True, help_text="Component of the line; of an added one, its own.")
    subscription = models.ForeignKey(
        Subscription, null=True, blank=True, on_delete=models.PROTECT, related_name="+", help_text="Whose line."
    )
    description = models.CharField(max_length=300, blank=True)
    amount = AmountField(null=True, blank=True, help_text="Net amount of an added or changed line.")
    tax_category = models.CharField(max_length=40, blank=True)
    made_by = models.CharField(max_length=150)
    reason = models.CharField(max_length=300)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.kind} {self.code}"


class FailedCycle(TenantModel):
    """A billing moment that a run set aside, and why."""

    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="failed_cycles")
    run = models.ForeignKey(BillingRun, null=True, blank=True, on_delete=models.SET_NULL, related_name="failed_cycles")
    starts_at = models.DateTimeField(help_text="The billing moment.")
    code = models.CharField(max_length=60, help_text="Name of the error.")
    reason = models.CharField(max_length=300)
    failed_at = models.DateTimeField()
    retried_at = models.DateTimeField(null=True, blank=True, help_text="When somebody took it up again.")

    class Meta:
        indexes = [
            models.Index(fields=["organisation", "-id"], name="failed_cycle_page"),
            models.Index(
                fields=["subscription"], name="failed_cycle_open", condition=models.Q(retried_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.subscription} {self.code}"


class BillingCycle(models.Model):
    """Every cycle the run looked at: billed periods and failed ones, as one list. A view of the database; read-only."""

    class Status(models.TextChoices):
        BILLED = "billed"
        EMPTY = "empty"  # billed, nothing to invoice
        FAILED = "failed"
        RETRIED = "retried"

    id = models.UUIDField(primary_key=True)
    organisation = models.ForeignKey("billing.Organisation", on_delete=models.DO_NOTHING, related_name="+")
    subscription = models.ForeignKey(Subscription, on_delete=models.DO_NOTHING, related_name="billing_cycles")
    run = models.ForeignKey(BillingRun, null=True, on_delete=models.DO_NOTHING, related_name="cycles")
    invoice = models.ForeignKey("invoices.Invoice", null=True, on_delete=models.DO_NOTHING, related_name="+")
    kind = models.CharField(max_length=10)
    status = models.CharField(max_length=10, choices=Status.choices)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True)
    at = models.DateTimeField(help_text="When it was billed or set aside.")
    code = models.CharField(max_length=60)
    reason = models.CharField(max_length=300)

    objects = TenantQuerySet.as_manager()

    class Meta:
        managed = False
        db_table = "subscriptions_billingcycle"
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.subscription} {self.starts_at:%Y-%m-%d}"
