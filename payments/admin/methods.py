"""Payment methods, refunds and disputes in the console."""

from django.contrib import admin
from django.http import HttpRequest
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from billing.admin.base import ActionVariant, decision, site
from billing.admin.panels import (
    CurrencyFilter,
    Figure,
    Panel,
    Record,
    RecordAdmin,
    amount_column,
    badge,
    customer_column,
    day,
    journal_panel,
    link,
    moment,
    money,
    status_column,
    timeline_panel,
)
from billing.context import Actor
from billing.masking import mask_name
from payments.models import Dispute, Payment, PaymentMethod, Refund
from payments.services import methods


@admin.register(PaymentMethod, site=site)
class PaymentMethodAdmin(RecordAdmin):
    """Tokens at gateways: only what may be shown of them."""

    view_permission = "payment_method.view"
    empty_hint = "A customer saves a method on the gateway's own page; card numbers never come here."
    list_display = ("name", "who", "state", "first", "valid_until", "limit_amount", "gateway_account")
    list_filter = (("status", ChoicesDropdownFilter), ("kind", ChoicesDropdownFilter))
    list_select_related = ("customer", "gateway_account", "organisation")
    search_fields = ("customer__external_id__iexact", "last4__exact")
    search_help_text = "Id of the customer, or the last four digits"
    ordering = ("-id",)
    actions_detail = ("make_default", "detach")

    who = customer_column
    state = status_column()
    limit_amount = amount_column("max_amount", title="limit of a debit")

    @admin.display(description="method", ordering="kind")
    def name(self, row: PaymentMethod) -> str:
        return str(row)

    @admin.display(description="debited", ordering="is_default")
    def first(self, row: PaymentMethod) -> str:
        return "first" if row.is_default else "–"

    @admin.display(description="valid until", ordering="expires_on")
    def valid_until(self, row: PaymentMethod) -> str:
        return day(row.expires_on)

    @decision(description="Debit first", permission="payment_method.edit", form=None, icon="star")
    def make_default(self, request: HttpRequest, row: PaymentMethod, *, actor: Actor) -> str:
        methods.make_default(method_id=row.pk, actor=actor)
        return f"{row} is debited first from now on."

    @decision(description="Forget", permission="payment_method.edit", icon="delete", variant=ActionVariant.DANGER)
    def detach(self, request: HttpRequest, row: PaymentMethod, *, actor: Actor, reason: str) -> str:
        methods.detach(method_id=row.pk, actor=actor, reason=reason)
        return f"{row} is forgotten, here and at the gateway."

    def offers(self, row: PaymentMethod, action: str) -> bool:
        if action == "make_default":
            return row.status == PaymentMethod.Status.ACTIVE and not row.is_default
        return row.status != PaymentMethod.Status.DETACHED

    def record(self, request: HttpRequest, row: PaymentMethod) -> Record:
        debits = Payment.objects.of(row.organisation_id).filter(method=row).order_by("-id")
        rows = [
            (link(request, one), badge(one.status), money(one.amount),
             moment(one.created_at, row.organisation))
            for one in debits[:50]
        ]  # fmt: skip
        return Record(
            badges=[badge(row.status), *([badge("active", "debited first")] if row.is_default else [])],
            facts=[
                ("Customer", link(request, row.customer)),
                ("Name", mask_name(row.customer.name)),
                ("Kind", row.kind),
                ("Brand", row.brand or "–"),
                ("Last four", row.last4 or "–"),
                ("Handle", row.handle or "–"),
                ("Valid until", day(row.expires_on)),
                ("Limit of a debit", money(row.max_amount)),
                ("Expiry told", day(row.expiry_notified_on)),
                ("Gateway account", link(request, row.gateway_account)),
                ("Saved", moment(row.created_at, row.organisation)),
                ("Organisation", row.organisation),
            ],
            panels=[
                Panel(
                    title="Asked of this method",
                    headers=("Payment", "Status", "Amount", "Asked for"),
                    rows=rows,
                    numbers=frozenset({2}),
                    empty="No payment names this method; the default one is used where none is named.",
                ),
                *timeline_panel(request, self, row, [row.pk]),
            ],
        )


@admin.register(Refund, site=site)
class RefundAdmin(RecordAdmin):
    """Captured money on its way back."""

    view_permission = "refund.view"
    empty_hint = "A refund is made on the page of its payment."
    list_display = ("of_payment", "who", "state", "sum_amount", "reason", "gateway_ref", "requested", "ended")
    list_filter = (("status", ChoicesDropdownFilter), CurrencyFilter)
    list_select_related = ("payment__customer", "organisation")
    search_fields = ("payment__reference__istartswith", "gateway_ref__exact", "payment__customer__external_id__iexact")
    search_help_text = "Reference of the payment, refund id at the gateway, or id of the customer"
    ordering = ("-id",)

    state = status_column()
    sum_amount = amount_column("amount")

    def called(self, row: Refund) -> str:
        return f"{money(row.amount)} of {row.payment}"

    @admin.display(description="payment", ordering="payment__reference")
    def of_payment(self, row: Refund) -> str:
        return str(row.payment)

    @admin.display(description="customer", ordering="payment__customer__external_id")
    def who(self, row: Refund) -> str:
        return row.payment.customer.external_id

    @admin.display(description="requested", ordering="created_at")
    def requested(self, row: Refund) -> str:
        return moment(row.created_at, row.organisation)

    @admin.display(description="ended", ordering="finished_at")
    def ended(self, row: Refund) -> str:
        return moment(row.finished_at, row.organisation)

    def record(self, request: HttpRequest, row: Refund) -> Record:
        rows = [
            (link(request, line.settlement), badge(line.state), money(line.amount), money(line.net))
            for line in row.settlement_lines.select_related("settlement")
        ]
        return Record(
            badges=[badge(row.status)],
            figures=[Figure(name="Amount", value=money(row.amount), hint=f"of {money(row.payment.amount)}")],
            facts=[
                ("Payment", link(request, row.payment)),
                ("Customer", link(request, row.payment.customer)),
                ("Reason", row.reason),
                ("At the gateway", row.gateway_ref or "–"),
                ("Error", row.error or "–"),
                ("Requested", moment(row.created_at, row.organisation)),
                ("Last asked for", moment(row.asked_at, row.organisation)),
                ("Ended", moment(row.finished_at, row.organisation)),
                ("Organisation", row.organisation),
                ("Id", row.pk),
            ],
            panels=[
                Panel(
                    title="Settlement",
                    headers=("Settlement", "State", "Amount", "Net"),
                    rows=rows,
                    numbers=frozenset({2, 3}),
                    empty="No settlement report names it yet.",
                ),
                *journal_panel(request, self, row, [row.pk]),
                *timeline_panel(request, self, row, [row.pk]),
            ],
        )


@admin.register(Dispute, site=site)
class DisputeAdmin(RecordAdmin):
    """Charges that payers contest through their banks; the answer is given at the gateway."""

    view_permission = "dispute.view"
    empty_hint = "Gateways tell of disputes by webhook; nothing is contested."
    list_display = ("of_payment", "who", "state", "sum_amount", "fee_amount", "reason", "answer_by", "opened")
    list_filter = (("status", ChoicesDropdownFilter), CurrencyFilter)
    list_select_related = ("payment__customer", "organisation")
    search_fields = ("payment__reference__istartswith", "gateway_ref__exact", "payment__customer__external_id__iexact")
    search_help_text = "Reference of the payment, dispute id at the gateway, or id of the customer"
    ordering = ("-id",)

    state = status_column()
    sum_amount = amount_column("amount")
    fee_amount = amount_column("fee")

    @admin.display(description="payment", ordering="payment__reference")
    def of_payment(self, row: Dispute) -> str:
        return str(row.payment)

    @admin.display(description="customer", ordering="payment__customer__external_id")
    def who(self, row: Dispute) -> str:
        return row.payment.customer.external_id

    @admin.display(description="answer by", ordering="respond_by")
    def answer_by(self, row: Dispute) -> str:
        return moment(row.respond_by, row.organisation)

    @admin.display(description="opened", ordering="opened_at")
    def opened(self, row: Dispute) -> str:
        return moment(row.opened_at, row.organisation)

    def record(self, request: HttpRequest, row: Dispute) -> Record:
        open_ = row.status in (Dispute.Status.OPEN, Dispute.Status.UNDER_REVIEW)
        until = moment(row.respond_by, row.organisation)
        return Record(
            badges=[badge(row.status)],
            notice=f"Answer with evidence at the gateway by {until}." if open_ and row.respond_by else "",
            figures=[
                Figure(name="Contested", value=money(row.amount), hint=f"of {money(row.payment.amount)}"),
                Figure(name="Fee", value=money(row.fee)),
            ],
            facts=[
                ("Payment", link(request, row.payment)),
                ("Customer", link(request, row.payment.customer)),
                ("Gateway account", link(request, row.gateway_account)),
                ("At the gateway", row.gateway_ref),
                ("Reason", row.reason or "–"),
                ("Answer by", until),
                ("Opened", moment(row.opened_at, row.organisation)),
                ("Closed", moment(row.closed_at, row.organisation)),
                ("Organisation", row.organisation),
                ("Id", row.pk),
            ],
            panels=[
                *journal_panel(request, self, row, [row.pk]),
                *timeline_panel(request, self, row, [row.pk]),
            ],
        )
