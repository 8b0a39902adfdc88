"""Statements that are planned once for a connection: for reads whose planning would cost more than the reading.

The values go to the server apart from the statement, which therefore has to be the same text each time. A pooler between us and
the server may hand the next statement to another server process, which does not know what was prepared, or knows another
statement by the same name. So we prepare only where the process that answers is the one that we connected to: a pooler gives
its clients numbers of its own. ``DATABASE_PREPARED_STATEMENTS=0`` leaves ``prepare_threshold`` out of the database's options:
then nothing is prepared anywhere. Where it is not, the same statements are planned each time, and nothing else changes.
"""

from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from django.db import connection
from django.db.backends.utils import CursorWrapper

_direct: WeakKeyDictionary[psycopg.Connection[Any], bool] = WeakKeyDictionary()


class PreparedCursor(psycopg.Cursor[Any]):
    """Prepares whatever it executes, on a connection that leads to one server process."""

    def execute(self, query: Any, params: Any = None, **choices: Any) -> Any:
        return super().execute(query, params, **{"prepare": is_direct(self.connection)} | choices)


def is_direct(opened: psycopg.Connection[Any]) -> bool:
    """Whether the process that answers is the one that was connected to; asked once for each connection."""
    known = _direct.get(opened)
    if known is None:
        row = opened.execute("SELECT pg_backend_pid()").fetchone()
        known = _direct[opened] = row is not None and row[0] == opened.info.backend_pid
    return known


def prepared_cursor() -> CursorWrapper:
    """A cursor of the present connection that prepares its statements; to be used in ``with``. They are counted and logged as any."""
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    with connection.wrap_database_errors:
        cursor = PreparedCursor(connection.connection)
    wrapped = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
    return wrapped(cursor)  # type: ignore[arg-type]  # as Django does with its own
