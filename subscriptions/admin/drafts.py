"""On the page of a draft of the billing run: what it will be when its grace ends, and where that differs from what it says now."""

from typing import Any

from django.http import HttpRequest
from djmoney.money import Money

from billing.admin.base import TenantAdmin
from billing.admin.panels import Panel, moment, money, on_page_of
from invoices.models import Invoice
from subscriptions.models import DraftCycle
from subscriptions.services.draft_foreseeing import ForeseenDraft, foresee_drafts


@on_page_of("invoices.invoice")
def draft_as_issued(request: HttpRequest, page: TenantAdmin, row: Invoice) -> list[Panel]:
    """A draft in its grace as it will be issued if nothing else comes."""
    if row.status != Invoice.Status.DRAFT:
        return []
    waiting = DraftCycle.objects.of(row.organisation_id).filter(invoice=row, finalized_at=None)
    ids = set(waiting.values_list("period__subscription", flat=True))
    found = foresee_drafts(organisation=row.organisation, subscription_ids=ids) if ids else []
    return [_panel(row, one) for one in found if one.invoice is not None and one.invoice.pk == row.pk]


def _panel(row: Invoice, one: ForeseenDraft) -> Panel:
    when = f"Issued {moment(one.at, row.organisation)}, when its grace ends"
    note = f"{when}: for what it says now."
    rows: list[tuple[Any, ...]] = []
    if one.failure:
        note = f"It cannot be issued: {one.failure}"
    elif one.priced is None:
        note = f"{when}: nothing is left to bill, and it is taken away."
    else:
        priced = one.priced
        rows = [(line.given.description, _said(priced.money(line.amount))) for line in priced.lines]
        sums = (("Net", row.net, priced.net), ("Tax", row.tax, priced.tax), ("Total", row.total, priced.total))
        rows += [(name, _beside(now, priced.money(then))) for name, now, then in sums]
        if one.differs:
            note = f"{when}: for {_said(priced.money(priced.total))}, not {money(row.total)} as it says now."
    return Panel(
        title="As it will be issued", headers=("What", "Amount"), rows=rows, numbers=frozenset({1}), note=note,
        empty="Nothing.",
    )  # fmt: skip


def _said(amount: Any) -> str:
    return money(Money(amount.amount, amount.currency.code))


def _beside(now: Any, then: Any) -> str:
    return _said(then) if now.amount == then.amount else f"{_said(then)} (now {money(now)})"
