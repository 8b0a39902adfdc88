"""What this app does when it hears an event or the clock."""

from billing.models import Event
from billing.services import outbox, unparking, webhooks


@outbox.handles("*", consumer="webhooks", batch=True, wants=webhooks.has_endpoints)
def tell_applications(events: list[Event]) -> None:
    """Every event goes to the tenants' applications that asked for its type."""
    webhooks.enqueue(events)


@outbox.handles(
    "meter.created", "meter.updated", "customer.created", "subscription.created",
    consumer="usage.unpark", batch=True, atomic=False, wants=unparking.has_waiting,
)  # fmt: skip
def take_in_parked_usage(events: list[Event]) -> None:
    """What was measured before its meter, customer or subscription existed is taken in now."""
    for organisation_id in {event.organisation_id for event in events}:
        unparking.retry_parked(organisation_id=organisation_id)
