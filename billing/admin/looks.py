"""How values look in the console: money, times, states, links. The same words and colours on every page."""

from collections.abc import Callable, Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.exceptions import NotRegistered
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import NoReverseMatch
from django.utils.html import format_html
from django.utils.safestring import SafeString
from moneyed import Money
from moneyed.l10n import format_money
from unfold.decorators import display

from billing import clock, dates
from billing.admin.base import TenantAdmin, path_to, site
from billing.masking import mask_name
from billing.models import LedgerAccount

NOTHING = "–"
_TONES = {
    "success": "paid succeeded sent active captured in_bank matched won processed delivered completed done resolved recovered billed moved",
    "info": "open planned processing sending received created pending running authorized trialing",
    "warning": "partially_paid requires_action due unknown under_review expired past_due waiting requested",
    "danger": "uncollectible failed declined refused lost dead exception suspended exhausted",
    "": "draft void cancelled ignored abandoned detached revoked",
}
TONES: dict[str, str] = {status: tone for tone, names in _TONES.items() for status in names.split()}
"""Colour of a badge by status, over all kinds of rows."""


def words(name: str) -> str:
    """``partially_paid`` as ``partially paid``."""
    return name.replace("_", " ").replace(".", " ")


def badge(status: str, text: str = "") -> SafeString:
    """A coloured word."""
    label = {"text": text or words(status), "type": TONES.get(status, "")}
    return SafeString(render_to_string("unfold/helpers/label.html", label).strip())


def status_column(name: str = "status", *, title: str = "status") -> Callable[..., Any]:
    """A list column that shows a state as a coloured badge."""

    @display(description=title, ordering=name, label=TONES)
    def column(self: Any, row: Any) -> tuple[str, str]:
        value = getattr(row, name)
        return value, words(value)

    return column


def amount_column(name: str, *, title: str = "") -> Callable[..., Any]:
    """A list column of money, aligned to the right."""

    @display(description=title or words(name), ordering=name)
    def column(self: Any, row: Any) -> SafeString:
        return format_html('<span class="m-amount">{}</span>', money(getattr(row, name)))

    return column


def number_column(name: str, *, title: str = "") -> Callable[..., Any]:
    """A list column of a quantity or a count, aligned to the right, without superfluous zeros."""

    @display(description=title or words(name), ordering=name)
    def column(self: Any, row: Any) -> SafeString:
        value = getattr(row, name)
        return format_html('<span class="m-amount">{}</span>', NOTHING if value is None else number(Decimal(value)))

    return column


@display(description="customer", ordering="customer__external_id", header=True)
def customer_column(self: Any, row: Any) -> tuple[str, str]:
    """The customer's id and masked name. Give it another name than the column's, and select ``customer``."""
    return row.customer.external_id, mask_name(row.customer.name)


def money(value: Money | None) -> str:
    """``₹1,180.00``; nothing as a dash."""
    return NOTHING if value is None else format_money(value, locale="en_US")


def moment(value: datetime | None, organisation: Any) -> str:
    """A time on the organisation's wall: ``3 Jun 2026, 09:05``."""
    if value is None:
        return NOTHING
    local = value.astimezone(clock.zone(organisation))
    return f"{local.day} {local:%b %Y, %H:%M}"


def day(value: date | None) -> str:
    """``3 Jun 2026``."""
    return NOTHING if value is None else dates.in_words(value)


def span(start: date | None, end: date | None, always: str = NOTHING) -> str:
    """``3 Jun 2026 to 2 Jul 2026``; one end alone in words, and ``always`` without any."""
    if start and end:
        return dates.span_in_words(start, end)
    return f"from {day(start)}" if start else f"until {day(end)}" if end else always


def number(value: Decimal | None) -> str:
    """A quantity or rate without superfluous zeros."""
    return NOTHING if value is None else f"{value.normalize():,f}"


def may_open(request: HttpRequest, row: Any) -> bool:
    """Whether the signed-in person may open the row's page."""
    if not site.is_registered(type(row)):
        return False
    page = site.get_model_admin(type(row))
    if not isinstance(page, TenantAdmin):
        return False
    owner = getattr(row, "organisation_id", None)
    return owner in page.organisations(request) if owner else page.has_view_permission(request)


def called(row: Any) -> str:
    """What people call the row: as its page says, else as the row itself does."""
    page = site.get_model_admin(type(row)) if site.is_registered(type(row)) else None
    return page.called(row) if isinstance(page, TenantAdmin) else str(row)


def _only_model(name: str) -> Any:
    """The one model of this name among all apps."""
    found = [model for model in apps.get_models() if model._meta.model_name == name]
    if len(found) != 1:
        raise LookupError(name)
    return found[0]


def link_to(request: HttpRequest, label: str, pk: Any) -> str:
    """The row ``pk`` of the model ``label`` (``invoices.invoice``) by its name, as a link where the person may open it."""
    kind = words(label)
    try:
        model: Any = apps.get_model(label) if "." in label else _only_model(label)
        page = site.get_model_admin(model)
        row = page.get_queryset(request).filter(pk=pk).first() if isinstance(page, TenantAdmin) else None
    except (LookupError, ValueError, NotRegistered, ValidationError):
        row = None
    return f"{kind} {pk}" if row is None else format_html("{} {}", row._meta.verbose_name, link(request, row))


def link(request: HttpRequest, row: Any, text: str = "") -> str:
    """The row's name as a link, where there is a page of it that the person may open."""
    if row is None:
        return NOTHING
    label = text or called(row)
    try:
        address = path_to(row) if may_open(request, row) else ""
    except NoReverseMatch:
        address = ""
    return format_html('<a class="m-link" href="{}">{}</a>', address, label) if address else label


class CurrencyFilter(admin.SimpleListFilter):
    """Rows in one of the currencies that the organisations keep books in."""

    title = "currency"
    parameter_name = "currency"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        books = LedgerAccount.objects.filter(organisation__in=model_admin.organisations(request))
        return [(code, code) for code in books.order_by("currency").values_list("currency", flat=True).distinct()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(currency=self.value()) if self.value() else queryset
