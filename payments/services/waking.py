"""Waking a worker after commit. Losing the message loses nothing: the schedule finds what was left."""

import logging
import uuid

from celery import current_app
from django.db import transaction

from billing.models import TestClock

logger = logging.getLogger(__name__)


def after_commit(task: str, *args: str) -> None:
    """Send ``task`` once the present transaction has committed."""
    transaction.on_commit(lambda: send(task, *args), robust=True)


def send(task: str, *args: str) -> None:
    """Send ``task``; a broker that is away is noted, not suffered from."""
    try:
        current_app.send_task(task, args=list(args), retry=False, ignore_result=True)
    except Exception:
        logger.warning("The broker did not take %s; the schedule will.", task, exc_info=True)


def time_is_turning(organisation_id: uuid.UUID) -> bool:
    """Whether the organisation's test clock is being advanced: then its own jobs do the work, in order."""
    return TestClock.objects.filter(organisations=organisation_id, status=TestClock.Status.ADVANCING).exists()
