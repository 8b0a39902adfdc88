"""Console pages of usage on its way in: what is parked, and files of measurements."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from unfold.decorators import display
from unfold.widgets import UnfoldAdminFileFieldWidget

from billing.admin.base import ReasonForm, decision, path_to, site
from billing.admin.panels import (
    NOTHING,
    REFRESH,
    Figure,
    OrganisationForm,
    Panel,
    Record,
    RecordAdmin,
    badge,
    link,
    moment,
    number_column,
    page_action,
    status_column,
    timeline_panel,
)
from billing.admin.usage import properties_text
from billing.context import Actor
from billing.models import ParkedUsage, UsageEvent, UsageImport
from billing.services import parking, unparking, usage_imports
from billing.usage_csv import errors_csv

PERMISSION = "usage.ingest"
SHOWN = 100


@admin.register(ParkedUsage, site=site)
class ParkedUsageAdmin(RecordAdmin):
    """Events that could not be taken in yet, each with its reason."""

    view_permission = "usage.view"
    list_display = (
        "event_id",
        "show_status",
        "show_meter",
        "show_customer",
        "reason",
        "show_tries",
        "show_when",
        "organisation",
    )
    list_filter = ("status",)
    list_select_related = ("organisation",)
    search_fields = ("=event_id",)
    actions = ("retry", "dismiss")
    actions_detail = ("retry", "dismiss")
    empty_hint = (
        "Events with an unknown meter, customer or property rest here where the organisation parks them instead of "
        "refusing them (PATCH /api/v1/usage-policy)."
    )
    show_status = status_column()
    show_tries = number_column("tries")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).order_by("-id")

    @display(description="meter")
    def show_meter(self, row: ParkedUsage) -> str:
        return said(row, "meter")

    @display(description="customer")
    def show_customer(self, row: ParkedUsage) -> str:
        return said(row, "customer")

    @display(description="parked", ordering="parked_at")
    def show_when(self, row: ParkedUsage) -> str:
        return moment(row.parked_at, row.organisation)

    @decision(description="Try again", permission=PERMISSION, form=None, icon="replay")
    def retry(self, request: HttpRequest, row: ParkedUsage, *, actor: Actor) -> str:
        """Take it in, if what it names is there now."""
        taken = unparking.retry_parked(organisation_id=row.organisation_id, ids=[row.pk])
        return f"{row} is taken in." if taken else f"{row} still waits: {self._reason(row)}"

    @decision(description="Dismiss", permission=PERMISSION, form=ReasonForm, icon="delete")
    def dismiss(self, request: HttpRequest, row: ParkedUsage, *, actor: Actor, reason: str) -> str:
        """Decide that it is not wanted."""
        parking.dismiss(organisation=row.organisation, parked_id=row.pk, reason=reason, actor=actor)
        return f"{row} is dismissed."

    def offers(self, row: ParkedUsage, action: str) -> bool:
        return row.status == ParkedUsage.Status.WAITING

    def record(self, request: HttpRequest, row: ParkedUsage) -> Record:
        waits = row.status == ParkedUsage.Status.WAITING
        event = UsageEvent.objects.of(row.organisation_id).filter(event_id=row.event_id).first()
        return Record(
            badges=(badge(row.status),),
            notice=f"{row.field}: {row.reason}" if waits else "",
            facts=(
                ("Event", link(request, event) if event is not None else row.event_id),
                ("Meter", said(row, "meter")),
                ("Customer", said(row, "customer")),
                ("Quantity", said(row, "quantity")),
                ("Occurred", said(row, "occurred_at")),
                ("Properties", properties_text(row.payload.get("properties")) or NOTHING),
                ("Tried", f"{row.tries} times" if row.tries != 1 else "once"),
                ("Parked", moment(row.parked_at, row.organisation)),
                ("Settled", moment(row.settled_at, row.organisation)),
            ),
            panels=timeline_panel(request, self, row, [row.pk]),
        )

    def _reason(self, row: ParkedUsage) -> str:
        return ParkedUsage.objects.get(pk=row.pk).reason


def said(row: ParkedUsage, name: str) -> str:
    """What the event says of ``name``, in the sender's words."""
    value = row.payload.get(name) if isinstance(row.payload, dict) else None
    return NOTHING if value is None else str(value)[:100]


class FileForm(OrganisationForm):
    """A CSV file of measurements."""

    file = forms.FileField(
        max_length=200, widget=UnfoldAdminFileFieldWidget(),
        help_text="CSV in UTF-8 with the columns event_id, meter, customer, occurred_at; quantity, subscription, amount and "
        "properties.NAME (properties.region) if wanted. At most 20 MB.",
    )  # fmt: skip
    dry_run = forms.BooleanField(
        required=False, label="Only try", help_text="Tell what would happen, and take nothing in."
    )

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file.size > usage_imports.MAX_SIZE:
            raise forms.ValidationError(
                f"The file has {file.size:,} bytes; at most {usage_imports.MAX_SIZE:,} are taken. Split it."
            )
        return file


@admin.register(UsageImport, site=site)
class UsageImportAdmin(RecordAdmin):
    """Files of measurements, and how far each has been read."""

    view_permission = "usage.view"
    list_display = (
        "file_name", "show_status", "show_progress", "show_accepted", "show_duplicates", "show_parked", "show_rejected",
        "show_made", "organisation",
    )  # fmt: skip
    list_filter = ("status",)
    list_select_related = ("organisation",)
    search_fields = ("file_name",)
    actions_list = ("upload",)
    actions_detail = ("errors",)
    empty_hint = "Bring a CSV file here, by POST /api/v1/usage-imports or by manage.py import_usage."
    show_status = status_column()
    show_accepted = number_column("accepted")
    show_duplicates = number_column("duplicates", title="known already")
    show_parked = number_column("parked")
    show_rejected = number_column("rejected", title="refused")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("content").order_by("-id")

    @display(description="read")
    def show_progress(self, row: UsageImport) -> str:
        return f"{_percent(row)} %{', only tried' if row.dry_run else ''}"

    @display(description="begun", ordering="made_at")
    def show_made(self, row: UsageImport) -> str:
        return moment(row.made_at, row.organisation)

    @page_action(description="Import a file", permission=PERMISSION, icon="upload_file")
    def upload(self, request: HttpRequest) -> HttpResponse:
        form = FileForm(
            request.POST or None, request.FILES or None, organisations=self.organisations_where(request, PERMISSION)
        )
        if form.is_valid():
            given = form.cleaned_data
            actor = self.actor_in(request, given["organisation"])
            made = self.attempt(request, lambda: usage_imports.begin_import(
                organisation=given["organisation"], file_name=given["file"].name, content=given["file"].read(), actor=actor,
                dry_run=given["dry_run"]))  # fmt: skip
            if made is not None:
                return HttpResponseRedirect(path_to(made))
        back = reverse("admin:billing_usageimport_changelist")
        return self.ask(request, title="Import a file of usage", form=form, back_to=back)

    @page_action(description="Lines not taken as CSV", permission="usage.view", icon="download")
    def errors(self, request: HttpRequest, row: UsageImport) -> HttpResponse:
        answer = HttpResponse(
            errors_csv(list(row.errors.order_by("line").values_list("line", "event_id", "field", "reason"))),
            content_type="text/csv; charset=utf-8",
        )
        answer["Content-Disposition"] = f'attachment; filename="not-taken-{row.pk}.csv"'
        return answer

    def offers(self, row: UsageImport, action: str) -> bool:
        return row.rejected + row.parked > 0

    def record(self, request: HttpRequest, row: UsageImport) -> Record:
        is_open = row.status in (UsageImport.Status.WAITING, UsageImport.Status.RUNNING)
        return Record(
            badges=(badge(row.status), *((badge("draft", "only tried"),) if row.dry_run else ())),
            notice=row.failure or ("A worker reads it; this page shows by itself how far it is." if is_open else ""),
            figures=(
                Figure(
                    name="Read",
                    value=f"{_percent(row)} %",
                    hint=f"{row.lines:,} line{'' if row.lines == 1 else 's'}, the heading among them",
                ),
                Figure(name="Taken in", value=f"{row.accepted:,}"),
                Figure(name="Known already", value=f"{row.duplicates:,}"),
                Figure(name="Parked", value=f"{row.parked:,}"),
                Figure(name="Refused", value=f"{row.rejected:,}"),
            ),
            facts=(
                ("File", row.file_name),
                ("Size", f"{row.size:,} bytes"),
                ("Brought by", row.made_by),
                ("Begun", moment(row.made_at, row.organisation)),
                ("Finished", moment(row.finished_at, row.organisation)),
            ),
            refresh=REFRESH if is_open else 0,
            panels=[self._refused(row), *_parked(row), *timeline_panel(request, self, row, [row.pk])],
        )

    def _refused(self, row: UsageImport) -> Panel:
        found = list(row.errors.order_by("line")[:SHOWN])
        parked = _parked_ids(row, [one.event_id for one in found])
        rows = [
            (
                one.line,
                one.event_id or NOTHING,
                "parked" if one.event_id in parked else "refused",
                one.field,
                one.reason,
            )
            for one in found
        ]
        return Panel(
            title="Lines that were refused or parked" if row.parked else "Refused lines",
            headers=("Line", "Event", "Became", "Column", "Why"), rows=rows, numbers=frozenset({0}),
            empty="None.", note=f"The first {SHOWN}; the CSV has all." if row.rejected + row.parked > SHOWN else "",
        )  # fmt: skip


def _parked_ids(row: UsageImport, event_ids: list[str]) -> set[str]:
    """Which of the events wait, or waited, among the parked ones."""
    if not row.parked:
        return set()
    found = ParkedUsage.objects.of(row.organisation_id).filter(event_id__in=event_ids)
    return set(found.values_list("event_id", flat=True))


def _parked(row: UsageImport) -> list[Panel]:
    """Where parked lines went."""
    if not row.parked:
        return []
    address = reverse("admin:billing_parkedusage_changelist")
    note = format_html(
        '{} lines wait until what they name is there: <a class="m-link" href="{}">parked usage</a>.',
        row.parked,
        address,
    )
    return [Panel(title="Parked lines", headers=(), rows=[], empty=note)]


def _percent(row: UsageImport) -> int:
    return 100 if not row.size or row.status == UsageImport.Status.DONE else row.position * 100 // row.size
