from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "billing"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register what this app listens to and what the clock runs for it."""
        from . import handlers, tracing  # noqa: F401
