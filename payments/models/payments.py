"""Payments, their attempts, refunds and disputes."""

from typing import Any

from django.db import models
from django_fsm import FSMField, transition

from billing.models.base import TenantModel
from billing.models.fields import AmountField
from payments.models.gateways import GatewayAccount, PaymentMethod


class Payment(TenantModel):
    """An intent to collect an amount once. ``reference`` is what it pays for (``invoice:<id>``), unique per organisation."""

    class Status(models.TextChoices):
        PENDING = "pending"  # to be attempted, now or at next_attempt_at
        PROCESSING = "processing"  # an attempt is under way or its outcome unknown
        REQUIRES_ACTION = "requires_action"  # the customer has to do something
        SUCCEEDED = "succeeded"
        FAILED = "failed"  # given up; a customer may still pay by another payment
        CANCELLED = "cancelled"

    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="payments")
    reference = models.CharField(max_length=100)
    description = models.CharField(max_length=200, blank=True)
    amount = AmountField()
    refunded = AmountField(help_text="Sum of refunds that are not failed.")
    disputed = AmountField(help_text="Sum of disputes open or lost.")
    method = models.ForeignKey(PaymentMethod, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    gateway_account = models.ForeignKey(
        GatewayAccount, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    status = FSMField(choices=Status.choices, default=Status.PENDING, protected=True)
    automatic = models.BooleanField(
        default=True, help_text="Collected off session; False: the customer pays on a hosted page or offline."
    )
    next_attempt_at = models.DateTimeField(null=True, blank=True, help_text="On the organisation's clock.")
    attempts_made = models.PositiveSmallIntegerField(default=0)
    decline_class = models.CharField(max_length=20, blank=True)
    decline_code = models.CharField(max_length=60, blank=True)
    action_url = models.URLField(max_length=500, blank=True, help_text="Hosted page where the customer acts.")
    cancel_requested = models.BooleanField(
        default=False, help_text="Nobody wants it any more; an attempt under way is not repeated."
    )
    captured_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organisation", "reference"], name="payment_reference"),
            models.CheckConstraint(condition=models.Q(amount__gt=0), name="payment_positive"),
            models.CheckConstraint(
                condition=models.Q(refunded__gte=0, refunded__lte=models.F("amount")), name="refunds_within_payment"
            ),
        ]
        indexes = [
            models.Index(
                fields=["organisation", "next_attempt_at"], name="payment_due", condition=models.Q(status="pending")
            ),
            models.Index(fields=["organisation", "-id"], name="payment_page"),
            models.Index(fields=["customer", "status"], name="payment_of_customer"),
        ]

    def __str__(self) -> str:
        return self.description or self.reference

    @transition(status, source=Status.PENDING, target=Status.PROCESSING)
    def begin(self) -> None:
        self.attempts_made += 1
        self.next_attempt_at = None
        self.action_url = ""

    @transition(status, source=[Status.PROCESSING, Status.PENDING], target=Status.REQUIRES_ACTION)
    def require_action(self, *, url: str) -> None:
        self.action_url = url

    @transition(
        status,
        source=[Status.PENDING, Status.PROCESSING, Status.REQUIRES_ACTION, Status.FAILED, Status.CANCELLED],
        target=Status.SUCCEEDED,
    )
    def succeed(self, *, at: Any) -> None:
        """Also from failed and cancelled: money that came late is still money."""
        self.captured_at, self.next_attempt_at = at, None
        self.decline_class = self.decline_code = self.action_url = ""

    @transition(status, source=[Status.PROCESSING, Status.REQUIRES_ACTION], target=Status.PENDING)
    def retry_at(self, *, at: Any, decline_class: str, decline_code: str) -> None:
        self.next_attempt_at, self.decline_class, self.decline_code = at, decline_class, decline_code
        self.action_url = ""

    @transition(status, source=[Status.PENDING, Status.FAILED], target=Status.PENDING)
    def wake(self, *, at: Any) -> None:
        """Try again from the beginning: a new method, or a person's wish."""
        self.next_attempt_at = at
        self.decline_class = self.decline_code = self.action_url = ""

    @transition(status, source=[Status.PENDING, Status.PROCESSING, Status.REQUIRES_ACTION], target=Status.FAILED)
    def give_up(self, *, decline_class: str, decline_code: str) -> None:
        self.next_attempt_at, self.decline_class, self.decline_code = None, decline_class, decline_code
        self.action_url = ""

    @transition(
        status,
        source=[Status.PENDING, Status.PROCESSING, Status.REQUIRES_ACTION, Status.FAILED],
        target=Status.CANCELLED,
    )
    def cancel(self) -> None:
        """From processing only once its attempt has ended without money."""
        self.next_attempt_at, self.action_url = None, ""


class PaymentAttempt(TenantModel):
    """One try at one gateway under one idempotency key; committed before the call."""

    class Status(models.TextChoices):
        CREATED = "created"  # committed, call may or may not have been made
        REQUIRES_ACTION = "requires_action"
        AUTHORIZED = "authorized"
        PROCESSING = "processing"  # the gateway has it and will say later
        UNKNOWN = "unknown"  # the answer was lost: asked again, never charged again
        CAPTURED = "captured"
        DECLINED = "declined"
        ABANDONED = "abandoned"  # the gateway never heard of it

    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="attempts")
    number = models.PositiveSmallIntegerField()
    gateway_account = models.ForeignKey(GatewayAccount, on_delete=models.PROTECT, related_name="+")
    method = models.ForeignKey(PaymentMethod, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    amount = AmountField()
    idempotency_key = models.CharField(max_length=80, unique=True)
    status = FSMField(choices=Status.choices, default=Status.CREATED, protected=True)
    gateway_order_ref = models.CharField(
        max_length=80, blank=True, db_index=True, help_text="Order or intent at the gateway."
    )
    gateway_ref = models.CharField(
        max_length=80, blank=True, db_index=True, help_text="Payment or charge at the gateway."
    )
    action_url = models.URLField(max_length=500, blank=True)
    decline_class = models.CharField(max_length=20, blank=True)
    decline_code = models.CharField(max_length=60, blank=True)
    fee = AmountField(null=True, blank=True)
    started_at = models.DateTimeField(help_text="On the organisation's clock.")
    expires_at = models.DateTimeField(
        null=True, blank=True, help_text="On the organisation's clock: until when its hosted page is open."
    )
    asked_at = models.DateTimeField(
        null=True, blank=True, help_text="Wall clock of the last look-up of an unknown outcome."
    )
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["payment", "number"], name="attempt_number"),
            models.UniqueConstraint(
                fields=["payment"],
                condition=models.Q(status__in=["created", "requires_action", "authorized", "processing", "unknown"]),
                name="one_open_attempt",
            ),
            models.UniqueConstraint(fields=["payment"], condition=models.Q(status="captured"), name="captured_once"),
        ]
        indexes = [
            models.Index(
                fields=["organisation", "status"],
                name="attempt_open",
                condition=models.Q(status__in=["created", "requires_action", "processing", "unknown", "authorized"]),
            )
        ]

    def __str__(self) -> str:
        return f"{self.number}: {self.status}"

    OPEN = [Status.CREATED, Status.REQUIRES_ACTION, Status.AUTHORIZED, Status.PROCESSING, Status.UNKNOWN]

    @property
    def is_open(self) -> bool:
        """Whether money may still come of it without anything new being begun."""
        return self.status in self.OPEN

    @property
    def is_page(self) -> bool:
        """Whether the customer pays on a hosted page; else a saved method is debited."""
        return self.method_id is None

    @transition(status, source=[Status.CREATED, Status.UNKNOWN, Status.PROCESSING], target=Status.REQUIRES_ACTION)
    def require_action(self, *, url: str) -> None:
        self.action_url = url

    @transition(
        status,
        source=[
            Status.CREATED,
            Status.REQUIRES_ACTION,
            Status.PROCESSING,
            Status.UNKNOWN,
            Status.DECLINED,
            Status.ABANDONED,
        ],
        target=Status.AUTHORIZED,
    )
    def authorize(self) -> None:
        """Also from declined: Razorpay may authorise late."""
        self.finished_at = None

    @transition(status, source=[Status.CREATED, Status.REQUIRES_ACTION, Status.UNKNOWN], target=Status.PROCESSING)
    def wait(self) -> None:
        """The gateway has it; its outcome comes later."""

    @transition(status, source=Status.CREATED, target=Status.UNKNOWN)
    def lose_answer(self) -> None: ...

    @transition(status, source=[*OPEN, Status.DECLINED, Status.ABANDONED], target=Status.CAPTURED)
    def capture(self, *, at: Any) -> None:
        self.finished_at = at

    @transition(status, source=OPEN, target=Status.DECLINED)
    def decline(self, *, at: Any, decline_class: str, decline_code: str) -> None:
        self.finished_at, self.decline_class, self.decline_code = at, decline_class, decline_code

    @transition(status, source=OPEN, target=Status.ABANDONED)
    def abandon(self, *, at: Any) -> None:
        self.finished_at = at


class Refund(TenantModel):
    """Captured money on its way back. The sum of a payment's refunds never exceeds what was captured."""

    class Status(models.TextChoices):
        REQUESTED = "requested"
        PROCESSING = "processing"
        UNKNOWN = "unknown"
        SUCCEEDED = "succeeded"
        FAILED = "failed"

    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="refunds")
    amount = AmountField()
    reason = models.CharField(max_length=300)
    status = FSMField(choices=Status.choices, default=Status.REQUESTED, protected=True)
    idempotency_key = models.CharField(max_length=80, unique=True)
    gateway_ref = models.CharField(max_length=80, blank=True, db_index=True)
    error = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()
    asked_at = models.DateTimeField(null=True, blank=True, help_text="Wall clock of the last look-up.")
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["organisation", "status"],
                name="refund_open",
                condition=models.Q(status__in=["requested", "processing", "unknown"]),
            )
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["payment", "gateway_ref"], condition=~models.Q(gateway_ref=""), name="refund_once"
            ),
            models.CheckConstraint(condition=models.Q(amount__gt=0), name="refund_positive"),
        ]

    def __str__(self) -> str:
        return self.idempotency_key

    @transition(status, source=[Status.REQUESTED, Status.UNKNOWN], target=Status.PROCESSING)
    def submit(self, *, gateway_ref: str) -> None:
        self.gateway_ref = gateway_ref

    @transition(status, source=[Status.REQUESTED, Status.PROCESSING], target=Status.UNKNOWN)
    def lose_answer(self) -> None: ...

    @transition(status, source=[Status.REQUESTED, Status.PROCESSING, Status.UNKNOWN], target=Status.SUCCEEDED)
    def succeed(self, *, at: Any) -> None:
        self.finished_at = at

    @transition(
        status, source=[Status.REQUESTED, Status.PROCESSING, Status.UNKNOWN, Status.SUCCEEDED], target=Status.FAILED
    )
    def fail(self, *, at: Any, error: str) -> None:
        """Also from succeeded: a bank may send a refund back."""
        self.finished_at, self.error = at, error


class Dispute(TenantModel):
    """The payer contests a charge through the bank."""

    class Status(models.TextChoices):
        OPEN = "open"
        UNDER_REVIEW = "under_review"
        WON = "won"
        LOST = "lost"

    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="disputes")
    gateway_account = models.ForeignKey(GatewayAccount, on_delete=models.PROTECT, related_name="+")
    gateway_ref = models.CharField(max_length=80)
    amount = AmountField()
    fee = AmountField()
    reason = models.CharField(max_length=80, blank=True)
    status = FSMField(choices=Status.choices, default=Status.OPEN, protected=True)
    respond_by = models.DateTimeField(null=True, blank=True)
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["gateway_account", "gateway_ref"], name="dispute_once")]

    def __str__(self) -> str:
        return self.gateway_ref

    @transition(status, source=Status.OPEN, target=Status.UNDER_REVIEW)
    def contest(self) -> None: ...

    @transition(status, source=[Status.OPEN, Status.UNDER_REVIEW], target=Status.WON)
    def win(self, *, at: Any) -> None:
        self.closed_at = at

    @transition(status, source=[Status.OPEN, Status.UNDER_REVIEW], target=Status.LOST)
    def lose(self, *, at: Any) -> None:
        self.closed_at = at
