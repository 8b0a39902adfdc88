"""Writing many rows at once with PostgreSQL's COPY, in the caller's transaction.

Rows become COPY's text here and not in the driver: it looks up an adapter for every value, and most values of a billing run
are the same from row to row. What rows share is made into text once (``encoded``) and stands in each of them as it is.
"""

import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import Any

from django.db import connection, models
from psycopg import sql

AT_ONCE = 250
"""Rows that are handed to the database together: it takes them in while the next ones are made."""
_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


class Encoded(str):
    """Columns of a row that are COPY's text already: one or several, with the tabs between them."""

    __slots__ = ()


def encoded(values: Sequence[Any]) -> Encoded:
    """``values`` as columns of a row, to stand in many rows."""
    return Encoded(_line(values))


def copy_rows(model: type[models.Model], columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Append ``rows`` to the table of ``model``. Columns that are not named take the database's default.

    Values are texts, numbers, booleans, dates, times with their zone, UUIDs and None; JSON goes in as text; ``Encoded`` stands
    for as many columns as were put into it. Constraints and triggers apply as for any insert; a conflict fails the whole call.
    Raises ``TypeError`` for a value of another kind.
    """
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(model._meta.db_table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    lines = map(_line, rows)
    with connection.cursor() as cursor, connection.wrap_database_errors, cursor.copy(statement.as_string()) as copy:
        while block := list(islice(lines, AT_ONCE)):
            block.append("")
            copy.write("\n".join(block))


def _line(values: Sequence[Any]) -> str:
    return "\t".join([_TEXT_OF[type(value)](value) for value in values])


def _text(value: str) -> str:
    return value.translate(_ESCAPES) if _SPECIAL.search(value) else value


class _Kinds(dict[type, Callable[[Any], str]]):
    """How values of a type are written; a subclass (an enumeration's member) as what it is a kind of."""

    def __missing__(self, kind: type) -> Callable[[Any], str]:
        for base in kind.__mro__[1:]:
            if base in self:
                how = self[kind] = self[base]
                return how
        raise TypeError(f"A {kind.__name__} has no place in a copied row: text, number, boolean, date, UUID or None.")


_TEXT_OF = _Kinds(
    {
        type(None): lambda _: r"\N",
        bool: lambda value: "t" if value else "f",
        int: int.__repr__,
        Decimal: Decimal.__str__,
        str: _text,
        uuid.UUID: lambda value: value.hex,
        datetime: datetime.isoformat,
        date: date.isoformat,
        Encoded: str,
    }
)
