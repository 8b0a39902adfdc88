"""Writing many rows at once with PostgreSQL's COPY, in the caller's transaction."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection, models
from psycopg import sql


def copy_rows(model: type[models.Model], columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Append ``rows`` to the table of ``model``. Columns that are not named take the database's default.

    JSON goes in as text. Constraints and triggers apply as for any insert; a conflict fails the whole call.
    """
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(model._meta.db_table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with connection.cursor() as cursor, connection.wrap_database_errors, cursor.copy(statement.as_string()) as copy:
        for row in rows:
            copy.write_row(row)
