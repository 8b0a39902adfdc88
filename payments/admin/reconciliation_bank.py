"""Bank accounts, statement files and their lines in the console: upload, look, confirm."""

import secrets
import zlib
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RangeDateFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from billing.admin.base import path_to, site
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
from billing.errors import DomainError
from billing.models import Organisation
from billing.selectors import access
from payments.admin.reconciliation import exceptions_panel
from payments.models import BankAccount, BankLine, StatementImport
from payments.services import matching
from payments.services.statements import StatementPreview, create_bank_account, import_statement, preview_statement
from payments.statements import FORMATS, MAX_BYTES

KEPT_SECONDS = 900
IMPORT = "statement.import"


class AccountForm(forms.Form):
    """A bank account whose statements will be imported."""

    organisation = forms.ModelChoiceField(Organisation.objects.none(), widget=UnfoldAdminSelectWidget())
    code = forms.SlugField(
        max_length=40, widget=UnfoldAdminTextInputWidget(), help_text="Small letters; part of its ledger account."
    )
    name = forms.CharField(max_length=120, widget=UnfoldAdminTextInputWidget())
    currency = forms.RegexField(r"^[A-Za-z]{3}\Z", widget=UnfoldAdminTextInputWidget(), help_text="For example INR.")
    last4 = forms.RegexField(
        r"^\d{4}\Z", required=False, label="Last four digits", widget=UnfoldAdminTextInputWidget(),
        help_text="Picks the account out of files with several.",
    )  # fmt: skip

    def __init__(self, *args: Any, organisations: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["organisation"]
        field.queryset = Organisation.objects.filter(pk__in=organisations)
        field.initial = organisations[0] if len(organisations) == 1 else None

    def clean_currency(self) -> str:
        return str(self.cleaned_data["currency"]).upper()


_FORMAT_NAMES = {"auto": "as the file shows", "camt053": "camt.053 (XML)", "mt940": "MT940", "csv": "CSV"}


class UploadForm(forms.Form):
    """A statement file of one account."""

    file = forms.FileField(
        max_length=200, widget=UnfoldAdminFileFieldWidget(),
        help_text="camt.053 (XML), MT940 or CSV, at most 20 MB. Nothing is booked before you have seen it.",
    )  # fmt: skip
    format = forms.ChoiceField(
        choices=[(name, _FORMAT_NAMES.get(name, name)) for name in FORMATS],
        widget=UnfoldAdminSelectWidget(),
        initial="auto",
    )

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file.size > MAX_BYTES:
            raise forms.ValidationError(
                f"The file has {file.size:,} bytes; at most {MAX_BYTES:,} are taken. Split it by month."
            )
        return file


@admin.register(BankAccount, site=site)
class BankAccountAdmin(RecordAdmin):
    """Our accounts at banks; statements are imported on their pages."""

    view_permission = "settlement.view"
    empty_hint = "Add the account that the gateways pay out to, then import its statements."
    list_display = ("code", "name", "currency", "last4", "organisation")
    list_select_related = ("organisation",)
    ordering = ("organisation", "code")
    actions_list = ("add_account",)
    actions_detail = ("upload",)

    @page_action(description="Add account", permission=IMPORT, icon="add")
    def add_account(self, request: HttpRequest) -> HttpResponse:
        form = AccountForm(request.POST or None, organisations=self.organisations_where(request, IMPORT))
        if form.is_valid():
            given = form.cleaned_data
            actor = access.actor_of(
                request.user, organisation_id=given["organisation"].pk, address=request.META.get("REMOTE_ADDR")
            )
            made = self.attempt(request, lambda: create_bank_account(actor=actor, **given))
            if made is not None:
                return HttpResponseRedirect(path_to(made))
        return self.ask(
            request, title="Add a bank account", form=form, back_to=reverse("admin:payments_bankaccount_changelist")
        )

    @page_action(description="Import statement", permission=IMPORT, icon="upload_file")
    def upload(self, request: HttpRequest, row: BankAccount) -> HttpResponse:
        """Upload, look at what the file says, confirm."""
        token = request.POST.get("token", "")
        if token:
            return self._confirm(request, row, token)
        form = UploadForm(request.POST or None, request.FILES or None)
        if form.is_valid():
            file, chosen = form.cleaned_data["file"], form.cleaned_data["format"]
            content = file.read()
            try:
                seen = preview_statement(
                    organisation=row.organisation, bank_account=row, content=content, format=chosen
                )
            except DomainError as exc:
                self._keep_refusal(request, row, file.name, content, chosen)
                form.add_error("file", str(exc))
            else:
                return self._show(request, row, seen, _keep(request, row, content, file.name, chosen))
        return self.ask(request, title=f"Import a statement into {row.name}", form=form, back_to=path_to(row))

    def _confirm(self, request: HttpRequest, row: BankAccount, token: str) -> HttpResponse:
        kept = cache.get(_key(request, row, token))
        if kept is None:
            messages.error(request, "The upload is gone after 15 minutes; nothing was booked. Upload the file again.")
            return HttpResponseRedirect(request.path)
        content, name, chosen = kept
        done = self.attempt(request, lambda: import_statement(
            organisation=row.organisation, bank_account=row, file_name=name, content=zlib.decompress(content), format=chosen,
            actor=self.actor(request, row)))  # fmt: skip
        cache.delete(_key(request, row, token))
        if done is None:
            return HttpResponseRedirect(path_to(row))
        matching.run_matching(organisation=row.organisation)
        return HttpResponseRedirect(path_to(done))

    def _keep_refusal(self, request: HttpRequest, row: BankAccount, name: str, content: bytes, chosen: str) -> None:
        """A refused file is kept as a refusal, as over the API."""
        try:
            import_statement(organisation=row.organisation, bank_account=row, file_name=name, content=content, format=chosen,
                             actor=self.actor(request, row))  # fmt: skip
        except DomainError:
            return

    def _show(self, request: HttpRequest, row: BankAccount, seen: StatementPreview, token: str) -> HttpResponse:
        context = self.admin_site.each_context(request) | {
            "opts": self.opts, "title": f"Import a statement into {row.name}", "record": preview_record(seen), "token": token,
            "back_to": path_to(row), "rows_new": seen.rows_new,
        }  # fmt: skip
        return TemplateResponse(request, "admin/payments/statement_preview.html", context)

    def record(self, request: HttpRequest, row: BankAccount) -> Record:
        imports = [
            (link(request, one), badge("failed" if one.error else "completed", "refused" if one.error else "imported"), one.rows_read,
             one.rows_new, one.rows_known, money(one.closing_balance), one.imported_by or "–", moment(one.imported_at, row.organisation))
            for one in row.imports.order_by("-id")[:50]
        ]  # fmt: skip
        headers = ("File", "State", "Read", "New", "Known", "Closing balance", "By", "When")
        return Record(
            facts=[("Name", row.name), ("Currency", row.currency), ("Last four digits", row.last4 or "–"),
                   ("Ledger account", f"bank:{row.code}"), ("CSV dialect", row.dialect or "taken from the file"),
                   ("Organisation", row.organisation)],
            panels=[Panel(title="Statements", headers=headers, rows=imports, numbers=frozenset({2, 3, 4, 5}),
                          empty="None yet. Import one with the button above."), *timeline_panel(request, self, row, [row.pk])],
        )  # fmt: skip


def _key(request: HttpRequest, row: BankAccount, token: str) -> str:
    return f"statement:{request.user.pk}:{row.pk}:{token[:64]}"


def _keep(request: HttpRequest, row: BankAccount, content: bytes, name: str, chosen: str) -> str:
    """Keep the upload between looking and confirming; only the same person can confirm it."""
    token = secrets.token_hex(16)
    cache.set(_key(request, row, token), (zlib.compress(content, 1), name, chosen), KEPT_SECONDS)
    return token


def preview_record(seen: StatementPreview) -> Record:
    """What a file says, before anything of it is booked."""
    lines = [
        (one.row, day(one.booked_on), one.reference or "–", one.description[:120], money(one.amount))
        for one in seen.first_lines
    ]
    return Record(
        notice=_doubts(seen),
        figures=[Figure(name="New lines", value=f"{seen.rows_new:,}"), Figure(name="Known already", value=f"{seen.rows_known:,}"),
                 Figure(name="Sum of all lines", value=money(seen.total)),
                 Figure(name="Closing balance", value=money(seen.closing), hint=f"opening {money(seen.opening)}")],
        facts=[("Format", seen.format), ("Lines read", f"{seen.rows_read:,}"), ("Pending, left out", seen.rows_pending),
               ("File hash", seen.file_hash[:16])],
        panels=[Panel(title="The first lines", headers=("Row", "Booked", "Reference", "Text", "Amount"), rows=lines,
                      numbers=frozenset({4}), empty="The file has no booked lines.")],
    )  # fmt: skip


def _doubts(seen: StatementPreview) -> str:
    """What does not add up: within the file, or with the statement before it."""
    found = []
    if seen.difference:
        found.append(f"Opening balance and lines differ from the closing balance by {money(seen.difference)}.")
    if seen.gap and seen.before is not None:
        found.append(
            f"The statement before, {seen.before}, closed with {money(seen.before.closing_balance)}; this one opens with "
            f"{money(seen.opening)}. Is one between them missing?"
        )
    return " ".join(found)


class RefusedFilter(admin.SimpleListFilter):
    """Files that were refused."""

    title = "refused"
    parameter_name = "refused"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Refused"), ("no", "Imported")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() == "yes":
            return queryset.exclude(error="")
        return queryset.filter(error="") if self.value() == "no" else queryset


@admin.register(StatementImport, site=site)
class StatementImportAdmin(RecordAdmin):
    """Statement files: what was read, new, known and refused."""

    view_permission = "settlement.view"
    empty_hint = "Import a statement on the page of a bank account."
    list_display = (
        "file_name",
        "account",
        "outcome",
        "format",
        "rows_read",
        "rows_new",
        "rows_known",
        "closing",
        "imported_by",
        "when",
    )
    list_filter = (RefusedFilter, "format", "bank_account")
    list_select_related = ("bank_account", "organisation")
    ordering = ("-id",)

    closing = amount_column("closing_balance", title="closing balance")

    @display(description="account", ordering="bank_account__code")
    def account(self, row: StatementImport) -> str:
        return row.bank_account.code

    @display(description="state", label={"imported": "success", "refused": "danger"})
    def outcome(self, row: StatementImport) -> str:
        return "refused" if row.error else "imported"

    @display(description="when", ordering="imported_at")
    def when(self, row: StatementImport) -> str:
        return moment(row.imported_at, row.organisation)

    def record(self, request: HttpRequest, row: StatementImport) -> Record:
        lines = row.lines.select_related("settlement").order_by("row_number")
        open_lines = lines.exclude(state__in=["matched", "resolved"]).count()
        return Record(
            badges=[badge("failed" if row.error else "completed", "refused" if row.error else "imported")],
            notice=row.error,
            figures=[Figure(name="Read", value=f"{row.rows_read:,}"), Figure(name="New", value=f"{row.rows_new:,}"),
                     Figure(name="Known already", value=f"{row.rows_known:,}"), Figure(name="Still open", value=f"{open_lines:,}")],
            facts=[("Account", link(request, row.bank_account)), ("Format", row.format), ("Opening balance", money(row.opening_balance)),
                   ("Closing balance", money(row.closing_balance)), ("Pending, left out", row.rows_pending),
                   ("File hash", row.file_hash), ("Imported by", row.imported_by or "–"),
                   ("Imported", moment(row.imported_at, row.organisation))],
            panels=[lines_panel(request, list(lines[:1000])), *timeline_panel(request, self, row, [row.pk])],
        )  # fmt: skip


def lines_panel(request: HttpRequest, lines: list[BankLine]) -> Panel:
    """Lines of a statement with what each was matched to."""
    return Panel(
        title="New lines of this file",
        headers=("Row", "Booked", "State", "Reference", "Text", "Amount", "Payout"),
        rows=[(one.row_number, link(request, one, day(one.booked_on)), badge(one.state), one.reference or "–", one.description[:100],
               money(one.amount), link(request, one.settlement)) for one in lines],
        numbers=frozenset({5}),
        empty="Nothing new: every line was known, or the file was refused.",
    )  # fmt: skip


@admin.register(BankLine, site=site)
class BankLineAdmin(RecordAdmin):
    """Lines of bank statements: never edited, kept with their row and file."""

    view_permission = "settlement.view"
    empty_hint = "Import a statement on the page of a bank account."
    list_display = ("booked", "account", "status", "reference", "text", "sum_amount", "payout", "by")
    list_filter = (("state", ChoicesDropdownFilter), "bank_account", CurrencyFilter, ("booked_on", RangeDateFilter))
    list_select_related = ("bank_account", "settlement", "organisation")
    search_fields = ("reference__icontains", "description__icontains", "settlement__gateway_ref__exact")
    search_help_text = "Reference or text of the bank, or payout id"
    ordering = ("-booked_on", "-id")

    status = status_column("state", title="state")
    sum_amount = amount_column("amount", title="amount")

    def called(self, row: BankLine) -> str:
        return f"{day(row.booked_on)}, {money(row.amount)}, {row.reference or row.description[:40]}"

    @display(description="booked", ordering="booked_on")
    def booked(self, row: BankLine) -> str:
        return day(row.booked_on)

    @display(description="account", ordering="bank_account__code")
    def account(self, row: BankLine) -> str:
        return row.bank_account.code

    @display(description="text")
    def text(self, row: BankLine) -> str:
        return row.description[:80]

    @display(description="payout")
    def payout(self, row: BankLine) -> str:
        return row.settlement.gateway_ref if row.settlement else "–"

    @display(description="matched by", ordering="rule")
    def by(self, row: BankLine) -> str:
        return words(row.rule) or "–"

    def record(self, request: HttpRequest, row: BankLine) -> Record:
        raw = [(name, str(value)[:300]) for name, value in row.raw.items()]
        return Record(
            badges=[badge(row.state)],
            figures=[Figure(name="Amount", value=money(row.amount)), Figure(name="Booked", value=day(row.booked_on),
                                                                            hint=f"value date {day(row.value_on)}")],
            facts=[("Account", link(request, row.bank_account)), ("Reference", row.reference or "–"), ("Text", row.description or "–"),
                   ("Payout", link(request, row.settlement)), ("Offline payment", link(request, row.payment)),
                   ("Matched by", words(row.rule) or "–"), ("File", link(request, row.statement)), ("Row of the file", row.row_number)],
            panels=[
                exceptions_panel(request, row.organisation_id, [row.pk]),
                *journal_panel(request, self, row, [row.pk, *([row.settlement_id] if row.settlement_id else [])]),
                Panel(title="As the bank gave it", headers=("Cell", "Value"), rows=raw, empty="Nothing was kept."),
            ],
        )  # fmt: skip
