"""What this app does when it hears an event or the clock."""

from billing.models import Event
from billing.services import outbox, webhooks


@outbox.handles("*", consumer="webhooks", batch=True, wants=webhooks.has_endpoints)
def tell_applications(events: list[Event]) -> None:
    """Every event goes to the tenants' applications that asked for its type."""
    webhooks.enqueue(events)
