"""Settlements in the console: every payout from gross to net, its rows, and whether it is in the bank."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RangeDateFilter
from unfold.decorators import display

from billing.admin.base import site
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
    page_action,
    status_column,
    timeline_panel,
    words,
)
from billing.errors import InvalidInput
from billing.models import Organisation
from payments.exception_classes import CLASSES
from payments.models import ReconciliationException, Settlement, SettlementLine
from payments.services import fetching, matching


class UnexplainedFilter(admin.SimpleListFilter):
    """Payouts whose rows do not add up."""

    title = "explained"
    parameter_name = "explained"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("no", "Something is unexplained"), ("yes", "Fully explained")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "no":
            return queryset.exclude(unexplained=0)
        return queryset.filter(unexplained=0) if self.value() == "yes" else queryset


@admin.register(Settlement, site=site)
class SettlementAdmin(RecordAdmin):
    """Payouts of the gateways: id, day, gross to net, whether it is in the bank, and what is unexplained."""

    view_permission = "settlement.view"
    empty_hint = "Payouts come from the gateways by themselves, usually two working days after the first payment. Fetch them now with the button above."  # noqa: E501  # fmt: skip
    list_display = (
        "gateway_ref",
        "account",
        "arrives",
        "state",
        "sum_gross",
        "sum_refunds",
        "sum_fees",
        "sum_amount",
        "open_sum",
    )
    list_filter = (
        ("status", ChoicesDropdownFilter),
        CurrencyFilter,
        UnexplainedFilter,
        ("settled_on", RangeDateFilter),
    )
    list_select_related = ("gateway_account", "organisation")
    search_fields = ("gateway_ref__exact", "utr__iexact")
    search_help_text = "Payout id at the gateway, or UTR"
    ordering = ("-settled_on", "-id")
    actions_list = ("fetch",)

    state = status_column()
    sum_gross = amount_column("gross", title="gross")
    sum_refunds = amount_column("refunds", title="refunds")
    sum_amount = amount_column("amount", title="paid")

    @display(description="account", ordering="gateway_account__code")
    def account(self, row: Settlement) -> str:
        return row.gateway_account.code

    @display(description="day", ordering="settled_on")
    def arrives(self, row: Settlement) -> str:
        return day(row.settled_on)

    @display(description="fees and tax")
    def sum_fees(self, row: Settlement) -> str:
        return format_html('<span class="m-amount">{}</span>', money(row.fees + row.tax))

    @display(description="unexplained", ordering="unexplained", label={"none": "success", "some": "danger"})
    def open_sum(self, row: Settlement) -> tuple[str, str]:
        return ("some" if row.unexplained.amount else "none"), money(row.unexplained)

    @page_action(description="Fetch and match now", permission="reconciliation.work", icon="sync")
    def fetch(self, request: HttpRequest) -> HttpResponse:
        """Ask the gateways and match, for every organisation of the person."""
        for organisation in Organisation.objects.filter(
            pk__in=self.organisations_where(request, "reconciliation.work")
        ):
            self.attempt(request, lambda one=organisation: _fetch_and_match(one))  # type: ignore[misc]
        return HttpResponseRedirect(reverse("admin:payments_settlement_changelist"))

    def record(self, request: HttpRequest, row: Settlement) -> Record:
        rows = row.lines.select_related("payment", "refund", "dispute").order_by("kind", "id")
        return Record(
            badges=[badge(row.status)],
            notice="" if row.lines_complete else "The gateway has not listed all rows of this payout yet; it is posted once it has.",
            figures=[
                Figure(name="Gross", value=money(row.gross)),
                Figure(name="Paid", value=money(row.amount), hint=f"UTR {row.utr or '–'}"),
                Figure(name="Unexplained", value=money(row.unexplained), hint="must be nothing"),
                Figure(name="Rows", value=rows.count()),
            ],
            facts=[("Gateway account", link(request, row.gateway_account)), ("Day", day(row.settled_on)), ("UTR", row.utr or "–"),
                   ("Made at the gateway", moment(row.created_at, row.organisation)), ("Organisation", row.organisation), ("Id", row.pk)],
            panels=[
                bridge_panel(row),
                _bank_panel(request, row),
                rows_panel(request, list(rows[:1000])),
                exceptions_panel(request, row.organisation_id, [row.pk, *rows.filter(state="exception").values_list("pk", flat=True)]),
                *journal_panel(request, self, row, [row.pk]),
                *timeline_panel(request, self, row, [row.pk]),
            ],
        )  # fmt: skip


def _fetch_and_match(organisation: Organisation) -> None:
    report = fetching.fetch_settlements(organisation=organisation)
    matching.run_matching(organisation=organisation)
    failed = report.errors | report.set_aside
    if failed:
        raise InvalidInput("; ".join(f"{name}: {said}" for name, said in failed.items()))


def bridge_panel(row: Settlement) -> Panel:
    """From gross to net, one row each; the unexplained is a row of its own."""
    steps = [
        ("Captured payments", row.gross), ("Refunds", -row.refunds), ("Fees", -row.fees), ("Tax on fees", -row.tax),
        ("Disputes and their fees", -row.disputes), ("Adjustments of the gateway", row.adjustments),
        ("Unexplained", -row.unexplained), ("Paid to the bank", row.amount),
    ]  # fmt: skip
    rows = [
        (format_html("<b>{}</b>", name) if name in ("Unexplained", "Paid to the bank") else name, money(value))
        for name, value in steps
    ]
    return Panel(title="Bridge", headers=("From gross to net", "Amount"), rows=rows, numbers=frozenset({1}), empty="")


def _bank_panel(request: HttpRequest, row: Settlement) -> Panel:
    rows = [
        (
            link(request, one, day(one.booked_on)),
            one.bank_account.code,
            money(one.amount),
            words(one.rule),
            one.description[:120],
        )
        for one in row.bank_lines.select_related("bank_account").order_by("booked_on")
    ]
    empty = "It is not on a statement yet. Import the latest one." if row.status == Settlement.Status.PAID else "None."
    return Panel(title="On the bank statement", headers=("Booked", "Account", "Amount", "Matched by", "Text"), rows=rows,
                 numbers=frozenset({2}), empty=empty)  # fmt: skip


def rows_panel(request: HttpRequest, rows: list[SettlementLine]) -> Panel:
    """Rows of the gateway's report with what each was matched to."""
    return Panel(
        title="Rows",
        headers=("Kind", "At the gateway", "State", "Belongs to", "Amount", "Fee", "Tax", "Net"),
        rows=[
            (words(one.kind), link(request, one, one.gateway_ref), badge(one.state),
             link(request, one.payment or one.refund or one.dispute), money(one.amount), money(one.fee), money(one.tax), money(one.net))
            for one in rows
        ],
        numbers=frozenset({4, 5, 6, 7}),
        empty="The gateway has not listed its rows yet.",
    )  # fmt: skip


def exceptions_panel(request: HttpRequest, organisation_id: Any, ids: list[Any]) -> Panel:
    """Exceptions about any of ``ids``, open ones first."""
    found = (
        ReconciliationException.objects.of(organisation_id)
        .filter(source_id__in=ids)
        .select_related("owner")
        .order_by("status", "-id")
    )
    rows = [
        (link(request, one, CLASSES[one.kind].name), badge(one.status), money(one.amount), one.explanation,
         one.owner or "–", day(one.due_on))
        for one in found.order_by("status", "-id")[:50]
    ]  # fmt: skip
    return Panel(title="Exceptions", headers=("Class", "Status", "Amount", "What", "Owner", "Due"), rows=rows, numbers=frozenset({2}),
                 empty="None: everything agrees.")  # fmt: skip


@admin.register(SettlementLine, site=site)
class SettlementLineAdmin(RecordAdmin):
    """Rows of settlement reports, as the gateways gave them."""

    view_permission = "settlement.view"
    empty_hint = "Rows come with their settlements."
    list_display = ("gateway_ref", "what", "payout", "status", "sum_amount", "sum_fee", "sum_net", "rule")
    list_filter = (("state", ChoicesDropdownFilter), ("kind", ChoicesDropdownFilter), CurrencyFilter)
    list_select_related = ("settlement", "organisation")
    search_fields = ("gateway_ref__exact", "order_ref__exact", "settlement__gateway_ref__exact")
    search_help_text = "Payment, refund, dispute, order or payout id at the gateway"
    ordering = ("-id",)

    status = status_column("state", title="state")
    sum_amount = amount_column("amount", title="amount")
    sum_fee = amount_column("fee", title="fee")
    sum_net = amount_column("net", title="net")

    @display(description="kind", ordering="kind")
    def what(self, row: SettlementLine) -> str:
        return words(row.kind)

    @display(description="settlement", ordering="settlement__gateway_ref")
    def payout(self, row: SettlementLine) -> str:
        return row.settlement.gateway_ref

    def record(self, request: HttpRequest, row: SettlementLine) -> Record:
        raw = [(name, str(value)[:200]) for name, value in sorted(row.raw.items())]
        return Record(
            badges=[badge(row.state), badge(row.kind)],
            figures=[Figure(name="Amount", value=money(row.amount)), Figure(name="Fee", value=money(row.fee)),
                     Figure(name="Tax", value=money(row.tax)), Figure(name="Net", value=money(row.net))],
            facts=[("Settlement", link(request, row.settlement)), ("At the gateway", row.gateway_ref), ("Order", row.order_ref or "–"),
                   ("Belongs to", link(request, row.payment or row.refund or row.dispute)), ("Matched by", words(row.rule) or "–"),
                   ("Happened", moment(row.occurred_at, row.organisation)), ("Id", row.pk)],
            panels=[
                exceptions_panel(request, row.organisation_id, [row.pk]),
                Panel(title="As the gateway gave it", headers=("Field", "Value"), rows=raw, empty="Nothing was kept."),
                *timeline_panel(request, self, row, [row.pk]),
            ],
        )  # fmt: skip
