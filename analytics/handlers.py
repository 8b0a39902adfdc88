"""What analytics listens to: every event that may change a subscription's MRR."""

from analytics.services.mrr import record_level
from billing.models import Event
from billing.services.outbox import handles

MRR_EVENTS = (
    "subscription.activated",
    "subscription.changed",
    "subscription.paused",
    "subscription.resumed",
    "subscription.recovered",
    "subscription.reactivated",
    "subscription.cancelled",
    "subscription.expired",
)


@handles(*MRR_EVENTS, consumer="analytics.mrr")
def keep_mrr(event: Event) -> None:
    """Take the new level of the subscription's MRR."""
    record_level(event=event)
