"""Console pages of billing runs and of the periods they billed."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from unfold.decorators import display

from billing.admin.base import TenantAdmin, TenantInline, site
from subscriptions.models import BilledPeriod, BillingRun

COLOURS = {"pending": "info", "running": "info", "done": "success", "failed": "danger"}


class BilledPeriodInline(TenantInline):
    """The first periods of a run; the rest is in the list of invoices."""

    model = BilledPeriod
    fields = ("subscription", "starts_at", "ends_at", "kind", "invoice")
    readonly_fields = fields
    per_page = 25
    show_change_link = False


@admin.register(BillingRun, site=site)
class BillingRunAdmin(TenantAdmin):
    """How far a run is, what it invoiced and what it set aside."""

    view_permission = "billing_run.view"
    list_display = (
        "started_at",
        "show_status",
        "show_progress",
        "invoice_count",
        "show_failed",
        "show_totals",
        "organisation",
    )
    list_filter = ("status",)
    list_select_related = ("organisation",)
    fields = (
        "organisation", "show_status", "due_at", "show_progress", "invoice_count", "show_totals", "show_failures", "started_at",
        "finished_at", "error",
    )  # fmt: skip
    readonly_fields = fields
    inlines = (BilledPeriodInline,)

    @display(description="status", ordering="status", label=COLOURS)
    def show_status(self, run: BillingRun) -> tuple[str, str]:
        return run.status, run.get_status_display()

    @display(description="billed of due")
    def show_progress(self, run: BillingRun) -> str:
        return f"{run.billed_count:,} periods of {run.due_count:,} subscriptions"

    @display(description="set aside", ordering="failed_count")
    def show_failed(self, run: BillingRun) -> str:
        return f"{run.failed_count:,}" if run.failed_count else "–"

    @display(description="invoiced")
    def show_totals(self, run: BillingRun) -> str:
        return ", ".join(f"{total} {currency}" for currency, total in run.totals.items()) or "–"

    @display(description="set aside")
    def show_failures(self, run: BillingRun) -> str:
        if not run.failures:
            return "None"
        rows = format_html_join(
            "", "<li><b>{}</b>: {}</li>", ((row["subscription"], row["reason"]) for row in run.failures)
        )
        return format_html("<ul>{}</ul>", rows)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).order_by("-id")
