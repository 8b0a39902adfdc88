"""When recurring work runs. django-celery-beat copies these into its tables, where the console can edit them."""

from datetime import timedelta
from typing import Any

from celery.schedules import crontab

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

TASKS: dict[str, Any] = {
    "billing.tasks.sweep_outbox": MINUTE,
    "billing.tasks.sweep_test_clocks": MINUTE,
    "billing.tasks.deliver_webhooks": MINUTE,
    "billing.tasks.sweep_usage_imports": MINUTE,
    "billing.tasks.retry_parked_usage": HOUR,
    "billing.tasks.prepare_usage_partitions": crontab(hour=1, minute=20),
    "billing.tasks.let_usage_go": crontab(hour=1, minute=40),
    "billing.tasks.tidy": crontab(hour=2, minute=10),
    "payments.tasks.process_stuck_webhooks": 5 * MINUTE,
    "payments.tasks.resolve_unknown": 5 * MINUTE,
    "payments.tasks.retry_due_payments": 15 * MINUTE,
    "payments.tasks.fetch_settlements": 6 * HOUR,
    "payments.tasks.run_matching": HOUR,
    "payments.tasks.expiry_notices": crontab(hour=3, minute=30),
    "invoices.tasks.send_due_mail": 10 * SECOND,  # runs overlap when much is due: each claims its own letters
    "invoices.tasks.send_due_texts": 30 * SECOND,
    "invoices.tasks.mark_overdue": HOUR,
    "subscriptions.tasks.apply_changes": 15 * MINUTE,
    "subscriptions.tasks.billing_run": HOUR,
    "subscriptions.tasks.after_billing": 15 * MINUTE,
    "subscriptions.tasks.dunning": HOUR,
    "subscriptions.tasks.entitlements": 15 * MINUTE,
    "subscriptions.tasks.plan_migrations": 15 * MINUTE,
    "subscriptions.tasks.experiments": 15 * MINUTE,
}


def beat_schedule() -> dict[str, dict[str, Any]]:
    """Return Celery's form of ``TASKS``: every entry is named like its task."""
    return {name: {"task": name, "schedule": when} for name, when in TASKS.items()}
