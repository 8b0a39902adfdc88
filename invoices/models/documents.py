"""Invoices, their lines and taxes, credit notes and numbering. A finalised document is immutable (migration 0002)."""

from typing import Any

from django.db import models
from django_fsm import FSMField, FSMModelMixin, transition

from billing.models.base import TenantModel, TenantQuerySet
from billing.models.fields import AmountField, UnitPriceField


class NumberSeries(TenantModel):
    """Gapless numbers per document kind and financial year. The row is locked while numbers are taken."""

    class Kind(models.TextChoices):
        INVOICE = "invoice"
        CREDIT_NOTE = "credit_note"

    kind = models.CharField(max_length=20, choices=Kind.choices)
    code = models.CharField(max_length=10, help_text="First part of the number, for example SV.")
    financial_year = models.CharField(max_length=5, help_text="26-27, or 2026 where the year is the calendar's.")
    next_number = models.PositiveIntegerField(default=1)

    class Meta:
        verbose_name_plural = "number series"
        constraints = [
            models.UniqueConstraint(
                fields=["organisation", "kind", "code", "financial_year"], name="number_series_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.code}/{self.financial_year}"


class TaxRate(TenantModel):
    """A rate with the days it holds. ``category`` is what prices carry (``saas``, ``meals``, ``tuition``)."""

    category = models.CharField(max_length=40)
    country = models.CharField(max_length=2)
    region = models.CharField(max_length=6, blank=True)
    rate = models.DecimalField(max_digits=7, decimal_places=4, help_text="Percent.")
    code = models.CharField(max_length=12, blank=True, help_text="HSN or SAC in India.")
    exemption_reason = models.CharField(max_length=120, blank=True)
    valid_from = models.DateField()
    valid_until = models.DateField(null=True, blank=True, help_text="Last day.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organisation", "category", "country", "region", "valid_from"], name="tax_rate_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.category} {self.country} {self.rate.normalize():f} % from {self.valid_from}"


class Invoice(FSMModelMixin, TenantModel):
    """A numbered claim. Totals are columns of the row; they follow EN 16931's arithmetic."""

    currency: str  # the column that the amounts share

    class Status(models.TextChoices):
        DRAFT = "draft"
        OPEN = "open"
        PARTIALLY_PAID = "partially_paid"
        PAID = "paid"
        VOID = "void"
        UNCOLLECTIBLE = "uncollectible"

    class Origin(models.TextChoices):
        SUBSCRIPTION = "subscription"
        MANUAL = "manual"
        INSTALLMENT = "installment"

    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="invoices")
    buyer = models.ForeignKey("billing.BillingParty", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    seller = models.ForeignKey(
        "billing.BillingParty", null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    origin = models.CharField(max_length=20, choices=Origin.choices)
    status = FSMField(choices=Status.choices, default=Status.DRAFT, protected=True)
    number = models.CharField(max_length=16, blank=True)
    issued_on = models.DateField(null=True, blank=True)
    due_on = models.DateField(null=True, blank=True)
    net_days = models.PositiveSmallIntegerField(default=0, help_text="Days to pay, counted from the day of issue.")
    period_start = models.DateField(null=True, blank=True)
    period_end = models.DateField(null=True, blank=True, help_text="Last day.")
    net = AmountField(help_text="Sum of lines without tax.")
    tax = AmountField()
    rounding = AmountField(help_text="Round-off where prices include tax.")
    total = AmountField(help_text="net + tax + rounding.")
    paid = AmountField(help_text="Allocated from payments and credit.")
    credited = AmountField(help_text="Taken off by credit notes.")
    due = AmountField(help_text="total − paid − credited.")
    prices_include_tax = models.BooleanField(default=False)
    place_of_supply = models.CharField(max_length=6, blank=True)
    reverse_charge = models.BooleanField(default=False)
    memo = models.CharField(max_length=500, blank=True)
    custom_fields = models.JSONField(default=dict, blank=True)
    subscription_ref = models.UUIDField(
        null=True, blank=True, db_index=True, help_text="Subscription it came from; the app above knows it."
    )
    collect_automatically = models.BooleanField(default=True)
    method_ref = models.UUIDField(
        null=True, blank=True, help_text="Payment method to charge; empty: the customer's default."
    )
    created_at = models.DateTimeField()
    finalized_at = models.DateTimeField(null=True, blank=True)
    paid_at = models.DateTimeField(null=True, blank=True)
    overdue_at = models.DateTimeField(null=True, blank=True, help_text="Set once, when it became overdue.")
    version = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organisation", "number"], condition=~models.Q(number=""), name="invoice_number"
            ),
            models.CheckConstraint(
                condition=models.Q(due=models.F("total") - models.F("paid") - models.F("credited")), name="invoice_due"
            ),
            models.CheckConstraint(
                condition=models.Q(due__gte=0, paid__gte=0, credited__gte=0), name="invoice_not_overpaid"
            ),
            models.CheckConstraint(
                condition=models.Q(total=models.F("net") + models.F("tax") + models.F("rounding")), name="invoice_total"
            ),
            models.CheckConstraint(
                condition=models.Q(status__in=["draft"]) | ~models.Q(number=""), name="invoice_numbered"
            ),
        ]
        indexes = [
            models.Index(fields=["organisation", "-id"], name="invoice_page"),
            models.Index(fields=["customer", "-id"], name="invoice_customer"),
            models.Index(
                fields=["organisation", "due_on"],
                name="invoice_unpaid",
                condition=models.Q(status__in=["open", "partially_paid"]),
            ),
        ]

    def __str__(self) -> str:
        return self.number or f"draft {self.pk}"

    @transition(status, source=Status.DRAFT, target=Status.OPEN)
    def finalize(self, *, number: str, issued_on: Any, due_on: Any, at: Any) -> None:
        self.number, self.issued_on, self.due_on, self.finalized_at = number, issued_on, due_on, at

    @transition(
        status,
        source=[Status.OPEN, Status.PARTIALLY_PAID, Status.UNCOLLECTIBLE, Status.PAID],
        target=Status.PARTIALLY_PAID,
    )
    def pay_partly(self) -> None:
        self.paid_at = None

    @transition(status, source=[Status.OPEN, Status.PARTIALLY_PAID, Status.UNCOLLECTIBLE], target=Status.PAID)
    def settle(self, *, at: Any) -> None:
        self.paid_at = at

    @transition(status, source=[Status.PAID, Status.PARTIALLY_PAID, Status.UNCOLLECTIBLE], target=Status.OPEN)
    def reopen(self) -> None:
        """A payment was taken back."""
        self.paid_at = None

    @transition(status, source=[Status.OPEN], target=Status.VOID)
    def void(self) -> None: ...

    @transition(status, source=[Status.OPEN, Status.PARTIALLY_PAID], target=Status.UNCOLLECTIBLE)
    def write_off(self) -> None: ...


class InvoiceLine(models.Model):
    """One priced, taxed item. ``amount`` is rounded once, here."""

    id = models.BigAutoField(primary_key=True)
    organisation = models.ForeignKey("billing.Organisation", on_delete=models.PROTECT, related_name="+")
    invoice = models.ForeignKey(Invoice, on_delete=models.CASCADE, related_name="lines")
    position = models.PositiveSmallIntegerField()
    description = models.CharField(max_length=300)
    code = models.CharField(max_length=60, blank=True, help_text="Price component or product.")
    quantity = models.DecimalField(max_digits=30, decimal_places=12, default=1)
    unit = models.CharField(max_length=40, blank=True)
    unit_price = UnitPriceField()
    given = AmountField(help_text="What quantity and price came to; contains tax where prices include it.")
    amount = AmountField(help_text="Without tax, after discount.")
    tax_category = models.CharField(max_length=40, blank=True)
    tax_code = models.CharField(max_length=12, blank=True, help_text="HSN or SAC.")
    tax_letter = models.CharField(max_length=4, default="O", help_text="EN 16931: S, Z, E, AE, G, O.")
    tax_rate = models.DecimalField(max_digits=7, decimal_places=4, default=0)
    tax = AmountField()
    revenue_account = models.CharField(max_length=60, default="revenue")
    period_start = models.DateField(null=True, blank=True)
    period_end = models.DateField(null=True, blank=True)
    details = models.JSONField(default=list, blank=True, help_text="Tiers or usage behind the amount.")
    subscription_ref = models.UUIDField(
        null=True,
        blank=True,
        help_text="Whose line it is on an invoice of several subscriptions; empty: the invoice's.",
    )

    objects: Any = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["invoice", "position"], name="line_position")]
        indexes = [
            models.Index(
                fields=["organisation"], name="line_deferred", condition=models.Q(revenue_account="deferred_revenue")
            ),
            models.Index(
                fields=["subscription_ref"],
                name="line_subscription",
                condition=models.Q(subscription_ref__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.position}. {self.description}"


class InvoiceTax(models.Model):
    """One row of the tax table: component, rate, base, tax."""

    id = models.BigAutoField(primary_key=True)
    organisation = models.ForeignKey("billing.Organisation", on_delete=models.PROTECT, related_name="+")
    invoice = models.ForeignKey(Invoice, on_delete=models.CASCADE, related_name="taxes")
    component = models.CharField(max_length=10, help_text="CGST, SGST, UTGST, IGST, VAT.")
    category = models.CharField(max_length=4, default="S", help_text="EN 16931: S, Z, E, AE, K, G, O.")
    rate = models.DecimalField(max_digits=7, decimal_places=4)
    base = AmountField()
    tax = AmountField()
    reverse_charged = AmountField(help_text="Tax the buyer owes to the state instead.")
    reason = models.CharField(max_length=120, blank=True)

    objects: Any = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "invoice taxes"

    def __str__(self) -> str:
        return f"{self.component} {self.rate.normalize():f} %"


class CreditNote(TenantModel):
    """A numbered reduction of a finalised invoice."""

    currency: str  # the column that the amounts share
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="credit_notes")
    number = models.CharField(max_length=16)
    issued_on = models.DateField()
    reason = models.CharField(max_length=300)
    net = AmountField()
    tax = AmountField()
    rounding = AmountField()
    total = AmountField()
    taxes = models.JSONField(default=list, help_text="[{component, category, rate, base, tax}]")
    lines = models.JSONField(default=list, help_text="[{position, description, amount, tax}]")
    reduced_due = AmountField(help_text="Part that reduced what was due.")
    to_credit = AmountField(help_text="Part that became customer credit, to be refunded or applied.")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organisation", "number"], name="credit_note_number"),
            models.CheckConstraint(
                condition=models.Q(total=models.F("net") + models.F("tax") + models.F("rounding")),
                name="credit_note_total",
            ),
            models.CheckConstraint(
                condition=models.Q(total=models.F("reduced_due") + models.F("to_credit")), name="credit_note_split"
            ),
            models.CheckConstraint(
                condition=models.Q(reduced_due__gte=0, to_credit__gte=0, total__gt=0), name="credit_note_positive"
            ),
        ]
        indexes = [models.Index(fields=["organisation", "-id"], name="credit_note_page")]

    def __str__(self) -> str:
        return self.number


class PaymentAllocation(TenantModel):
    """A payment applied to an invoice; a negative one takes it back (refund, lost dispute)."""

    currency: str  # the column that the amounts share
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="allocations")
    payment = models.ForeignKey(
        "payments.Payment",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Empty: from customer credit.",
    )
    amount = AmountField()
    key = models.CharField(max_length=120, help_text="Natural key: the same fact allocates once.")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organisation", "key"], name="allocation_once")]


class InstallmentPlan(FSMModelMixin, TenantModel):
    """One contract paid in parts: an annual fee in four. The parts add up to the total; each becomes an invoice on its day."""

    currency: str  # the column that the amounts share

    class Status(models.TextChoices):
        ACTIVE = "active"
        COMPLETED = "completed"
        CANCELLED = "cancelled"

    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="installment_plans")
    beneficiary = models.ForeignKey(
        "billing.Beneficiary", null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    description = models.CharField(max_length=200)
    total = AmountField(help_text="Without tax; the sum of the installments.")
    tax_category = models.CharField(max_length=40, blank=True)
    interval_months = models.PositiveSmallIntegerField(default=1)
    net_days = models.PositiveSmallIntegerField(default=0, help_text="Days to pay each installment.")
    collect_automatically = models.BooleanField(default=True)
    status = FSMField(choices=Status.choices, default=Status.ACTIVE, protected=True)
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.description

    @transition(status, source=Status.ACTIVE, target=Status.COMPLETED)
    def complete(self) -> None: ...

    @transition(status, source=Status.ACTIVE, target=Status.CANCELLED)
    def cancel(self) -> None: ...


class Installment(TenantModel):
    """One part of an installment plan; number 0 is the down payment."""

    currency: str  # the column that the amounts share
    plan = models.ForeignKey(InstallmentPlan, on_delete=models.PROTECT, related_name="installments")
    number = models.PositiveSmallIntegerField()
    due_on = models.DateField()
    amount = AmountField()
    invoice = models.OneToOneField(Invoice, null=True, blank=True, on_delete=models.PROTECT, related_name="installment")
    failure = models.CharField(
        max_length=300, blank=True, help_text="Why it could not be invoiced; it is tried again until it can."
    )
    refused_at = models.DateTimeField(null=True, blank=True, help_text="When it was refused first, for this reason.")

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["plan", "number"], name="installment_number")]
        indexes = [
            models.Index(
                fields=["organisation", "due_on"], name="installment_due", condition=models.Q(invoice__isnull=True)
            )
        ]


class RecognitionEntry(TenantModel):
    """One month of a line that was billed for longer: moved from deferred revenue to revenue on its day."""

    currency: str  # the column that the amounts share
    line = models.ForeignKey(InvoiceLine, on_delete=models.PROTECT, related_name="recognition")
    number = models.PositiveSmallIntegerField()
    due_on = models.DateField(help_text="Last day of the month of service.")
    amount = AmountField()
    posted_at = models.DateTimeField(
        null=True, blank=True, help_text="On the organisation's clock; empty: not earned yet."
    )

    class Meta:
        ordering = ["number"]
        verbose_name_plural = "recognition entries"
        constraints = [models.UniqueConstraint(fields=["line", "number"], name="recognition_once")]
        indexes = [
            models.Index(
                fields=["organisation", "due_on"], name="recognition_due", condition=models.Q(posted_at__isnull=True)
            )
        ]
