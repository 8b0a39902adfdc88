"""Console pages of what was counted: measurements and later words on them."""

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminDecimalFieldWidget

from billing.admin.base import ReasonForm, decision, site
from billing.admin.panels import (
    NOTHING,
    Figure,
    Panel,
    Record,
    RecordAdmin,
    badge,
    customer_column,
    day,
    link,
    moment,
    number,
    number_column,
    timeline_panel,
)
from billing.context import Actor
from billing.masking import mask_name
from billing.models import UsageEvent, UsageRevision, UsageWindow
from billing.models.usage import NO_SUBSCRIPTION
from billing.services import usage_revisions


class QuantityForm(ReasonForm):
    """What counts instead."""

    quantity = forms.DecimalField(
        max_digits=30, decimal_places=12, widget=UnfoldAdminDecimalFieldWidget(), label="Quantity that counts"
    )
    field_order = ("quantity", "reason")


@admin.register(UsageEvent, site=site)
class UsageEventAdmin(RecordAdmin):
    """Measurements. They stay as they came; a later word on one is a row of its own."""

    view_permission = "usage.view"
    list_display = (
        "event_id", "show_meter", "show_customer", "show_quantity", "show_properties", "show_occurred", "organisation",
    )  # fmt: skip
    list_select_related = ("meter", "customer", "organisation")
    list_filter = ("meter__aggregation",)
    search_fields = ("=event_id", "=customer__external_id")
    ordering = ("-id",)
    actions_detail = ("correct", "void")
    empty_hint = "Usage comes by POST /api/v1/usage-events/batch, or as a CSV file on the page of usage imports."
    show_customer = customer_column
    show_quantity = number_column("quantity")

    @display(description="meter", ordering="meter__code")
    def show_meter(self, row: UsageEvent) -> str:
        return row.meter.code

    @display(description="properties")
    def show_properties(self, row: UsageEvent) -> str:
        return properties_text(row.properties)

    @display(description="when", ordering="occurred_at")
    def show_occurred(self, row: UsageEvent) -> str:
        return moment(row.occurred_at, row.organisation)

    @decision(description="Correct", permission="usage.ingest", form=QuantityForm, icon="edit")
    def correct(self, request: HttpRequest, row: UsageEvent, *, actor: Actor, quantity: Decimal, reason: str) -> str:
        """Let another quantity count."""
        usage_revisions.replace_quantity(
            organisation=row.organisation, event_id=row.event_id, quantity=f"{quantity:f}", reason=reason, actor=actor
        )
        return f"{row} counts with {number(quantity)}; what was billed of it is settled on the next invoice."

    @decision(
        description="Void", permission="usage.ingest", form=ReasonForm, icon="block", variant=ActionVariant.DANGER
    )
    def void(self, request: HttpRequest, row: UsageEvent, *, actor: Actor, reason: str) -> str:
        """Let it count no more."""
        usage_revisions.void_event(organisation=row.organisation, event_id=row.event_id, reason=reason, actor=actor)
        return f"{row} does not count; what was billed of it is given back on the next invoice."

    def record(self, request: HttpRequest, row: UsageEvent) -> Record:
        revisions = list(UsageRevision.objects.of(row.organisation_id).filter(event_ref=row.pk).order_by("number"))
        counts = next((one for one in revisions if one.is_current), None)
        unit = f" {row.meter.unit}" if row.meter.unit else ""
        return Record(
            badges=(_state(counts),),
            figures=(
                Figure(name="Counts", value=number(counted(row, counts)), hint=row.meter.unit),
                Figure(name="Measured", value=number(row.quantity), hint=f"as it came{unit and ','}{unit}"),
            ),
            facts=(
                ("Event", row.event_id),
                ("Meter", link(request, row.meter, row.meter.name)),
                ("Customer", link(request, row.customer, f"{row.customer.external_id} {mask_name(row.customer.name)}")),
                ("Subscription", row.subscription_ref if row.subscription_ref != NO_SUBSCRIPTION else "none named"),
                ("Price it carries", number(row.amount)),
                ("Properties", properties_text(row.properties) or NOTHING),
                ("Occurred", moment(row.occurred_at, row.organisation)),
                ("Taken in", moment(row.recorded_at, row.organisation)),
            ),
            panels=[
                _revisions(revisions, row),
                _windows_panel(row),
                *timeline_panel(request, self, row, [one.pk for one in revisions]),
            ],
        )


def _state(current: UsageRevision | None) -> SafeString:
    if current is None:
        return badge("active", "counts as it came")
    is_void = current.kind == UsageRevision.Kind.VOID
    return badge("void", "void") if is_void else badge("waiting", "corrected")


def counted(event: UsageEvent, current: UsageRevision | None) -> Decimal | None:
    """The quantity that counts: the measured one, the corrected one, or none of a void event."""
    if current is None:
        return event.quantity
    return Decimal(0) if current.kind == UsageRevision.Kind.VOID else current.quantity


def _revisions(revisions: list[UsageRevision], event: UsageEvent) -> Panel:
    rows = [
        (moment(one.made_at, event.organisation), one.get_kind_display().lower(), number(one.quantity), one.made_by, one.reason,
         "counts" if one.is_current else "")
        for one in revisions
    ]  # fmt: skip
    return Panel(
        title="Later words", headers=("When", "What", "Quantity", "Who", "Why", ""), rows=rows, numbers=frozenset({2}),
        empty=f"None: it counts as it came on {day(event.occurred_at.date())}.",
    )  # fmt: skip


def _windows_panel(event: UsageEvent) -> Panel:
    """The billed windows that the measurement falls into."""
    windows = UsageWindow.objects.filter(
        customer=event.customer_id,
        meter=event.meter_id,
        starts_at__lte=event.occurred_at,
        ends_at__gt=event.occurred_at,
    ).order_by("ends_at")
    rows = [
        (moment(one.starts_at, event.organisation), moment(one.ends_at, event.organisation),
         moment(one.billed_at, event.organisation), moment(one.closed_at, event.organisation) if one.closed_at else "open")
        for one in windows
    ]  # fmt: skip
    return Panel(title="Billed in", headers=("From", "To", "Billed", "Closed"), rows=rows, empty="Not billed yet.")


def properties_text(properties: Any) -> str:
    """``endpoint reports, region eu``."""
    if not isinstance(properties, dict):
        return ""
    return ", ".join(f"{name} {value}" for name, value in sorted(properties.items()))


@admin.register(UsageRevision, site=site)
class UsageRevisionAdmin(RecordAdmin):
    """Later words on measurements: who said them, and why."""

    view_permission = "usage.view"
    list_display = (
        "event_id", "kind", "show_quantity", "show_meter", "show_customer", "reason", "made_by", "show_made", "organisation",
    )  # fmt: skip
    list_select_related = ("meter", "customer", "organisation")
    list_filter = ("kind",)
    search_fields = ("=event_id", "=customer__external_id")
    ordering = ("-id",)
    empty_hint = "A measurement is corrected or voided on its page, or by POST /api/v1/usage-revisions."
    show_customer = customer_column
    show_quantity = number_column("quantity")

    @display(description="meter", ordering="meter__code")
    def show_meter(self, row: UsageRevision) -> str:
        return row.meter.code

    @display(description="when", ordering="made_at")
    def show_made(self, row: UsageRevision) -> str:
        return moment(row.made_at, row.organisation)

    def record(self, request: HttpRequest, row: UsageRevision) -> Record:
        event = UsageEvent.objects.of(row.organisation_id).filter(pk=row.event_ref).first()
        return Record(
            badges=(badge("active", "counts") if row.is_current else badge("void", "replaced by a later one"),),
            facts=(
                ("Event", link(request, event, row.event_id) if event is not None else row.event_id),
                ("Meter", link(request, row.meter, row.meter.name)),
                ("Customer", link(request, row.customer, f"{row.customer.external_id} {mask_name(row.customer.name)}")),
                ("What", row.get_kind_display().lower()),
                ("Quantity", number(row.quantity)),
                ("Occurred", moment(row.occurred_at, row.organisation)),
                ("Reason", row.reason),
                ("Said by", row.made_by),
                ("Said", moment(row.made_at, row.organisation)),
            ),
            panels=timeline_panel(request, self, row, [row.pk]),
        )
