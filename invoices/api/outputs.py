"""What the API answers. Lists are made from columns, without model instances or serializers on the way."""

from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing import masking
from billing.api.base import AmountSerializerField
from billing.models import Organisation
from invoices.api.fields import wire_amount, wire_number
from invoices.drafts import PricedInvoice
from invoices.models import CreditNote, InstallmentPlan, Invoice, Mail, TaxRate
from invoices.services import refunding

AMOUNTS = ("net", "tax", "total", "paid", "credited", "due")
SUMMARY = (
    "id", "number", "status", "origin", "issued_on", "due_on", "period_start", "period_end", "overdue_at", "subscription_ref",
)  # fmt: skip
COLUMNS = (*SUMMARY, "customer_id", "currency", *AMOUNTS)
DETAILS = (
    "place_of_supply", "reverse_charge", "prices_include_tax", "memo", "custom_fields", "collect_automatically", "method_ref",
    "created_at", "finalized_at", "paid_at", "version",
)  # fmt: skip


class InvoiceRow(serializers.Serializer):
    """An invoice in a list."""

    id = serializers.UUIDField()
    number = serializers.CharField(allow_blank=True)
    status = serializers.ChoiceField(choices=Invoice.Status.choices)
    origin = serializers.ChoiceField(choices=Invoice.Origin.choices)
    customer = serializers.UUIDField()
    currency = serializers.CharField()
    net = AmountSerializerField()
    tax = AmountSerializerField()
    total = AmountSerializerField()
    paid = AmountSerializerField()
    credited = AmountSerializerField()
    due = AmountSerializerField()
    issued_on = serializers.DateField(allow_null=True)
    due_on = serializers.DateField(allow_null=True)
    period_start = serializers.DateField(allow_null=True)
    period_end = serializers.DateField(allow_null=True)
    overdue_at = serializers.DateTimeField(allow_null=True)
    subscription_ref = serializers.UUIDField(allow_null=True)


class LineRow(serializers.Serializer):
    """A line of an invoice."""

    position = serializers.IntegerField()
    description = serializers.CharField()
    code = serializers.CharField(allow_blank=True)
    quantity = serializers.CharField()
    unit = serializers.CharField(allow_blank=True)
    unit_price = serializers.CharField()
    amount = AmountSerializerField()
    tax_category = serializers.CharField(allow_blank=True)
    tax_code = serializers.CharField(allow_blank=True)
    tax_rate = serializers.CharField()
    tax = AmountSerializerField()
    period_start = serializers.DateField(allow_null=True)
    period_end = serializers.DateField(allow_null=True)
    details = serializers.ListField(child=serializers.DictField())


class TaxLine(serializers.Serializer):
    """A row of the tax table."""

    component = serializers.CharField()
    category = serializers.CharField()
    rate = serializers.CharField()
    base = AmountSerializerField()
    tax = AmountSerializerField()
    reverse_charged = AmountSerializerField()
    reason = serializers.CharField(allow_blank=True)


class AllocationRow(serializers.Serializer):
    """What paid an invoice; ``payment`` empty: the customer's credit."""

    payment = serializers.UUIDField(allow_null=True)
    amount = AmountSerializerField()
    created_at = serializers.DateTimeField()


class InvoiceDetail(InvoiceRow):
    """An invoice with everything on it."""

    rounding = AmountSerializerField()
    place_of_supply = serializers.CharField(allow_blank=True)
    reverse_charge = serializers.BooleanField()
    prices_include_tax = serializers.BooleanField()
    memo = serializers.CharField(allow_blank=True)
    custom_fields = serializers.DictField(child=serializers.CharField())
    collect_automatically = serializers.BooleanField()
    method_ref = serializers.UUIDField(allow_null=True)
    created_at = serializers.DateTimeField()
    finalized_at = serializers.DateTimeField(allow_null=True)
    paid_at = serializers.DateTimeField(allow_null=True)
    version = serializers.IntegerField()
    lines = LineRow(many=True)
    taxes = TaxLine(many=True)
    allocations = AllocationRow(many=True)
    credit_notes = serializers.ListField(child=serializers.UUIDField())


class PreviewSerializer(serializers.Serializer):
    """What issuing would write."""

    currency = serializers.CharField()
    net = AmountSerializerField()
    tax = AmountSerializerField()
    rounding = AmountSerializerField()
    total = AmountSerializerField()
    place_of_supply = serializers.CharField(allow_blank=True)
    reverse_charge = serializers.BooleanField()
    lines = LineRow(many=True)
    taxes = TaxLine(many=True)


class CreditedLine(serializers.Serializer):
    """What a credit note takes off a line."""

    position = serializers.IntegerField()
    description = serializers.CharField()
    amount = serializers.CharField()
    tax = serializers.CharField()
    tax_rate = serializers.CharField()


class CreditedTax(serializers.Serializer):
    """A row of a credit note's tax table."""

    component = serializers.CharField()
    category = serializers.CharField()
    rate = serializers.CharField()
    base = serializers.CharField()
    tax = serializers.CharField()


class CreditNoteSerializer(serializers.ModelSerializer):
    """A credit note."""

    customer = serializers.UUIDField(source="invoice.customer_id")
    net = AmountSerializerField()
    tax = AmountSerializerField()
    rounding = AmountSerializerField()
    total = AmountSerializerField()
    reduced_due = AmountSerializerField()
    to_credit = AmountSerializerField()
    lines = CreditedLine(many=True)
    taxes = CreditedTax(many=True)

    class Meta:
        model = CreditNote
        fields = [
            "id", "number", "invoice", "customer", "issued_on", "reason", "net", "tax", "rounding", "total", "reduced_due",
            "to_credit", "lines", "taxes", "created_at",
        ]  # fmt: skip


class RefundOfNote(serializers.Serializer):
    """A refund that a credit note asked for."""

    id = serializers.UUIDField()
    payment = serializers.UUIDField(source="payment_id")
    amount = AmountSerializerField()
    status = serializers.CharField()
    error = serializers.CharField(help_text="Why it failed; empty otherwise.")
    created_at = serializers.DateTimeField()


class CreditNoteDetail(CreditNoteSerializer):
    """A credit note with the refunds it asked for."""

    refunds = serializers.SerializerMethodField()

    class Meta(CreditNoteSerializer.Meta):
        fields = [*CreditNoteSerializer.Meta.fields, "refunds"]

    @extend_schema_field(RefundOfNote(many=True))
    def get_refunds(self, note: CreditNote) -> Any:
        return RefundOfNote(refunding.refunds_of(note), many=True).data


class InstallmentRow(serializers.Serializer):
    """One part of a plan."""

    number = serializers.IntegerField()
    due_on = serializers.DateField()
    amount = AmountSerializerField()
    invoice = serializers.UUIDField(source="invoice_id", allow_null=True)
    failure = serializers.CharField(help_text="Why it could not be invoiced; empty when nothing is in the way.")


class InstallmentPlanSerializer(serializers.ModelSerializer):
    """A plan with its parts."""

    total = AmountSerializerField()
    installments = InstallmentRow(many=True)

    class Meta:
        model = InstallmentPlan
        fields = [
            "id", "customer", "beneficiary", "description", "total", "tax_category", "interval_months", "net_days",
            "collect_automatically", "status", "installments", "created_at",
        ]  # fmt: skip


class TaxRateSerializer(serializers.ModelSerializer):
    """A tax rate."""

    class Meta:
        model = TaxRate
        fields = [
            "id",
            "category",
            "country",
            "region",
            "rate",
            "code",
            "exemption_reason",
            "valid_from",
            "valid_until",
        ]


class MailSerializer(serializers.ModelSerializer):
    """A letter; its recipient masked."""

    recipient = serializers.SerializerMethodField()

    class Meta:
        model = Mail
        fields = [
            "id", "customer", "kind", "invoice", "credit_note", "recipient", "status", "send_after", "attempts", "message_id",
            "error", "created_at", "sent_at",
        ]  # fmt: skip

    def get_recipient(self, mail: Mail) -> str:
        return masking.mask_email(mail.recipient)


def invoice_row(row: dict[str, Any]) -> dict[str, Any]:
    """An invoice for JSON from its columns."""
    currency = row["currency"]
    wired = {name: row[name] for name in SUMMARY}
    wired |= {"customer": row["customer_id"], "currency": currency}
    wired |= {name: wire_amount(row[name], currency) for name in AMOUNTS}
    return wired


def invoice_detail(organisation: Organisation, invoice_id: Any) -> dict[str, Any]:
    """An invoice with its lines, taxes, allocations and credit notes for JSON."""
    invoice = Invoice.objects.of(organisation).prefetch_related("lines", "taxes", "allocations").get(pk=invoice_id)
    row = {name: getattr(invoice, name) for name in (*SUMMARY, "customer_id", "currency")}
    row |= {name: getattr(invoice, name).amount for name in AMOUNTS}
    currency = invoice.currency
    details = {name: getattr(invoice, name) for name in DETAILS}
    details["rounding"] = wire_amount(invoice.rounding.amount, currency)
    return (
        invoice_row(row)
        | details
        | {
            "lines": [_line(line, line.amount.amount, line.tax.amount, currency) for line in invoice.lines.all()],
            "taxes": [
                _tax(tax, tax.base.amount, tax.tax.amount, tax.reverse_charged.amount, currency)
                for tax in invoice.taxes.all()
            ],
            "allocations": [
                {
                    "payment": allocation.payment_id,
                    "amount": wire_amount(allocation.amount.amount, currency),
                    "created_at": allocation.created_at,
                }
                for allocation in sorted(invoice.allocations.all(), key=lambda row: row.pk)
            ],
            "credit_notes": list(invoice.credit_notes.order_by("pk").values_list("pk", flat=True)),
        }
    )


def preview(priced: PricedInvoice) -> dict[str, Any]:
    """A priced draft for JSON."""
    currency = priced.currency
    return {
        "currency": currency,
        **{name: wire_amount(getattr(priced, name), currency) for name in ("net", "tax", "rounding", "total")},
        "place_of_supply": priced.place_of_supply,
        "reverse_charge": priced.reverse_charge,
        "lines": [
            _line(line.given, line.amount, line.tax, currency)
            | {
                "position": line.position,
                "unit_price": wire_number(line.given.price),
                "tax_code": line.tax_code,
                "tax_rate": wire_number(line.tax_rate),
            }
            for line in priced.lines
        ],
        "taxes": [_tax(row, row.base, row.tax, row.reverse_charged, currency) for row in priced.taxes],
    }


def _line(line: Any, amount: Any, tax: Any, currency: str) -> dict[str, Any]:
    return {
        "position": getattr(line, "position", 0),
        "description": line.description,
        "code": line.code,
        "quantity": wire_number(line.quantity),
        "unit": line.unit,
        "unit_price": wire_number(line.unit_price) if line.unit_price is not None else "",
        "amount": wire_amount(amount, currency),
        "tax_category": line.tax_category,
        "tax_code": line.tax_code,
        "tax_rate": wire_number(getattr(line, "tax_rate", Decimal(0))),
        "tax": wire_amount(tax, currency),
        "period_start": line.period_start,
        "period_end": line.period_end,
        "details": list(line.details),
    }


def _tax(row: Any, base: Any, tax: Any, reverse_charged: Any, currency: str) -> dict[str, Any]:
    return {
        "component": row.component,
        "category": row.category,
        "rate": wire_number(row.rate),
        "base": wire_amount(base, currency),
        "tax": wire_amount(tax, currency),
        "reverse_charged": wire_amount(reverse_charged, currency),
        "reason": row.reason,
    }
