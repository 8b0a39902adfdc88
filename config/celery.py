"""The Celery application: workers and beat start from here."""

import os
import sys
from pathlib import Path

from celery import Celery
from celery.signals import (
    beat_init,
    heartbeat_sent,
    task_postrun,
    task_prerun,
    worker_process_init,
    worker_ready,
    worker_shutdown,
)
from django.db import close_old_connections

from config import memory

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("munim")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf["CELERY_DB_REUSE_MAX"] = sys.maxsize  # Celery would connect anew for each task; see ``between_tasks``
app.autodiscover_tasks()


@task_prerun.connect
@task_postrun.connect
def between_tasks(**given: object) -> None:
    """What Django does between requests: a connection that is broken or has served its time is given back, others are kept."""
    if not getattr(getattr(given.get("task"), "request", None), "is_eager", False):
        close_old_connections()


def sign_of_life(name: str) -> None:
    """Touch ``$MUNIM_READY_DIR/<name>``: whoever supervises this process looks at the file's age."""
    folder = os.environ.get("MUNIM_READY_DIR")
    if folder:
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@worker_ready.connect
@heartbeat_sent.connect
def worker_lives(**_: object) -> None:
    sign_of_life("worker")


@worker_process_init.connect
def worker_process_begins(**_: object) -> None:
    memory.settle()


@worker_shutdown.connect
def worker_ends(**_: object) -> None:
    folder = os.environ.get("MUNIM_READY_DIR")
    if folder:
        (Path(folder) / "worker").unlink(missing_ok=True)


@beat_init.connect
def beat_lives(**_: object) -> None:
    sign_of_life("beat")
