"""Background work: every scheduled task exists, and its safety settings hold together."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery.beat import SchedulingError
from django.conf import settings
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler

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


@pytest.mark.usefixtures("_one_connection")
def test_beat_without_a_broker_gives_no_sign_of_life_and_sends_what_it_missed_once_it_is_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MUNIM_READY_DIR", str(tmp_path))
    sent: list[str] = []
    away: list[bool] = []

    def send(self: object, entry: Any, **more: object) -> None:
        if away:
            raise SchedulingError("refused")
        sent.append(entry.name)

    monkeypatch.setattr(DatabaseScheduler, "apply_async", send)
    monkeypatch.setattr(beat.MunimScheduler, "producer", None)
    once, often = "subscriptions.tasks.billing_run", "invoices.tasks.send_due_mail"
    long_ago = timezone.now() - timedelta(hours=2)
    scheduler = beat.MunimScheduler(app=celery.app)
    PeriodicTask.objects.exclude(name__in=(once, often)).update(enabled=False)
    PeriodicTask.objects.filter(name__in=(once, often)).update(last_run_at=long_ago)
    scheduler = beat.MunimScheduler(app=celery.app)

    away.append(True)
    for _ in range(4):
        scheduler.tick()
    assert (sent, (tmp_path / "beat").exists(), set(scheduler.unsent)) == ([], False, {once, often})

    away.clear()
    scheduler.schedule[often].last_run_at = long_ago  # ten seconds later
    scheduler._heap = None
    for _ in range(6):
        scheduler.tick()
    assert (sorted(set(sent)), sent.count(once), scheduler.unsent) == ([often, once], 1, {})
    assert (tmp_path / "beat").exists()


@pytest.mark.usefixtures("_one_connection")
def test_beat_with_nothing_due_is_alive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MUNIM_READY_DIR", str(tmp_path))
    monkeypatch.setattr(beat.MunimScheduler, "producer", None)
    beat.MunimScheduler(app=celery.app)
    PeriodicTask.objects.update(last_run_at=timezone.now(), enabled=False)
    beat.MunimScheduler(app=celery.app).tick()
    assert (tmp_path / "beat").exists()
