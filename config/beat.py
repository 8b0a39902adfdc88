"""The scheduler of recurring work: django-celery-beat's, with a sign of life at every tick."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler

from config.celery import sign_of_life


class MunimScheduler(DatabaseScheduler):
    """Reads the schedule from the database, where the console can edit it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.sends = True
        """Whether the broker took what was sent last."""
        self.unsent: dict[str, datetime] = {}
        """What the broker did not take, and when it ran before that: sent once the broker is back, not an hour or a day later."""
        super().__init__(*args, **kwargs)

    def apply_async(self, entry: Any, *args: Any, **kwargs: Any) -> Any:
        """Send one task, and remember it while that is not possible."""
        self.sends = False
        self.unsent.setdefault(entry.name, entry.last_run_at)
        result = super().apply_async(entry, *args, **kwargs)
        self.sends = True
        del self.unsent[entry.name]
        return result

    def make_due(self) -> None:
        """Something was sent while others are still unsent: the broker is back, so those are due again."""
        for name, ran_at in self.unsent.items():
            if name in self.schedule:
                self.schedule[name].last_run_at = self.schedule[name].model.last_run_at = ran_at
        self.unsent.clear()
        self._heap = None  # read anew at the next tick

    def tick(self, *args: object, **kwargs: object) -> float:
        """Send what is due; touch the file that health checks look at, unless the broker does not take it."""
        seconds = super().tick(*args, **kwargs)
        if not self.sends:
            return float(seconds)
        sign_of_life("beat")
        if self.unsent:
            self.make_due()
            return 0.0
        return float(seconds)

    def update_from_dict(self, mapping: Mapping[str, Any]) -> None:
        """Take over entries that the database does not know; what was edited in the console stays as it is."""
        known = set(PeriodicTask.objects.filter(name__in=mapping).values_list("name", flat=True))
        super().update_from_dict({name: entry for name, entry in mapping.items() if name not in known})
