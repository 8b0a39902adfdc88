"""Organisations, their members and their keys."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminEmailInputWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from billing.admin.base import ActionVariant, ReasonForm, TenantAdmin, decision
from billing.admin.panels import Panel, Record, RecordAdmin, moment, page_action
from billing.context import Actor
from billing.errors import DomainError
from billing.models import ApiKey, Membership, Organisation, Role
from billing.services import organisations


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


@admin.register(Organisation)
class OrganisationAdmin(RecordAdmin):
    view_permission = "organisation.view"
    organisation_path = "pk"
    list_display = ("name", "code", "currency", "country", "time_zone", "test_clock")
    list_select_related = ("test_clock",)
    search_fields = ("name", "code")
    actions_detail = ("add_member", "create_key")

    def record(self, request: HttpRequest, row: Organisation) -> Record:
        details: dict[str, Any] = row.party.details if row.party else {}
        ids = ", ".join(f"{kind.upper()} {number}" for kind, number in (details.get("tax_ids") or {}).items())
        place = ", ".join(value for value in (details.get("address") or {}).values() if value)
        members = row_members(row)
        return Record(
            facts=[
                ("Code", row.code),
                ("Currency", row.currency),
                ("Address", place or "–"),
                ("Tax ids", ids or "–"),
                ("Time zone", row.time_zone),
                ("Financial year begins in month", row.financial_year_start),
                ("Clock", row.test_clock or "real time"),
            ],
            panels=[
                Panel(title="Members", headers=("Person", "Role", "Last sign-in"), rows=members, empty="Nobody yet.")
            ],
        )

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
