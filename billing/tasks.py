"""Celery tasks of the foundation: thin, they call services."""

from typing import Any
from uuid import UUID

from celery import shared_task

from billing.models import TestClock
from billing.services import housekeeping, outbox, test_clocks, webhooks


@shared_task
def dispatch_outbox(organisation_id: str) -> int:
    """Hand an organisation's pending events over; woken after each commit that published some."""
    outbox.begins(organisation_id)
    return outbox.dispatch(organisation_id)


@shared_task
def sweep_outbox() -> int:
    """Find what no wake-up call reached: pending events and retries that are due."""
    return outbox.dispatch()


@shared_task(bind=True, max_retries=3)
def turn_test_clock(self: Any, clock_id: str) -> None:
    """Turn a test clock; when its former worker has just died, come back once its hold has run out."""
    clock = test_clocks.turn(UUID(clock_id))
    if clock.status == TestClock.Status.ADVANCING:
        raise self.retry(countdown=test_clocks.LEASE.total_seconds() / 2)


@shared_task
def sweep_test_clocks() -> int:
    """Take up clocks whose worker died or whose wake-up call was lost."""
    found = test_clocks.abandoned()
    for clock_id in found:
        test_clocks.wake(clock_id)
    return len(found)


@shared_task
def tidy() -> dict[str, int]:
    """Let go of old keys, sessions and deliveries."""
    return housekeeping.tidy()


@shared_task
def deliver_webhooks() -> int:
    """Send outgoing webhooks that are due: woken by events, and by the clock for retries."""
    return webhooks.deliver_due()
