"""Events, what consumers owe, and the audit trail."""

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import RangeDateTimeFilter

from billing.admin.base import ReasonForm, TenantAdmin, decision
from billing.admin.panels import NOTHING, Panel, Record, RecordAdmin, badge, link_to, moment, status_column, words
from billing.context import Actor
from billing.models import AuditRecord, Event, EventHandling
from billing.services import outbox


def _said(values: dict[str, Any], name: str) -> str:
    """A value of a change: words as they are, amounts as everywhere, the rest as JSON."""
    value = values.get(name)
    if value is None or value == "":
        return NOTHING
    return value if isinstance(value, str) else pretty(value)


def pretty(value: Any) -> str:
    """JSON for people."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, default=str)


@admin.register(Event)
class EventAdmin(RecordAdmin):
    view_permission = "event.view"
    empty_hint = "Whatever happens here, an invoice, a payment, a change, leaves an event."
    list_display = ("id", "type", "aggregate_type", "aggregate_id", "occurred_at", "dispatched_at", "organisation")
    list_filter = (("occurred_at", RangeDateTimeFilter),)
    list_select_related = ("organisation",)
    search_fields = ("=type", "=aggregate_id", "=uid", "=correlation_id")
    search_help_text = "Type, id of the object, or correlation id."
    ordering = ("-id",)

    def record(self, request: HttpRequest, row: Event) -> Record:
        handlings = row.handlings.order_by("id")
        rows = [(one.consumer, badge(one.status), one.attempts, moment(one.handled_at, row.organisation), one.error)
                for one in handlings]  # fmt: skip
        payload = [(words(name), _said(row.payload, name)) for name in sorted(row.payload)]
        return Record(
            facts=[
                ("Type", row.type),
                ("Object", link_to(request, row.aggregate_type, row.aggregate_id)),
                ("Time", moment(row.occurred_at, row.organisation)),
                ("Id", row.uid),
                ("Correlation", row.correlation_id or "–"),
            ],
            panels=[
                Panel(title="Payload", headers=("Name", "Value"), rows=payload, empty="Nothing beside the object."),
                Panel(title="Consumers", headers=("Consumer", "State", "Attempts", "Last", "Error"), rows=rows,
                      empty="Nobody listens to this." if row.dispatched_at else "Not handed over yet."),
            ],
        )  # fmt: skip


@admin.register(EventHandling)
class EventHandlingAdmin(TenantAdmin):
    """What is owed or dead; what is done is on the event's page."""

    view_permission = "event.view"
    empty_hint = "What a consumer could not take in rests here until somebody replays it. Nothing does."
    organisation_path = "event__organisation"
    list_display = ("event", "consumer", "state", "attempts", "next_attempt_at", "error", "handled_at")
    list_filter = ("status",)
    list_select_related = ("event",)
    search_fields = ("=consumer", "=event__type")
    fields = readonly_fields = ("event", "consumer", "status", "attempts", "next_attempt_at", "error", "handled_at")
    actions = ("replay",)
    actions_detail = ("replay",)
    ordering = ("-id",)
    state = status_column()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).exclude(status=EventHandling.Status.DONE)

    @decision(description="Replay", permission="webhook.replay", form=ReasonForm, icon="replay")
    def replay(self, request: HttpRequest, handling: EventHandling, *, actor: Actor, reason: str) -> None:
        outbox.replay(handling_id=handling.pk, actor=actor, reason=reason)


@admin.register(AuditRecord)
class AuditRecordAdmin(RecordAdmin):
    view_permission = "audit.view"
    empty_hint = "Each decision about money or access is kept here with its reason."
    list_display = ("occurred_at", "action", "actor_label", "target_type", "target_id", "reason", "organisation")
    list_filter = ("actor_type", ("occurred_at", RangeDateTimeFilter))
    list_select_related = ("organisation",)
    search_fields = ("=action", "=target_id", "=actor_label", "=correlation_id")
    search_help_text = "Action, id of the object, who, or correlation id."
    ordering = ("-id",)

    def record(self, request: HttpRequest, row: AuditRecord) -> Record:
        names = sorted(row.before.keys() | row.after.keys())
        changes = [(words(name), _said(row.before, name), _said(row.after, name)) for name in names]
        return Record(
            facts=[
                ("Action", words(row.action)),
                ("Who", f"{row.actor_label or row.actor_id} ({words(row.actor_type)})"),
                ("What", link_to(request, row.target_type, row.target_id)),
                ("Why", row.reason or "–"),
                ("Time", moment(row.occurred_at, row.organisation)),
                ("Address", row.address or "–"),
                ("Correlation", row.correlation_id or "–"),
            ],
            panels=[
                Panel(title="Change", headers=("Field", "Before", "After"), rows=changes, empty="No fields recorded.")
            ],
        )
