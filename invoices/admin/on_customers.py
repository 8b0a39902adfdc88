"""What a customer's page shows of invoices."""

from typing import Any

from django.http import HttpRequest

from billing.admin.base import TenantAdmin
from billing.admin.panels import Panel, badge, day, link, money, on_page_of
from billing.models import Customer
from invoices.models import Invoice

NEWEST = 20


@on_page_of("billing.customer")
def invoices_of(request: HttpRequest, page: TenantAdmin, row: Customer) -> list[Panel]:
    """The customer's newest invoices."""
    if not page.actor(request, row).may("invoice.view"):
        return []
    rows: list[tuple[Any, ...]] = [
        (
            link(request, one, one.number or "Draft"),
            badge(one.status),
            day(one.issued_on),
            day(one.due_on),
            money(one.total),
            money(one.due),
        )
        for one in Invoice.objects.filter(customer=row).order_by("-id")[:NEWEST]
    ]
    return [
        Panel(
            title="Newest invoices",
            headers=("Number", "Status", "Issued", "To be paid by", "Total", "Due"),
            rows=rows,
            numbers=frozenset({4, 5}),
            empty="No invoice was written for this customer yet.",
        )
    ]
