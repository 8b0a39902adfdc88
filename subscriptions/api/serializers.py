"""Shapes of subscriptions, their periods and previews on the wire."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing.api.base import AmountSerializerField, PlainJSONField, StrictSerializer, wire
from invoices.models import CreditNote, Invoice
from subscriptions.api.price_shapes import AddOnsField
from subscriptions.models import BilledPeriod, PlannedChange, Subscription
from subscriptions.services import catalog, changing, lifecycle

QUANTITY = {"min_value": 1, "max_value": changing.MAX_QUANTITY}
WHEN = [changing.NOW, changing.PERIOD_END]


class SubscriptionInput(StrictSerializer):
    customer = serializers.CharField(max_length=100, help_text="External id or id.")
    plan = serializers.CharField(max_length=60, help_text="Code or id; the version effective at the start is taken.")
    currency = serializers.CharField(min_length=3, max_length=3, required=False, help_text="Default: the customer's.")
    quantity = serializers.IntegerField(default=1, **QUANTITY)
    add_ons = AddOnsField(required=False, help_text="Quantities of the plan's add-ons, by component.")
    external_id = serializers.CharField(max_length=100, required=False, help_text="Yours; made up when left out.")
    start_at = serializers.DateTimeField(required=False, help_text="Now, in the future or in the past; default: now.")
    trial_days = serializers.IntegerField(
        min_value=0, max_value=catalog.MAX_TRIAL_DAYS, required=False, help_text="Default: the plan's."
    )
    ends_at = serializers.DateTimeField(required=False, help_text="Fixed end; its day is the last one charged.")
    anchor_on = serializers.DateField(
        required=False, help_text="Day that fixes where periods begin, up to a year before the first charged day."
    )
    beneficiary = serializers.UUIDField(required=False)
    payment_method = serializers.UUIDField(required=False, help_text="Default: the customer's default method.")
    collect_automatically = serializers.BooleanField(default=True)
    net_days = serializers.IntegerField(min_value=0, max_value=365, default=0, help_text="Days from issue to due.")
    metadata = PlainJSONField(required=False)


class ChangeInput(StrictSerializer):
    plan = serializers.CharField(max_length=60, required=False, help_text="Code or id; its present version is taken.")
    quantity = serializers.IntegerField(required=False, **QUANTITY)
    when = serializers.ChoiceField(choices=WHEN, default=changing.NOW)
    prorate = serializers.BooleanField(default=True, help_text="False: the new price counts from the next period on.")


class PauseInput(StrictSerializer):
    resume_at = serializers.DateTimeField(required=False, allow_null=True)
    reason = serializers.CharField(max_length=200, required=False, allow_blank=True)


class CancelInput(StrictSerializer):
    when = serializers.ChoiceField(choices=WHEN, default=changing.NOW)
    credit = serializers.ChoiceField(choices=[lifecycle.NONE, lifecycle.PRORATED], default=lifecycle.NONE)
    reason = serializers.CharField(max_length=200, required=False, allow_blank=True)


class PreviewedChangeInput(ChangeInput):
    subscription = serializers.UUIDField()


class PreviewInput(StrictSerializer):
    """Either ``new`` or ``change``; a change of nothing shows the next renewals."""

    new = SubscriptionInput(required=False)
    change = PreviewedChangeInput(required=False)
    count = serializers.IntegerField(
        min_value=1, max_value=24, default=2, help_text="How many coming invoices to show."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("new" in attrs) == ("change" in attrs):
            raise serializers.ValidationError("Give either new or change.")
        return attrs


class PlannedChangeOutput(serializers.ModelSerializer):
    plan = serializers.CharField(
        source="plan_version.plan.code", default=None, allow_null=True, help_text="null: it stays."
    )
    plan_version = serializers.UUIDField(source="plan_version_id", allow_null=True)
    quantity = serializers.IntegerField(allow_null=True, help_text="null: it stays.")

    class Meta:
        model = PlannedChange
        fields = ["id", "kind", "plan", "plan_version", "quantity", "credit", "resume_at", "reason", "effective_at"]


class SubscriptionOutput(serializers.ModelSerializer):
    customer = serializers.UUIDField(source="customer_id")
    beneficiary = serializers.UUIDField(source="beneficiary_id", allow_null=True)
    payment_method = serializers.UUIDField(source="method_id", allow_null=True)
    plan = serializers.CharField(source="plan_version.plan.code")
    plan_version = serializers.UUIDField(source="plan_version_id")
    add_ons = serializers.DictField(child=serializers.IntegerField())
    metadata = serializers.DictField(child=serializers.CharField())
    planned_change = serializers.SerializerMethodField()

    class Meta:
        model = Subscription
        fields = [
            "id", "external_id", "customer", "beneficiary", "plan", "plan_version", "currency", "quantity", "add_ons", "status",
            "payment_method", "collect_automatically", "net_days", "started_at", "trial_ends_at", "anchor_on", "period_start",
            "period_end", "next_billing_at", "ends_at", "cancel_at", "cancelled_at", "cancel_reason", "paused_at", "resume_at",
            "restricted_at",
            "planned_change", "failure", "metadata", "created_at", "version",
        ]  # fmt: skip

    @extend_schema_field(PlannedChangeOutput(allow_null=True))
    def get_planned_change(self, subscription: Subscription) -> dict[str, Any] | None:
        planned = getattr(subscription, "planned", [])
        return PlannedChangeOutput(planned[0]).data if planned else None


class InvoiceReference(serializers.ModelSerializer):
    total = AmountSerializerField()
    due = AmountSerializerField()

    class Meta:
        model = Invoice
        fields = ["id", "number", "status", "total", "due"]


class CreditNoteReference(serializers.ModelSerializer):
    total = AmountSerializerField()

    class Meta:
        model = CreditNote
        fields = ["id", "number", "invoice", "total"]


class IssuedOutput(serializers.Serializer):
    invoice = InvoiceReference(allow_null=True)
    credit_notes = CreditNoteReference(many=True)


class ActionOutput(SubscriptionOutput):
    documents = IssuedOutput(help_text="What was issued by it.")

    class Meta(SubscriptionOutput.Meta):
        fields = [*SubscriptionOutput.Meta.fields, "documents"]


class PeriodOutput(serializers.ModelSerializer):
    invoice = InvoiceReference(allow_null=True)

    class Meta:
        model = BilledPeriod
        fields = ["id", "starts_at", "ends_at", "kind", "invoice", "billed_at"]


class PreviewedLineOutput(serializers.Serializer):
    description = serializers.CharField()
    code = serializers.CharField()
    quantity = serializers.CharField()
    unit_price = serializers.CharField()
    amount = AmountSerializerField()
    tax_rate = serializers.CharField()
    tax = AmountSerializerField()


class PreviewedInvoiceOutput(serializers.Serializer):
    at = serializers.DateTimeField(help_text="When it would be issued.")
    period_start = serializers.DateField()
    period_end = serializers.DateField(help_text="Last day.")
    lines = PreviewedLineOutput(many=True)
    net = AmountSerializerField()
    tax = AmountSerializerField()
    total = AmountSerializerField()

    def to_representation(self, instance: Any) -> dict[str, Any]:
        priced = instance.priced
        return {
            "at": instance.at,
            "period_start": instance.period_start,
            "period_end": instance.period_end,
            "lines": [
                {
                    "description": line.given.description,
                    "code": line.given.code,
                    "quantity": f"{line.given.quantity:f}",
                    "unit_price": f"{line.given.price:f}",
                    "amount": wire(priced.money(line.amount)),
                    "tax_rate": f"{line.tax_rate:f}",
                    "tax": wire(priced.money(line.tax)),
                }
                for line in priced.lines
            ],
            "net": wire(priced.money(priced.net)),
            "tax": wire(priced.money(priced.tax)),
            "total": wire(priced.money(priced.total)),
        }


class PreviewedCreditOutput(serializers.Serializer):
    at = serializers.DateTimeField()
    invoice = serializers.UUIDField(help_text="The invoice that would be credited.")
    net = AmountSerializerField()
    tax = AmountSerializerField()
    total = AmountSerializerField()

    def to_representation(self, instance: Any) -> dict[str, Any]:
        total = instance.invoice.total
        money = {name: type(total)(getattr(instance.priced, name), total.currency) for name in ("net", "tax", "total")}
        return {
            "at": instance.at,
            "invoice": str(instance.invoice.pk),
            **{name: wire(value) for name, value in money.items()},
        }


class PreviewOutput(serializers.Serializer):
    invoices = PreviewedInvoiceOutput(many=True, help_text="In order of time; usage as far as it is measured now.")
    credits = PreviewedCreditOutput(many=True)
