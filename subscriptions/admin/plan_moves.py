"""Moving a plan's subscribers to other prices: what it would do first, then the decision; and the pages of migrations."""

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from billing.admin.base import ReasonForm, TenantAdmin, decision, path_to, site
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
    status_column,
    timeline_panel,
    words,
)
from billing.context import Actor
from billing.errors import DomainError
from billing.selectors import access
from subscriptions.models import Plan, PlanMigration, PlanMigrationItem, PlanVersion, Subscription
from subscriptions.services import plan_migrations
from subscriptions.services.plan_migration_preview import MigrationPreview, preview_migration

PERMISSION = "plan.edit"
SHOWN = 100


class MoveForm(forms.Form):
    """Who is moved where, and when."""

    from_version = forms.ModelChoiceField(
        PlanVersion.objects.none(), required=False, empty_label="all others", widget=UnfoldAdminSelectWidget()
    )
    to_version = forms.ModelChoiceField(PlanVersion.objects.none(), widget=UnfoldAdminSelectWidget())
    when = forms.ChoiceField(
        choices=[("renewal", "each at its renewal"), ("now", "now, with proration"), ("date", "with the first period from a date on")],
        widget=UnfoldAdminSelectWidget(),
    )  # fmt: skip
    starts_at = forms.DateTimeField(
        required=False, widget=UnfoldAdminTextInputWidget(attrs={"type": "datetime-local"}), help_text="With a date."
    )
    reason = forms.CharField(
        max_length=200, required=False, widget=UnfoldAdminTextInputWidget(), help_text="Kept in the audit trail."
    )

    def __init__(self, *args: Any, plan: Plan, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        every = PlanVersion.objects.of(plan.organisation_id).select_related("plan").order_by("plan__code", "-number")
        self.fields["from_version"].queryset = every.filter(plan=plan)  # type: ignore[attr-defined]
        self.fields["to_version"].queryset = every.filter(plan__archived_at=None)  # type: ignore[attr-defined]
        newest = every.filter(plan=plan).first()
        self.fields["to_version"].initial = newest.pk if newest else None


def moves_ahead(row: Subscription) -> list[tuple[datetime, str, str]]:
    """Decided migrations that will reach a subscription: when, what, in words."""
    how = {"now": "with proration", "renewal": "at its renewal", "date": "with its first period from then on"}
    return [
        (
            one.starts_at,
            "move to other prices",
            f"{one.to_version.plan.code}, version {one.to_version.number}, {how[one.when]}",
        )
        for one in plan_migrations.migrations_ahead(row)
    ]


class Moves:
    """The page that asks, for the plan admin."""

    def __init__(self, admin_page: TenantAdmin) -> None:
        self.admin = admin_page

    def page(self, request: HttpRequest, plan_id: Any) -> HttpResponse:
        """Ask, show what would happen, and decide."""
        mine = access.organisations_with(request.user, PERMISSION)
        if not mine:
            raise PermissionDenied(f"This needs the permission '{PERMISSION}'.")
        plan = Plan.objects.filter(organisation__in=mine, pk=plan_id).select_related("organisation").first()
        if plan is None:
            raise Http404
        with timezone.override(plan.organisation.time_zone):
            return self._page(request, plan)

    def _page(self, request: HttpRequest, plan: Plan) -> HttpResponse:
        form = MoveForm(request.POST or None, plan=plan)
        panels: list[Panel] = []
        if form.is_valid():
            try:
                panels = _preview_panels(self._preview(plan, form.cleaned_data))
                if "move" in request.POST:
                    return HttpResponseRedirect(path_to(self._move(request, plan, form.cleaned_data)))
            except DomainError as exc:
                messages.error(request, str(exc))
        return TemplateResponse(request, "admin/subscriptions/move_subscribers.html", {
            **self.admin.admin_site.each_context(request),
            "opts": self.admin.opts,
            "title": f"Move subscribers of {plan.code}",
            "form": form,
            "plan": plan,
            "back": path_to(plan),
            "record": Record(facts=(), panels=panels) if panels else None,
            "media": self.admin.media + form.media,
        })  # fmt: skip

    def _preview(self, plan: Plan, given: dict[str, Any]) -> MigrationPreview:
        return preview_migration(
            organisation=plan.organisation, from_plan=plan, from_version=given["from_version"], to_version=given["to_version"]
        )  # fmt: skip

    def _move(self, request: HttpRequest, plan: Plan, given: dict[str, Any]) -> PlanMigration:
        address = request.META.get("REMOTE_ADDR") or None
        migration = plan_migrations.plan_migration(
            organisation=plan.organisation, from_plan=plan, from_version=given["from_version"], to_version=given["to_version"],
            when=given["when"], starts_at=given["starts_at"], reason=given["reason"],
            actor=access.actor_of(request.user, organisation_id=plan.organisation_id, address=address),
        )  # fmt: skip
        messages.success(request, "Decided. A worker carries it out; this page shows how far it is.")
        return migration


def _preview_panels(found: MigrationPreview) -> list[Panel]:
    sums = [
        (one.currency, f"{one.count:,}", money(one.before), money(one.after), money(one.difference))
        for one in found.sums
    ]
    warnings = [(one.message, ", ".join(one.examples)) for one in found.warnings]
    return [
        Panel(
            title="What it would do",
            note=f"{found.count:,} subscriptions: {found.dearer:,} pay more than before, {found.cheaper:,} less. MRR is a month's.",
            headers=("Currency", "Subscriptions", "MRR before", "MRR after", "Difference"), rows=sums,
            numbers=frozenset({1, 2, 3, 4}), empty="Nobody would be moved.",
        ),
        Panel(title="Know before you decide", headers=("What", "Such as"), rows=warnings, empty="Nothing stands in the way."),
    ]  # fmt: skip


@admin.register(PlanMigration, site=site)
class PlanMigrationAdmin(RecordAdmin):
    """Moves of subscribers to other prices, and what became of each."""

    view_permission = "plan.view"
    list_display = ("show_from", "show_to", "show_status", "show_when", "show_moved", "show_refused", "organisation")
    list_filter = ("status", "when")
    list_select_related = ("organisation", "from_plan", "from_version", "to_version__plan")
    search_fields = ("from_plan__code", "to_version__plan__code")
    actions_detail = ("cancel", "retry")
    empty_hint = (
        "Subscribers keep their prices until they are moved: from a plan's page, or by POST /api/v1/plan-migrations."
    )
    show_status = status_column()
    show_refused = number_column("failed_count", title="refused")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).order_by("-id")

    @display(description="from")
    def show_from(self, row: PlanMigration) -> str:
        return str(row.from_version or row.from_plan)

    @display(description="to")
    def show_to(self, row: PlanMigration) -> str:
        return str(row.to_version)

    @display(description="when")
    def show_when(self, row: PlanMigration) -> str:
        return f"{words(row.when)}, {moment(row.starts_at, row.organisation)}"

    @display(description="moved")
    def show_moved(self, row: PlanMigration) -> str:
        return f"{row.moved_count:,} of {row.total_count:,}"

    def offers(self, row: PlanMigration, action: str) -> bool:
        if action == "cancel":
            return row.status == PlanMigration.Status.PLANNED
        return row.failed_count > 0 and row.status in (PlanMigration.Status.DONE, PlanMigration.Status.FAILED)

    @decision(description="Give it up", permission=PERMISSION, form=ReasonForm, icon="cancel")
    def cancel(self, request: HttpRequest, row: PlanMigration, *, actor: Actor, reason: str) -> str:
        """Move nobody."""
        plan_migrations.cancel_migration(migration_id=row.pk, actor=actor, reason=reason)
        return "Nobody is moved."

    @decision(description="Try refused ones again", permission=PERMISSION, form=ReasonForm, icon="replay")
    def retry(self, request: HttpRequest, row: PlanMigration, *, actor: Actor, reason: str) -> str:
        """Take what was refused up again."""
        plan_migrations.retry_refused(migration_id=row.pk, actor=actor, reason=reason)
        return "What was refused is tried again."

    def record(self, request: HttpRequest, row: PlanMigration) -> Record:
        return Record(
            badges=(badge(row.status),),
            notice=row.error,
            figures=(
                Figure(name="Subscriptions", value=f"{row.total_count:,}", hint="chosen when it began"),
                Figure(name="Moved or planned", value=f"{row.moved_count:,}"),
                Figure(name="Refused", value=f"{row.failed_count:,}"),
            ),
            facts=(
                ("From", link(request, row.from_plan, self.show_from(row))),
                ("To", link(request, row.to_version.plan, self.show_to(row))),
                ("When", self.show_when(row)),
                ("Proration", "charged and credited by the day" if row.prorate else "none"),
                ("Reason", row.reason or NOTHING),
                ("Decided by", row.actor or NOTHING),
                ("Finished", moment(row.finished_at, row.organisation)),
            ),
            panels=[self._items(request, row), *timeline_panel(request, self, row, [row.pk])],
        )

    def _items(self, request: HttpRequest, row: PlanMigration) -> Panel:
        """Those that need somebody first."""
        order = {"refused": 0, "pending": 1, "planned": 2, "moved": 3, "skipped": 4}
        found = (
            PlanMigrationItem.objects.filter(migration=row).select_related("subscription").order_by("id")[: 5 * SHOWN]
        )
        items = sorted(found, key=lambda one: order[one.status])[:SHOWN]
        rows = [
            (link(request, one.subscription), badge(one.status), one.reason, f"{one.mrr_before:,.2f}",
             f"{one.mrr_after:,.2f}", one.currency)
            for one in items
        ]  # fmt: skip
        return Panel(
            title="Subscriptions",
            headers=("Subscription", "Status", "Why", "MRR before", "MRR after", "Currency"),
            rows=rows,
            numbers=frozenset({3, 4}),
            note=f"{SHOWN} are shown; GET /api/v1/plan-migrations/{row.pk}/items has all."
            if row.total_count > SHOWN
            else "",
            empty="They are chosen when it begins.",
        )
