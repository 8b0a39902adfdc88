"""Text messages in the console, and the numbers that want none; numbers are masked."""

from django.contrib import admin
from django.http import HttpRequest
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from billing.admin.base import decision
from billing.admin.panels import (
    Record,
    RecordAdmin,
    badge,
    customer_column,
    link,
    moment,
    status_column,
    timeline_panel,
    words,
)
from billing.context import Actor
from billing.masking import mask_phone
from invoices.models import TextMessage, TextOptOut
from invoices.services import texting


@admin.register(TextMessage)
class TextMessageAdmin(RecordAdmin):
    """Texts: due, sent, failed, or not wanted."""

    view_permission = "mail.view"
    empty_hint = "Texts are written by dunning policies that have sms steps."
    list_display = ("text", "who", "state", "to", "due_at", "sent", "error")
    list_filter = (("status", ChoicesDropdownFilter), "kind")
    list_select_related = ("customer", "organisation")
    search_fields = ("customer__external_id__iexact", "invoice__number__istartswith")
    search_help_text = "Id of the customer, or number of the invoice"
    ordering = ("-id",)

    who = customer_column
    state = status_column()

    @admin.display(description="text", ordering="kind")
    def text(self, row: TextMessage) -> str:
        return words(row.kind)

    @admin.display(description="to")
    def to(self, row: TextMessage) -> str:
        return mask_phone(row.recipient)

    @admin.display(description="due", ordering="send_after")
    def due_at(self, row: TextMessage) -> str:
        return moment(row.send_after, row.organisation)

    @admin.display(description="sent", ordering="sent_at")
    def sent(self, row: TextMessage) -> str:
        return moment(row.sent_at, row.organisation)

    def record(self, request: HttpRequest, row: TextMessage) -> Record:
        return Record(
            badges=[badge(row.status)],
            facts=[
                ("Text", words(row.kind)),
                ("Words", row.body),
                ("Customer", link(request, row.customer)),
                ("To", mask_phone(row.recipient)),
                ("Invoice", link(request, row.invoice)),
                ("Due", moment(row.send_after, row.organisation)),
                ("Sent", moment(row.sent_at, row.organisation)),
                ("Attempts", row.attempts),
                ("Next attempt", moment(row.next_attempt_at, row.organisation)),
                ("Id at the gateway", row.gateway_ref or "–"),
                ("Error", row.error or "–"),
                ("Organisation", row.organisation),
            ],
            panels=timeline_panel(request, self, row, [row.pk]),
        )


@admin.register(TextOptOut)
class TextOptOutAdmin(RecordAdmin):
    """Numbers that want no texts."""

    view_permission = "mail.view"
    empty_hint = "A number comes here when it answers STOP, or by POST /api/v1/text-opt-outs."
    list_display = ("number", "source", "since", "organisation")
    list_filter = (("source", ChoicesDropdownFilter),)
    list_select_related = ("organisation",)
    ordering = ("-id",)
    actions = ("opt_in",)

    @admin.display(description="number")
    def number(self, row: TextOptOut) -> str:
        return str(row)

    @admin.display(description="since", ordering="created_at")
    def since(self, row: TextOptOut) -> str:
        return moment(row.created_at, row.organisation)

    @decision(description="Wants texts again", permission="customer.edit", icon="sms")
    def opt_in(self, request: HttpRequest, row: TextOptOut, *, actor: Actor, reason: str) -> str:
        texting.opt_in(opt_out_id=row.pk, actor=actor, reason=reason)
        return f"{row} gets texts again."

    def record(self, request: HttpRequest, row: TextOptOut) -> Record:
        return Record(
            facts=[
                ("Number", str(row)),
                ("Said by", row.get_source_display()),
                ("Since", moment(row.created_at, row.organisation)),
                ("Organisation", row.organisation),
            ],
            panels=timeline_panel(request, self, row, [row.pk]),
        )
