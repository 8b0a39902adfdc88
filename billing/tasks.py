"""Celery tasks of the foundation: thin, they call services."""

from celery import shared_task

from billing.services import outbox


@shared_task
def dispatch_outbox(organisation_id: str) -> int:
    """Hand an organisation's pending events over; woken after each commit that published some."""
    return outbox.dispatch(organisation_id)


@shared_task
def sweep_outbox() -> int:
    """Find what no wake-up call reached: pending events and retries that are due."""
    return outbox.dispatch()
