"""Customers, whom they buy for, and the immutable party details that documents print."""

from typing import Any

from django.db import models

from billing.models.base import TenantModel
from billing.models.fields import EncryptedJSONField, EncryptedTextField


class BillingParty(TenantModel):
    """One version of a seller's or buyer's details. Never changed: a change makes a new row, documents keep theirs.

    ``details``: name, email, phone, address {line1, line2, city, region, postal_code, country}, tax_ids {gstin, vat, …}.
    The columns beside it are what tax rules need without decrypting.
    """

    customer = models.ForeignKey("billing.Customer", null=True, on_delete=models.PROTECT, related_name="parties")
    details: Any = EncryptedJSONField()
    country = models.CharField(max_length=2)
    region = models.CharField(max_length=6, blank=True)
    registered = models.BooleanField(default=False, help_text="Has a tax registration (GSTIN, VAT id).")
    tax_treatment = models.CharField(
        max_length=20, default="standard", help_text="standard, exempt, sez, export or reverse_charge."
    )

    class Meta:
        verbose_name_plural = "billing parties"


class Customer(TenantModel):
    """The party who owes and pays. Personal fields are encrypted; look-ups go through keyed hashes."""

    external_id = models.CharField(max_length=100)
    name = EncryptedTextField()
    email = EncryptedTextField(blank=True)
    email_hash = models.CharField(max_length=64, blank=True, db_index=True)
    phone = EncryptedTextField(blank=True)
    phone_hash = models.CharField(max_length=64, blank=True, db_index=True)
    party = models.ForeignKey(BillingParty, null=True, on_delete=models.PROTECT, related_name="+")
    currency = models.CharField(max_length=3)
    time_zone = models.CharField(max_length=60, blank=True, help_text="Empty: the organisation's.")
    language = models.CharField(
        max_length=10, blank=True, help_text="Language of documents and mail; empty: the organisation's."
    )
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(help_text="On the organisation's clock.")
    archived_at = models.DateTimeField(null=True, blank=True)
    version = models.PositiveIntegerField(default=1, help_text="For optimistic locking.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organisation", "external_id"], name="customer_external_id")]
        indexes = [models.Index(fields=["organisation", "-id"], name="customer_page")]

    def __str__(self) -> str:
        return self.external_id


class Beneficiary(TenantModel):
    """Whom a customer buys for: a student of a family, a team of a company."""

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="beneficiaries")
    external_id = models.CharField(max_length=100)
    name = EncryptedTextField()
    metadata = models.JSONField(default=dict, blank=True)

    class Meta:
        verbose_name_plural = "beneficiaries"
        constraints = [models.UniqueConstraint(fields=["organisation", "external_id"], name="beneficiary_external_id")]

    def __str__(self) -> str:
        return self.external_id
