"""Where a subscription's days begin and end."""

from functools import lru_cache
from zoneinfo import ZoneInfo

from subscriptions.models import Subscription


@lru_cache(maxsize=512)
def zone_named(name: str) -> ZoneInfo:
    """The time zone of that name; kept, because rules are cached by it."""
    return ZoneInfo(name)


def zone_of(subscription: Subscription) -> ZoneInfo:
    """The subscription's own time zone, else its organisation's."""
    return zone_named(subscription.time_zone or subscription.organisation.time_zone)
