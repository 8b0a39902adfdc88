"""Organisations, their members and their keys."""

import json
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.html import format_html
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminEmailInputWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from billing import parties, places
from billing.admin.base import ActionVariant, ReasonForm, TenantAdmin, decision, path_to
from billing.admin.choices import ChoicesForm
from billing.admin.panels import Panel, Record, RecordAdmin, link, moment, page_action
from billing.context import Actor
from billing.errors import DomainError
from billing.models import ApiKey, Membership, Organisation, Role
from billing.services import choices, organisation_details, organisations


class MemberForm(forms.Form):
    email = forms.EmailField(max_length=254, widget=UnfoldAdminEmailInputWidget())
    name = forms.CharField(max_length=150, required=False, widget=UnfoldAdminTextInputWidget())
    role = forms.ChoiceField(choices=Role.choices, widget=UnfoldAdminSelectWidget())
    password = forms.CharField(
        required=False,
        max_length=200,
        widget=UnfoldAdminPasswordWidget(),
        help_text="Of a new person; others keep theirs.",
    )


class KeyForm(forms.Form):
    name = forms.CharField(max_length=80, widget=UnfoldAdminTextInputWidget())
    scopes = forms.MultipleChoiceField(
        widget=UnfoldAdminCheckboxSelectMultipleWidget(), help_text="Nobody gives a key more than they hold."
    )

    def __init__(self, held: frozenset[str], data: Any = None) -> None:
        super().__init__(data)
        choices: Any = [(name, name) for name in sorted(held)]
        self.fields["scopes"].choices = choices  # type: ignore[attr-defined]


class DetailsForm(ReasonForm):
    """What documents print about the organisation."""

    name = forms.CharField(max_length=200, widget=UnfoldAdminTextInputWidget())
    language = forms.ChoiceField(
        choices=[(one, one) for one in parties.LANGUAGES],
        widget=UnfoldAdminSelectWidget(),
        help_text="Of documents and mail.",
    )
    email = forms.EmailField(max_length=254, required=False, widget=UnfoldAdminEmailInputWidget())
    phone = forms.CharField(max_length=40, required=False, widget=UnfoldAdminTextInputWidget())
    upi_id = forms.CharField(
        max_length=255,
        required=False,
        label="UPI id",
        widget=UnfoldAdminTextInputWidget(),
        help_text="Such as school@bank.",
    )

    def __init__(self, row: Organisation, data: Any = None) -> None:
        known: dict[str, Any] = row.party.details if row.party else {}
        initial = {"name": row.name, "language": row.language} | {
            name: known.get(name) or "" for name in ("email", "phone", "upi_id")
        }
        super().__init__(data, initial=initial)
        for group, parts in _PARTS.items():
            for part, limit in parts.items():
                self.fields[f"{group}_{part}"] = forms.CharField(
                    required=False, max_length=limit, label=_LABELS.get(f"{group}_{part}", f"{group} {part}".capitalize()),
                    initial=(known.get(group) or {}).get(part, ""), widget=UnfoldAdminTextInputWidget(),
                )  # fmt: skip
        self.order_fields([name for name in self.fields if name != "reason"])

    def changes(self) -> dict[str, Any]:
        """What is said otherwise than before."""
        given: dict[str, Any] = self.cleaned_data
        changed = set(self.changed_data)
        found: dict[str, Any] = {
            name: given[name] for name in ("name", "language", "email", "phone", "upi_id") if name in changed
        }
        for group, parts in _PARTS.items():
            if changed & {f"{group}_{part}" for part in parts}:
                found[group] = {part: given[f"{group}_{part}"] for part in parts}
        return found


_PARTS: dict[str, dict[str, int]] = {
    "address": {name: limit for name, limit in parties.ADDRESS.items() if name != "country"},
    "tax_ids": dict.fromkeys(parties.TAX_IDS, 40),
    "bank": parties.BANK,
}
_LABELS = {"tax_ids_gstin": "GSTIN", "tax_ids_pan": "PAN", "tax_ids_vat": "VAT id", "bank_ifsc": "Bank IFSC",
           "bank_iban": "Bank IBAN", "bank_bic": "Bank BIC", "address_line1": "Address", "address_line2": "Address, second line",
           "address_city": "City", "address_region": "State or region", "address_postal_code": "Postal code"}  # fmt: skip


@admin.register(Organisation)
class OrganisationAdmin(RecordAdmin):
    view_permission = "organisation.view"
    organisation_path = "pk"
    list_display = ("name", "code", "currency", "country", "time_zone", "test_clock")
    list_select_related = ("test_clock",)
    search_fields = ("name", "code")
    actions_detail = ("change_details", "change_choices", "add_member", "create_key")

    def record(self, request: HttpRequest, row: Organisation) -> Record:
        details: dict[str, Any] = row.party.details if row.party else {}
        ids = ", ".join(f"{kind.upper()} {number}" for kind, number in (details.get("tax_ids") or {}).items())
        address = details.get("address") or {}
        place = places.on_one_line(address, tuple(parties.ADDRESS))
        members = row_members(row)
        return Record(
            facts=[
                ("Code", row.code),
                ("Currency", row.currency),
                ("Address", place or "–"),
                ("Tax ids", ids or "–"),
                ("E-mail and telephone", ", ".join(filter(None, (details.get("email"), details.get("phone")))) or "–"),
                ("UPI id", details.get("upi_id") or "–"),
                ("Bank", ", ".join((details.get("bank") or {}).values()) or "–"),
                ("Language", row.language),
                ("Time zone", row.time_zone),
                ("Financial year begins in month", row.financial_year_start),
                ("Clock", _clock(request, row)),
            ],
            panels=[
                Panel(title="Members", headers=("Person", "Role", "Last sign-in"), rows=members, empty="Nobody yet."),
                Panel(
                    title="Choices", headers=("Choice", "Value"), rows=chosen(row), empty="Everything has its default."
                ),
            ],
        )

    @page_action(description="Change details", permission="organisation.edit", icon="edit")
    def change_details(self, request: HttpRequest, organisation: Organisation) -> HttpResponse:
        """Documents that were issued keep what they print."""
        form = DetailsForm(organisation, request.POST if "confirm" in request.POST else None)
        if form.is_valid():
            actor, reason = self.actor(request, organisation), form.cleaned_data["reason"]
            if self.attempt(request, lambda: organisation_details.update_details(
                    organisation_id=organisation.pk, actor=actor, reason=reason, **form.changes())):  # fmt: skip
                return HttpResponseRedirect(path_to(organisation))
        return self.ask(request, title="Change details", form=form, rows=[organisation], back_to=path_to(organisation))

    @page_action(description="Choices", permission="organisation.edit", icon="tune")
    def change_choices(self, request: HttpRequest, organisation: Organisation) -> HttpResponse:
        """How documents look and are numbered, and what happens by itself."""
        sent = "confirm" in request.POST
        form = ChoicesForm(organisation, request.POST if sent else None, request.FILES if sent else None)
        if form.is_valid():
            actor, reason = self.actor(request, organisation), form.cleaned_data["reason"]
            if self.attempt(request, lambda: choices.change(
                    organisation_id=organisation.pk, changes=form.changes(), actor=actor, reason=reason)):  # fmt: skip
                return HttpResponseRedirect(path_to(organisation))
        return self.ask(request, title="Choices", form=form, rows=[organisation], back_to=path_to(organisation))

    @decision(description="Add member", permission="member.edit", form=MemberForm, icon="person_add")
    def add_member(
        self,
        request: HttpRequest,
        organisation: Organisation,
        *,
        actor: Actor,
        email: str,
        name: str,
        role: str,
        password: str,
    ) -> str:
        membership = organisations.add_member(
            organisation=organisation, email=email, name=name, role=role, password=password or None, actor=actor
        )
        return f"{membership.user} is {membership.get_role_display()} of {organisation}."

    @page_action(description="Create API key", permission="api_key.edit", icon="key")
    def create_key(self, request: HttpRequest, organisation: Organisation) -> HttpResponse:
        """The secret is on the page that answers, and nowhere else."""
        actor = self.actor(request, organisation)
        form = KeyForm(actor.permissions, request.POST if "confirm" in request.POST else None)
        if form.is_valid():
            try:
                key, secret = organisations.create_api_key(organisation=organisation, actor=actor, **form.cleaned_data)
            except DomainError as exc:
                form.add_error(None, str(exc))
            else:
                return self._shown_once(request, key, secret)
        return self.ask(request, title="Create API key", form=form, rows=[organisation])

    def _shown_once(self, request: HttpRequest, key: ApiKey, secret: str) -> HttpResponse:
        facts = [("Name", key.name), ("Scopes", ", ".join(key.scopes)), ("Secret", secret)]
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "New API key",
            "record": Record(facts=facts, notice="Copy the secret now: it is not shown again."),
        }
        response = TemplateResponse(request, "console/record.html", context)
        response["Cache-Control"] = "no-store"
        return response


def _clock(request: HttpRequest, row: Organisation) -> Any:
    """The real time, or the test clock by which it lives."""
    if row.test_clock is None:
        return "real time"
    return format_html("{}: {}", link(request, row.test_clock), moment(row.test_clock.now, row))


def chosen(row: Organisation) -> list[Any]:
    """What was chosen, for the organisation's page."""
    return [(name, _words(value)) for name, value in sorted(row.settings.items())]


def _words(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "a picture" if text.startswith("data:image/") else text


def row_members(organisation: Organisation) -> list[Any]:
    """Who may act, for the organisation's page."""
    members = Membership.objects.of(organisation).select_related("user").order_by("user__email")
    return [(one.user.email, one.get_role_display(), moment(one.user.last_login, organisation)) for one in members]


@admin.register(Membership)
class MembershipAdmin(TenantAdmin):
    view_permission = "organisation.view"
    list_display = ("user", "role", "organisation")
    list_filter = ("role",)
    list_select_related = ("user", "organisation")
    search_fields = ("user__email",)
    fields = readonly_fields = ("user", "role", "organisation")
    actions = ("remove",)
    actions_detail = ("remove",)
    ordering = ("-id",)

    @decision(
        description="Remove member",
        permission="member.edit",
        form=ReasonForm,
        icon="person_remove",
        variant=ActionVariant.DANGER,
    )
    def remove(self, request: HttpRequest, membership: Membership, *, actor: Actor, reason: str) -> str:
        organisations.remove_member(
            organisation_id=membership.organisation_id, membership_id=membership.pk, actor=actor, reason=reason
        )
        return f"{membership.user} is no longer a member of {membership.organisation}."


@admin.register(ApiKey)
class ApiKeyAdmin(TenantAdmin):
    view_permission = "api_key.edit"
    list_display = ("name", "prefix", "count", "last_used_at", "expires_at", "revoked_at", "organisation")
    list_select_related = ("organisation",)
    search_fields = ("name", "prefix")
    fields = readonly_fields = (
        "name",
        "prefix",
        "all_scopes",
        "last_used_at",
        "expires_at",
        "revoked_at",
        "recorded_at",
    )
    actions = ("revoke",)
    actions_detail = ("revoke",)
    ordering = ("-id",)

    @display(description="permissions")
    def count(self, key: ApiKey) -> int:
        return len(key.scopes)

    @display(description="permissions")
    def all_scopes(self, key: ApiKey) -> str:
        return ", ".join(key.scopes)

    @decision(
        description="Revoke", permission="api_key.edit", form=ReasonForm, icon="key_off", variant=ActionVariant.DANGER
    )
    def revoke(self, request: HttpRequest, key: ApiKey, *, actor: Actor, reason: str) -> None:
        organisations.revoke_api_key(organisation_id=key.organisation_id, key_id=key.pk, actor=actor, reason=reason)
