"""The worker's processes keep their connections from task to task, and let go of those that broke."""

import gc
import re
from pathlib import Path

import pytest
from celery.fixups.django import DjangoWorkerFixup
from django.db import connection

from config import memory
from config.celery import app, between_tasks


def connection_number() -> int:
    """The number PostgreSQL gave to the present connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_tasks_share_a_connection_until_it_breaks() -> None:
    fixup = DjangoWorkerFixup(app)
    task = app.tasks["celery.chord"]  # any
    numbers = []
    for _ in range(3):
        fixup.on_task_prerun(sender=task)
        between_tasks()
        numbers.append(connection_number())
        between_tasks()
        fixup.on_task_postrun(sender=task)

    assert len(set(numbers)) == 1

    connection.connection.close()  # as when the server was started anew
    between_tasks()
    assert connection_number() != numbers[0]


def test_what_is_loaded_is_no_garbage() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        memory.settle()
        assert gc.get_freeze_count() > frozen
        assert gc.get_threshold() == memory.THRESHOLDS
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


def test_a_file_that_somebody_waits_for_is_in_a_queue_of_its_own() -> None:
    """A worker takes from its queues in turn, so that it begins after one other task, however many there are."""
    router = app.amqp.router

    assert router.route({}, "billing.tasks.read_usage_import")["queue"].name == "waited_for"
    assert router.route({}, "billing.tasks.sweep_usage_imports")["queue"].name == "default"
    assert app.conf.broker_transport_options["queue_order_strategy"] == "round_robin"


def test_every_worker_takes_from_every_queue_that_tasks_are_sent_to() -> None:
    sent_to = {app.conf.task_default_queue}
    sent_to |= {target["queue"] for routes in app.conf.task_routes for target in routes.values()}
    root = Path(__file__).resolve().parents[2]
    here = re.search(r'"--queues", "([a-z_,]+)"', (root / "config/local/stack.py").read_text())
    compose = re.search(r"--queues ([a-z_,]+) ", (root / "docker-compose.yml").read_text())

    assert here is not None
    assert compose is not None
    assert set(here[1].split(",")) == set(compose[1].split(",")) == sent_to == {"default", "mail", "waited_for"}
