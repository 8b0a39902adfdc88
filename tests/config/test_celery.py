"""Background work: every scheduled task exists, and its safety settings hold together."""

import pytest
from django.conf import settings
from django_celery_beat.models import PeriodicTask

from config import beat, celery, schedule


def test_every_scheduled_task_exists() -> None:
    celery.app.loader.import_default_modules()

    assert sorted(set(schedule.TASKS) - set(celery.app.tasks)) == []


def test_a_task_ends_before_the_broker_hands_it_out_again() -> None:
    visibility = settings.CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"]

    assert settings.CELERY_TASK_SOFT_TIME_LIMIT < settings.CELERY_TASK_TIME_LIMIT < visibility
    assert settings.CELERY_TASK_ACKS_LATE
    assert settings.CELERY_TASK_REJECT_ON_WORKER_LOST


@pytest.mark.parametrize(
    ("task", "queue"),
    [("invoices.tasks.send_due_mail", "mail"), ("invoices.tasks.mark_overdue", "default")],
)
def test_mail_has_a_queue_of_its_own(task: str, queue: str) -> None:
    assert celery.app.amqp.router.route({}, task)["queue"].name == queue


@pytest.fixture
def _one_connection(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beat closes its connections between ticks; the test's transaction lives on this one."""
    monkeypatch.setattr("django_celery_beat.schedulers.close_old_connections", lambda: None)


@pytest.mark.usefixtures("_one_connection")
def test_the_schedule_lands_in_the_tables_that_the_console_edits() -> None:
    beat.MunimScheduler(app=celery.app)

    written = PeriodicTask.objects.exclude(task="celery.backend_cleanup").values_list("name", "task", "enabled")
    assert sorted(written) == sorted((name, name, True) for name in schedule.TASKS)


@pytest.mark.usefixtures("_one_connection")
def test_what_the_console_switched_off_stays_off() -> None:
    beat.MunimScheduler(app=celery.app)
    PeriodicTask.objects.filter(name="subscriptions.tasks.billing_run").update(enabled=False)
    beat.MunimScheduler(app=celery.app)

    assert not PeriodicTask.objects.get(name="subscriptions.tasks.billing_run").enabled
