"""What a customer's page shows of payments."""

from typing import Any

from django.http import HttpRequest

from billing.admin.base import TenantAdmin
from billing.admin.panels import Panel, badge, day, link, moment, money, on_page_of
from billing.models import Customer
from payments.models import Payment, PaymentMethod

NEWEST = 20


@on_page_of("billing.customer")
def payments_of(request: HttpRequest, page: TenantAdmin, row: Customer) -> list[Panel]:
    """The customer's newest payments, and the methods to debit."""
    actor, panels = page.actor(request, row), []
    if actor.may("payment.view"):
        panels.append(_payments(request, row))
    if actor.may("payment_method.view"):
        panels.append(_methods(request, row))
    return panels


def _payments(request: HttpRequest, row: Customer) -> Panel:
    rows: list[tuple[Any, ...]] = [
        (link(request, one), badge(one.status), moment(one.created_at, row.organisation), money(one.amount), money(one.refunded))
        for one in Payment.objects.filter(customer=row).order_by("-id")[:NEWEST]
    ]  # fmt: skip
    return Panel(
        title="Newest payments",
        headers=("Payment", "Status", "Asked for", "Amount", "Refunded"),
        rows=rows,
        numbers=frozenset({3, 4}),
        empty="Nothing was asked of this customer yet.",
    )


def _methods(request: HttpRequest, row: Customer) -> Panel:
    rows: list[tuple[Any, ...]] = [
        (link(request, one), badge(one.status), "first" if one.is_default else "", day(one.expires_on))
        for one in PaymentMethod.objects.filter(customer=row).order_by("-is_default", "-id")
    ]
    return Panel(
        title="Payment methods",
        headers=("Method", "Status", "Debited", "Valid until"),
        rows=rows,
        empty="None is saved; the customer pays on a hosted page or offline.",
    )
