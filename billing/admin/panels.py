"""A row's page in the console: its figures, its facts and tables of what belongs to it, all read-only.

A page subclasses :class:`RecordAdmin` and says in ``record`` what stands on it. Links appear only to pages that the
signed-in person may open.
"""

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import InvalidOperation
from functools import wraps
from typing import Any, ClassVar, cast

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils.dateparse import parse_datetime
from moneyed import CurrencyDoesNotExist, Money
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminSelectWidget

from billing.admin.base import TenantAdmin, refuse
from billing.admin.looks import (
    NOTHING,
    CurrencyFilter,
    amount_column,
    badge,
    customer_column,
    day,
    link,
    link_to,
    may_open,
    moment,
    money,
    number,
    number_column,
    span,
    status_column,
    words,
)
from billing.context import Actor
from billing.errors import DomainError
from billing.models import AuditRecord, Event, JournalEntry, Organisation, Posting
from billing.selectors import access

__all__ = [
    "NOTHING",
    "REFRESH",
    "CurrencyFilter",
    "Figure",
    "OrganisationForm",
    "Panel",
    "Record",
    "RecordAdmin",
    "account_panel",
    "amount_column",
    "badge",
    "customer_column",
    "day",
    "journal_panel",
    "link",
    "link_to",
    "may_open",
    "moment",
    "money",
    "number",
    "number_column",
    "on_page_of",
    "page_action",
    "span",
    "status_column",
    "timeline_panel",
    "words",
]

MAX_ROWS = 200
REFRESH = 2
"""Seconds between two looks at what is going on."""


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
    picture: Any = ""
    notice: Any = ""
    panels: Sequence[Panel] = field(default_factory=list)
    refresh: int = 0
    """Seconds after which the page is asked for again, while something is going on; 0: never."""


class OrganisationForm(forms.Form):
    """A form about one of the ``organisations`` (ids) in which the person may do it."""

    organisation = forms.ModelChoiceField(Organisation.objects.none(), widget=UnfoldAdminSelectWidget())

    def __init__(self, *args: Any, organisations: Sequence[uuid.UUID], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choice = cast(forms.ModelChoiceField, self.fields["organisation"])
        choice.queryset = Organisation.objects.filter(pk__in=organisations)
        choice.initial = organisations[0] if len(organisations) == 1 else None


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

    def attempt(
        self, request: HttpRequest, act: Callable[[], Any], *, form: forms.Form | None = None, said: str = "Done."
    ) -> Any:
        """Do ``act`` and return its result; a refusal is shown to the person and None returned.

        It is shown in ``form`` where there is one, else above the page. ``said`` tells of success; {} stands for the result.
        """
        try:
            result = act()
        except DomainError as exc:
            if form is not None:
                refuse(form, exc)
            else:
                messages.error(request, str(exc))
            return None
        messages.success(request, said.format(result))
        return result

    def actor_in(self, request: HttpRequest, organisation: Organisation) -> Actor:
        """The signed-in person with the permissions held in ``organisation``."""
        address = request.META.get("REMOTE_ADDR") or None
        return access.actor_of(request.user, organisation_id=organisation.pk, address=address)

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
    "number_column",
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
        if value.keys() == {"amount", "currency"}:
            return _money(value["amount"], value["currency"])
        return " ".join(map(str, value.values()))
    if name in ("amount", "total", "due"):
        return _money(value, currency)
    at = parse_datetime(str(value)) if name.endswith("_at") and organisation else None
    return words(str(value)) if at is None and name != "number" else moment(at, organisation) if at else str(value)


def _money(amount: Any, currency: Any) -> str:
    """As amounts look everywhere, where it is one."""
    try:
        return money(Money(str(amount), str(currency)))
    except (CurrencyDoesNotExist, InvalidOperation):
        return f"{amount} {currency}".strip()


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
            (one.occurred_at, 0, (one.action, told(one.after, row.organisation), one.actor_label or one.actor_type,
                                  one.reason, one.correlation_id[:12]))
            for one in records[:MAX_ROWS]
        ]  # fmt: skip
    if not actor.may("event.view") and not actor.may("audit.view"):
        return []
    rows = [(moment(at, row.organisation), *cells) for at, _, cells in sorted(happened, key=lambda item: item[:2])]
    headers = ("Time", "What", "Details", "Who", "Why", "Correlation")
    return [Panel(title="Timeline", headers=headers, rows=rows, empty="Nothing has happened yet.")]
