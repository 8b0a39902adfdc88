"""Gateway accounts, and what gateways told us, in the console. Secrets go in and never come out."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget, UnfoldBooleanSwitchWidget

from billing.admin.base import ActionVariant, ReasonForm, decision, path_to, site
from billing.admin.panels import (
    OrganisationForm,
    Panel,
    Record,
    RecordAdmin,
    badge,
    link,
    moment,
    page_action,
    status_column,
    timeline_panel,
)
from billing.context import Actor
from payments.models import GatewayAccount, InboundWebhook, Provider
from payments.services import accounts, inbox

SECRET = {"autocomplete": "off", "type": "password"}


class SecretForm(ReasonForm):
    """A new secret: goes in, never comes out."""

    secret = forms.CharField(
        min_length=8,
        max_length=300,
        strip=True,
        widget=UnfoldAdminTextInputWidget(attrs=SECRET),
        help_text="As shown at the gateway; the present one stays valid beside it.",
    )
    field_order = ("secret", "reason")


class KeysForm(ReasonForm):
    """New keys of the same account: go in, the secret never comes out."""

    key_id = forms.CharField(max_length=120, strip=True, widget=UnfoldAdminTextInputWidget(attrs=SECRET))
    key_secret = forms.CharField(
        min_length=8,
        max_length=300,
        strip=True,
        widget=UnfoldAdminTextInputWidget(attrs=SECRET),
        help_text="Of the same account at the gateway: what was paid through it is asked for with these keys as well.",
    )
    field_order = ("key_id", "key_secret", "reason")


class AccountForm(OrganisationForm):
    """An account at a gateway, with the secrets the gateway shows for it."""

    provider = forms.ChoiceField(
        choices=[choice for choice in Provider.choices if choice[0] != Provider.OFFLINE],
        widget=UnfoldAdminSelectWidget(),
    )
    code = forms.SlugField(
        max_length=40, widget=UnfoldAdminTextInputWidget(), help_text="Your name for it; part of its ledger account."
    )
    key_id = forms.CharField(
        max_length=120,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Public key id, for example rzp_live_… or pk_live_…",
    )
    key_secret = forms.CharField(min_length=8, max_length=300, widget=UnfoldAdminTextInputWidget(attrs=SECRET))
    webhook_secret = forms.CharField(
        min_length=8,
        max_length=300,
        widget=UnfoldAdminTextInputWidget(attrs=SECRET),
        help_text="Signs what the gateway tells us. The address for its webhooks is shown once the account is added.",
    )
    is_default = forms.BooleanField(
        required=False, label="Collect through it unless said otherwise", widget=UnfoldBooleanSwitchWidget()
    )


@admin.register(GatewayAccount, site=site)
class GatewayAccountAdmin(RecordAdmin):
    """The organisation's accounts at gateways."""

    view_permission = "gateway.view"
    empty_hint = (
        "Add an account with the keys that Razorpay or Stripe shows; until then only offline payments are taken."
    )
    list_display = ("code", "provider", "key_id", "state", "used", "organisation")
    list_filter = (("provider", ChoicesDropdownFilter), "active")
    list_select_related = ("organisation",)
    ordering = ("code",)
    actions_list = ("add_account",)
    actions_detail = ("change_keys", "rotate_webhook_secret", "end_rotation", "stop", "resume")

    @display(description="state", ordering="active", label={"active": "success", "stopped": ""})
    def state(self, row: GatewayAccount) -> str:
        return "active" if row.active else "stopped"

    @admin.display(description="collects", ordering="is_default")
    def used(self, row: GatewayAccount) -> str:
        return "unless said otherwise" if row.is_default else "where it is named"

    @page_action(description="Add account", permission="gateway.edit", icon="add")
    def add_account(self, request: HttpRequest) -> HttpResponse:
        form = AccountForm(request.POST or None, organisations=self.organisations_where(request, "gateway.edit"))
        if form.is_valid():
            given = form.cleaned_data
            actor = self.actor_in(request, given["organisation"])
            made = self.attempt(request, lambda: accounts.add_account(actor=actor, **given))
            if made is not None:
                return HttpResponseRedirect(path_to(made))
        back = reverse("admin:payments_gatewayaccount_changelist")
        return self.ask(request, title="Add a gateway account", form=form, back_to=back)

    @decision(description="New keys", permission="gateway.edit", form=KeysForm, icon="vpn_key")
    def change_keys(
        self, request: HttpRequest, row: GatewayAccount, *, actor: Actor, key_id: str, key_secret: str, reason: str
    ) -> str:
        accounts.change_keys(account=row, key_id=key_id, key_secret=key_secret, actor=actor, reason=reason)
        return f"{row} is called with the key {key_id} from now on."

    @decision(description="New webhook secret", permission="gateway.edit", form=SecretForm, icon="key")
    def rotate_webhook_secret(
        self, request: HttpRequest, row: GatewayAccount, *, actor: Actor, secret: str, reason: str
    ) -> str:
        accounts.rotate_webhook_secret(account=row, secret=secret, actor=actor, reason=reason)
        return f"{row}: the new secret is accepted, the former one still is."

    @decision(description="Forget the former secret", permission="gateway.edit", icon="key_off")
    def end_rotation(self, request: HttpRequest, row: GatewayAccount, *, actor: Actor, reason: str) -> str:
        accounts.forget_previous_secret(account=row, actor=actor, reason=reason)
        return f"{row}: only the new secret is accepted."

    @decision(description="Stop", permission="gateway.edit", icon="pause", variant=ActionVariant.DANGER)
    def stop(self, request: HttpRequest, row: GatewayAccount, *, actor: Actor, reason: str) -> str:
        accounts.set_active(account=row, active=False, actor=actor, reason=reason)
        return f"{row} collects nothing any more."

    @decision(description="Resume", permission="gateway.edit", icon="play_arrow")
    def resume(self, request: HttpRequest, row: GatewayAccount, *, actor: Actor, reason: str) -> str:
        accounts.set_active(account=row, active=True, actor=actor, reason=reason)
        return f"{row} collects again."

    def offers(self, row: GatewayAccount, action: str) -> bool:
        online = row.provider != Provider.OFFLINE
        allowed = {
            "change_keys": online,
            "rotate_webhook_secret": online,
            "end_rotation": bool(row.previous_webhook_secret),
            "stop": row.active,
            "resume": not row.active,
        }
        return allowed.get(action, False)

    def record(self, request: HttpRequest, row: GatewayAccount) -> Record:
        online = row.provider != Provider.OFFLINE
        facts: list[tuple[str, Any]] = [("Code", row.code), ("Provider", row.get_provider_display())]
        if online:
            facts += [
                ("Key id", row.key_id or "–"),
                ("Key secret", _set(row.key_secret)),
                ("Webhook secret", _set(row.webhook_secret)),
                ("Former secret", f"{_set(row.previous_webhook_secret)}"),
                ("Webhook address", f"{settings.PUBLIC_URL}/webhooks/{row.provider}/{row.pk}"),
            ]
        facts += [("Ledger account", f"gateway_clearing:{row.code}"), ("Organisation", row.organisation)]
        badges = [badge("active") if row.active else badge("cancelled", "stopped")]
        badges += [badge("open", "default")] if row.is_default else []
        return Record(badges=badges, facts=facts, panels=[*_told(row), *timeline_panel(request, self, row, [row.pk])])


def _set(secret: str) -> str:
    return "set, never shown" if secret else "not set"


def _told(row: GatewayAccount) -> list[Panel]:
    if row.provider == Provider.OFFLINE:
        return []
    newest = (
        InboundWebhook.objects.of(row.organisation_id).filter(gateway_account=row).defer("body").order_by("-id")[:10]
    )
    rows = [(one.type, badge(one.status), moment(one.received_at, row.organisation), one.error) for one in newest]
    return [
        Panel(
            title="Newest webhooks",
            headers=("Type", "Status", "Received", "Error"),
            rows=rows,
            empty="Nothing has come yet. Enter the webhook address above at the gateway.",
        )
    ]


@admin.register(InboundWebhook, site=site)
class InboundWebhookAdmin(RecordAdmin):
    """Messages of gateways: what became of each. Dead ones wait here for a person."""

    view_permission = "webhook.view"
    empty_hint = "Gateways send their messages to the webhook address that the page of the gateway account shows."
    list_display = ("type", "event_id", "gateway_account", "state", "attempts", "received", "error")
    list_filter = (("status", ChoicesDropdownFilter), ("gateway_account__provider", ChoicesDropdownFilter))
    list_select_related = ("gateway_account", "organisation")
    search_fields = ("event_id__exact", "type__istartswith")
    search_help_text = "Id of the event at the gateway, or how its type begins"
    ordering = ("-id",)
    actions = ("replay",)
    actions_detail = ("replay",)

    state = status_column()

    @admin.display(description="received", ordering="received_at")
    def received(self, row: InboundWebhook) -> str:
        return moment(row.received_at, row.organisation)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("body")

    @decision(description="Process again", permission="webhook.replay", icon="replay")
    def replay(self, request: HttpRequest, row: InboundWebhook, *, actor: Actor, reason: str) -> str:
        inbox.replay(webhook_id=row.pk, actor=actor, reason=reason)
        return f"{row} is processed again."

    def offers(self, row: InboundWebhook, action: str) -> bool:
        return row.status in (InboundWebhook.Status.DEAD, InboundWebhook.Status.IGNORED)

    def record(self, request: HttpRequest, row: InboundWebhook) -> Record:
        dead = row.status == InboundWebhook.Status.DEAD
        return Record(
            badges=[badge(row.status)],
            notice="It could not be processed. Remove the cause, then process it again." if dead else "",
            facts=[
                ("Type", row.type),
                ("Event", row.event_id),
                ("Gateway account", link(request, row.gateway_account)),
                ("Attempts", row.attempts),
                ("Next attempt", moment(row.next_attempt_at, row.organisation)),
                ("Received", moment(row.received_at, row.organisation)),
                ("Processed", moment(row.processed_at, row.organisation)),
                ("Error", row.error or "–"),
                ("Organisation", row.organisation),
                ("Id", row.pk),
            ],
            panels=timeline_panel(request, self, row, [row.pk]),
        )
