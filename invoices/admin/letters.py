"""Letters to customers in the console; addresses are masked."""

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
from billing.masking import mask_email
from invoices.models import Mail
from invoices.services import resending


@admin.register(Mail)
class MailAdmin(RecordAdmin):
    """Letters: due, sent or failed."""

    view_permission = "mail.view"
    empty_hint = "Letters are written when invoices are issued, paid or overdue."
    list_display = ("letter", "who", "state", "to", "due_at", "sent", "error")
    list_filter = (("status", ChoicesDropdownFilter), "kind")
    list_select_related = ("customer", "organisation")
    search_fields = ("customer__external_id__iexact", "invoice__number__istartswith")
    search_help_text = "Id of the customer, or number of the invoice"
    ordering = ("-id",)
    actions = ("again",)
    actions_detail = ("again",)

    who = customer_column
    state = status_column()

    @admin.display(description="letter", ordering="kind")
    def letter(self, row: Mail) -> str:
        return words(row.kind)

    @admin.display(description="to")
    def to(self, row: Mail) -> str:
        return mask_email(row.recipient)

    @admin.display(description="due", ordering="send_after")
    def due_at(self, row: Mail) -> str:
        return moment(row.send_after, row.organisation)

    @admin.display(description="sent", ordering="sent_at")
    def sent(self, row: Mail) -> str:
        return moment(row.sent_at, row.organisation)

    @decision(description="Write anew", permission="invoice.send", form=None, icon="forward_to_inbox")
    def again(self, request: HttpRequest, row: Mail, *, actor: Actor) -> str:
        mail = resending.retry_failed(mail_id=row.pk, actor=actor)
        return f"{words(row.kind)} goes to {mask_email(mail.recipient)} in a moment."

    def offers(self, row: Mail, action: str) -> bool:
        return row.status == Mail.Status.FAILED

    def record(self, request: HttpRequest, row: Mail) -> Record:
        return Record(
            badges=[badge(row.status)],
            facts=[
                ("Letter", words(row.kind)),
                ("Customer", link(request, row.customer)),
                ("To", mask_email(row.recipient)),
                ("Invoice", link(request, row.invoice)),
                ("Credit note", link(request, row.credit_note)),
                ("Due", moment(row.send_after, row.organisation)),
                ("Sent", moment(row.sent_at, row.organisation)),
                ("Attempts", row.attempts),
                ("Next attempt", moment(row.next_attempt_at, row.organisation)),
                ("Message id", row.message_id or "–"),
                ("Error", row.error or "–"),
                ("Organisation", row.organisation),
            ],
            panels=timeline_panel(request, self, row, [row.pk]),
        )
