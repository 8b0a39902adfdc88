"""The Celery application: workers and beat start from here."""

import os
from pathlib import Path

from celery import Celery
from celery.signals import beat_init, heartbeat_sent, worker_ready, worker_shutdown

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("munim")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


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


@worker_shutdown.connect
def worker_ends(**_: object) -> None:
    folder = os.environ.get("MUNIM_READY_DIR")
    if folder:
        (Path(folder) / "worker").unlink(missing_ok=True)


@beat_init.connect
def beat_lives(**_: object) -> None:
    sign_of_life("beat")
