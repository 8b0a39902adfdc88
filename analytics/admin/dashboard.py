"""The dashboard: MRR movements, collection and success rates of one organisation, drawn from its rows."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import path
from django.utils.safestring import SafeString, mark_safe
from django.views.generic import TemplateView
from unfold.views import UnfoldModelAdminViewMixin

from analytics import charts, mrr, selectors
from analytics.admin.services import ServicePages
from analytics.models import MrrMovement
from billing.admin.panels import Record, RecordAdmin, amount_column, customer_column, link, moment, money, words
from billing.models import Organisation

INK = {
    "new": "#2563eb",
    "expansion": "#10b981",
    "reactivation": "#8b5cf6",
    "contraction": "#f59e0b",
    "churn": "#ef4444",
}


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One figure with its name and what it means."""

    name: str
    value: str
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class CurrencyPanel:
    """The charts and rows of one currency."""

    currency: str
    rows: list[mrr.MonthRow]
    movements: SafeString
    level: SafeString
    collection: SafeString
    collection_rows: list[selectors.CollectionRow]


class DashboardView(UnfoldModelAdminViewMixin, TemplateView):
    """``/console/analytics/mrrmovement/dashboard/?organisation=<id>``"""

    title = "Dashboard"
    permission_required = ()
    template_name = "admin/analytics/dashboard.html"

    def has_permission(self) -> bool:
        return bool(self.model_admin.organisations(self.request))

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        allowed = Organisation.objects.filter(pk__in=self.model_admin.organisations(self.request)).order_by("name")
        wanted = self.request.GET.get("organisation", "")
        chosen = next((one for one in allowed if str(one.pk) == wanted), None) or allowed[0]
        return super().get_context_data(
            organisations=allowed,
            organisation=chosen,
            tiles=_tiles(chosen),
            panels=_panels(chosen),
            declines=[(words(code), times) for code, times in selectors.payment_figures(organisation=chosen).declines],
            ink=INK,
            **kwargs,
        )


def _tiles(organisation: Organisation) -> list[Tile]:
    figures = selectors.payment_figures(organisation=organisation)
    totals = selectors.counts(organisation=organisation)
    tiles = []
    for currency, rows in selectors.mrr_table(organisation=organisation, months=2).items():
        churn = f"net churn {_percent(rows[-1].net_churn_rate)} this month"
        tiles.append(Tile(name=f"MRR {currency}", value=f"{rows[-1].closing:,.2f}", hint=churn))
    active = totals["subscriptions"].get("active", 0)
    tiles += [
        Tile(name="Customers", value=f"{totals['customers']:,}", hint=f"{active:,} active subscriptions"),
        Tile(
            name="Payment success",
            value=_percent(figures.success_rate),
            hint=f"{figures.succeeded:,} of {figures.succeeded + figures.failed:,} payments that ended",
        ),
        Tile(name="Recovered", value=f"{figures.recovered:,}", hint="collected after a refusal"),
        Tile(
            name="First try",
            value=_percent(figures.first_attempt_rate),
            hint=f"{figures.declined_attempts:,} attempts refused",
        ),
    ]
    return tiles


def _panels(organisation: Organisation) -> list[CurrencyPanel]:
    collected: dict[str, list[selectors.CollectionRow]] = {}
    for row in selectors.collection_by_month(organisation=organisation):
        collected.setdefault(row.currency, []).append(row)
    table = {code: _since_first_move(rows) for code, rows in selectors.mrr_table(organisation=organisation).items()}
    return [
        _panel(currency, table.get(currency, []), collected.get(currency, [])[-13:])
        for currency in sorted({*table, *collected})
    ]


def _since_first_move(rows: list[mrr.MonthRow]) -> list[mrr.MonthRow]:
    """Without the empty months before anything was sold."""
    first = next((index for index, row in enumerate(rows) if row.opening or row.closing or row.new), len(rows) - 1)
    return rows[first:]


def _panel(currency: str, rows: list[mrr.MonthRow], collection: list[selectors.CollectionRow]) -> CurrencyPanel:
    labels = [_month(row.month) for row in rows]
    moves = [
        charts.Series(
            name=name.capitalize(),
            values=[getattr(row, name) for row in rows],
            colour=colour,
            negative=name in ("contraction", "churn"),
        )
        for name, colour in INK.items()
    ]
    level = [charts.Series(name="MRR", values=[row.closing for row in rows], colour="#2563eb")]
    money = [
        charts.Series(name="Collected", values=[row.collected for row in collection], colour="#10b981"),
        charts.Series(name="Outstanding", values=[row.outstanding for row in collection], colour="#f59e0b"),
        charts.Series(name="Written off", values=[row.written_off for row in collection], colour="#ef4444"),
    ]
    months = [_month(row.month) for row in collection]
    return CurrencyPanel(
        currency=currency,
        rows=rows,
        movements=_svg(
            charts.stacked_bars(labels=labels, series=moves, title=f"MRR movements in {currency}", unit=currency)
        ),
        level=_svg(charts.lines(labels=labels, series=level, title=f"MRR in {currency}", unit=currency)),
        collection=_svg(
            charts.stacked_bars(labels=months, series=money, title=f"Invoices by month in {currency}", unit=currency)
        ),
        collection_rows=collection,
    )


def _svg(text: str) -> SafeString:
    return mark_safe(text)  # noqa: S308  (made by analytics.charts, which escapes every text)


def _month(day: date) -> str:
    return f"{day:%b %y}"


def _percent(value: Decimal | None) -> str:
    return "–" if value is None else f"{value} %"


@admin.register(MrrMovement)
class MrrMovementAdmin(RecordAdmin):
    """The movements themselves, the dashboard made from them, and what services earn."""

    view_permission = "analytics.view"
    empty_hint = "Movements come with the first subscription that is charged again and again."
    list_display = ("occurred_at", "show_customer", "kind", "show_amount", "show_month", "organisation")
    list_select_related = ("customer", "organisation")
    list_filter = ("kind", "currency", "month")
    ordering = ("-occurred_at",)
    show_customer = customer_column
    show_amount = amount_column("amount", title="change of MRR")

    @admin.display(description="counts for", ordering="month")
    def show_month(self, row: MrrMovement) -> str:
        return f"{row.month:%b %Y}"

    def get_urls(self) -> list[Any]:
        pages = ServicePages(self)
        shown, tag = self.admin_site.admin_view(pages.shown), self.admin_site.admin_view(pages.tag)
        return [
            self.custom_url("dashboard", DashboardView),
            path("services/", shown, name="analytics_services"),
            path("services/<uuid:organisation_id>/", tag, name="analytics_service_tags"),
            *super().get_urls(),
        ]

    def record(self, request: HttpRequest, row: MrrMovement) -> Record:
        return Record(
            facts=(
                ("Customer", link(request, row.customer)),
                ("Kind", row.get_kind_display()),
                ("Change of MRR", money(row.amount)),
                ("Occurred", moment(row.occurred_at, row.organisation)),
                ("Counts for", f"{row.month:%b %Y}"),
            )
        )

    def custom_url(self, name: str, view: Any) -> Any:
        return path(f"{name}/", self.admin_site.admin_view(view.as_view(model_admin=self)), name=f"analytics_{name}")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(self.organisations(request))
