"""Invoices in the console: what they claim, what paid them, what was posted, and the decisions their state allows."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RangeDateFilter

from billing.admin.base import ActionVariant, decision, path_to
from billing.admin.panels import (
    CurrencyFilter,
    Figure,
    Panel,
    Record,
    RecordAdmin,
    amount_column,
    badge,
    customer_column,
    day,
    journal_panel,
    link,
    moment,
    money,
    number,
    page_action,
    status_column,
    timeline_panel,
)
from billing.context import Actor
from billing.masking import mask_email, mask_name
from billing.places import place_of_supply_name
from invoices import selectors
from invoices.admin.forms import credit_by_line
from invoices.models import Invoice, RecognitionEntry
from invoices.services import credit_notes, finalizing, refunding, resending, settling
from payments.models import Payment

Status = Invoice.Status
ALLOWED: dict[str, tuple[str, ...]] = {
    "finalize": (Status.DRAFT,),
    "void": (Status.OPEN,),
    "write_off": (Status.OPEN, Status.PARTIALLY_PAID),
    "credit": (Status.OPEN, Status.PARTIALLY_PAID, Status.PAID),
    "pdf": tuple(Status.values),
    "send": (Status.OPEN, Status.PARTIALLY_PAID, Status.PAID, Status.UNCOLLECTIBLE),
}


class OverdueFilter(admin.SimpleListFilter):
    """Unpaid and noted as overdue."""

    title = "overdue"
    parameter_name = "overdue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [("yes", "Overdue"), ("no", "Not overdue")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        late = {"overdue_at__isnull": False, "status__in": [Status.OPEN, Status.PARTIALLY_PAID]}
        if self.value() == "yes":
            return queryset.filter(**late)
        return queryset.exclude(**late) if self.value() == "no" else queryset


@admin.register(Invoice)
class InvoiceAdmin(RecordAdmin):
    """Invoices, newest first."""

    view_permission = "invoice.view"
    empty_hint = "Invoices are written by the billing run, by installment plans, or over the API."
    list_display = ("name", "who", "state", "issued", "pay_by", "total_amount", "due_amount", "origin")
    list_display_links = ("name",)
    list_filter = (
        ("status", ChoicesDropdownFilter),
        OverdueFilter,
        CurrencyFilter,
        ("origin", ChoicesDropdownFilter),
        ("issued_on", RangeDateFilter),
    )
    list_select_related = ("customer",)
    search_fields = ("number__istartswith", "customer__external_id__iexact")
    search_help_text = "Number of the invoice, or id of the customer"
    ordering = ("-id",)
    actions = ("finalize", "send", "write_off", "void")
    actions_detail = ("pdf", "finalize", "send", "credit", "write_off", "void")

    who = customer_column
    state = status_column()
    total_amount = amount_column("total", title="total")

    @admin.display(description="number", ordering="number")
    def name(self, row: Invoice) -> str:
        return row.number or "Draft"

    @admin.display(description="issued", ordering="issued_on")
    def issued(self, row: Invoice) -> str:
        return day(row.issued_on)

    @admin.display(description="to be paid by", ordering="due_on")
    def pay_by(self, row: Invoice) -> str:
        return day(row.due_on)

    @admin.display(description="due", ordering="due")
    def due_amount(self, row: Invoice) -> SafeString:
        claimed = row.status not in (Status.DRAFT, Status.VOID)
        return format_html('<span class="m-amount">{}</span>', money(row.due if claimed else None))

    # --- decisions ---------------------------------------------------------------------------------
    @decision(
        description="Finalise", permission="invoice.edit", form=None, icon="task_alt", variant=ActionVariant.PRIMARY
    )
    def finalize(self, request: HttpRequest, row: Invoice, *, actor: Actor) -> str:
        invoice = finalizing.finalize_invoice(invoice_id=row.pk, actor=actor)
        return f"{invoice.number} is finalised."

    @decision(description="Void", permission="invoice.void", icon="block", variant=ActionVariant.DANGER)
    def void(self, request: HttpRequest, row: Invoice, *, actor: Actor, reason: str) -> str:
        settling.void_invoice(invoice_id=row.pk, reason=reason, actor=actor)
        return f"{row} is void; its number stays used."

    @decision(description="Write off", permission="invoice.write_off", icon="money_off", variant=ActionVariant.DANGER)
    def write_off(self, request: HttpRequest, row: Invoice, *, actor: Actor, reason: str) -> str:
        settling.write_off_invoice(invoice_id=row.pk, reason=reason, actor=actor)
        return f"{money(row.due)} of {row} is written off."

    @decision(description="Send by mail", permission="invoice.send", form=None, icon="mail")
    def send(self, request: HttpRequest, row: Invoice, *, actor: Actor) -> str:
        mail = resending.send_again(invoice_id=row.pk, actor=actor)
        return f"{row} goes to {mask_email(mail.recipient)} in a moment."

    @page_action(description="Credit note", permission="credit_note.issue", icon="remove_circle")
    def credit(self, request: HttpRequest, row: Invoice) -> HttpResponse:
        actor = self.actor(request, row)
        wished = {"refund": "refund" in request.GET}
        form = credit_by_line(row, may_refund=actor.may(refunding.PERMISSION))(request.POST or None, initial=wished)
        if form.is_valid():
            issued = self.attempt(
                request,
                lambda: credit_notes.issue_credit_note(
                    invoice_id=row.pk,
                    amounts=form.amounts(),
                    reason=form.cleaned_data["reason"],
                    refund=form.cleaned_data.get("refund", False),
                    actor=actor,
                ),
                form=form,
                said="Credit note {} is issued.",
            )
            if issued is not None:
                return HttpResponseRedirect(path_to(issued))
        return self.ask(request, title=f"Credit note for {row}", form=form, back_to=path_to(row))

    @page_action(description="PDF", permission="invoice.view", icon="picture_as_pdf")
    def pdf(self, request: HttpRequest, row: Invoice) -> HttpResponse:
        from invoices.rendering import render_invoice  # the PDF library takes a second to load

        name = (row.number or "draft").replace("/", "-")
        headers = {"Content-Disposition": f'inline; filename="{name}.pdf"'}
        return HttpResponse(render_invoice(row.pk), content_type="application/pdf", headers=headers)

    def offers(self, row: Invoice, action: str) -> bool:
        return row.status in ALLOWED.get(action, ())

    # --- the page ----------------------------------------------------------------------------------
    def record(self, request: HttpRequest, row: Invoice) -> Record:
        payments = payments_of(row)
        notes = list(row.credit_notes.order_by("id"))
        earned = RecognitionEntry.objects.filter(line__invoice=row).values_list("pk", flat=True)
        return Record(
            badges=[badge(row.status), *([badge("failed", "overdue")] if is_late(row) else [])],
            figures=_figures(row),
            facts=_facts(request, row),
            panels=[
                _lines(row),
                _taxes(row),
                _payments(request, row, payments),
                _allocations(request, row),
                _notes(request, row, notes),
                *self._mails(request, row),
                *journal_panel(request, self, row, [row.pk, *(note.pk for note in notes), *earned]),
                *timeline_panel(request, self, row, [row.pk, *(one.pk for one in (*notes, *payments))]),
            ],
        )

    def _mails(self, request: HttpRequest, row: Invoice) -> list[Panel]:
        if not self.actor(request, row).may("mail.view"):
            return []
        rows = [
            (link(request, mail, mail.kind.replace("_", " ")), badge(mail.status), mask_email(mail.recipient),
             moment(mail.sent_at or mail.send_after, row.organisation), mail.error)
            for mail in row.mails.order_by("id")
        ]  # fmt: skip
        return [
            Panel(
                title="Mail",
                headers=("Letter", "Status", "To", "Sent or due", "Error"),
                rows=rows,
                empty="No letter was written for this invoice.",
            )
        ]


def is_late(row: Invoice) -> bool:
    """Unpaid and noted as overdue."""
    return row.overdue_at is not None and row.status in (Status.OPEN, Status.PARTIALLY_PAID)


def payments_of(row: Invoice) -> list[Payment]:
    """Payments that were asked for or came for the invoice."""
    return list(selectors.payments_of(organisation=row.organisation_id, invoice_id=row.pk))


def _figures(row: Invoice) -> list[Figure]:
    tax = f"{money(row.net)} net, {money(row.tax)} tax"
    due = "" if row.due_on is None else f"by {day(row.due_on)}"
    return [
        Figure(name="Total", value=money(row.total), hint=tax),
        Figure(name="Paid", value=money(row.paid), hint=f"on {day(row.paid_at.date())}" if row.paid_at else ""),
        Figure(name="Credited", value=money(row.credited), hint="by credit notes"),
        Figure(name="Due", value=money(row.due), hint=due if row.due.amount else "nothing is open"),
    ]


def _facts(request: HttpRequest, row: Invoice) -> list[tuple[str, Any]]:
    period = f"{day(row.period_start)} to {day(row.period_end)}" if row.period_start else "–"
    return [
        ("Customer", link(request, row.customer)),
        ("Name", mask_name(row.customer.name)),
        ("Issued", day(row.issued_on)),
        ("Due", f"{day(row.due_on)} ({row.net_days} days)" if row.due_on else f"{row.net_days} days after issue"),
        ("Period", period),
        ("Origin", row.origin),
        ("Place of supply", place_of_supply_name(row.place_of_supply) or "–"),
        ("Collected", "automatically" if row.collect_automatically else "by the customer's own payment"),
        ("Round-off", money(row.rounding)),
        ("Memo", row.memo or "–"),
        ("Organisation", row.organisation),
        ("Id", row.pk),
    ]


def _lines(row: Invoice) -> Panel:
    rows = [
        (line.position, line.description, f"{number(line.quantity)} {line.unit}".strip(), number(line.unit_price),
         line.tax_code, f"{number(line.tax_rate)} %", money(line.amount), money(line.tax))
        for line in row.lines.all()
    ]  # fmt: skip
    return Panel(
        title="Lines",
        headers=("", "Description", "Quantity", "Price", "HSN/SAC", "Rate", "Amount", "Tax"),
        rows=rows,
        numbers=frozenset({2, 3, 5, 6, 7}),
        empty="The invoice has no lines.",
    )


def _taxes(row: Invoice) -> Panel:
    rows = [
        (tax.component, tax.category, f"{number(tax.rate)} %", money(tax.base), money(tax.tax),
         money(tax.reverse_charged), tax.reason)
        for tax in row.taxes.all()
    ]  # fmt: skip
    return Panel(
        title="Tax",
        headers=("Component", "Category", "Rate", "Base", "Tax", "Owed by the buyer", "Reason"),
        rows=rows,
        numbers=frozenset({2, 3, 4, 5}),
        empty="No tax is charged.",
    )


def _payments(request: HttpRequest, row: Invoice, payments: list[Payment]) -> Panel:
    rows = [
        (link(request, payment, payment.description or payment.reference), badge(payment.status), money(payment.amount),
         payment.attempts_made, words_of_decline(payment), moment(payment.next_attempt_at, row.organisation),
         moment(payment.captured_at, row.organisation))
        for payment in payments
    ]  # fmt: skip
    return Panel(
        title="Payments",
        headers=("Payment", "Status", "Amount", "Attempts", "Refused because", "Next attempt", "Captured"),
        rows=rows,
        numbers=frozenset({2, 3}),
        empty="No payment was asked for.",
    )


def words_of_decline(payment: Payment) -> str:
    """``soft: insufficient_funds``, or a dash."""
    return ": ".join(part for part in (payment.decline_class, payment.decline_code) if part) or "–"


def _allocations(request: HttpRequest, row: Invoice) -> Panel:
    rows = [
        (moment(one.created_at, row.organisation),
         link(request, one.payment, one.payment.description) if one.payment else "customer credit", money(one.amount))
        for one in row.allocations.select_related("payment").order_by("id")
    ]  # fmt: skip
    return Panel(
        title="Paid by",
        headers=("Time", "From", "Amount"),
        rows=rows,
        numbers=frozenset({2}),
        empty="Nothing was allocated to this invoice yet.",
    )


def _notes(request: HttpRequest, row: Invoice, notes: list[Any]) -> Panel:
    rows = [
        (link(request, note), day(note.issued_on), note.reason, money(note.total), money(note.reduced_due),
         money(note.to_credit))
        for note in notes
    ]  # fmt: skip
    return Panel(
        title="Credit notes",
        headers=("Number", "Issued", "Reason", "Total", "Reduced the due", "Became credit"),
        rows=rows,
        numbers=frozenset({3, 4, 5}),
        empty="None.",
    )
