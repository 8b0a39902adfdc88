"""Celery tasks of the foundation: thin, they call services."""
