"""Celery tasks of the foundation: thin, they call services."""

from typing import Any
from uuid import UUID

from celery import shared_task

from billing.models import TestClock
from billing.services import (
    housekeeping,
    outbox,
    test_clocks,
    unparking,
    usage_imports,
    usage_partitions,
    usage_retention,
    webhooks,
)


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


@shared_task
def read_usage_import(import_id: str) -> int:
    """Read a file of measurements to its end; returns the lines read."""
    return usage_imports.read_on(import_id=UUID(import_id)).lines


@shared_task
def sweep_usage_imports() -> int:
    """Take up imports whose worker died or whose wake-up call was lost."""
    found = usage_imports.abandoned()
    for import_id in found:
        usage_imports.wake(import_id)
    return len(found)


@shared_task
def retry_parked_usage() -> int:
    """Try parked events again, for every organisation that has some."""
    return sum(unparking.retry_parked(organisation_id=one) for one in unparking.organisations_waiting())


@shared_task
def prepare_usage_partitions() -> list[str]:
    """Make the coming months of the table of events."""
    return usage_partitions.prepare()


@shared_task
def let_usage_go() -> list[str]:
    """Drop months of usage that have served their time."""
    return usage_retention.let_go()
