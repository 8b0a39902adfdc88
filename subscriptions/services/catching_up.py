"""Bringing one subscription up to a time: planned things and billing moments, in turns, by the terms it has."""

import uuid
from datetime import datetime

from billing import clock
from billing.models import Organisation
from subscriptions.models import Subscription
from subscriptions.selectors import subscriptions_of
from subscriptions.services import changes
from subscriptions.services.billing_run import run_billing


def catch_up(*, organisation: Organisation, subscription_id: uuid.UUID, due_at: datetime | None = None) -> Subscription:
    """Do what is due at ``due_at`` (now), which is not after now. Returns the subscription as it is then."""
    found, due_at = subscriptions_of(organisation), due_at or clock.now(organisation)
    while is_behind(found.get(pk=subscription_id), due_at):
        done = changes.apply_due(organisation=organisation, due_at=due_at, subscription_ids=[subscription_id])
        done += run_billing(organisation=organisation, due_at=due_at, subscription_ids=[subscription_id]).billed
        if not done:
            break
    return found.get(pk=subscription_id)


def is_behind(subscription: Subscription, due_at: datetime) -> bool:
    """Whether something that is due at that time has not happened yet."""
    return any(at is not None and at <= due_at for at in (subscription.next_billing_at, subscription.next_change_at))
