"""Telling a worker that there is something to hand over. Losing the message loses nothing: the sweeper finds it."""

import contextlib
import logging
import uuid
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from celery import current_app
from django.db import connection, transaction

TASK = "billing.tasks.dispatch_outbox"

logger = logging.getLogger(__name__)
_quiet: ContextVar[bool] = ContextVar("outbox_quiet", default=False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Wake nobody meanwhile: the caller drains the outbox itself (the test clock, the dispatcher)."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


class Wake:
    """What runs after commit, once per transaction and organisation."""

    def __init__(self, organisation_id: uuid.UUID) -> None:
        self.organisation_id = organisation_id

    def __call__(self) -> None:
        try:
            current_app.send_task(TASK, args=[str(self.organisation_id)], retry=False, ignore_result=True)
        except Exception:
            logger.warning("The broker did not take the wake-up call; the sweeper will.", exc_info=True)


def wake_after_commit(organisation_id: uuid.UUID) -> None:
    """Wake the dispatcher for ``organisation_id`` once the present transaction has committed."""
    if _quiet.get() or _is_arranged(organisation_id):
        return
    transaction.on_commit(Wake(organisation_id), robust=True)


def _is_arranged(organisation_id: uuid.UUID) -> bool:
    """Whether this transaction will do so anyhow, also if the present savepoint is rolled back."""
    now_open = set(connection.savepoint_ids)
    arranged: Any = connection.run_on_commit  # tuples of open savepoints, call, robust
    return any(
        isinstance(call, Wake) and call.organisation_id == organisation_id and savepoints <= now_open
        for savepoints, call, _ in reversed(arranged)
    )
