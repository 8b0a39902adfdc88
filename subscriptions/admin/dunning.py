"""Console pages of dunning: policies, and the debts being chased."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.decorators import display

from billing.admin.base import site
from billing.admin.panels import (
    NOTHING,
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
    words,
)
from billing.masking import mask_name
from subscriptions.models import DunningCase, DunningPolicy

MEASURES = {"suspend": "suspend the subscription", "cancel": "cancel it", "write_off": "write the invoice off"}


@admin.register(DunningPolicy, site=site)
class DunningPolicyAdmin(RecordAdmin):
    """What happens how many days after the due date."""

    view_permission = "dunning.view"
    list_display = ("code", "show_default", "show_stages", "organisation")
    list_select_related = ("organisation",)
    search_fields = ("code",)
    empty_hint = (
        "The default policy is made when the first invoice becomes overdue; others by POST /api/v1/dunning-policies."
    )

    @display(description="for", label=True)
    def show_default(self, policy: DunningPolicy) -> str:
        return "default" if policy.is_default else ""

    @display(description="stages after days")
    def show_stages(self, policy: DunningPolicy) -> str:
        return ", ".join(str(stage["after_days"]) for stage in policy.stages)

    def record(self, request: HttpRequest, row: DunningPolicy) -> Record:
        plans = ", ".join(str(link(request, plan)) for plan in row.plans.order_by("code"))
        stages = [
            (number, stage["after_days"], ", ".join(_in_words(action) for action in stage["actions"]))
            for number, stage in enumerate(row.stages, start=1)
        ]
        return Record(
            badges=(badge("", "default"),) if row.is_default else (),
            facts=(
                ("Plans", plans or "all that no other policy names"),
                ("Made", moment(row.created_at, row.organisation)),
            ),
            panels=[
                Panel(
                    title="Stages",
                    headers=("Stage", "Days overdue", "What is done"),
                    rows=stages,
                    numbers=frozenset({0, 1}),
                    empty="None.",
                ),
                *timeline_panel(request, self, row, [row.pk]),
            ],
        )


@admin.register(DunningCase, site=site)
class DunningCaseAdmin(RecordAdmin):
    """One unpaid invoice: where the chase stands and what was done."""

    view_permission = "dunning.view"
    list_display = (
        "invoice",
        "show_customer",
        "show_status",
        "stage",
        "overdue_since",
        "next_stage_on",
        "show_claimed",
        "show_recovered",
        "organisation",
    )
    list_filter = ("status", "stage", CurrencyFilter)
    list_select_related = ("invoice", "organisation", "customer")
    search_fields = ("invoice__number", "subscription__external_id", "customer__external_id")
    empty_hint = "A case is opened when an invoice becomes overdue."
    show_customer = customer_column
    show_status = status_column()
    show_claimed = amount_column("claimed")
    show_recovered = amount_column("recovered")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).order_by("-id")

    def record(self, request: HttpRequest, row: DunningCase) -> Record:
        steps = [
            (
                step["on"],
                step["stage"],
                step["days_overdue"],
                ", ".join(_in_words(action) for action in step["actions"]),
            )
            for step in row.history
        ]
        return Record(
            badges=(badge(row.status),),
            figures=(
                Figure(name="Claimed", value=money(row.claimed)),
                Figure(name="Still due", value=money(row.invoice.due)),
                Figure(name="Recovered", value=money(row.recovered)),
            ),
            facts=(
                ("Invoice", link(request, row.invoice)),
                ("Customer", link(request, row.customer, f"{row.customer.external_id} {mask_name(row.customer.name)}")),
                ("Subscription", link(request, row.subscription) if row.subscription else NOTHING),
                ("Policy", link(request, row.policy)),
                ("Due since", day(row.overdue_since)),
                ("Next stage", day(row.next_stage_on)),
                ("Closed", moment(row.closed_at, row.organisation)),
            ),
            panels=[
                Panel(
                    title="Steps taken",
                    headers=("Day", "Stage", "Days overdue", "What was done"),
                    rows=steps,
                    numbers=frozenset({1, 2}),
                    empty="None yet.",
                ),
                *timeline_panel(request, self, row, [row.pk, row.invoice_id]),
            ],
        )


def _in_words(action: str) -> str:
    """``mail:reminder_1`` as ``letter: reminder 1``."""
    if action.startswith("mail:"):
        return f"letter: {words(action.removeprefix('mail:'))}"
    return MEASURES.get(action, words(action))
