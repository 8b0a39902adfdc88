"""Installment plans in the console."""

from django.contrib import admin
from django.http import HttpRequest
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from billing.admin.base import ActionVariant, decision
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
    link,
    moment,
    money,
    status_column,
    timeline_panel,
)
from billing.context import Actor
from invoices.models import InstallmentPlan
from invoices.services import installments


@admin.register(InstallmentPlan)
class InstallmentPlanAdmin(RecordAdmin):
    """Amounts paid in parts."""

    view_permission = "invoice.view"
    empty_hint = "An installment plan splits one amount into parts; agree on one over the API (installment-plans)."
    list_display = ("description", "who", "state", "total_amount", "interval_months")
    list_filter = (("status", ChoicesDropdownFilter), CurrencyFilter)
    list_select_related = ("customer",)
    search_fields = ("customer__external_id__iexact", "description__istartswith")
    search_help_text = "Id of the customer, or how the description begins"
    ordering = ("-id",)
    actions_detail = ("retry", "cancel")

    who = customer_column
    state = status_column()
    total_amount = amount_column("total", title="total")

    @decision(description="Cancel plan", permission="invoice.edit", icon="block", variant=ActionVariant.DANGER)
    def cancel(self, request: HttpRequest, row: InstallmentPlan, *, actor: Actor, reason: str) -> str:
        installments.cancel_plan(plan_id=row.pk, reason=reason, actor=actor)
        return "Nothing more of the plan is invoiced; what was invoiced stays."

    @decision(description="Try refused parts again", permission="invoice.edit", icon="refresh")
    def retry(self, request: HttpRequest, row: InstallmentPlan, *, actor: Actor, reason: str) -> str:
        installments.retry_refused(plan_id=row.pk, reason=reason, actor=actor)
        left = row.installments.exclude(failure="").count()
        return f"{left} parts were refused again; the reason is on each." if left else "The parts were invoiced."

    def offers(self, row: InstallmentPlan, action: str) -> bool:
        if row.status != InstallmentPlan.Status.ACTIVE:
            return False
        return action != "retry" or row.installments.exclude(failure="").exists()

    def record(self, request: HttpRequest, row: InstallmentPlan) -> Record:
        parts = list(row.installments.select_related("invoice").order_by("number"))
        done = sum(1 for part in parts if part.invoice_id)
        rows = [
            (part.number or "down payment", day(part.due_on), money(part.amount),
             link(request, part.invoice) if part.invoice else "not yet",
             badge(part.invoice.status) if part.invoice else badge("refused") if part.failure else "",
             part.failure)
            for part in parts
        ]  # fmt: skip
        return Record(
            badges=[badge(row.status)],
            figures=[
                Figure(name="Total", value=money(row.total), hint="without tax"),
                Figure(name="Parts", value=len(parts), hint=f"{done} invoiced"),
            ],
            facts=[
                ("Customer", link(request, row.customer)),
                ("Beneficiary", row.beneficiary or "–"),
                ("Description", row.description),
                ("Every", f"{row.interval_months} months" if row.interval_months != 1 else "month"),
                ("Tax category", row.tax_category or "outside of tax"),
                ("Days to pay", row.net_days),
                ("Agreed", moment(row.created_at, row.organisation)),
                ("Organisation", row.organisation),
                ("Id", row.pk),
            ],
            panels=[
                Panel(
                    title="Installments",
                    headers=("Part", "Day", "Amount", "Invoice", "Status", "Refused because"),
                    rows=rows,
                    numbers=frozenset({2}),
                    empty="The plan has no parts.",
                ),
                *timeline_panel(request, self, row, [row.pk]),
            ],
        )
