"""Applications that are told of events."""

from django.contrib import admin
from django.http import HttpRequest
from unfold.decorators import display

from billing.admin.base import ReasonForm, TenantAdmin, decision
from billing.admin.panels import status_column
from billing.context import Actor
from billing.models import WebhookDelivery, WebhookEndpoint
from billing.services import webhooks


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(TenantAdmin):
    """Secrets are never shown here; rotate one through the API, which shows the new one once."""

    view_permission = "webhook.view"
    empty_hint = "Name an address that hears of events: POST /api/v1/webhook-endpoints."
    list_display = ("url", "types", "active", "disabled_reason", "organisation")
    list_filter = ("active",)
    list_select_related = ("organisation",)
    search_fields = ("url",)
    fields = readonly_fields = ("url", "types", "active", "disabled_reason", "previous_secret_until", "organisation")
    ordering = ("-id",)
    actions = ("switch_off", "switch_on")

    @display(description="events")
    def types(self, endpoint: WebhookEndpoint) -> str:
        return ", ".join(endpoint.event_types) or "all"

    @decision(description="Switch off", permission="webhook.edit", form=None)
    def switch_off(self, request: HttpRequest, endpoint: WebhookEndpoint, *, actor: Actor) -> None:
        webhooks.update_endpoint(organisation=endpoint.organisation, endpoint_id=endpoint.pk, active=False, actor=actor)

    @decision(description="Switch on", permission="webhook.edit", form=None)
    def switch_on(self, request: HttpRequest, endpoint: WebhookEndpoint, *, actor: Actor) -> None:
        webhooks.update_endpoint(organisation=endpoint.organisation, endpoint_id=endpoint.pk, active=True, actor=actor)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(TenantAdmin):
    view_permission = "webhook.view"
    empty_hint = "Messages appear once there is a webhook endpoint and something happens."
    list_display = (
        "event",
        "endpoint",
        "state",
        "attempts",
        "response_status",
        "next_attempt_at",
        "error",
        "organisation",
    )
    list_filter = ("status",)
    list_select_related = ("event", "endpoint", "organisation")
    search_fields = ("=event__type", "=event__uid")
    fields = readonly_fields = (
        "event", "endpoint", "status", "attempts", "response_status", "error", "next_attempt_at", "delivered_at", "recorded_at",
    )  # fmt: skip
    actions = ("replay",)
    actions_detail = ("replay",)
    ordering = ("-id",)
    state = status_column()

    @decision(description="Send again", permission="webhook.replay", form=ReasonForm, icon="replay")
    def replay(self, request: HttpRequest, delivery: WebhookDelivery, *, actor: Actor, reason: str) -> None:
        webhooks.replay(organisation_id=delivery.organisation_id, delivery_id=delivery.pk, actor=actor, reason=reason)
