"""Console pages of gateway accounts and of what gateways told us."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget

from billing.admin.base import ActionVariant, ReasonForm, TenantAdmin, decision, site
from billing.context import Actor
from payments.models import GatewayAccount, InboundWebhook
from payments.services import accounts, inbox

COLOURS = {"received": "info", "processed": "success", "ignored": "", "dead": "danger"}


class SecretForm(ReasonForm):
    """A new secret: goes in, never comes out."""

    secret = forms.CharField(
        min_length=8,
        max_length=300,
        strip=True,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "type": "password"}),
        help_text="As shown at the gateway; the present one stays valid beside it.",
    )
    field_order = ("secret", "reason")


@admin.register(GatewayAccount, site=site)
class GatewayAccountAdmin(TenantAdmin):
    """The organisation's accounts at gateways. Secrets are not shown to anybody."""

    view_permission = "gateway.view"
    list_display = ("code", "provider", "key_id", "active", "is_default", "organisation")
    list_filter = ("provider", "active")
    list_select_related = ("organisation",)
    fields = (
        "organisation", "provider", "code", "key_id", "show_secrets", "show_webhook_address", "active", "is_default",
    )  # fmt: skip
    readonly_fields = fields
    actions_detail = ("rotate_webhook_secret", "end_rotation", "stop", "resume")

    @display(description="secrets")
    def show_secrets(self, account: GatewayAccount) -> str:
        known = {
            "key": account.key_secret,
            "webhook": account.webhook_secret,
            "previous webhook": account.previous_webhook_secret,
        }
        return ", ".join(f"{name}: {'set' if secret else 'not set'}" for name, secret in known.items())

    @display(description="webhook address")
    def show_webhook_address(self, account: GatewayAccount) -> str:
        return f"{settings.PUBLIC_URL}/webhooks/{account.provider}/{account.pk}"

    @decision(description="New webhook secret", permission="gateway.edit", form=SecretForm, icon="key")
    def rotate_webhook_secret(
        self, request: HttpRequest, account: GatewayAccount, *, actor: Actor, secret: str, reason: str
    ) -> str:
        accounts.rotate_webhook_secret(account=account, secret=secret, actor=actor, reason=reason)
        return f"{account}: the new secret is accepted, the former one still is."

    @decision(description="Forget the former secret", permission="gateway.edit", icon="key_off")
    def end_rotation(self, request: HttpRequest, account: GatewayAccount, *, actor: Actor, reason: str) -> None:
        accounts.forget_previous_secret(account=account, actor=actor, reason=reason)

    @decision(description="Stop", permission="gateway.edit", icon="pause", variant=ActionVariant.DANGER)
    def stop(self, request: HttpRequest, account: GatewayAccount, *, actor: Actor, reason: str) -> None:
        accounts.set_active(account=account, active=False, actor=actor, reason=reason)

    @decision(description="Resume", permission="gateway.edit", icon="play_arrow")
    def resume(self, request: HttpRequest, account: GatewayAccount, *, actor: Actor, reason: str) -> None:
        accounts.set_active(account=account, active=True, actor=actor, reason=reason)


@admin.register(InboundWebhook, site=site)
class InboundWebhookAdmin(TenantAdmin):
    """Messages of gateways: what became of each. Dead ones wait here for a person."""

    view_permission = "webhook.view"
    list_display = ("received_at", "type", "event_id", "gateway_account", "show_status", "attempts", "error")
    list_filter = ("status", "gateway_account__provider")
    list_select_related = ("gateway_account", "organisation")
    search_fields = ("event_id", "type")
    fields = (
        "organisation", "gateway_account", "event_id", "type", "show_status", "attempts", "next_attempt_at", "error", "received_at",
        "processed_at",
    )  # fmt: skip
    readonly_fields = fields
    actions = ("replay",)
    actions_detail = ("replay",)

    @display(description="status", ordering="status", label=COLOURS)
    def show_status(self, webhook: InboundWebhook) -> tuple[str, str]:
        return webhook.status, webhook.get_status_display()

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("body").order_by("-id")

    @decision(description="Process again", permission="webhook.replay", icon="replay")
    def replay(self, request: HttpRequest, webhook: InboundWebhook, *, actor: Actor, reason: str) -> None:
        inbox.replay(webhook_id=webhook.pk, actor=actor, reason=reason)
