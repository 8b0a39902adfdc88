"""What a customer's page shows of usage: since the last bill, at the end of the period when it goes on so, and as it was billed."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from django.http import HttpRequest

from billing.admin.base import TenantAdmin
from billing.admin.panels import Panel, link, moment, money, number, on_page_of
from billing.errors import DomainError
from billing.models import Customer
from subscriptions.models import Subscription
from subscriptions.services import usage_figures
from subscriptions.services.usage_figures import UsageFigure, UsedPart

Key = tuple[Any, str, str, tuple[str, ...]]


@on_page_of("billing.customer")
def usage_on_customer(request: HttpRequest, page: TenantAdmin, row: Customer) -> list[Panel]:
    """Usage that is not billed yet, by charge; nothing where no subscription has a metered one."""
    if not page.actor(request, row).may("usage.view"):
        return []
    try:
        return [*_open_panel(request, row), *_past_panel(request, row)]
    except DomainError as exc:
        return [Panel(title="Usage", headers=(), rows=[], empty=f"It cannot be priced: {exc}")]


def _open_panel(request: HttpRequest, row: Customer) -> list[Panel]:
    """What is used since the last bill, and at the end of the period."""
    current = usage_figures.usage_of(organisation=row.organisation, customer=row)
    projected = usage_figures.usage_of(organisation=row.organisation, customer=row, when=usage_figures.PROJECTED)
    if not current:
        return []
    coming = {_key(figure, part): part for figure in projected for part in figure.parts}
    named = _named(row, current)
    rows = [
        (link(request, named[figure.subscription_id]), moment(figure.starts_at, row.organisation), part.name,
         _quantity(part), money(part.amount), *_ahead(coming.get(_key(figure, part))))
        for figure in current
        for part in figure.parts
    ]  # fmt: skip
    return [
        Panel(
            title="Usage not billed yet",
            headers=("Subscription", "Since", "Charge", "Used", "Costs", "Used at the end", "Costs at the end"),
            rows=rows,
            numbers=frozenset({3, 4, 5, 6}),
            empty="Nothing since the last bill.",
            note="Without minimums, discounts and tax. At the end of the period: when it goes on as it went.",
        )
    ]


def _past_panel(request: HttpRequest, row: Customer) -> list[Panel]:
    """The windows that were billed, the newest first, with what changed later."""
    past = usage_figures.usage_of(organisation=row.organisation, customer=row, when=usage_figures.PAST)
    if not past:
        return []
    named = _named(row, past)
    rows = [
        (link(request, named[figure.subscription_id]), moment(figure.starts_at, row.organisation),
         moment(figure.ends_at, row.organisation), part.name, _quantity(part), money(part.amount))
        for figure in past
        for part in figure.parts
    ]  # fmt: skip
    return [
        Panel(
            title="Usage that was billed",
            headers=("Subscription", "From", "To", "Charge", "Used", "Cost"),
            rows=rows,
            numbers=frozenset({4, 5}),
            empty="Nothing was used in the periods that were billed.",
            note="As it is billed by now, late usage and corrections included; without minimums, discounts and tax.",
        )
    ]


def _named(row: Customer, figures: Iterable[UsageFigure]) -> dict[Any, Subscription]:
    ids = {figure.subscription_id for figure in figures}
    return {one.pk: one for one in Subscription.objects.of(row.organisation_id).filter(pk__in=ids)}


def _key(figure: UsageFigure, part: UsedPart) -> Key:
    return figure.subscription_id, part.component, part.segment, part.group


def _quantity(part: UsedPart) -> str:
    """Rounded to what a person reads: what is ahead is a guess anyway."""
    return f"{number(round(part.quantity, 2) + Decimal(0))} {part.unit}".strip()


def _ahead(part: UsedPart | None) -> tuple[str, str]:
    return ("", "") if part is None else (_quantity(part), money(part.amount))
