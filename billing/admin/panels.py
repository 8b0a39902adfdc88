"""A row's page in the console: its figures, its facts and tables of what belongs to it, all read-only.

A page subclasses :class:`RecordAdmin` and says in ``record`` what stands on it. Links appear only to pages that the
signed-in person may open.
"""

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from functools import wraps
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import NoReverseMatch
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html
from django.utils.safestring import SafeString
from moneyed import Money
from moneyed.l10n import format_money
from unfold.decorators import display
from unfold.enums import ActionVariant

from billing import clock
from billing.admin.base import TenantAdmin, path_to, site
from billing.errors import DomainError
from billing.masking import mask_name
from billing.models import AuditRecord, Event, JournalEntry, LedgerAccount, Posting
from billing.selectors import access

NOTHING = "–"
MAX_ROWS = 200
_TONES = {
    "success": "paid succeeded sent active captured in_bank matched won processed delivered completed done resolved recovered",
    "info": "open processing sending received created pending running authorized trialing",
    "warning": "partially_paid requires_action due unknown under_review expired past_due waiting requested",
    "danger": "uncollectible failed declined lost dead exception suspended exhausted",
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
    return NOTHING if value is None else f"{value.day} {value:%b %Y}"


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


def link(request: HttpRequest, row: Any, text: str = "") -> str:
    """The row's name as a link, where there is a page of it that the person may open."""
    if row is None:
        return NOTHING
    label = text or str(row)
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


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One amount at the head of the page."""

    name: str
    value: Any
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A table on the page; ``numbers`` are the columns aligned to the right, ``empty`` says what an empty one means."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    empty: str
    numbers: frozenset[int] = frozenset()
    note: Any = ""

    @property
    def shown(self) -> list[list[tuple[Any, bool]]]:
        """The first rows as (cell, to the right)."""
        return [[(cell, n in self.numbers) for n, cell in enumerate(row)] for row in self.rows[:MAX_ROWS]]

    @property
    def columns(self) -> list[tuple[str, bool]]:
        return [(name, n in self.numbers) for n, name in enumerate(self.headers)]

    @property
    def left_out(self) -> int:
        return max(len(self.rows) - MAX_ROWS, 0)


@dataclass(frozen=True, kw_only=True)
class Record:
    """Everything on a row's page."""

    facts: Sequence[tuple[str, Any]]
    figures: Sequence[Figure] = ()
    badges: Sequence[Any] = ()
    notice: Any = ""
    panels: Sequence[Panel] = field(default_factory=list)


def page_action(
    *, description: str, permission: str, icon: str | None = None, variant: ActionVariant = ActionVariant.DEFAULT
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make ``method(self, request, row)`` a button of a row's page (``actions_detail``) that answers by itself.

    For a button of the list (``actions_list``) the method takes no row: ``method(self, request)``.
    """

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def action(self: TenantAdmin, request: HttpRequest, object_id: Any = None) -> HttpResponse:
            if object_id is None:
                if not self.organisations_where(request, permission):  # type: ignore[attr-defined]
                    raise PermissionDenied(f"This needs the permission '{permission}'.")
                return method(self, request)
            row = self.row(request, object_id)
            if not self.actor(request, row).may(permission):
                raise PermissionDenied(f"This needs the permission '{permission}'.")
            return method(self, request, row)

        action.short_description, action.needs = description, permission  # type: ignore[attr-defined]
        action.allowed_permissions = [f"decide_{method.__name__}"]  # type: ignore[attr-defined]
        action.icon, action.variant, action.attrs = icon, variant, {}  # type: ignore[attr-defined]
        return action

    return decorate


class RecordAdmin(TenantAdmin):
    """A console page whose rows open as a :class:`Record`. Offers only actions that the row's state allows."""

    change_form_before_template = "admin/record.html"
    empty_hint: ClassVar[str] = ""
    """What to do when the list is empty."""

    def record(self, request: HttpRequest, row: Any) -> Record:
        """What stands on the page of ``row``."""
        raise NotImplementedError

    def offers(self, row: Any, action: str) -> bool:
        """Whether the state of ``row`` allows ``action``; the service has the last word."""
        return True

    def attempt(self, request: HttpRequest, act: Callable[[], Any]) -> Any:
        """Do ``act`` and return its result; a refusal is shown to the person and None returned."""
        try:
            result = act()
        except DomainError as exc:
            messages.error(request, str(exc))
            return None
        messages.success(request, "Done.")
        return result

    def organisations_where(self, request: HttpRequest, permission: str) -> list[uuid.UUID]:
        """Ids of the organisations in which the person holds ``permission``."""
        return access.organisations_with(request.user, permission)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return []

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        row = self.get_object(request, str(object_id))
        if row is None:
            return []
        actor, prefix = self.actor(request, row), f"{self.opts.app_label}_{self.opts.model_name}_"
        return [
            action
            for action in self._get_base_actions_detail()
            if actor.may(action.method.needs) and self.offers(row, action.action_name.removeprefix(prefix))
        ]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        row = kwargs.get("obj")
        if row is not None:
            record = self.record(request, row)
            context["record"] = replace(record, panels=[*contributed(request, self, row), *record.panels])
        return super().render_change_form(request, context, *args, **kwargs)


# --- panels that higher apps add -------------------------------------------------------------------
Contribution = Callable[[HttpRequest, TenantAdmin, Any], list[Panel]]
_contributions: dict[str, list[Contribution]] = {}


def on_page_of(label: str) -> Callable[[Contribution], Contribution]:
    """Show the decorated function's panels on the pages of the model ``label`` too: a customer's invoices, say."""

    def register(function: Contribution) -> Contribution:
        _contributions.setdefault(label, []).append(function)
        return function

    return register


def contributed(request: HttpRequest, page: TenantAdmin, row: Any) -> list[Panel]:
    """What other apps show on the page of ``row``."""
    return [
        panel for function in _contributions.get(row._meta.label_lower, []) for panel in function(request, page, row)
    ]


# --- panels that many pages show -------------------------------------------------------------------
def journal_panel(request: HttpRequest, page: TenantAdmin, row: Any, sources: Iterable[Any]) -> list[Panel]:
    """Journal entries whose source is one of ``sources``; nothing for those who may not see the ledger."""
    if not page.actor(request, row).may("ledger.view"):
        return []
    entries = (
        JournalEntry.objects.of(row.organisation_id)
        .filter(source_id__in=list(sources))
        .order_by("occurred_at", "id")
        .prefetch_related("postings__account")
    )
    rows = []
    for entry in entries:
        for n, posting in enumerate(
            sorted(entry.postings.all(), key=lambda posting: (posting.side == "C", posting.pk))
        ):
            debit = posting.side == "D"
            first = (moment(entry.occurred_at, row.organisation), link(request, entry, words(entry.kind)))
            rows.append(
                (*(first if n == 0 else ("", "")), posting.account.code,
                 money(posting.amount) if debit else "", "" if debit else money(posting.amount))
            )  # fmt: skip
    headers = ("Time", "Entry", "Account", "Debit", "Credit")
    return [
        Panel(title="Ledger", headers=headers, rows=rows, numbers=frozenset({3, 4}), empty="Nothing is posted yet.")
    ]


def account_panel(request: HttpRequest, page: TenantAdmin, customer: Any) -> list[Panel]:
    """What was posted for a customer, newest first; nothing for those who may not see the ledger."""
    if not page.actor(request, customer).may("ledger.view"):
        return []
    postings = Posting.objects.filter(customer=customer).select_related("entry", "account").order_by("-id")
    rows = [
        (moment(one.entry.occurred_at, customer.organisation), link(request, one.entry, words(one.entry.kind)),
         one.entry.description, one.account.code, money(one.amount) if one.side == "D" else "",
         money(one.amount) if one.side == "C" else "")
        for one in postings[:50]
    ]  # fmt: skip
    headers = ("Time", "Entry", "Of", "Account", "Debit", "Credit")
    return [
        Panel(title="Account", headers=headers, rows=rows, numbers=frozenset({4, 5}), empty="Nothing is posted yet.")
    ]


_TOLD = (
    "number",
    "amount",
    "total",
    "due",
    "status",
    "decline_class",
    "decline_code",
    "next_attempt_at",
    "error",
    "method",
)


def told(payload: Any, organisation: Any = None) -> str:
    """What a payload says that a reader of the story wants to know; times on the organisation's wall."""
    if not isinstance(payload, dict):
        return ""
    currency = payload.get("currency", "")
    return ", ".join(
        f"{words(name)} {_plain(name, payload[name], currency, organisation)}" for name in _TOLD if payload.get(name)
    )


def _plain(name: str, value: Any, currency: str, organisation: Any) -> str:
    if isinstance(value, dict):
        return " ".join(map(str, value.values()))
    if name in ("amount", "total", "due"):
        return f"{value} {currency}".strip()
    at = parse_datetime(str(value)) if name.endswith("_at") and organisation else None
    return words(str(value)) if at is None and name != "number" else moment(at, organisation) if at else str(value)


def timeline_panel(request: HttpRequest, page: TenantAdmin, row: Any, ids: Iterable[Any]) -> list[Panel]:
    """What happened to the rows ``ids``: events and decisions in order of time, with their correlation ids."""
    actor, wanted = page.actor(request, row), list(ids)
    happened: list[tuple[datetime, int, Sequence[Any]]] = []
    if actor.may("event.view"):
        events = Event.objects.filter(organisation_id=row.organisation_id, aggregate_id__in=wanted)
        happened += [
            (
                event.occurred_at,
                1,
                (event.type, told(event.payload, row.organisation), "", "", event.correlation_id[:12]),
            )
            for event in events[:MAX_ROWS]
        ]
    if actor.may("audit.view"):
        records = AuditRecord.objects.of(row.organisation_id).filter(target_id__in=[str(pk) for pk in wanted])
        happened += [
            (one.occurred_at, 0, (one.action, told(one.after, row.organisation), one.actor_label or one.actor_type, one.reason, one.correlation_id[:12]))
            for one in records[:MAX_ROWS]
        ]  # fmt: skip
    if not actor.may("event.view") and not actor.may("audit.view"):
        return []
    rows = [(moment(at, row.organisation), *cells) for at, _, cells in sorted(happened, key=lambda item: item[:2])]
    headers = ("Time", "What", "Details", "Who", "Why", "Correlation")
    return [Panel(title="Timeline", headers=headers, rows=rows, empty="Nothing has happened yet.")]
