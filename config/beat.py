"""The scheduler of recurring work: django-celery-beat's, with a sign of life at every tick."""

from collections.abc import Mapping
from typing import Any

from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler

from config.celery import sign_of_life


class MunimScheduler(DatabaseScheduler):
    """Reads the schedule from the database, where the console can edit it."""

    def tick(self, *args: object, **kwargs: object) -> float:
        """Send what is due; touch the file that health checks look at."""
        seconds = super().tick(*args, **kwargs)
        sign_of_life("beat")
        return float(seconds)

    def update_from_dict(self, mapping: Mapping[str, Any]) -> None:
        """Take over entries that the database does not know; what was edited in the console stays as it is."""
        known = set(PeriodicTask.objects.filter(name__in=mapping).values_list("name", flat=True))
        super().update_from_dict({name: entry for name, entry in mapping.items() if name not in known})
