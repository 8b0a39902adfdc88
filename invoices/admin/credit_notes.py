"""Credit notes in the console."""

from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from moneyed import Money
from unfold.contrib.filters.admin import RangeDateFilter
from unfold.decorators import display

from billing.admin.base import ActionVariant, decision
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
    number,
    page_action,
    timeline_panel,
)
from billing.context import Actor
from billing.masking import mask_name
from invoices.models import CreditNote
from invoices.services import refunding
from payments.models import Refund


@admin.register(CreditNote)
class CreditNoteAdmin(RecordAdmin):
    """Numbered reductions of invoices."""

    view_permission = "invoice.view"
    empty_hint = "A credit note is issued on the page of its invoice."
    list_display = (
        "number",
        "who",
        "of_invoice",
        "issued",
        "reason",
        "total_amount",
        "off_due_amount",
        "credit_amount",
    )
    list_filter = (CurrencyFilter, ("issued_on", RangeDateFilter))
    list_select_related = ("invoice__customer",)
    search_fields = ("number__istartswith", "invoice__number__istartswith")
    search_help_text = "Number of the credit note or of its invoice"
    ordering = ("-id",)
    actions_detail = ("pdf", "refund_again")

    total_amount = amount_column("total", title="total")
    off_due_amount = amount_column("reduced_due", title="reduced the due")
    credit_amount = amount_column("to_credit", title="became credit")

    @display(description="customer", ordering="invoice__customer__external_id", header=True)
    def who(self, row: CreditNote) -> tuple[str, str]:
        return row.invoice.customer.external_id, mask_name(row.invoice.customer.name)

    @admin.display(description="issued", ordering="issued_on")
    def issued(self, row: CreditNote) -> str:
        return day(row.issued_on)

    @admin.display(description="invoice", ordering="invoice__number")
    def of_invoice(self, row: CreditNote) -> str:
        return row.invoice.number

    @page_action(description="PDF", permission="invoice.view", icon="picture_as_pdf")
    def pdf(self, request: HttpRequest, row: CreditNote) -> HttpResponse:
        from invoices.rendering import render_credit_note  # the PDF library takes a second to load

        headers = {"Content-Disposition": f'inline; filename="{row.number.replace("/", "-")}.pdf"'}
        return HttpResponse(render_credit_note(row.pk), content_type="application/pdf", headers=headers)

    @decision(
        description="Refund again", permission="refund.issue", form=None, icon="undo", variant=ActionVariant.DANGER
    )
    def refund_again(self, request: HttpRequest, row: CreditNote, *, actor: Actor) -> str:
        made = refunding.send_again(organisation_id=row.organisation_id, credit_note_id=row.pk, actor=actor)
        last = max(made, key=lambda refund: refund.pk)
        return f"{row.number}: {money(last.amount)} back, {last.get_status_display().lower()}."

    def offers(self, row: CreditNote, action: str) -> bool:
        return action != "refund_again" or bool(refunding.failed_of(refunding.refunds_of(row)))

    def record(self, request: HttpRequest, row: CreditNote) -> Record:
        failed = refunding.failed_of(refunding.refunds_of(row))
        return Record(
            notice=f"{money(_sum_of(failed))} did not go back: {failed[0].error}" if failed else "",
            figures=[
                Figure(name="Total", value=money(row.total), hint=f"{money(row.net)} net, {money(row.tax)} tax"),
                Figure(name="Reduced the due", value=money(row.reduced_due)),
                Figure(name="Became credit", value=money(row.to_credit), hint=_went_back(row)),
            ],
            facts=[
                ("Invoice", link(request, row.invoice)),
                ("Customer", link(request, row.invoice.customer)),
                ("Issued", day(row.issued_on)),
                ("Reason", row.reason),
                ("Round-off", money(row.rounding)),
                ("Organisation", row.organisation),
                ("Id", row.pk),
            ],
            panels=[
                _lines(row),
                _taxes(row),
                _refunds(request, row),
                *journal_panel(request, self, row, [row.pk]),
                *timeline_panel(request, self, row, [row.pk]),
            ],
        )


def _went_back(row: CreditNote) -> str:
    """What became of the credit: how much of it is refunded, or on its way."""
    gone = [one.amount for one in refunding.refunds_of(row) if one.status != Refund.Status.FAILED]
    return f"{money(sum(gone, Money(0, row.currency)))} of it refunded" if gone else "to be refunded or applied"


def _lines(row: CreditNote) -> Panel:
    rows: list[tuple[Any, ...]] = [
        (
            line["position"],
            line["description"],
            _rate(line["tax_rate"]),
            _amount(row, line["amount"]),
            _amount(row, line["tax"]),
        )
        for line in row.lines
    ]
    return Panel(
        title="Lines",
        headers=("", "Description", "Rate", "Amount", "Tax"),
        rows=rows,
        numbers=frozenset({2, 3, 4}),
        empty="The credit note has no lines.",
    )


def _sum_of(refunds: list[Refund]) -> Money:
    """What some refunds of one credit note come to together."""
    total: Money = sum((one.amount for one in refunds[1:]), refunds[0].amount)
    return total


def _refunds(request: HttpRequest, row: CreditNote) -> Panel:
    rows = [
        (link(request, one.payment, one.payment.description or one.payment.reference), money(one.amount),
         badge(one.status), moment(one.created_at, row.organisation), one.error)
        for one in refunding.refunds_of(row)
    ]  # fmt: skip
    return Panel(
        title="Refunds",
        headers=("Payment", "Amount", "Status", "Asked for", "Error"),
        rows=rows,
        numbers=frozenset({1}),
        empty="Nothing went back for this credit note.",
    )


def _taxes(row: CreditNote) -> Panel:
    rows = [
        (tax["component"], tax["category"], _rate(tax["rate"]), _amount(row, tax["base"]), _amount(row, tax["tax"]))
        for tax in row.taxes
    ]
    return Panel(
        title="Tax",
        headers=("Component", "Category", "Rate", "Base", "Tax"),
        rows=rows,
        numbers=frozenset({2, 3, 4}),
        empty="No tax is taken back.",
    )


def _rate(percent: str) -> str:
    return f"{number(Decimal(percent))} %"


def _amount(row: CreditNote, amount: str) -> str:
    return money(Money(amount, row.currency))
