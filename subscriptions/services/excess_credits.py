"""What interim invoices billed beyond what the usage costs in the end goes back by credit note."""

import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal

from moneyed import Money

from billing import money
from billing.context import Actor
from billing.models import Customer
from invoices.models import Invoice
from invoices.services import credit_notes
from subscriptions.services.billing_run_cycles import Due

ACTOR = Actor.system("subscriptions")
REASON = "Less was used than the interim invoice billed"


def lock(customer_ids: Iterable[uuid.UUID]) -> None:
    """Lock the customers, in one order, before any number is taken: locks are taken in one order everywhere."""
    if ids := sorted(set(customer_ids)):
        list(Customer.objects.select_for_update(no_key=True).filter(pk__in=ids).order_by("pk").values_list("pk"))


def issue(*, row: Due, excess: Mapping[str, Decimal], at: datetime) -> None:
    """Credit ``excess`` (net, by component) on the interim invoices of the row's usage window, the newest first."""
    assert row.usage_from is not None
    left = dict(excess)
    interim = Invoice.objects.filter(
        interim__subscription=row.id, interim__usage_from=row.usage_from, status__in=credit_notes.CREDITABLE
    ).order_by("-interim__number")
    for invoice in interim:
        amounts = _from_invoice(invoice, left)
        if amounts:
            credit_notes.issue_credit_note(invoice_id=invoice.pk, amounts=amounts, reason=REASON, actor=ACTOR, at=at)


def _from_invoice(invoice: Invoice, left: dict[str, Decimal]) -> dict[int, Money]:
    """What the invoice can bear of ``left``, by line; lowers ``left`` by it. Amounts with tax in them become net."""
    by_position = {line.position: line for line in invoice.lines.all()}
    creditable = credit_notes.creditable_lines(invoice)
    room = sum((line.left for line in creditable), Decimal(0))
    amounts: dict[int, Money] = {}
    for line in creditable:
        row = by_position[line.position]
        wanted = left.get(row.code, Decimal(0))
        if wanted <= 0 or line.left <= 0 or room <= 0:
            continue
        net = wanted * row.amount.amount / row.given.amount if invoice.prices_include_tax else wanted
        take = min(money.quantize(net, invoice.currency), line.left, room)
        amounts[line.position] = Money(take, invoice.currency)
        room -= take
        left[row.code] = wanted - (take * row.given.amount / row.amount.amount if invoice.prices_include_tax else take)
    return amounts
