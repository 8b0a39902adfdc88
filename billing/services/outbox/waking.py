"""Telling a worker that there is something to hand over. Losing the message loses nothing: the sweeper finds it."""

import contextlib
import logging
import uuid
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from celery import current_app
from django.core.cache import cache
from django.db import connection, transaction

TASK = "billing.tasks.dispatch_outbox"
CALL_SECONDS = (
    15  # a call that the broker lost holds the next one up for so long at most; the sweeper comes each minute
)

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


def begins(organisation_id: uuid.UUID | str) -> None:
    """A dispatcher woken by a call begins: who publishes from now on has to call again. Before it looks, never after."""
    with contextlib.suppress(Exception):  # without the cache each commit calls
        cache.delete(_called(organisation_id))


def _called(organisation_id: uuid.UUID | str) -> str:
    return f"outbox:called:{organisation_id}"


def _is_called(organisation_id: uuid.UUID) -> bool:
    """Whether a call is under way that no dispatcher has taken yet; then one more would find nothing to do."""
    try:
        return not cache.add(_called(organisation_id), 1, timeout=CALL_SECONDS)
    except Exception:
        return False


class Wake:
    """What runs after commit, once per transaction and organisation."""

    def __init__(self, organisation_id: uuid.UUID) -> None:
        self.organisation_id = organisation_id

    def __call__(self) -> None:
        if _is_called(self.organisation_id):
            return
        try:
            current_app.send_task(TASK, args=[str(self.organisation_id)], retry=False, ignore_result=True)
        except Exception:
            begins(self.organisation_id)
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
