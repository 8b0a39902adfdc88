"""Statements that are planned once for a connection: for reads whose planning would cost more than the reading.

The values go to the server apart from the statement, which therefore has to be the same text each time. Where connections are
pooled by a program that does not know prepared statements, ``prepare_threshold`` is left out of the database's options: the
same statements are then planned each time, and nothing else changes.
"""

from typing import Any

import psycopg
from django.db import connection
from django.db.backends.utils import CursorWrapper


class PreparedCursor(psycopg.Cursor[Any]):
    """Prepares whatever it executes."""

    def execute(self, query: Any, params: Any = None, **choices: Any) -> Any:
        return super().execute(query, params, **{"prepare": True} | choices)


def prepared_cursor() -> CursorWrapper:
    """A cursor of the present connection that prepares its statements; to be used in ``with``. They are counted and logged as any."""
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    with connection.wrap_database_errors:
        cursor = PreparedCursor(connection.connection)
    wrapped = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
    return wrapped(cursor)  # type: ignore[arg-type]  # as Django does with its own
