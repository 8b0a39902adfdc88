"""The worker's processes keep their connections from task to task, and let go of those that broke."""

import gc

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
