"""Gateway accounts, payment methods and the inbox of what gateways tell us."""

from typing import Any

from django.db import models
from django_fsm import FSMField, transition

from billing.models.base import TenantModel
from billing.models.fields import AmountField, EncryptedTextField


class Provider(models.TextChoices):
    RAZORPAY = "razorpay"
    STRIPE = "stripe"
    OFFLINE = "offline"


class GatewayAccount(TenantModel):
    """The organisation's account at one provider. Secrets are encrypted; two webhook secrets live during a rotation."""

    provider = models.CharField(max_length=20, choices=Provider.choices)
    code = models.SlugField(max_length=40)
    key_id = models.CharField(max_length=120, blank=True, help_text="Public key id.")
    key_secret = EncryptedTextField(blank=True)
    webhook_secret = EncryptedTextField(blank=True)
    previous_webhook_secret = EncryptedTextField(blank=True)
    active = models.BooleanField(default=True)
    is_default = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organisation", "code"], name="gateway_account_code"),
            models.UniqueConstraint(
                fields=["organisation"], condition=models.Q(is_default=True), name="one_default_gateway"
            ),
        ]

    def __str__(self) -> str:
        return self.code


class GatewayCustomer(TenantModel):
    """A customer's id at a gateway account."""

    gateway_account = models.ForeignKey(GatewayAccount, on_delete=models.PROTECT, related_name="+")
    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="+")
    gateway_ref = models.CharField(max_length=80)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["gateway_account", "customer"], name="gateway_customer_once")]

    def __str__(self) -> str:
        return self.gateway_ref


class PaymentMethod(TenantModel):
    """A token at a gateway: card, UPI, e-mandate. Never a card number; only what may be shown."""

    class Kind(models.TextChoices):
        CARD = "card"
        UPI = "upi"
        EMANDATE = "emandate"
        NETBANKING = "netbanking"
        WALLET = "wallet"
        OFFLINE = "offline"

    class Status(models.TextChoices):
        PENDING = "pending"
        ACTIVE = "active"
        EXPIRED = "expired"
        REVOKED = "revoked"
        DETACHED = "detached"

    gateway_account = models.ForeignKey(GatewayAccount, on_delete=models.PROTECT, related_name="methods")
    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="payment_methods")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    status = FSMField(choices=Status.choices, default=Status.PENDING, protected=True)
    token = EncryptedTextField(help_text="The gateway's token or payment method id.")
    token_hash = models.CharField(max_length=64)
    brand = models.CharField(max_length=30, blank=True)
    last4 = models.CharField(max_length=4, blank=True)
    expires_on = models.DateField(null=True, blank=True, help_text="Last day of validity.")
    handle = models.CharField(max_length=80, blank=True, help_text="Masked UPI handle or bank name.")
    max_amount = AmountField(null=True, blank=True, help_text="Mandate limit for one debit.")
    is_default = models.BooleanField(default=False)
    expiry_notified_on = models.DateField(null=True, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["gateway_account", "token_hash"], name="payment_method_token"),
            models.UniqueConstraint(
                fields=["customer"], condition=models.Q(is_default=True), name="one_default_method"
            ),
        ]
        indexes = [
            models.Index(fields=["customer", "status"], name="method_of_customer"),
            models.Index(
                fields=["organisation", "expires_on"], name="method_expiry", condition=models.Q(status="active")
            ),
        ]

    def __str__(self) -> str:
        return " ".join(part for part in (self.kind, self.brand, self.last4 or self.handle) if part)

    @transition(status, source=Status.PENDING, target=Status.ACTIVE)
    def activate(self) -> None: ...

    @transition(status, source=[Status.PENDING, Status.ACTIVE], target=Status.EXPIRED)
    def expire(self) -> None:
        self.is_default = False

    @transition(status, source=[Status.PENDING, Status.ACTIVE], target=Status.REVOKED)
    def revoke(self) -> None:
        self.is_default = False

    @transition(status, source=[Status.PENDING, Status.ACTIVE, Status.EXPIRED, Status.REVOKED], target=Status.DETACHED)
    def detach(self) -> None:
        self.is_default = False


class InboundWebhook(TenantModel):
    """One message of a gateway, stored as it came before anything is done with it."""

    class Status(models.TextChoices):
        RECEIVED = "received"
        PROCESSED = "processed"
        IGNORED = "ignored"
        DEAD = "dead"

    gateway_account = models.ForeignKey(GatewayAccount, on_delete=models.PROTECT, related_name="+")
    event_id = models.CharField(max_length=120)
    type = models.CharField(max_length=80)
    body = EncryptedTextField()
    status = FSMField(choices=Status.choices, default=Status.RECEIVED, protected=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True, help_text="Wall clock.")
    error = models.TextField(blank=True)
    received_at = models.DateTimeField(help_text="Wall clock.")
    processed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["gateway_account", "event_id"], name="inbound_webhook_once")]
        indexes = [models.Index(fields=["next_attempt_at"], name="inbound_due", condition=models.Q(status="received"))]

    def __str__(self) -> str:
        return f"{self.type} {self.event_id}"

    @transition(status, source=Status.RECEIVED, target=Status.PROCESSED)
    def done(self, *, at: Any) -> None:
        self.processed_at, self.error = at, ""

    @transition(status, source=Status.RECEIVED, target=Status.IGNORED)
    def ignore(self, *, why: str) -> None:
        self.error = why

    @transition(status, source=Status.RECEIVED, target=Status.DEAD)
    def bury(self, *, error: str) -> None:
        self.error = error

    @transition(status, source=[Status.DEAD, Status.IGNORED], target=Status.RECEIVED)
    def replay(self) -> None:
        self.attempts, self.next_attempt_at = 0, None
