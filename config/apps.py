"""The configuration app: it exists for its management commands and start-up wiring."""

from django.apps import AppConfig


class MunimConfig(AppConfig):
    name = "config"
    label = "config"

    def ready(self) -> None:
        """Bind Celery's application, so that ``shared_task`` in every process uses our broker."""
        from config import celery

        celery.app.set_default()
