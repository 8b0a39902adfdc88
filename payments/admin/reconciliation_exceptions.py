"""Exceptions in the console: the board of what does not match, each with its next step, and the decisions about it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import path
from django.utils.html import format_html
from unfold.decorators import display
from unfold.widgets import UnfoldAdminEmailInputWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from billing import clock
from billing.admin.base import ReasonForm, decision, site
from billing.admin.panels import (
    CurrencyFilter,
    Figure,
    Panel,
    Record,
    RecordAdmin,
    amount_column,
    badge,
    day,
    journal_panel,
    link,
    moment,
    money,
    status_column,
    timeline_panel,
    words,
)
from billing.context import Actor
from billing.errors import NotFound
from billing.models import User
from billing.selectors import access
from payments.admin.reconciliation_today import TodayView
from payments.exception_classes import CLASSES, RESOLUTIONS
from payments.models import (
    BankLine,
    Dispute,
    GatewayAccount,
    Payment,
    ReconciliationException,
    Refund,
    Settlement,
    SettlementLine,
)
from payments.services import exceptions, resolving

SOURCES: dict[str, Any] = {
    "bank_line": BankLine,
    "settlement": Settlement,
    "settlement_line": SettlementLine,
    "payment": Payment,
    "dispute": Dispute,
    "refund": Refund,
    "payout": Settlement,
    "gateway_account": GatewayAccount,
}


class ResolveForm(ReasonForm):
    """How it ends, and why."""

    resolution = forms.ChoiceField(
        choices=[(name, f"{words(name).capitalize()}: {said}") for name, said in RESOLUTIONS.items()],
        widget=UnfoldAdminSelectWidget(),
    )
    field_order = ("resolution", "reason")


class MatchForm(ReasonForm):
    """Which payout the line belongs to, and why."""

    payout = forms.CharField(
        max_length=80,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Id at the gateway: setl_… or po_…. A difference is posted as bank charge.",
    )
    field_order = ("payout", "reason")


class OwnerForm(forms.Form):
    """Who takes care of it."""

    owner = forms.EmailField(
        widget=UnfoldAdminEmailInputWidget(), help_text="E-mail address of a member of the organisation."
    )


class OpenFilter(admin.SimpleListFilter):
    """Open exceptions unless asked for others."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("open", "Open"),
            ("mine", "Open and mine"),
            ("overdue", "Open and overdue"),
            ("resolved", "Resolved"),
            ("all", "All"),
        ]

    def choices(self, changelist: Any) -> Any:
        for value, title in self.lookup_choices:
            selected = (self.value() or "open") == value
            yield {
                "selected": selected,
                "query_string": changelist.get_query_string({self.parameter_name: value}),
                "display": title,
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value() or "open"
        if value == "all":
            return queryset
        found = queryset.filter(status="resolved" if value == "resolved" else "open")
        if value == "overdue":
            return found.filter(by_clock(request, lambda now: Q(due_on__lt=now.date())))
        return found.filter(owner=request.user.pk) if value == "mine" else found


class AgeFilter(admin.SimpleListFilter):
    """Age in days, as on the Today page."""

    title = "age"
    parameter_name = "age"
    AGES = {"0-1": (0, 2), "2-3": (2, 4), "4-7": (4, 8), "8+": (8, 100_000)}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, f"{name} days") for name in self.AGES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in self.AGES:
            return queryset
        youngest, oldest = (timedelta(days=days) for days in self.AGES[str(self.value())])
        return queryset.filter(
            by_clock(request, lambda now: Q(opened_at__gt=now - oldest, opened_at__lte=now - youngest))
        )


def by_clock(request: HttpRequest, condition: Callable[[datetime], Q]) -> Q:
    """A condition that depends on the time, at the time of each organisation of the person."""
    found = Q(pk=None)
    for organisation_id in access.organisations_with(request.user, ExceptionAdmin.view_permission):
        found |= Q(organisation_id=organisation_id) & condition(clock.now(organisation_id))
    return found


@admin.register(ReconciliationException, site=site)
class ExceptionAdmin(RecordAdmin):
    """The board: class, amount, age, owner, due day and next step. The most urgent first."""

    view_permission = "reconciliation.view"
    empty_hint = "Nothing is open: payouts, books and bank agree."
    list_display = ("name", "status_badge", "sum_amount", "explanation", "age", "owner", "due", "next_step")
    list_filter = (OpenFilter, AgeFilter, "kind", CurrencyFilter)
    list_select_related = ("owner", "organisation__test_clock")
    search_fields = ("explanation__icontains",)
    ordering = ("due_on", "id")
    actions = ("take", "assign", "resolve")
    actions_detail = ("take", "assign", "match", "resolve")

    status_badge = status_column()
    sum_amount = amount_column("amount", title="amount")

    def get_urls(self) -> list[Any]:
        today = self.admin_site.admin_view(TodayView.as_view(model_admin=self))
        return [path("today/", today, name="payments_today"), *super().get_urls()]

    @display(description="class", ordering="kind")
    def name(self, row: ReconciliationException) -> str:
        return CLASSES[row.kind].name

    @display(description="age")
    def age(self, row: ReconciliationException) -> str:
        days = ((row.resolved_at or _now(row)) - row.opened_at).days
        return f"{max(days, 0)}\N{NO-BREAK SPACE}d"

    @display(description="due", ordering="due_on")
    def due(self, row: ReconciliationException) -> str:
        text = day(row.due_on).replace(" ", "\N{NO-BREAK SPACE}")
        late = row.status == "open" and row.due_on < _now(row).date()
        return format_html('<b title="overdue" class="m-alarm">{}</b>', text) if late else text

    def offers(self, row: ReconciliationException, action: str) -> bool:
        return row.status == "open" and (action != "match" or row.source_type == "bank_line")

    @decision(description="Take", permission="reconciliation.work", form=None, icon="person_add")
    def take(self, request: HttpRequest, row: ReconciliationException, *, actor: Actor) -> str:
        exceptions.assign(organisation=row.organisation, exception_id=row.pk, actor=actor)
        return f"{self.name(row)}: yours."

    @decision(description="Assign", permission="reconciliation.work", form=OwnerForm, icon="group")
    def assign(self, request: HttpRequest, row: ReconciliationException, *, actor: Actor, owner: str) -> str:
        found = User.objects.filter(email=owner.lower(), memberships__organisation=row.organisation).first()
        if found is None:
            raise NotFound("Nobody with this address is a member of the organisation.")
        exceptions.assign(organisation=row.organisation, exception_id=row.pk, actor=actor, owner=found)
        return f"{self.name(row)}: {found}."

    @decision(description="Resolve", permission="reconciliation.resolve", form=ResolveForm, icon="task_alt")
    def resolve(
        self, request: HttpRequest, row: ReconciliationException, *, actor: Actor, resolution: str, reason: str
    ) -> str:
        resolving.resolve_exception(
            organisation=row.organisation, exception_id=row.pk, resolution=resolution, reason=reason, actor=actor
        )
        return f"{self.name(row)}: {words(resolution)}."

    @decision(description="Match with a payout", permission="reconciliation.resolve", form=MatchForm, icon="join")
    def match(
        self, request: HttpRequest, row: ReconciliationException, *, actor: Actor, payout: str, reason: str
    ) -> str:
        found = Settlement.objects.of(row.organisation).filter(gateway_ref=payout.strip()).first()
        if found is None:
            raise NotFound(f"There is no payout '{payout}' here.")
        resolving.resolve_exception(organisation=row.organisation, exception_id=row.pk, resolution="match", reason=reason, actor=actor,
                                    settlement_id=found.pk)  # fmt: skip
        return f"{self.name(row)}: matched with {found}."

    def record(self, request: HttpRequest, row: ReconciliationException) -> Record:
        model = SOURCES.get(row.source_type)
        source = model.objects.of(row.organisation_id).filter(pk=row.source_id).first() if model else None
        return Record(
            badges=[badge(row.status), CLASSES[row.kind].name],
            notice=f"Next: {row.next_step}" if row.status == "open" else "",
            figures=[Figure(name="Amount", value=money(row.amount)), Figure(name="Due", value=day(row.due_on)),
                     Figure(name="Age", value=self.age(row))],
            facts=[("What", row.explanation), ("About", link(request, source)), ("Owner", row.owner or "nobody yet"),
                   ("Opened", moment(row.opened_at, row.organisation)), ("Resolved", moment(row.resolved_at, row.organisation)),
                   ("How", words(row.resolution) or "–"), ("Why", row.reason or "–"), ("Organisation", row.organisation)],
            panels=[_fitting(request, row), *journal_panel(request, self, row, [row.source_id]),
                    *timeline_panel(request, self, row, [row.pk])],
        )  # fmt: skip


def _now(row: ReconciliationException) -> datetime:
    """As ``clock.now``, without a query for each row of a list."""
    stands_at = row.organisation.test_clock
    return stands_at.now if stands_at else clock.wall_now()


def _fitting(request: HttpRequest, row: ReconciliationException) -> Panel:
    """Payouts it may belong to."""
    ids = [*row.details.get("candidates", []), *([row.details["settlement"]] if row.details.get("settlement") else [])]
    rows = [
        (link(request, one), day(one.settled_on), one.utr or "–", badge(one.status), money(one.amount))
        for one in Settlement.objects.of(row.organisation_id).filter(pk__in=ids).order_by("settled_on")
    ]
    return Panel(title="May belong to", headers=("Payout", "Day", "UTR", "Status", "Amount"), rows=rows, numbers=frozenset({4}),
                 empty="No payout is named by it.")  # fmt: skip
