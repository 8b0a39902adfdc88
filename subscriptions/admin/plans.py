"""Console pages of plans: what is offered, what each version brings in, writing versions, and moving subscribers."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib import admin
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from unfold.decorators import display

from billing.admin.base import ReasonForm, decision, path_to, site
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
    number_column,
    page_action,
    span,
    timeline_panel,
    words,
)
from billing.context import Actor
from billing.errors import DomainError
from billing.models import Meter
from subscriptions.admin.plan_editor import Editor
from subscriptions.admin.plan_moves import Moves
from subscriptions.admin.plan_words import PlanChangeForm, rules_text
from subscriptions.lines import Component
from subscriptions.models import Plan, PlanMigration, PlanVersion
from subscriptions.selectors import PriceBooks, price_books
from subscriptions.services import catalog
from subscriptions.services.comparison import words_of
from subscriptions.services.plan_figures import VersionFigures, figures
from subscriptions.services.plan_migrations import RUNNING


def interval_of(plan: Plan) -> str:
    """``month`` or ``3 months``."""
    return plan.interval if plan.interval_count == 1 else f"{plan.interval_count} {plan.interval}s"


@admin.register(Plan, site=site)
class PlanAdmin(RecordAdmin):
    """What is offered at which price; subscribers stay on the version they took."""

    view_permission = "plan.view"
    list_display = (
        "code",
        "name",
        "show_interval",
        "show_trial",
        "show_versions",
        "show_running",
        "show_state",
        "organisation",
    )
    list_filter = ("interval", ("archived_at", admin.EmptyFieldListFilter))
    list_select_related = ("organisation",)
    search_fields = ("code", "name")
    actions = ("archive",)
    actions_list = ("add_plan",)
    actions_detail = ("edit", "new_version", "move_subscribers", "archive", "offer_again")
    empty_hint = "Write a plan here, or send it by POST /api/v1/plans."

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

    show_versions = number_column("version_count", title="versions")
    show_running = number_column("running")
    show_trial = number_column("trial_days")

    @display(description="state", label={"offered": "success", "archived": ""})
    def show_state(self, plan: Plan) -> str:
        return "archived" if plan.archived_at else "offered"

    @decision(description="Archive", permission="plan.edit", form=ReasonForm, icon="archive")
    def archive(self, request: HttpRequest, row: Plan, *, actor: Actor, reason: str) -> str:
        """Offer the plan no more."""
        catalog.archive_plan(plan_id=row.pk, actor=actor, reason=reason)
        return f"{row.code} is archived; its subscriptions go on."

    @decision(description="Offer again", permission="plan.edit", form=ReasonForm, icon="unarchive")
    def offer_again(self, request: HttpRequest, row: Plan, *, actor: Actor, reason: str) -> str:
        """Take an archived plan out again."""
        catalog.offer_again(plan_id=row.pk, actor=actor, reason=reason)
        return f"{row.code} is offered again."

    def offers(self, row: Plan, action: str) -> bool:
        archived = row.archived_at is not None
        return archived if action == "offer_again" else not archived if action == "archive" else True

    @page_action(description="Edit", permission="plan.edit", icon="tune")
    def edit(self, request: HttpRequest, row: Plan) -> HttpResponse:
        """Words, trial, days on which it is offered, rules; code, interval and prices stay."""
        form = PlanChangeForm(request.POST if "confirm" in request.POST else None, plan=row)
        if form.is_valid():
            done = self.attempt(request, lambda: catalog.update_plan(
                plan_id=row.pk, actor=self.actor(request, row), changes=form.changes(), reason=form.cleaned_data["reason"],
            ), form=form)  # fmt: skip
            if done is not None:
                return HttpResponseRedirect(path_to(row))
        return self.ask(request, title=f"Edit {row.name}", form=form, back_to=path_to(row))

    # --- writing plans and moving subscribers ---------------------------------------------------------
    @page_action(description="New plan", permission="plan.edit", icon="add")
    def add_plan(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:subscriptions_plan_new"))

    @page_action(description="New version", permission="plan.edit", icon="edit")
    def new_version(self, request: HttpRequest, row: Plan) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:subscriptions_plan_editor", args=[row.pk]))

    @page_action(description="Move subscribers", permission="plan.edit", icon="move_down")
    def move_subscribers(self, request: HttpRequest, row: Plan) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:subscriptions_plan_move", args=[row.pk]))

    def get_urls(self) -> list[Any]:
        editor, moves, guard = Editor(self), Moves(self), self.admin_site.admin_view
        return [
            path("editor/", guard(editor.page), name="subscriptions_plan_new"),
            path("editor/preview/", guard(editor.preview), name="subscriptions_plan_preview_new"),
            path("<uuid:plan_id>/editor/", guard(editor.page), name="subscriptions_plan_editor"),
            path("<uuid:plan_id>/editor/preview/", guard(editor.preview), name="subscriptions_plan_preview"),
            path("<uuid:plan_id>/move/", guard(moves.page), name="subscriptions_plan_move"),
            *super().get_urls(),
        ]

    def record(self, request: HttpRequest, row: Any) -> Record:
        versions = list(PlanVersion.objects.filter(plan=row).order_by("-number"))
        ids = [version.pk for version in versions]
        books, by_version = price_books(row.organisation_id, ids), defaultdict(list)
        for one in figures(organisation=row.organisation, version_ids=ids):
            by_version[one.version_id].append(one)
        meters = dict(Meter.objects.of(row.organisation_id).values_list("pk", "code"))
        panels = [_version_panel(version, row, books, by_version[version.pk], meters) for version in versions]
        return Record(
            badges=(badge("void" if row.archived_at else "active", "archived" if row.archived_at else "offered"),),
            figures=(
                Figure(name="Running subscriptions", value=f"{row.running:,}"),
                *_revenue([one for each in by_version.values() for one in each]),
                Figure(name="Versions", value=row.version_count),
            ),
            facts=(
                ("Code", row.code),
                ("Name", row.name),
                ("Description", row.description or NOTHING),
                ("Billed every", interval_of(row)),
                ("Trial", f"{row.trial_days} days" if row.trial_days else "none"),
                ("Offered", span(row.available_from, row.available_until, "at any time")),
                ("Prices", "contain the tax" if row.prices_include_tax else "without tax"),
                ("Its subscriptions", "; ".join(rules_text(row)) or "live as the organisation says"),
                ("Added", moment(row.created_at, row.organisation)),
            ),
            panels=[*panels, _moves_panel(request, row), *timeline_panel(request, self, row, [row.pk])],
        )


def _revenue(found: Sequence[VersionFigures]) -> list[Figure]:
    """MRR by currency, with how many pay it."""
    sums: dict[str, list[VersionFigures]] = defaultdict(list)
    for one in found:
        sums[one.currency].append(one)
    return [
        Figure(
            name=f"MRR {currency}",
            value=money(sum((one.mrr for one in each[1:]), start=each[0].mrr)),
            hint=f"{sum(one.paying for one in each):,} paying",
        )
        for currency, each in sorted(sums.items())
    ]


def _version_panel(
    version: PlanVersion, plan: Plan, books: PriceBooks, found: Sequence[VersionFigures], meters: Mapping[Any, str]
) -> Panel:
    """The version's prices in words, and what it brings in."""
    rows = []
    for currency in books.currencies(version.pk):
        try:
            rows += [_price_row(component, meters) for component in books.all(version.pk, currency)]
        except DomainError as exc:
            rows.append((f"broken: {exc}", "", "", "", "", "", ""))
    brings = ", ".join(f"{one.running:,} running, {money(one.mrr)} a month" for one in found) or "nobody is on it"
    least = ", ".join(f"{amount} {code}" for code, amount in version.min_commitment.items())
    return Panel(
        title=f"Version {version.number}",
        note=format_html(
            "For new subscribers from {}. {}.{}", moment(version.effective_from, plan.organisation), brings.capitalize(),
            f" A period comes to at least {least}." if least else "",
        ),
        headers=("Component", "Code", "Model", "Price", "Paid", "Meter", "Tax category"),
        rows=rows,
        empty="No prices.",
    )  # fmt: skip


def _price_row(component: Component, meters: Mapping[Any, str]) -> tuple[Any, ...]:
    when = "in advance" if component.pay_in_advance else "in arrears"
    if component.meter_id:
        when = "usage, soon after it happens" if component.pay_in_advance else "by usage"
    kind = "" if component.kind == "recurring" else f" ({words(component.kind)})"
    return (
        component.name, f"{component.code}{kind}", words(component.model),
        format_html_join("", "<div>{}</div>", ((one,) for one in words_of(component))),
        "once" if component.kind == "one_off" else when if component.prorated else f"{when}, not prorated",
        meters.get(component.meter_id, NOTHING), component.tax_category or NOTHING,
    )  # fmt: skip


def _moves_panel(request: HttpRequest, plan: Plan) -> Panel:
    """Migrations from this plan."""
    moved = PlanMigration.objects.filter(from_plan=plan).select_related("to_version__plan").order_by("-id")[:20]
    rows = [
        (link(request, one, f"to {one.to_version}"), words(one.when), moment(one.starts_at, plan.organisation), badge(one.status),
         f"{one.moved_count:,} of {one.total_count:,}", f"{one.failed_count:,}")
        for one in moved
    ]  # fmt: skip
    return Panel(
        title="Subscribers moved to other prices",
        headers=("Migration", "When", "From", "Status", "Moved", "Refused"),
        rows=rows,
        numbers=frozenset({4, 5}),
        empty="None: everybody keeps the prices they subscribed to.",
    )
