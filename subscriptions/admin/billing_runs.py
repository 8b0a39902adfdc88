"""Console page of billing runs: how far each is, what it invoiced and what it set aside."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from moneyed import Money
from unfold.decorators import display

from billing.admin.base import site
from billing.admin.panels import (
    NOTHING,
    Figure,
    Panel,
    Record,
    RecordAdmin,
    badge,
    link,
    moment,
    money,
    status_column,
    timeline_panel,
)
from subscriptions.models import BillingRun, Subscription

SHOWN = 100


@admin.register(BillingRun, site=site)
class BillingRunAdmin(RecordAdmin):
    """Passes over what is due."""

    view_permission = "billing_run.view"
    list_display = (
        "show_started",
        "show_status",
        "show_progress",
        "invoice_count",
        "show_failed",
        "show_totals",
        "organisation",
    )
    list_filter = ("status",)
    list_select_related = ("organisation",)
    empty_hint = (
        "A run is noted when something is due: by the clock, by POST /api/v1/billing-runs or manage.py run_billing."
    )
    show_status = status_column()

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).order_by("-id")

    @display(description="started", ordering="started_at")
    def show_started(self, run: BillingRun) -> str:
        return moment(run.started_at, run.organisation)

    @display(description="billed")
    def show_progress(self, run: BillingRun) -> str:
        return f"{run.billed_count:,} periods of {run.due_count:,} subscriptions"

    @display(description="set aside", ordering="failed_count", label="danger")
    def show_failed(self, run: BillingRun) -> str:
        return f"{run.failed_count:,}" if run.failed_count else ""

    @display(description="invoiced")
    def show_totals(self, run: BillingRun) -> str:
        return ", ".join(_sums(run)) or NOTHING

    def record(self, request: HttpRequest, row: BillingRun) -> Record:
        return Record(
            badges=(badge(row.status),),
            notice=row.error,
            figures=(
                Figure(
                    name="Periods billed", value=f"{row.billed_count:,}", hint=f"of {row.due_count:,} subscriptions due"
                ),
                Figure(name="Invoices", value=f"{row.invoice_count:,}"),
                *(Figure(name="Invoiced", value=total) for total in _sums(row)),
                Figure(name="Set aside", value=f"{row.failed_count:,}"),
            ),
            facts=(
                ("Due by", moment(row.due_at, row.organisation)),
                ("Started", moment(row.started_at, row.organisation)),
                ("Finished", moment(row.finished_at, row.organisation)),
            ),
            panels=[
                self._set_aside(request, row),
                self._periods(request, row),
                *timeline_panel(request, self, row, [row.pk]),
            ],
        )

    def _set_aside(self, request: HttpRequest, run: BillingRun) -> Panel:
        """The first failures, each with a link to the subscription where one takes it up again."""
        names = [failure["subscription"] for failure in run.failures]
        found = {
            one.external_id: one for one in Subscription.objects.of(run.organisation_id).filter(external_id__in=names)
        }
        rows = [
            (link(request, found.get(failure["subscription"]), failure["subscription"]), failure["reason"])
            for failure in run.failures
        ]
        return Panel(
            title="Set aside", headers=("Subscription", "Why"), rows=rows, empty="None: everything was billed."
        )

    def _periods(self, request: HttpRequest, run: BillingRun) -> Panel:
        periods = run.billed_periods.select_related("subscription", "invoice").order_by("id")[:SHOWN]
        rows = [
            (link(request, period.subscription), moment(period.starts_at, run.organisation),
             moment(period.ends_at, run.organisation),
             link(request, period.invoice) if period.invoice else "nothing to invoice",
             money(period.invoice.total) if period.invoice else "")
            for period in periods
        ]  # fmt: skip
        return Panel(
            title="Periods",
            headers=("Subscription", "From", "Until", "Invoice", "Total"),
            rows=rows,
            numbers=frozenset({4}),
            empty="None yet.",
            note=f"The first {SHOWN}." if run.billed_count > SHOWN else "",
        )


def _sums(run: BillingRun) -> list[str]:
    return [money(Money(total, currency)) for currency, total in run.totals.items()]
