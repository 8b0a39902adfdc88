"""Console pages of dunning: policies, and the debts being chased."""

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from unfold.decorators import display

from billing.admin.base import TenantAdmin, site
from subscriptions.models import DunningCase, DunningPolicy

COLOURS = {"open": "warning", "recovered": "success", "exhausted": "danger", "closed": "info"}


@admin.register(DunningPolicy, site=site)
class DunningPolicyAdmin(TenantAdmin):
    """What happens how many days after the due date."""

    view_permission = "dunning.view"
    list_display = ("code", "show_default", "show_stages", "organisation")
    list_select_related = ("organisation",)
    fields = ("organisation", "code", "show_default", "show_stages", "created_at")
    readonly_fields = fields
    search_fields = ("code",)

    @display(description="default", boolean=True)
    def show_default(self, policy: DunningPolicy) -> bool:
        return policy.is_default

    @display(description="stages")
    def show_stages(self, policy: DunningPolicy) -> str:
        rows = ((stage["after_days"], ", ".join(stage["actions"])) for stage in policy.stages)
        return format_html("<ol>{}</ol>", format_html_join("", "<li>after {} days: {}</li>", rows))


@admin.register(DunningCase, site=site)
class DunningCaseAdmin(TenantAdmin):
    """One unpaid invoice: where the chase stands and what was done."""

    view_permission = "dunning.view"
    list_display = (
        "invoice",
        "show_status",
        "stage",
        "overdue_since",
        "next_stage_on",
        "claimed",
        "recovered",
        "organisation",
    )
    list_filter = ("status", "stage")
    list_select_related = ("invoice", "organisation")
    search_fields = ("invoice__number", "subscription__external_id")
    fields = (
        "organisation", "invoice", "subscription", "policy", "show_status", "stage", "next_stage_on", "overdue_since", "claimed",
        "recovered", "show_history", "opened_at", "closed_at",
    )  # fmt: skip
    readonly_fields = fields

    @display(description="status", ordering="status", label=COLOURS)
    def show_status(self, case: DunningCase) -> tuple[str, str]:
        return case.status, case.get_status_display()

    @display(description="steps taken")
    def show_history(self, case: DunningCase) -> str:
        if not case.history:
            return "None yet"
        rows = ((row["on"], row["stage"], row["days_overdue"], ", ".join(row["actions"])) for row in case.history)
        steps = format_html_join("", "<li>{}: stage {}, {} days overdue: {}</li>", rows)
        return format_html("<ul>{}</ul>", steps)
