"""What is counted, what was measured, corrected and parked, and the files it came in."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminFileFieldWidget, UnfoldBooleanSwitchWidget

from billing.admin.base import ActionVariant, ReasonForm, TenantAdmin, decision, path_to
from billing.admin.panels import (
    NOTHING,
    Figure,
    OrganisationForm,
    Panel,
    Record,
    RecordAdmin,
    badge,
    moment,
    number,
    page_action,
    status_column,
    timeline_panel,
)
from billing.context import Actor
from billing.models import Meter, ParkedUsage, UsageEvent, UsageImport, UsageRevision, UsageWindow
from billing.services import parking, unparking, usage_imports, usage_revisions

INGEST = "usage.ingest"
SHOWN_ERRORS = 100


@admin.register(Meter)
class MeterAdmin(TenantAdmin):
    view_permission = "usage.view"
    list_display = ("code", "name", "aggregation", "recurring", "unit", "service", "organisation")
    list_select_related = ("organisation",)
    search_fields = ("code", "name")
    fields = readonly_fields = (
        "code", "name", "aggregation", "recurring", "unit", "expression", "unique_property", "rounding", "rounding_decimals",
        "properties", "service", "unit_cost", "organisation",
    )  # fmt: skip
    ordering = ("-id",)


class QuantityForm(ReasonForm):
    """The quantity that counts, and why."""

    quantity = forms.DecimalField(max_digits=30, decimal_places=12, widget=UnfoldAdminDecimalFieldWidget())
    field_order = ("quantity", "reason")


@admin.register(UsageEvent)
class UsageEventAdmin(RecordAdmin):
    """Measurements stay as they came; a correction or void is a row of its own."""

    view_permission = "usage.view"
    empty_hint = "Applications send measurements to /api/v1/usage-events/batch; files are imported under Imports."
    list_display = ("event_id", "meter", "customer", "quantity", "occurred_at", "organisation")
    list_select_related = ("meter", "customer", "organisation")
    list_filter = ("meter__aggregation",)
    search_fields = ("=event_id", "=customer__external_id")
    ordering = ("-id",)
    actions_detail = ("replace", "void")

    @decision(description="Correct", permission=INGEST, form=QuantityForm, icon="edit")
    def replace(self, request: HttpRequest, row: UsageEvent, *, actor: Actor, quantity: Any, reason: str) -> str:
        usage_revisions.replace_quantity(
            organisation=row.organisation,
            event_id=row.event_id,
            quantity=f"{quantity:f}",
            reason=reason[:300],
            actor=actor,
        )
        return f"{row.event_id} counts with {number(quantity)}."

    @decision(description="Void", permission=INGEST, icon="block", variant=ActionVariant.DANGER)
    def void(self, request: HttpRequest, row: UsageEvent, *, actor: Actor, reason: str) -> str:
        usage_revisions.void_event(
            organisation=row.organisation, event_id=row.event_id, reason=reason[:300], actor=actor
        )
        return f"{row.event_id} does not count any more."

    def record(self, request: HttpRequest, row: UsageEvent) -> Record:
        revisions = list(UsageRevision.objects.filter(event_ref=row.pk).order_by("-number"))
        counts = revisions[0] if revisions else None
        says = [
            (one.number, badge(one.kind), NOTHING if one.quantity is None else number(one.quantity), one.reason, one.made_by,
             moment(one.made_at, row.organisation))
            for one in revisions
        ]  # fmt: skip
        return Record(
            badges=[badge(counts.kind, "void" if counts.kind == "void" else "corrected")] if counts else [],
            figures=[Figure(name="Counts with", value=_counting(row, counts))],
            facts=[
                ("Event id", row.event_id), ("Meter", row.meter.code), ("Customer", row.customer.external_id),
                ("Sent quantity", number(row.quantity)), ("Occurred", moment(row.occurred_at, row.organisation)),
                ("Taken in", moment(row.recorded_at, row.organisation)),
                ("Subscription", row.subscription_ref if row.subscription_ref.int else NOTHING),
                ("Properties", ", ".join(f"{name}: {value}" for name, value in row.properties.items()) or NOTHING),
            ],
            panels=[
                Panel(title="Corrections", headers=("No.", "Kind", "Quantity", "Why", "By", "When"), rows=says,
                      numbers=frozenset({0, 2}), empty="It counts as it came."),
                _windows_panel(row),
            ],
        )  # fmt: skip


def _counting(row: UsageEvent, revision: UsageRevision | None) -> str:
    if revision is None or revision.quantity is None:
        return number(row.quantity) if revision is None else "nothing"
    return number(revision.quantity)


def _windows_panel(row: UsageEvent) -> Panel:
    windows = UsageWindow.objects.filter(
        customer=row.customer_id, meter=row.meter_id, starts_at__lte=row.occurred_at, ends_at__gt=row.occurred_at
    ).order_by("ends_at")
    rows = [
        (moment(one.starts_at, row.organisation), moment(one.ends_at, row.organisation), moment(one.billed_at, row.organisation),
         moment(one.closed_at, row.organisation) if one.closed_at else "open")
        for one in windows
    ]  # fmt: skip
    return Panel(title="Billed in", headers=("From", "To", "Billed", "Closed"), rows=rows, empty="Not billed yet.")


@admin.register(UsageRevision)
class UsageRevisionAdmin(TenantAdmin):
    view_permission = "usage.view"
    list_display = ("event_id", "kind", "quantity", "meter", "customer", "reason", "made_by", "made_at")
    list_select_related = ("meter", "customer", "organisation")
    list_filter = ("kind",)
    search_fields = ("=event_id", "=customer__external_id")
    fields = readonly_fields = (
        "event_id", "kind", "quantity", "number", "is_current", "meter", "customer", "reason", "made_by", "made_at", "occurred_at",
    )  # fmt: skip
    ordering = ("-id",)


@admin.register(ParkedUsage)
class ParkedUsageAdmin(RecordAdmin):
    """Events that wait for what they name."""

    view_permission = "usage.view"
    empty_hint = "Nothing waits. Events are parked where the usage policy says so, instead of being refused."
    list_display = ("event_id", "state", "field", "reason", "tries", "parked_at", "organisation")
    list_select_related = ("organisation",)
    list_filter = ("status", "field")
    search_fields = ("=event_id",)
    ordering = ("-id",)
    actions = ("try_again", "dismiss")
    actions_detail = ("try_again", "dismiss")
    state = status_column()

    def offers(self, row: ParkedUsage, action: str) -> bool:
        return row.status == ParkedUsage.Status.WAITING

    @decision(description="Try again", permission=INGEST, form=None, icon="refresh")
    def try_again(self, request: HttpRequest, row: ParkedUsage, *, actor: Actor) -> str:
        taken = unparking.retry_parked(organisation_id=row.organisation_id, ids=[row.pk])
        return f"{row.event_id}: {'taken in' if taken else 'still not accepted'}."

    @decision(description="Dismiss", permission=INGEST, icon="delete", variant=ActionVariant.DANGER)
    def dismiss(self, request: HttpRequest, row: ParkedUsage, *, actor: Actor, reason: str) -> None:
        parking.dismiss(organisation=row.organisation, parked_id=row.pk, reason=reason, actor=actor)

    def record(self, request: HttpRequest, row: ParkedUsage) -> Record:
        sent = [(name, str(value)[:200]) for name, value in sorted(row.payload.items())]
        return Record(
            badges=[badge(row.status)],
            notice=row.reason if row.status == ParkedUsage.Status.WAITING else "",
            facts=[("Event id", row.event_id), ("Field", row.field), ("Tried", row.tries),
                   ("Parked", moment(row.parked_at, row.organisation)),
                   ("Settled", moment(row.settled_at, row.organisation) if row.settled_at else NOTHING)],
            panels=[Panel(title="As it was sent", headers=("Field", "Value"), rows=sent, empty="Nothing."),
                    *timeline_panel(request, self, row, [row.pk])],
        )  # fmt: skip


class ImportForm(OrganisationForm):
    """A file, and whether to try it first."""

    file = forms.FileField(
        widget=UnfoldAdminFileFieldWidget(),
        help_text="CSV: event_id, meter, customer, occurred_at; quantity, subscription, amount, properties.<name> if wanted.",
    )
    dry_run = forms.BooleanField(
        required=False, widget=UnfoldBooleanSwitchWidget(), help_text="Tell what would happen and take nothing in."
    )


@admin.register(UsageImport)
class UsageImportAdmin(RecordAdmin):
    """Files of measurements: progress, and the lines that were not taken in."""

    view_permission = "usage.view"
    empty_hint = "Import a CSV file of measurements with the button above."
    list_display = (
        "file_name",
        "state",
        "progress",
        "accepted",
        "duplicates",
        "parked",
        "rejected",
        "made_at",
        "organisation",
    )
    list_select_related = ("organisation",)
    list_filter = ("status", "dry_run")
    ordering = ("-id",)
    actions_list = ("upload",)
    state = status_column()

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("content")

    @admin.display(description="read")
    def progress(self, row: UsageImport) -> str:
        return f"{100 * row.position // max(row.size, 1)} %"

    @page_action(description="Import CSV", permission=INGEST, icon="upload_file")
    def upload(self, request: HttpRequest) -> HttpResponse:
        form = ImportForm(
            request.POST or None, request.FILES or None, organisations=self.organisations_where(request, INGEST)
        )
        back = reverse("admin:billing_usageimport_changelist")
        if form.is_valid():
            given = form.cleaned_data
            actor = self.actor_in(request, given["organisation"])
            made = self.attempt(request, lambda: usage_imports.begin_import(
                organisation=given["organisation"], file_name=given["file"].name, content=given["file"].read(),
                dry_run=given["dry_run"], actor=actor))  # fmt: skip
            if made is not None:
                return HttpResponseRedirect(path_to(made))
        return self.ask(request, title="Import measurements", form=form, back_to=back)

    def record(self, request: HttpRequest, row: UsageImport) -> Record:
        errors = list(row.errors.order_by("line").values_list("line", "event_id", "field", "reason")[:SHOWN_ERRORS])
        return Record(
            badges=[badge(row.status), *([badge("draft", "dry run")] if row.dry_run else [])],
            notice=row.failure,
            figures=[
                Figure(name="Read", value=self.progress(row), hint=f"{row.lines:,} lines"),
                Figure(name="Accepted", value=f"{row.accepted:,}"), Figure(name="Known already", value=f"{row.duplicates:,}"),
                Figure(name="Parked", value=f"{row.parked:,}"), Figure(name="Rejected", value=f"{row.rejected:,}"),
            ],
            facts=[("File", row.file_name), ("Bytes", f"{row.size:,}"), ("By", row.made_by),
                   ("Begun", moment(row.made_at, row.organisation)),
                   ("Done", moment(row.finished_at, row.organisation) if row.finished_at else NOTHING),
                   ("All refused lines as CSV", f"/api/v1/usage-imports/{row.pk}/errors")],
            panels=[Panel(title=f"Lines not taken in (the first {SHOWN_ERRORS})", headers=("Line", "Event id", "Field", "Why"),
                          rows=errors, numbers=frozenset({0}), empty="None."),
                    *timeline_panel(request, self, row, [row.pk])],
        )  # fmt: skip
