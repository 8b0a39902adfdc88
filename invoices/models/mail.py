"""Documents drawn and letters sent."""

from typing import Any

from django.db import models
from django_fsm import FSMField, FSMModelMixin, transition

from billing.models.base import TenantModel
from billing.models.fields import EncryptedTextField


class Mail(FSMModelMixin, TenantModel):
    """One letter to one address: committed before the SMTP conversation, sent once."""

    class Status(models.TextChoices):
        DUE = "due"
        SENDING = "sending"
        SENT = "sent"
        FAILED = "failed"
        CANCELLED = "cancelled"

    customer = models.ForeignKey("billing.Customer", on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(
        max_length=40,
        help_text="invoice, credit_note, receipt, reminder_1, reminder_2, final_notice, expiry_notice, trial_ending, …",
    )
    key = models.CharField(max_length=140, help_text="Natural key: the same letter is sent once.")
    invoice = models.ForeignKey(
        "invoices.Invoice", null=True, blank=True, on_delete=models.PROTECT, related_name="mails"
    )
    credit_note = models.ForeignKey(
        "invoices.CreditNote", null=True, blank=True, on_delete=models.PROTECT, related_name="mails"
    )
    recipient = EncryptedTextField()
    context = models.JSONField(default=dict, blank=True)
    status = FSMField(choices=Status.choices, default=Status.DUE, protected=True)
    send_after = models.DateTimeField(help_text="On the organisation's clock.")
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True, help_text="Wall clock.")
    message_id = models.CharField(max_length=200, blank=True)
    error = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organisation", "key"], name="mail_once")]
        indexes = [
            models.Index(
                fields=["organisation", "send_after"],
                name="mail_due",
                condition=models.Q(status__in=["due", "sending"]),
            )
        ]

    def __str__(self) -> str:
        return self.kind.replace("_", " ")

    @transition(status, source=[Status.DUE, Status.SENDING], target=Status.SENDING)
    def begin(self, *, message_id: str, until: Any) -> None:
        """Claim it until ``until`` (wall clock); the Message-ID stays the same over all tries."""
        self.attempts += 1
        self.message_id = self.message_id or message_id
        self.next_attempt_at = until

    @transition(status, source=Status.SENDING, target=Status.SENT)
    def done(self, *, at: Any) -> None:
        self.sent_at, self.error, self.next_attempt_at = at, "", None

    @transition(status, source=Status.SENDING, target=Status.DUE)
    def postpone(self, *, until: Any, error: str) -> None:
        self.next_attempt_at, self.error = until, error

    @transition(status, source=Status.SENDING, target=Status.FAILED)
    def fail(self, *, error: str) -> None:
        self.error = error

    @transition(status, source=[Status.DUE, Status.FAILED], target=Status.CANCELLED)
    def cancel(self) -> None: ...
