"""Console pages of payments, methods, refunds and disputes."""

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from moneyed import Money
from unfold.decorators import display
from unfold.widgets import UnfoldAdminDecimalFieldWidget

from billing.admin.base import ActionVariant, ReasonForm, TenantAdmin, TenantInline, decision, site
from billing.context import Actor
from payments.models import Dispute, Payment, PaymentAttempt, PaymentMethod, Refund
from payments.selectors import timeline
from payments.services import collection, methods, refunds

COLOURS = {
    "pending": "info",
    "processing": "info",
    "requires_action": "warning",
    "succeeded": "success",
    "failed": "danger",
    "cancelled": "",
}
REFUND_COLOURS = {"succeeded": "success", "failed": "danger", "unknown": "warning"}
DISPUTE_COLOURS = {"open": "warning", "under_review": "info", "won": "success", "lost": "danger"}
METHOD_COLOURS = {"active": "success", "pending": "info", "revoked": "danger", "expired": "warning"}


class RefundForm(ReasonForm):
    """How much goes back, and why."""

    amount = forms.DecimalField(
        required=False,
        min_value=Decimal("0.001"),
        max_digits=19,
        decimal_places=4,
        widget=UnfoldAdminDecimalFieldWidget(),
        help_text="In the payment's currency. Empty: all that is left.",
    )
    field_order = ("amount", "reason")


class AttemptInline(TenantInline):
    """Every try, with what the gateway calls it."""

    model = PaymentAttempt
    fields = ("number", "status", "method", "amount", "gateway_order_ref", "gateway_ref", "decline_class", "decline_code",
              "started_at", "finished_at")  # fmt: skip
    readonly_fields = fields
    show_change_link = False


class RefundInline(TenantInline):
    """Money on its way back."""

    model = Refund
    fields = ("amount", "status", "reason", "gateway_ref", "error", "created_at", "finished_at")
    readonly_fields = fields


@admin.register(Payment, site=site)
class PaymentAdmin(TenantAdmin):
    """What is to be collected, what came, and the whole story of it."""

    view_permission = "payment.view"
    list_display = ("reference", "customer", "amount", "show_status", "refunded", "attempts_made", "next_attempt_at", "decline_code",
                    "created_at")  # fmt: skip
    list_filter = ("status", "decline_class", "automatic", "gateway_account__provider")
    list_select_related = ("customer", "organisation")
    search_fields = ("reference", "customer__external_id", "attempts__gateway_ref", "attempts__gateway_order_ref")
    fields = (
        "organisation", "customer", "reference", "description", "amount", "refunded", "disputed", "show_status", "automatic",
        "method", "gateway_account", "attempts_made", "next_attempt_at", "decline_class", "decline_code", "action_url", "captured_at",
        "created_at", "show_timeline",
    )  # fmt: skip
    readonly_fields = fields
    inlines = (AttemptInline, RefundInline)
    actions = ("retry", "cancel", "refund")
    actions_detail = ("retry", "cancel", "refund", "page")

    @display(description="status", ordering="status", label=COLOURS)
    def show_status(self, payment: Payment) -> tuple[str, str]:
        return payment.status, payment.get_status_display()

    @display(description="timeline")
    def show_timeline(self, payment: Payment) -> str:
        rows = (
            (step.at.strftime("%Y-%m-%d %H:%M"), step.what, step.details, step.who, step.correlation_id[:12])
            for step in timeline.of_payment(payment)
        )
        steps = format_html_join("", "<li>{} <b>{}</b> {} {} <small>{}</small></li>", rows)
        return format_html("<ul>{}</ul>", steps) if steps else "–"

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).order_by("-id")

    @decision(description="Try now", permission="payment.collect", form=None, icon="refresh")
    def retry(self, request: HttpRequest, payment: Payment, *, actor: Actor) -> str:
        now = collection.retry_now(payment_id=payment.pk, actor=actor)
        return f"{payment}: {now.get_status_display()}"

    @decision(description="Stop collecting", permission="payment.collect", form=None, icon="block")
    def cancel(self, request: HttpRequest, payment: Payment, *, actor: Actor) -> str:
        now = collection.cancel_payment(organisation_id=payment.organisation_id, reference=payment.reference)
        return f"{payment}: {now.get_status_display() if now else 'gone'}"

    @decision(
        description="Refund", permission="refund.issue", form=RefundForm, icon="undo", variant=ActionVariant.DANGER
    )
    def refund(
        self, request: HttpRequest, payment: Payment, *, actor: Actor, reason: str, amount: Decimal | None
    ) -> str:
        money = None if amount is None else Money(amount, payment.amount.currency)
        made = refunds.request_refund(payment_id=payment.pk, amount=money, reason=reason, actor=actor)
        return f"{payment}: {made.amount} {made.get_status_display()}"

    @decision(description="Page for the customer", permission="payment.collect", form=None, icon="link")
    def page(self, request: HttpRequest, payment: Payment, *, actor: Actor) -> str:
        return f"{payment}: {collection.hosted_page(payment_id=payment.pk)}"


@admin.register(PaymentMethod, site=site)
class PaymentMethodAdmin(TenantAdmin):
    """Tokens at gateways: only what may be shown of them."""

    view_permission = "payment_method.view"
    list_display = (
        "customer",
        "kind",
        "brand",
        "last4",
        "handle",
        "show_status",
        "is_default",
        "expires_on",
        "gateway_account",
    )
    list_filter = ("status", "kind", "gateway_account__provider")
    list_select_related = ("customer", "gateway_account", "organisation")
    search_fields = ("customer__external_id", "last4")
    fields = (
        "organisation", "customer", "gateway_account", "kind", "show_status", "brand", "last4", "handle", "expires_on", "max_amount",
        "is_default", "expiry_notified_on", "created_at",
    )  # fmt: skip
    readonly_fields = fields
    actions_detail = ("make_default", "detach")

    @display(description="status", ordering="status", label=METHOD_COLOURS)
    def show_status(self, method: PaymentMethod) -> tuple[str, str]:
        return method.status, method.get_status_display()

    @decision(description="Debit first", permission="payment_method.edit", form=None, icon="star")
    def make_default(self, request: HttpRequest, method: PaymentMethod, *, actor: Actor) -> None:
        methods.make_default(method_id=method.pk, actor=actor)

    @decision(description="Forget", permission="payment_method.edit", icon="delete", variant=ActionVariant.DANGER)
    def detach(self, request: HttpRequest, method: PaymentMethod, *, actor: Actor, reason: str) -> None:
        methods.detach(method_id=method.pk, actor=actor, reason=reason)


@admin.register(Refund, site=site)
class RefundAdmin(TenantAdmin):
    """Captured money on its way back."""

    view_permission = "refund.view"
    list_display = ("payment", "amount", "show_status", "reason", "gateway_ref", "created_at", "finished_at")
    list_filter = ("status",)
    list_select_related = ("payment", "organisation")
    search_fields = ("payment__reference", "gateway_ref")
    fields = (
        "organisation", "payment", "amount", "show_status", "reason", "gateway_ref", "error", "created_at", "asked_at", "finished_at",
    )  # fmt: skip
    readonly_fields = fields

    @display(description="status", ordering="status", label=REFUND_COLOURS)
    def show_status(self, refund: Refund) -> tuple[str, str]:
        return refund.status, refund.get_status_display()


@admin.register(Dispute, site=site)
class DisputeAdmin(TenantAdmin):
    """Charges that payers contest through their banks; the answer is given at the gateway."""

    view_permission = "dispute.view"
    list_display = ("payment", "amount", "fee", "show_status", "reason", "respond_by", "opened_at", "closed_at")
    list_filter = ("status",)
    list_select_related = ("payment", "organisation")
    search_fields = ("payment__reference", "gateway_ref")
    fields = (
        "organisation", "payment", "gateway_account", "gateway_ref", "amount", "fee", "show_status", "reason", "respond_by",
        "opened_at", "closed_at",
    )  # fmt: skip
    readonly_fields = fields

    @display(description="status", ordering="status", label=DISPUTE_COLOURS)
    def show_status(self, dispute: Dispute) -> tuple[str, str]:
        return dispute.status, dispute.get_status_display()
