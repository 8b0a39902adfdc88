"""The scheduler of recurring work: django-celery-beat's, with a sign of life at every tick."""

from django_celery_beat.schedulers import DatabaseScheduler

from config.celery import sign_of_life


class MunimScheduler(DatabaseScheduler):
    """Reads the schedule from the database, where the console can edit it."""

    def tick(self, *args: object, **kwargs: object) -> float:
        """Send what is due; touch the file that health checks look at."""
        seconds = super().tick(*args, **kwargs)
        sign_of_life("beat")
        return float(seconds)
