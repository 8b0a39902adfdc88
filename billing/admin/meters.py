"""Console pages of meters: what usage is counted by, and what becomes of usage that is late, unknown or old."""

from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import path
from unfold.decorators import display

from billing import clock
from billing.admin.base import site
from billing.admin.meter_editor import MeterEditor
from billing.admin.panels import (
    NOTHING,
    Panel,
    Record,
    RecordAdmin,
    link,
    moment,
    number,
    page_action,
    timeline_panel,
)
from billing.admin.usage import properties_text
from billing.admin.usage_policy import PolicyPages
from billing.models import Meter, UsageEvent
from billing.services import meter_costs

RECENT = 20


@admin.register(Meter, site=site)
class MeterAdmin(RecordAdmin):
    """What usage is counted by."""

    view_permission = "usage.view"
    list_display = ("code", "name", "show_aggregation", "unit", "service", "organisation")
    list_select_related = ("organisation",)
    search_fields = ("code", "name")
    ordering = ("-id",)
    actions_list = ("add_meter",)
    actions_detail = ("edit", "try_event")
    empty_hint = "A meter says how events are added up: begin one here or by POST /api/v1/meters."

    @page_action(description="New meter", permission="plan.edit", icon="add")
    def add_meter(self, request: HttpRequest) -> HttpResponse:
        return MeterEditor(self).add(request)

    @page_action(description="Edit", permission="plan.edit", icon="edit")
    def edit(self, request: HttpRequest, row: Meter) -> HttpResponse:
        return MeterEditor(self).change(request, row)

    @page_action(description="Try on an event", permission="usage.view", icon="science")
    def try_event(self, request: HttpRequest, row: Meter) -> HttpResponse:
        return MeterEditor(self).try_on(request, row)

    def get_urls(self) -> list[Any]:
        pages = PolicyPages(self)
        shown, change = self.admin_site.admin_view(pages.shown), self.admin_site.admin_view(pages.change)
        return [
            path("policy/", shown, name="billing_usage_policy"),
            path("policy/<uuid:organisation_id>/", change, name="billing_usage_policy_change"),
            *super().get_urls(),
        ]

    @display(description="counts", ordering="aggregation")
    def show_aggregation(self, meter: Meter) -> str:
        return _counts(meter)

    def record(self, request: HttpRequest, row: Meter) -> Record:
        rounding = f"{row.get_rounding_display()}, {row.rounding_decimals} decimals" if row.rounding else "none"
        declared = [
            (one["name"], one.get("kind", "text"), "required" if one.get("required") else "") for one in row.properties
        ]
        return Record(
            facts=(
                ("Code", row.code),
                ("Name", row.name),
                ("Counts", _counts(row)),
                ("Unit", row.unit or NOTHING),
                ("Quantity of an event", row.expression or "as it is sent"),
                ("Unique by", row.unique_property or NOTHING),
                ("Rounding", rounding),
                ("Service it earns for", row.service or NOTHING),
                ("Cost of a unit", _cost(row)),
            ),
            panels=[
                Panel(title="Declared properties", headers=("Name", "Kind", ""), rows=declared,
                      empty="None: an event may have any."),
                _costs(row),
                self._recent(request, row),
                *timeline_panel(request, self, row, [row.pk]),
            ],
        )  # fmt: skip

    def _recent(self, request: HttpRequest, meter: Meter) -> Panel:
        events = UsageEvent.objects.of(meter.organisation_id).filter(meter=meter).select_related("customer")
        rows = [
            (moment(one.occurred_at, meter.organisation), link(request, one), link(request, one.customer), number(one.quantity),
             properties_text(one.properties))
            for one in events.order_by("-id")[:RECENT]
        ]  # fmt: skip
        return Panel(
            title="Taken in last", headers=("When", "Event", "Customer", "Quantity", "Properties"), rows=rows,
            numbers=frozenset({3}), empty="Nothing was measured yet.",
        )  # fmt: skip


def _counts(meter: Meter) -> str:
    return f"{meter.get_aggregation_display()}{', carried on' if meter.recurring else ''}"


def _cost(meter: Meter) -> str:
    return _amount(meter, meter_costs.cost_on(meter, clock.today(meter.organisation)))


def _costs(meter: Meter) -> Panel:
    rows = [
        ("the beginning" if one.effective_on == meter_costs.BEGINNING else one.effective_on.isoformat(),
         _amount(meter, one.unit_cost))
        for one in meter.costs.order_by("-effective_on")
    ]  # fmt: skip
    return Panel(
        title="What a unit costs", headers=("From", "Cost"), rows=rows, numbers=frozenset({1}), empty="Nobody said."
    )


def _amount(meter: Meter, cost: Decimal | None) -> str:
    return NOTHING if cost is None else f"{number(cost)} {meter.organisation.currency}"
