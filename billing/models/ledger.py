"""The double-entry ledger: append only, balanced per currency; the database refuses anything else (migration 0002)."""

from typing import Any

from django.db import models

from billing.models.base import TenantModel, TenantQuerySet
from billing.models.fields import AmountField


class AccountKind(models.TextChoices):
    ASSET = "asset"
    LIABILITY = "liability"
    EQUITY = "equity"
    INCOME = "income"
    EXPENSE = "expense"


class LedgerAccount(TenantModel):
    """One account in one currency. Codes come from ``billing/chart.py``."""

    code = models.CharField(max_length=60)
    currency = models.CharField(max_length=3)
    kind = models.CharField(max_length=10, choices=AccountKind.choices)

    class Meta:
        ordering = ["code", "currency"]
        constraints = [models.UniqueConstraint(fields=["organisation", "code", "currency"], name="ledger_account_code")]

    def __str__(self) -> str:
        return f"{self.code} {self.currency}"


class JournalEntry(TenantModel):
    """A balanced movement. ``idempotency_key`` is its natural key: the same fact posts once."""

    kind = models.CharField(max_length=40, help_text="invoice_finalized, payment_captured, …")
    source_type = models.CharField(max_length=40)
    source_id = models.UUIDField()
    occurred_at = models.DateTimeField(help_text="On the organisation's clock.")
    idempotency_key = models.CharField(max_length=120)
    description = models.CharField(max_length=200, blank=True)
    reverses = models.OneToOneField("self", null=True, blank=True, on_delete=models.PROTECT, related_name="reversed_by")

    class Meta:
        verbose_name_plural = "journal entries"
        constraints = [models.UniqueConstraint(fields=["organisation", "idempotency_key"], name="journal_entry_key")]
        indexes = [
            models.Index(fields=["organisation", "occurred_at"], name="journal_entry_time"),
            models.Index(fields=["source_id"], name="journal_entry_source"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.occurred_at:%Y-%m-%d}"


class Posting(models.Model):
    """One side of an entry: a positive amount, debited or credited to an account of the same currency."""

    class Side(models.TextChoices):
        DEBIT = "D"
        CREDIT = "C"

    id = models.BigAutoField(primary_key=True)
    organisation = models.ForeignKey("billing.Organisation", on_delete=models.PROTECT, related_name="+")
    entry = models.ForeignKey(JournalEntry, on_delete=models.PROTECT, related_name="postings")
    account = models.ForeignKey(LedgerAccount, on_delete=models.PROTECT, related_name="postings")
    side = models.CharField(max_length=1, choices=Side.choices)
    amount = AmountField()
    customer = models.ForeignKey("billing.Customer", null=True, blank=True, on_delete=models.PROTECT, related_name="+")

    objects: Any = TenantQuerySet.as_manager()

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(amount__gt=0), name="posting_positive")]
        indexes = [
            models.Index(
                fields=["customer", "account"], name="posting_customer", condition=models.Q(customer__isnull=False)
            )
        ]

    def __str__(self) -> str:
        return f"{self.side} {self.amount}"
