"""The books as people read them: accounts, entries, trial balance."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html
from moneyed import Money
from unfold.contrib.filters.admin import RangeDateTimeFilter
from unfold.decorators import display

from billing.admin.panels import (
    CurrencyFilter,
    Figure,
    Panel,
    Record,
    RecordAdmin,
    badge,
    link,
    link_to,
    moment,
    money,
    page_action,
    words,
)
from billing.models import JournalEntry, LedgerAccount, Organisation, Posting
from billing.selectors import ledger

DEBIT_AND_CREDIT = frozenset({2, 3})


@admin.register(LedgerAccount)
class LedgerAccountAdmin(RecordAdmin):
    view_permission = "ledger.view"
    list_display = ("code", "currency", "kind", "organisation")
    list_filter = ("kind", CurrencyFilter)
    list_select_related = ("organisation",)
    search_fields = ("code",)
    actions_list = ("trial_balance",)
    empty_hint = "Accounts open by themselves with the first posting."

    def record(self, request: HttpRequest, row: LedgerAccount) -> Record:
        sums = ledger.account_sums(account_id=row.pk)
        postings = Posting.objects.of(row.organisation_id).filter(account=row).select_related("entry").order_by("-id")
        rows = [
            (moment(one.entry.occurred_at, row.organisation), link(request, one.entry, words(one.entry.kind)),
             money(one.amount) if one.side == "D" else "", money(one.amount) if one.side == "C" else "")
            for one in postings[:200]
        ]  # fmt: skip
        currency = row.currency
        return Record(
            facts=[("Code", row.code), ("Kind", row.kind), ("Organisation", row.organisation)],
            figures=[
                Figure(name="Debits", value=money(Money(sums[0], currency))),
                Figure(name="Credits", value=money(Money(sums[1], currency))),
                Figure(name="Balance", value=money(Money(sums[0] - sums[1], currency)), hint="Debits less credits"),
            ],
            panels=[
                Panel(title="Latest postings", headers=("Time", "Entry", "Debit", "Credit"), rows=rows,
                      numbers=DEBIT_AND_CREDIT, empty="Nothing is posted here yet.")
            ],
        )  # fmt: skip

    @page_action(description="Trial balance", permission="ledger.view", icon="balance")
    def trial_balance(self, request: HttpRequest) -> HttpResponse:
        """0.00 in every currency, or a red page."""
        allowed = Organisation.objects.filter(pk__in=self.organisations(request))
        found = [(one, ledger.trial_balance(organisation_id=one.pk)) for one in allowed]
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Trial balance",
            "record": Record(
                facts=[],
                badges=[_verdict(organisation, balance) for organisation, balance in found],
                panels=[panel for organisation, balance in found for panel in _panels(organisation, balance)],
            ),
        }
        return TemplateResponse(request, "console/record.html", context)


def _verdict(organisation: Organisation, balance: ledger.TrialBalance) -> Any:
    if balance.balanced:
        return badge("succeeded", f"{organisation.name}: balanced")
    return badge("failed", f"{organisation.name}: does not balance")


def _panels(organisation: Organisation, balance: ledger.TrialBalance) -> list[Panel]:
    panels = []
    for currency, (debit, credit) in sorted(balance.totals.items()):
        rows: list[Any] = [
            (one.code, one.kind, money(Money(one.debit, currency)), money(Money(one.credit, currency)),
             money(Money(one.balance, currency)))
            for one in balance.accounts
            if one.currency == currency
        ]  # fmt: skip
        difference = money(Money(debit - credit, currency))
        rows.append(("Sum", "", money(Money(debit, currency)), money(Money(credit, currency)), difference))
        headers = ("Account", "Kind", "Debits", "Credits", "Balance")
        title = f"{organisation.name}: {currency}"
        panels.append(
            Panel(title=title, headers=headers, rows=rows, numbers=frozenset({2, 3, 4}), empty="Nothing posted.")
        )
    return panels


@admin.register(JournalEntry)
class JournalEntryAdmin(RecordAdmin):
    view_permission = "ledger.view"
    list_display = ("occurred_at", "show_kind", "description", "show_amount", "show_source", "organisation")
    list_filter = ("kind", ("occurred_at", RangeDateTimeFilter))
    list_select_related = ("organisation",)
    search_fields = ("=idempotency_key", "=source_id", "=id")
    search_help_text = "Key, id of the source or of the entry."
    ordering = ("-id",)
    empty_hint = "Entries come with invoices, payments, settlements and corrections."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("postings")

    @display(description="kind", ordering="kind")
    def show_kind(self, row: JournalEntry) -> str:
        return words(row.kind)

    @display(description="debited = credited")
    def show_amount(self, row: JournalEntry) -> Any:
        """Each entry balances in each of its currencies."""
        sums: dict[str, Any] = {}
        for one in row.postings.all():
            if one.side == "D":
                code = one.amount.currency.code
                sums[code] = sums.get(code, 0) + one.amount
        return format_html('<span class="m-amount">{}</span>', ", ".join(map(money, sums.values())))

    @display(description="source", ordering="source_type")
    def show_source(self, row: JournalEntry) -> str:
        return words(row.source_type.rpartition(".")[2])

    def called(self, row: JournalEntry) -> str:
        return f"{words(row.kind)}, {moment(row.occurred_at, row.organisation)}"

    def record(self, request: HttpRequest, row: JournalEntry) -> Record:
        postings = row.postings.select_related("account", "customer").order_by("id")
        rows = [
            (link(request, one.account, one.account.code), link(request, one.customer),
             money(one.amount) if one.side == "D" else "", money(one.amount) if one.side == "C" else "")
            for one in postings
        ]  # fmt: skip
        reversal = getattr(row, "reversed_by", None)
        return Record(
            facts=[
                ("Kind", words(row.kind)),
                ("Time", moment(row.occurred_at, row.organisation)),
                ("Description", row.description or "–"),
                ("Source", link_to(request, row.source_type, row.source_id)),
                ("Key", row.idempotency_key),
                ("Reverses", link(request, row.reverses)),
                ("Reversed by", link(request, reversal)),
            ],
            panels=[
                Panel(title="Postings", headers=("Account", "Customer", "Debit", "Credit"), rows=rows,
                      numbers=DEBIT_AND_CREDIT, empty="No postings.")
            ],
        )  # fmt: skip
