"""Settlements, bank statements, matches and exceptions: internal ↔ settlement ↔ bank."""

from typing import Any

from django.db import models
from django_fsm import FSMField, transition

from billing.models.base import TenantModel
from billing.models.fields import AmountField
from payments.models.gateways import GatewayAccount


class Settlement(TenantModel):
    """A payout of a gateway to our bank: gross less refunds, fees, tax and disputes."""

    class Status(models.TextChoices):
        CREATED = "created"
        PAID = "paid"  # the gateway says it has transferred the money
        IN_BANK = "in_bank"  # matched to a line of the bank statement
        FAILED = "failed"

    gateway_account = models.ForeignKey(GatewayAccount, on_delete=models.PROTECT, related_name="settlements")
    gateway_ref = models.CharField(max_length=80)
    utr = models.CharField(max_length=60, blank=True, db_index=True)
    amount = AmountField(help_text="Net amount transferred.")
    gross = AmountField(help_text="Sum of captured payments.")
    refunds = AmountField()
    fees = AmountField(help_text="Without the tax on them.")
    tax = AmountField(help_text="Tax on fees.")
    disputes = AmountField(help_text="Taken for disputes, given back when negative; fees of disputes included.")
    adjustments = AmountField()
    unexplained = AmountField(
        help_text="gross − refunds − fees − tax − disputes + adjustments − amount; should be nothing."
    )
    status = FSMField(choices=Status.choices, default=Status.CREATED, protected=True)
    lines_complete = models.BooleanField(default=False)
    settled_on = models.DateField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["gateway_account", "gateway_ref"], name="settlement_once")]
        indexes = [models.Index(fields=["organisation", "-settled_on"], name="settlement_page")]

    def __str__(self) -> str:
        return self.gateway_ref

    @transition(status, source=[Status.CREATED, Status.FAILED], target=Status.PAID)
    def pay(self) -> None: ...

    @transition(status, source=[Status.CREATED, Status.PAID], target=Status.IN_BANK)
    def arrive(self) -> None: ...

    @transition(status, source=[Status.CREATED, Status.PAID, Status.IN_BANK], target=Status.FAILED)
    def fail(self) -> None:
        """Also from the bank: it may send the money back."""


class SettlementLine(TenantModel):
    """One row of a settlement report, never edited; kept with its raw row."""

    class Kind(models.TextChoices):
        PAYMENT = "payment"
        REFUND = "refund"
        DISPUTE = "dispute"
        DISPUTE_REVERSAL = "dispute_reversal"
        ADJUSTMENT = "adjustment"
        FEE = "fee"

    class State(models.TextChoices):
        UNMATCHED = "unmatched"
        MATCHED = "matched"
        EXCEPTION = "exception"
        RESOLVED = "resolved"  # explained by an adjustment with a reason
        RETURNED = "returned"  # of a failed settlement; a later settlement carries the row again

    settlement = models.ForeignKey(Settlement, on_delete=models.PROTECT, related_name="lines")
    line_ref = models.CharField(max_length=80, help_text="The gateway's id of this row (balance transaction, entity).")
    kind = models.CharField(max_length=20, choices=Kind.choices)
    gateway_ref = models.CharField(max_length=80, db_index=True, help_text="Payment, refund or dispute at the gateway.")
    charge_ref = models.CharField(
        max_length=80, blank=True, help_text="Payment that a refund or dispute is about, when the row tells it."
    )
    order_ref = models.CharField(
        max_length=80, blank=True, help_text="Order or intent of the payment, when the row tells it."
    )
    amount = AmountField(help_text="Gross, signed: positive brings money.")
    fee = AmountField(help_text="Without tax.")
    tax = AmountField()
    net = AmountField(help_text="amount − fee − tax.")
    occurred_at = models.DateTimeField()
    state = FSMField(choices=State.choices, default=State.UNMATCHED, protected=True)
    rule = models.CharField(max_length=40, blank=True)
    payment = models.ForeignKey(
        "payments.Payment", null=True, blank=True, on_delete=models.PROTECT, related_name="settlement_lines"
    )
    refund = models.ForeignKey(
        "payments.Refund", null=True, blank=True, on_delete=models.PROTECT, related_name="settlement_lines"
    )
    dispute = models.ForeignKey(
        "payments.Dispute", null=True, blank=True, on_delete=models.PROTECT, related_name="settlement_lines"
    )
    raw = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["settlement", "line_ref"], name="settlement_line_once"),
            models.UniqueConstraint(
                fields=["payment"], condition=models.Q(kind="payment", state="matched"), name="payment_settled_once"
            ),
        ]
        indexes = [
            models.Index(
                fields=["organisation", "state"], name="settlement_line_open", condition=~models.Q(state="matched")
            )
        ]

    def __str__(self) -> str:
        return self.line_ref

    @transition(state, source=[State.UNMATCHED, State.EXCEPTION], target=State.MATCHED)
    def match(self, *, rule: str) -> None:
        self.rule = rule

    @transition(state, source=State.UNMATCHED, target=State.EXCEPTION)
    def set_aside(self) -> None: ...

    @transition(state, source=[State.UNMATCHED, State.EXCEPTION], target=State.RESOLVED)
    def resolve(self, *, rule: str) -> None:
        self.rule = rule


class BankAccount(TenantModel):
    """Our account at a bank; its ledger account is ``bank:<code>``."""

    code = models.SlugField(max_length=40)
    name = models.CharField(max_length=120)
    currency = models.CharField(max_length=3)
    last4 = models.CharField(max_length=4, blank=True, help_text="Picks the account out of files with several.")
    dialect = models.JSONField(
        default=dict, blank=True, help_text="How its CSV is written, where the file does not prove it."
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organisation", "code"], name="bank_account_code")]

    def __str__(self) -> str:
        return self.code


class StatementImport(TenantModel):
    """One bank statement file: what it said, what was read, what was known already, what was refused."""

    bank_account = models.ForeignKey(BankAccount, on_delete=models.PROTECT, related_name="imports")
    file_name = models.CharField(max_length=200)
    file_hash = models.CharField(max_length=64)
    format = models.CharField(max_length=10)
    rows_read = models.PositiveIntegerField(default=0)
    rows_new = models.PositiveIntegerField(default=0)
    rows_known = models.PositiveIntegerField(default=0)
    rows_pending = models.PositiveIntegerField(default=0, help_text="Announced by the bank, not booked: left out.")
    opening_balance = AmountField(null=True, blank=True)
    closing_balance = AmountField(null=True, blank=True)
    error = models.CharField(
        max_length=300, blank=True, help_text="Why the file was refused; then nothing of it is booked."
    )
    imported_by = models.CharField(max_length=120, blank=True)
    imported_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["bank_account", "file_hash"], condition=models.Q(error=""), name="statement_once"
            )
        ]

    def __str__(self) -> str:
        return self.file_name


class BankLine(TenantModel):
    """One line of a bank statement, never edited."""

    class State(models.TextChoices):
        UNMATCHED = "unmatched"
        MATCHED = "matched"
        EXCEPTION = "exception"
        RESOLVED = "resolved"  # explained by an adjustment with a reason

    bank_account = models.ForeignKey(BankAccount, on_delete=models.PROTECT, related_name="lines")
    statement = models.ForeignKey(StatementImport, on_delete=models.PROTECT, related_name="lines")
    row_number = models.PositiveIntegerField()
    line_key = models.CharField(
        max_length=64, help_text="Bank's id, else hash of date, amount, reference, n-th equal row."
    )
    booked_on = models.DateField()
    value_on = models.DateField(null=True, blank=True)
    amount = AmountField(help_text="Signed: positive came in.")
    reference = models.CharField(max_length=140, blank=True)
    description = models.TextField(blank=True)
    state = FSMField(choices=State.choices, default=State.UNMATCHED, protected=True)
    rule = models.CharField(max_length=40, blank=True)
    settlement = models.ForeignKey(
        Settlement, null=True, blank=True, on_delete=models.PROTECT, related_name="bank_lines"
    )
    payment = models.OneToOneField(
        "payments.Payment",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="bank_line",
        help_text="Of an offline payment.",
    )
    raw = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["bank_account", "line_key"], name="bank_line_once"),
            models.UniqueConstraint(
                fields=["settlement"],
                condition=models.Q(state="matched") & ~models.Q(rule="returned"),
                name="settlement_arrives_once",
            ),
            models.UniqueConstraint(
                fields=["settlement"],
                condition=models.Q(state="matched", rule="returned"),
                name="settlement_returns_once",
            ),
        ]
        indexes = [
            models.Index(
                fields=["organisation", "state", "booked_on"],
                name="bank_line_open",
                condition=~models.Q(state="matched"),
            )
        ]

    def __str__(self) -> str:
        return f"{self.booked_on} {self.amount} {self.reference or self.description[:40]}"

    @transition(state, source=[State.UNMATCHED, State.EXCEPTION], target=State.MATCHED)
    def match(self, *, rule: str) -> None:
        self.rule = rule

    @transition(state, source=State.UNMATCHED, target=State.EXCEPTION)
    def set_aside(self) -> None: ...

    @transition(state, source=[State.UNMATCHED, State.EXCEPTION], target=State.RESOLVED)
    def resolve(self, *, rule: str) -> None:
        self.rule = rule


class ReconciliationException(TenantModel):
    """A line or item without a match, with a class, an owner, an age and a due day. Never deleted."""

    class Status(models.TextChoices):
        OPEN = "open"
        RESOLVED = "resolved"

    kind = models.CharField(max_length=40, help_text="Class of console/DESIGN: missing_in_books, amount_differs, …")
    source_type = models.CharField(max_length=40)
    source_id = models.UUIDField()
    amount = AmountField()
    explanation = models.CharField(max_length=300)
    next_step = models.CharField(max_length=200)
    details = models.JSONField(
        default=dict, blank=True, help_text="Ids of what it may belong to, expected and found amounts."
    )
    status = FSMField(choices=Status.choices, default=Status.OPEN, protected=True)
    owner = models.ForeignKey("billing.User", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    opened_at = models.DateTimeField()
    due_on = models.DateField()
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolution = models.CharField(max_length=40, blank=True)
    reason = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["source_type", "source_id", "kind"], condition=models.Q(status="open"), name="exception_once"
            )
        ]
        indexes = [models.Index(fields=["organisation", "status", "due_on"], name="exception_board")]

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')} {self.amount}"

    @transition(status, source=Status.OPEN, target=Status.RESOLVED)
    def resolve(self, *, at: Any, resolution: str, reason: str) -> None:
        self.resolved_at, self.resolution, self.reason = at, resolution, reason
