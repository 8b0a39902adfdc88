"""Text messages: one short text to one telephone number, and the numbers that want none."""

from typing import Any

from django.db import models
from django_fsm import FSMField, FSMModelMixin, transition

from billing.models.base import TenantModel
from billing.models.fields import EncryptedTextField


class TextMessage(FSMModelMixin, TenantModel):
    """One text: committed before the gateway is called, sent once. A lost answer is asked for, never sent again."""

    class Status(models.TextChoices):
        DUE = "due"
        SENDING = "sending"  # a worker has it: the call may or may not have been made
        UNKNOWN = "unknown"  # the answer was lost: the gateway is asked
        SENT = "sent"
        FAILED = "failed"
        SKIPPED = "skipped"  # the number wants no texts

    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(max_length=40, help_text="reminder_1, reminder_2, final_notice.")
    key = models.CharField(max_length=140, help_text="Natural key: the same text is sent once.")
    invoice = models.ForeignKey(
        "invoices.Invoice", null=True, blank=True, on_delete=models.PROTECT, related_name="texts"
    )
    recipient = EncryptedTextField(help_text="Number in international form.")
    recipient_hash = models.CharField(max_length=64, blank=True)
    body = EncryptedTextField(help_text="What is sent, written once: a gateway is asked for it by this.")
    status = FSMField(choices=Status.choices, default=Status.DUE, protected=True)
    send_after = models.DateTimeField(help_text="On the organisation's clock.")
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True, help_text="Wall clock.")
    called_at = models.DateTimeField(null=True, blank=True, help_text="Wall clock of the first call of the gateway.")
    gateway_ref = models.CharField(max_length=80, blank=True, help_text="The text's id at the gateway.")
    error = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organisation", "key"], name="text_once")]
        indexes = [
            models.Index(
                fields=["organisation", "send_after"],
                name="text_due",
                condition=models.Q(status__in=["due", "sending", "unknown"]),
            ),
            models.Index(fields=["organisation", "-id"], name="text_page"),
        ]

    def __str__(self) -> str:
        return self.kind.replace("_", " ")

    @transition(status, source=Status.DUE, target=Status.SENDING)
    def begin(self, *, at: Any, until: Any) -> None:
        """Claim it until ``until`` (wall clock)."""
        self.attempts += 1
        self.called_at = self.called_at or at
        self.next_attempt_at = until

    @transition(status, source=[Status.SENDING, Status.UNKNOWN], target=Status.UNKNOWN)
    def lose_answer(self, *, until: Any, error: str) -> None:
        """It may have been sent: ask at ``until`` (wall clock)."""
        self.next_attempt_at, self.error = until, error

    @transition(status, source=[Status.SENDING, Status.UNKNOWN], target=Status.SENT)
    def done(self, *, at: Any, gateway_ref: str) -> None:
        self.sent_at, self.gateway_ref, self.error, self.next_attempt_at = at, gateway_ref, "", None

    @transition(status, source=[Status.SENDING, Status.UNKNOWN], target=Status.DUE)
    def postpone(self, *, until: Any, error: str) -> None:
        """It was certainly not sent."""
        self.next_attempt_at, self.error = until, error

    @transition(status, source=[Status.DUE, Status.SENDING, Status.UNKNOWN], target=Status.FAILED)
    def fail(self, *, error: str) -> None:
        self.error, self.next_attempt_at = error, None

    @transition(status, source=[Status.DUE, Status.SENDING, Status.UNKNOWN], target=Status.SKIPPED)
    def skip(self, *, reason: str) -> None:
        self.error, self.next_attempt_at = reason, None


class TextOptOut(TenantModel):
    """A telephone number that wants no texts; known by its keyed hash only."""

    class Source(models.TextChoices):
        CUSTOMER = "customer"  # asked us
        GATEWAY = "gateway"  # answered STOP to the gateway

    phone_hash = models.CharField(max_length=64)
    ending = models.CharField(max_length=4, help_text="Last digits, to recognise it.")
    source = models.CharField(max_length=20, choices=Source.choices)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organisation", "phone_hash"], name="text_opt_out_once")]
        indexes = [models.Index(fields=["organisation", "-id"], name="text_opt_out_page")]

    def __str__(self) -> str:
        return f"•••{self.ending}"
