"""Shapes of subscriptions, their periods and previews on the wire."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from moneyed import Money
from rest_framework import serializers

from billing.api.base import AmountSerializerField, PlainJSONField, StrictSerializer, wire
from invoices.drafts import PricedInvoice
from invoices.models import CreditNote, Invoice
from subscriptions.api.life_shapes import PREVIEWED, AddOnsField, TermShape
from subscriptions.models import BilledPeriod, PlannedChange, Proration, Subscription
from subscriptions.rules import CHOICES, MAX_GATE_DAYS
from subscriptions.services import catalog, changing, terms

QUANTITY = {"min_value": 1, "max_value": changing.MAX_QUANTITY}


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
    cycle = serializers.ChoiceField(
        choices=CHOICES["cycle"], required=False, help_text="calendar: periods begin on the first, on Mondays."
    )
    proration = serializers.ChoiceField(choices=Proration.choices, required=False)
    time_zone = serializers.CharField(
        max_length=60,
        required=False,
        allow_blank=True,
        help_text="Where its days begin; default: by the rule time_zone.",
    )
    payment_gate_days = serializers.IntegerField(
        min_value=1, max_value=MAX_GATE_DAYS, required=False,
        help_text="Incomplete until the first invoice is paid, at most so many days.",
    )  # fmt: skip
    term = TermShape(required=False, help_text="A fixed term that renews itself, instead of ends_at.")
    beneficiary = serializers.UUIDField(required=False)
    payment_method = serializers.UUIDField(required=False, help_text="Default: the customer's default method.")
    collect_automatically = serializers.BooleanField(default=True)
    net_days = serializers.IntegerField(min_value=0, max_value=365, default=0, help_text="Days from issue to due.")
    metadata = PlainJSONField(required=False)


class PreviewInput(StrictSerializer):
    """One of ``new``, or what is asked of a subscription; a change of nothing shows the next invoices."""

    new = SubscriptionInput(required=False)
    change = PREVIEWED["change"](required=False)
    add_ons = PREVIEWED["add_ons"](required=False)
    cancel_change = PREVIEWED["cancel_change"](required=False)
    pause = PREVIEWED["pause"](required=False)
    resume = PREVIEWED["resume"](required=False)
    suspend = PREVIEWED["suspend"](required=False)
    cancel = PREVIEWED["cancel"](required=False)
    change_end = PREVIEWED["change_end"](required=False)
    change_term = PREVIEWED["change_term"](required=False)
    uncancel = PREVIEWED["uncancel"](required=False)
    reactivate = PREVIEWED["reactivate"](required=False)
    count = serializers.IntegerField(
        min_value=1, max_value=24, default=2, help_text="How many coming invoices to show."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        asked = [name for name in attrs if name != "count"]
        if len(asked) != 1:
            raise serializers.ValidationError(f"Give one of new, {', '.join(PREVIEWED)}.")
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


class TermOutput(serializers.ModelSerializer):
    interval = serializers.CharField(source="term_interval")
    count = serializers.IntegerField(source="term_count")
    number = serializers.IntegerField(source="term_number", help_text="Terms that are over.")
    last_number = serializers.IntegerField(
        source="last_term", allow_null=True, help_text="Number of the term that it was asked to end with."
    )
    notice_until = serializers.SerializerMethodField()

    class Meta:
        model = Subscription
        fields = [
            "interval", "count", "number", "renewals_left", "last_number", "notice_days", "notice_until", "ends_at",
        ]  # fmt: skip

    @extend_schema_field(serializers.DateTimeField(help_text="Until when renewal of this term can be switched off."))
    def get_notice_until(self, subscription: Subscription) -> str | None:
        return serializers.DateTimeField().to_representation(terms.notice_until(subscription))


class NextTermOutput(serializers.Serializer):
    """What follows at ``ends_at`` instead of the same term again; without an interval it goes on open-ended."""

    interval = serializers.CharField(allow_null=True)
    count = serializers.IntegerField(allow_null=True)
    renewals = serializers.IntegerField(allow_null=True, help_text="null: for ever.")
    notice_days = serializers.IntegerField(allow_null=True)


class SubscriptionOutput(serializers.ModelSerializer):
    customer = serializers.UUIDField(source="customer_id")
    beneficiary = serializers.UUIDField(source="beneficiary_id", allow_null=True)
    payment_method = serializers.UUIDField(source="method_id", allow_null=True)
    plan = serializers.CharField(source="plan_version.plan.code")
    plan_version = serializers.UUIDField(source="plan_version_id")
    add_ons = serializers.DictField(child=serializers.IntegerField())
    metadata = serializers.DictField(child=serializers.CharField())
    planned_changes = serializers.SerializerMethodField()
    trial_price = serializers.DecimalField(max_digits=19, decimal_places=4, allow_null=True, coerce_to_string=True)
    term = serializers.SerializerMethodField()
    next_term = serializers.SerializerMethodField()
    renews = serializers.SerializerMethodField()

    class Meta:
        model = Subscription
        fields = [
            "id", "external_id", "customer", "beneficiary", "plan", "plan_version", "currency", "quantity", "add_ons", "status",
            "payment_method", "collect_automatically", "net_days", "started_at", "trial_ends_at", "trial_price", "gate_days",
            "activate_by", "time_zone", "proration", "anchor_on", "period_start", "period_end", "next_billing_at", "term",
            "next_term", "ends_at", "renews", "cancel_at", "cancel_credit", "cancelled_at", "cancel_reason", "paused_at",
            "resume_at", "restricted_at", "planned_changes", "failure", "metadata", "created_at", "version",
        ]  # fmt: skip

    @extend_schema_field(PlannedChangeOutput(many=True))
    def get_planned_changes(self, subscription: Subscription) -> list[dict[str, Any]]:
        planned = sorted(getattr(subscription, "planned", []), key=lambda change: (change.effective_at, change.pk))
        return [PlannedChangeOutput(change).data for change in planned]

    @extend_schema_field(TermOutput(allow_null=True))
    def get_term(self, subscription: Subscription) -> dict[str, Any] | None:
        return TermOutput(subscription).data if subscription.term_interval else None

    @extend_schema_field(NextTermOutput(allow_null=True))
    def get_next_term(self, subscription: Subscription) -> dict[str, Any] | None:
        if subscription.next_term is None:
            return None
        return {name: subscription.next_term.get(name) for name in ("interval", "count", "renewals", "notice_days")}

    @extend_schema_field(serializers.BooleanField(help_text="Whether it goes on at ends_at, unless it is cancelled."))
    def get_renews(self, subscription: Subscription) -> bool:
        return terms.renews(subscription)


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
    at = serializers.DateTimeField(help_text="When it would be written.")
    issued_at = serializers.DateTimeField(
        help_text="When it gets its number; later than at where a grace holds it as a draft."
    )
    period_start = serializers.DateField()
    period_end = serializers.DateField(help_text="Last day.")
    lines = PreviewedLineOutput(many=True)
    net = AmountSerializerField()
    tax = AmountSerializerField()
    total = AmountSerializerField()

    def to_representation(self, instance: Any) -> dict[str, Any]:
        return {
            "at": instance.at,
            "issued_at": instance.issued_at,
            "period_start": instance.period_start,
            "period_end": instance.period_end,
            **_priced(instance.priced),
        }


def _priced(priced: PricedInvoice) -> dict[str, Any]:
    """Lines and totals of an invoice to be."""
    lines = [
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
    ]
    return {"lines": lines} | {name: wire(priced.money(getattr(priced, name))) for name in ("net", "tax", "total")}


class PreviewedDraftOutput(serializers.Serializer):
    at = serializers.DateTimeField(
        help_text="When it will be issued: at the end of its grace, or at what ends it before."
    )
    invoice = serializers.UUIDField(
        allow_null=True,
        help_text="The draft; null: usage that came late makes an invoice where there was nothing to bill.",
    )
    period_start = serializers.DateField(allow_null=True)
    period_end = serializers.DateField(allow_null=True, help_text="Last day.")
    lines = PreviewedLineOutput(many=True, help_text="As it will be issued; empty where nothing is left to bill.")
    net = AmountSerializerField(allow_null=True, help_text="null: nothing will be issued.")
    tax = AmountSerializerField(allow_null=True)
    total = AmountSerializerField(allow_null=True)
    total_now = AmountSerializerField(allow_null=True, help_text="What the draft says now.")
    failure = serializers.CharField(help_text="Why it could not be issued; empty: it can.")

    def to_representation(self, instance: Any) -> dict[str, Any]:
        nothing = {"lines": [], "net": None, "tax": None, "total": None}
        return {
            "at": instance.at,
            "invoice": str(instance.invoice.pk) if instance.invoice else None,
            "period_start": instance.period_start,
            "period_end": instance.period_end,
            **(_priced(instance.priced) if instance.priced is not None else nothing),
            "total_now": wire(instance.invoice.total) if instance.invoice else None,
            "failure": instance.failure,
        }


class PreviewedCreditOutput(serializers.Serializer):
    at = serializers.DateTimeField()
    invoice = serializers.UUIDField(
        allow_null=True, help_text="The invoice that would be credited; null: one of the preview itself."
    )
    net = AmountSerializerField()
    tax = AmountSerializerField()
    total = AmountSerializerField()

    def to_representation(self, instance: Any) -> dict[str, Any]:
        money = {name: Money(getattr(instance.priced, name), instance.currency) for name in ("net", "tax", "total")}
        return {
            "at": instance.at,
            "invoice": str(instance.invoice.pk) if instance.invoice else None,
            **{name: wire(value) for name, value in money.items()},
        }


class PreviewedEventOutput(serializers.Serializer):
    at = serializers.DateTimeField()
    what = serializers.CharField()
    status = serializers.ChoiceField(choices=Subscription.Status.choices, help_text="Afterwards.")
    plan = serializers.CharField()
    quantity = serializers.IntegerField()


class PreviewOutput(serializers.Serializer):
    drafts = PreviewedDraftOutput(
        many=True, help_text="Drafts in their grace, as they will be issued if nothing else comes."
    )
    invoices = PreviewedInvoiceOutput(many=True, help_text="In order of time; usage as far as it is measured now.")
    credits = PreviewedCreditOutput(many=True)
    events = PreviewedEventOutput(many=True, help_text="What would happen, in order of time.")
