"""Django's ``migrate`` in a fraction of its time (see ``config/migrating.py``)."""

from typing import Any

from django.core.management.commands import migrate

from config.migrating import cheaper_states


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        with cheaper_states():
            super().handle(*args, **options)
