"""Console pages of plans: what is offered, and every version with its prices."""

from typing import Any

from django.contrib import admin
from django.db.models import Count, Prefetch, Q
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from unfold.decorators import display

from billing import money as rules
from billing.admin.base import ReasonForm, decision, site
from billing.admin.panels import NOTHING, Figure, Panel, Record, RecordAdmin, badge, day, moment, number, timeline_panel
from billing.context import Actor
from subscriptions.models import Plan, PlanVersion, Price
from subscriptions.services import catalog

RUNNING = ("pending", "trialing", "active", "past_due", "paused", "suspended")
MODELS = {"flat": "once a period", "per_unit": "per unit", "graduated": "graduated"}


def interval_of(plan: Plan) -> str:
    """``month`` or ``3 months``."""
    return plan.interval if plan.interval_count == 1 else f"{plan.interval_count} {plan.interval}s"


def price_of(price: Price) -> Any:
    """What a unit costs, or the tiers."""
    if price.unit_price is not None:
        whole = rules.quantize(price.unit_price, price.currency)
        shown = f"{whole:,}" if whole == price.unit_price else number(price.unit_price)
        return f"{shown} {price.currency}"
    rows = ((_bound(tier), tier["unit_price"], _fee(tier, price.currency)) for tier in price.tiers)
    return format_html_join("", "<div>{}: {}{}</div>", rows)


def _bound(tier: dict[str, Any]) -> str:
    return f"up to {tier['up_to']}" if tier["up_to"] else "above"


def _fee(tier: dict[str, Any], currency: str) -> str:
    return f" + {tier['flat_fee']} {currency}" if tier["flat_fee"] != "0" else ""


@admin.register(Plan, site=site)
class PlanAdmin(RecordAdmin):
    """What is offered at which price; subscribers stay on the version they took."""

    view_permission = "plan.view"
    list_display = (
        "code",
        "name",
        "show_interval",
        "trial_days",
        "show_versions",
        "show_running",
        "show_state",
        "organisation",
    )
    list_filter = ("interval", ("archived_at", admin.EmptyFieldListFilter))
    list_select_related = ("organisation",)
    search_fields = ("code", "name")
    actions = ("archive",)
    actions_detail = ("archive",)
    empty_hint = "Plans are added through the API (POST /api/v1/plans)."

    def get_queryset(self, request: HttpRequest) -> Any:
        counted = (
            super()
            .get_queryset(request)
            .annotate(
                version_count=Count("versions", distinct=True),
                running=Count(
                    "versions__subscriptions", filter=Q(versions__subscriptions__status__in=RUNNING), distinct=True
                ),
            )
        )
        return counted.order_by("archived_at", "code")

    @display(description="billed every")
    def show_interval(self, plan: Plan) -> str:
        return interval_of(plan)

    @display(description="versions")
    def show_versions(self, plan: Any) -> int:
        return plan.version_count

    @display(description="running", ordering="running")
    def show_running(self, plan: Any) -> str:
        return f"{plan.running:,}"

    @display(description="state", label={"offered": "success", "archived": ""})
    def show_state(self, plan: Plan) -> str:
        return "archived" if plan.archived_at else "offered"

    @decision(description="Archive", permission="plan.edit", form=ReasonForm, icon="archive")
    def archive(self, request: HttpRequest, row: Plan, *, actor: Actor, reason: str) -> str:
        """Offer the plan no more."""
        catalog.archive_plan(plan_id=row.pk, actor=actor, reason=reason)
        return f"{row.code} is archived; its subscriptions go on."

    def offers(self, row: Plan, action: str) -> bool:
        return action != "archive" or row.archived_at is None

    def record(self, request: HttpRequest, row: Any) -> Record:
        prices = Prefetch("prices", Price.objects.select_related("meter"))
        versions = list(PlanVersion.objects.filter(plan=row).prefetch_related(prices).annotate(
            running=Count("subscriptions", filter=Q(subscriptions__status__in=RUNNING))
        ))  # fmt: skip
        return Record(
            badges=(badge("void" if row.archived_at else "active", "archived" if row.archived_at else "offered"),),
            figures=(
                Figure(name="Running subscriptions", value=f"{row.running:,}"),
                Figure(name="Versions", value=row.version_count),
            ),
            facts=(
                ("Code", row.code),
                ("Name", row.name),
                ("Description", row.description or NOTHING),
                ("Billed every", interval_of(row)),
                ("Trial", f"{row.trial_days} days" if row.trial_days else "none"),
                ("Offered", f"{day(row.available_from)} to {day(row.available_until)}"),
                ("Added", moment(row.created_at, row.organisation)),
            ),
            panels=[
                *(self._version_panel(version, row) for version in versions),
                *timeline_panel(request, self, row, [row.pk]),
            ],
        )

    def _version_panel(self, version: Any, plan: Plan) -> Panel:
        rows = [
            (price.name, price.code, MODELS[price.model], price_of(price), price.meter.code if price.meter else NOTHING,
             price.unit or NOTHING, price.tax_category or NOTHING)
            for price in version.prices.all()
        ]  # fmt: skip
        return Panel(
            title=f"Version {version.number}",
            note=format_html(
                "For new subscribers from {}. {} running subscriptions are on it.",
                moment(version.effective_from, plan.organisation),
                version.running,
            ),
            headers=("Component", "Code", "Model", "Price", "Meter", "Unit", "Tax category"),
            rows=rows,
            empty="No prices.",
        )
