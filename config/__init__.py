"""Wiring: settings, URLs, Celery and the local supervisor. No rules of the business live here."""
