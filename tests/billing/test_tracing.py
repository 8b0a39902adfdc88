"""The correlation id of a request reaches the tasks it causes."""

from types import SimpleNamespace
from typing import Any

from billing import tracing
from billing.context import correlated, correlation_id


def run_task(headers: dict[str, Any]) -> str:
    tracing.begin(task_id="t-1", task=SimpleNamespace(request=SimpleNamespace(**headers)))
    seen = correlation_id()
    tracing.end(task_id="t-1")
    return seen


def test_a_task_runs_under_the_id_of_who_sent_it() -> None:
    headers: dict[str, Any] = {}
    with correlated("order-4711-abc"):
        tracing.attach(headers=headers)

    assert run_task(headers) == "order-4711-abc"
    assert correlation_id() == ""


def test_a_task_nobody_sent_has_an_id_of_its_own() -> None:
    headers: dict[str, Any] = {}
    tracing.attach(headers=headers)

    assert len(run_task(headers)) == 32
    tracing.end(task_id="never begun")
