"""Payments and what hangs on them in the console: attempts, refunds, disputes, settlement, books."""

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from moneyed import Money
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RangeDateTimeFilter
from unfold.widgets import UnfoldAdminDecimalFieldWidget

from billing.admin.base import ActionVariant, ReasonForm, decision, site
from billing.admin.panels import (
    CurrencyFilter,
    Figure,
    Panel,
    Record,
    RecordAdmin,
    amount_column,
    badge,
    customer_column,
    journal_panel,
    link,
    moment,
    money,
    number_column,
    page_action,
    status_column,
    timeline_panel,
    words,
)
from billing.context import Actor
from billing.masking import mask_name
from payments.admin.reconciliation import exceptions_panel
from payments.gateways import declines
from payments.gateways.base import DeclineClass
from payments.gateways.faults import SETUP_FAULTS
from payments.models import Payment, PaymentAttempt, Provider
from payments.services import collection, refunds

Status = Payment.Status
ALLOWED: dict[str, tuple[str, ...]] = {
    "retry": (Status.PENDING, Status.FAILED, Status.REQUIRES_ACTION),
    "cancel": (Status.PENDING, Status.PROCESSING, Status.REQUIRES_ACTION, Status.FAILED),
    "page": (Status.PENDING, Status.FAILED, Status.REQUIRES_ACTION),
    "refund": (Status.SUCCEEDED,),
    "credit": (Status.SUCCEEDED,),
}


class RefundForm(ReasonForm):
    """How much goes back, and why."""

    amount = forms.DecimalField(
        required=False,
        min_value=Decimal("0.001"),
        max_digits=19,
        decimal_places=4,
        widget=UnfoldAdminDecimalFieldWidget(),
        help_text="In the payment's currency. Empty: all that is left. An invoice that it paid is due again by as much, unless a "
        "credit note gave that back before: 'Credit note and refund' on the payment's page does both in one step.",
    )
    field_order = ("amount", "reason")


@admin.register(Payment, site=site)
class PaymentAdmin(RecordAdmin):
    """What is to be collected, what came, and the whole story of it."""

    view_permission = "payment.view"
    empty_hint = "A payment is asked for when an invoice is finalised, or over the API."
    list_display = ("name", "who", "state", "sum_amount", "tries", "decline", "next_attempt", "asked")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        CurrencyFilter,
        "decline_class",
        "automatic",
        ("created_at", RangeDateTimeFilter),
    )
    list_select_related = ("customer", "organisation")
    search_fields = (
        "reference__istartswith",
        "customer__external_id__iexact",
        "attempts__gateway_ref__exact",
        "attempts__gateway_order_ref__exact",
    )
    search_help_text = "Reference, id of the customer, payment or order id at the gateway"
    ordering = ("-id",)
    actions = ("retry", "cancel", "refund")
    actions_detail = ("page", "retry", "credit", "refund", "cancel")

    who = customer_column
    state = status_column()
    sum_amount = amount_column("amount")

    @admin.display(description="payment", ordering="reference")
    def name(self, row: Payment) -> str:
        return str(row)

    tries = number_column("attempts_made", title="tries")

    @admin.display(description="refused because", ordering="decline_code")
    def decline(self, row: Payment) -> str:
        return words(row.decline_code) or "–"

    @admin.display(description="next attempt", ordering="next_attempt_at")
    def next_attempt(self, row: Payment) -> str:
        return moment(row.next_attempt_at, row.organisation)

    @admin.display(description="asked for", ordering="created_at")
    def asked(self, row: Payment) -> str:
        return moment(row.created_at, row.organisation)

    # --- decisions ---------------------------------------------------------------------------------
    @decision(description="Try now", permission="payment.collect", form=None, icon="refresh")
    def retry(self, request: HttpRequest, row: Payment, *, actor: Actor) -> str:
        now = collection.retry_now(payment_id=row.pk, actor=actor)
        return f"{self.name(row)}: {now.get_status_display()}"

    @decision(
        description="Stop collecting",
        permission="payment.collect",
        form=None,
        icon="block",
        variant=ActionVariant.DANGER,
    )
    def cancel(self, request: HttpRequest, row: Payment, *, actor: Actor) -> str:
        now = collection.cancel_payment(organisation_id=row.organisation_id, reference=row.reference, actor=actor)
        return f"{self.name(row)}: {now.get_status_display() if now else 'gone'}"

    @decision(
        description="Refund", permission="refund.issue", form=RefundForm, icon="undo", variant=ActionVariant.DANGER
    )
    def refund(self, request: HttpRequest, row: Payment, *, actor: Actor, reason: str, amount: Decimal | None) -> str:
        part = None if amount is None else Money(amount, row.amount.currency)
        made = refunds.request_refund(payment_id=row.pk, amount=part, reason=reason, actor=actor)
        return f"{self.name(row)}: {money(made.amount)} back, {made.get_status_display().lower()}."

    @page_action(description="Credit note and refund", permission="refund.issue", icon="remove_circle")
    def credit(self, request: HttpRequest, row: Payment) -> HttpResponse:
        """Both in one step, on the invoice that it paid: so nothing is due again."""
        if not self.offers(row, "credit"):
            raise Http404
        return HttpResponseRedirect(f"{_invoice_page(row.reference, 'credit')}?refund=1")

    @decision(description="Page for the customer", permission="payment.collect", form=None, icon="link")
    def page(self, request: HttpRequest, row: Payment, *, actor: Actor) -> str:
        return f"The customer pays at {collection.hosted_page(payment_id=row.pk)}"

    def offers(self, row: Payment, action: str) -> bool:
        if row.cancel_requested and action in ("cancel", "page"):
            return False
        if action == "credit" and not _invoice_page(row.reference, "credit"):
            return False
        return row.status in ALLOWED.get(action, ())

    # --- the page ----------------------------------------------------------------------------------
    def record(self, request: HttpRequest, row: Payment) -> Record:
        refunds_made = list(row.refunds.order_by("id"))
        contested = list(row.disputes.order_by("id"))
        ids = [row.pk, *(one.pk for one in (*refunds_made, *contested))]
        return Record(
            badges=[badge(row.status)],
            notice=_notice(row),
            figures=_figures(row),
            facts=_facts(request, row),
            panels=[
                _attempts(request, row),
                *_exceptions(request, row),
                _refunds(request, row, refunds_made),
                _disputes(request, row, contested),
                _settled(request, row),
                *journal_panel(request, self, row, ids),
                *timeline_panel(request, self, row, ids),
            ],
        )


def _notice(row: Payment) -> str:
    if _is_ending(row):
        return "Nobody wants it any more; the attempt under way is not repeated."
    if row.decline_class == DeclineClass.CONFIG and row.status in (Status.PENDING, Status.FAILED):
        return f"Not the customer's fault: {declines.explain(row.decline_class, row.decline_code)}"
    return ""


def _is_ending(row: Payment) -> bool:
    return row.cancel_requested and row.status not in (Status.CANCELLED, Status.SUCCEEDED)


def _figures(row: Payment) -> list[Figure]:
    captured = f"captured {moment(row.captured_at, row.organisation)}" if row.captured_at else "not captured"
    return [
        Figure(name="Amount", value=money(row.amount), hint=captured),
        Figure(name="Refunded", value=money(row.refunded)),
        Figure(name="Contested", value=money(row.disputed)),
        Figure(name="Attempts", value=row.attempts_made, hint=_next(row)),
    ]


def _next(row: Payment) -> str:
    return f"next {moment(row.next_attempt_at, row.organisation)}" if row.next_attempt_at else ""


def _invoice_page(reference: str, page: str) -> str:
    """Address of a page of the invoice that a reference names; nothing where it names none."""
    kind, _, rest = reference.partition(":")
    if kind != "invoice":
        return ""
    try:
        return reverse(f"admin:invoices_invoice_{page}", args=[rest.partition(":")[0]])
    except NoReverseMatch:
        return ""


def pays_for(reference: str, text: str = "") -> Any:
    """A link (``text``) to the invoice that a reference names, else the reference itself."""
    address = _invoice_page(reference, "change")
    if not address:
        return reference
    return format_html('<a class="m-link" href="{}">{}</a>', address, text or reference)


def _facts(request: HttpRequest, row: Payment) -> list[tuple[str, Any]]:
    refused = ": ".join(words(part) for part in (row.decline_class, row.decline_code) if part)
    said = declines.explain(row.decline_class, row.decline_code)
    refused = f"{refused}. {said}" if said else refused
    page = (
        format_html('<a class="m-link" href="{0}" rel="noreferrer">{0}</a>', row.action_url) if row.action_url else "–"
    )
    return [
        ("Pays for", pays_for(row.reference, row.description)),
        ("Reference", row.reference),
        ("Customer", link(request, row.customer)),
        ("Name", mask_name(row.customer.name)),
        ("Collected", "automatically" if row.automatic else "by the customer, on a page or offline"),
        ("Method", link(request, row.method)),
        ("Gateway account", link(request, row.gateway_account)),
        ("Refused because", refused or "–"),
        ("Page", page),
        ("Asked for", moment(row.created_at, row.organisation)),
        ("Organisation", row.organisation),
        ("Id", row.pk),
    ]


def _attempts(request: HttpRequest, row: Payment) -> Panel:
    rows = [
        (one.number, badge(one.status), link(request, one.gateway_account), link(request, one.method) if one.method else "page",
         money(one.amount), " ".join(part for part in (one.gateway_order_ref, one.gateway_ref) if part) or "–",
         _why(one) or "–", moment(one.started_at, row.organisation), moment(one.finished_at, row.organisation))
        for one in row.attempts.select_related("gateway_account", "method").order_by("number")
    ]  # fmt: skip
    return Panel(
        title="Attempts",
        headers=("", "Status", "Gateway", "Method", "Amount", "At the gateway", "Refused because", "Begun", "Ended"),
        rows=rows,
        numbers=frozenset({4}),
        empty="Nothing was tried yet.",
    )


def _why(one: PaymentAttempt) -> str:
    said = SETUP_FAULTS.get(one.decline_code)
    return f"{words(one.decline_code)}: {said}" if said else words(one.decline_code)


def _exceptions(request: HttpRequest, row: Payment) -> list[Panel]:
    """What is open about the payment, or about the account that it was refused with."""
    ids = [row.pk, *([row.gateway_account_id] if row.decline_class == DeclineClass.CONFIG else [])]
    about = exceptions_panel(request, row.organisation_id, ids)
    return [about] if about.rows else []


def _refunds(request: HttpRequest, row: Payment, made: list[Any]) -> Panel:
    rows = [
        (link(request, one, one.gateway_ref or "refund"), badge(one.status), money(one.amount), one.reason, one.error or "–",
         moment(one.created_at, row.organisation), moment(one.finished_at, row.organisation))
        for one in made
    ]  # fmt: skip
    return Panel(
        title="Refunds",
        headers=("Refund", "Status", "Amount", "Reason", "Error", "Requested", "Ended"),
        rows=rows,
        numbers=frozenset({2}),
        empty="None.",
    )


def _disputes(request: HttpRequest, row: Payment, contested: list[Any]) -> Panel:
    rows = [
        (link(request, one), badge(one.status), money(one.amount), money(one.fee), one.reason or "–",
         moment(one.respond_by, row.organisation))
        for one in contested
    ]  # fmt: skip
    return Panel(
        title="Disputes",
        headers=("Dispute", "Status", "Amount", "Fee", "Reason", "Answer by"),
        rows=rows,
        numbers=frozenset({2, 3}),
        empty="None.",
    )


def _settled(request: HttpRequest, row: Payment) -> Panel:
    rows = [
        (link(request, one.settlement), one.settlement.utr or "–", badge(one.state), money(one.amount), money(one.fee),
         money(one.tax), money(one.net))
        for one in row.settlement_lines.select_related("settlement").order_by("id")
    ]  # fmt: skip
    offline = row.gateway_account is not None and row.gateway_account.provider == Provider.OFFLINE
    return Panel(
        title="Settlement",
        headers=("Settlement", "UTR", "State", "Amount", "Fee", "Tax on fee", "Net"),
        rows=rows,
        numbers=frozenset({3, 4, 5, 6}),
        empty="Offline money is proved by the bank statement." if offline else "No settlement report names it yet.",
    )
