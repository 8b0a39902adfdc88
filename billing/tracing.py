"""The correlation id travels with every task: what a request causes in a worker carries the request's id."""

import contextlib
from typing import Any

import structlog
from celery.signals import before_task_publish, task_postrun, task_prerun

from billing.context import correlated, correlation_id

HEADER = "munim_correlation_id"
_open: dict[str, contextlib.ExitStack] = {}


@before_task_publish.connect
def attach(headers: dict[str, Any] | None = None, **_: Any) -> None:
    """Put the present id on a task that is sent."""
    if headers is not None and correlation_id():
        headers[HEADER] = correlation_id()


@task_prerun.connect
def begin(task_id: str = "", task: Any = None, **_: Any) -> None:
    """Run a task under the id it came with, or under a new one."""
    stack = contextlib.ExitStack()
    value = stack.enter_context(correlated(getattr(task.request, HEADER, None) or ""))
    stack.enter_context(structlog.contextvars.bound_contextvars(correlation_id=value))
    _open[task_id] = stack


@task_postrun.connect
def end(task_id: str = "", **_: Any) -> None:
    """Forget the id again."""
    stack = _open.pop(task_id, None)
    if stack is not None:
        stack.close()
