"""Bank statements: files in, typed lines out. Pure: no database, no clock, no network.

``read_statement`` is the door; ``camt``, ``mt940`` and ``csvfile`` know one format each.
"""

from payments.statements.base import (
    MAX_BYTES,
    MAX_ROWS,
    Statement,
    StatementFile,
    StatementLine,
    StatementRefused,
    line_keys,
)
from payments.statements.csvfile import Dialect
from payments.statements.reading import FORMATS, read_statement

__all__ = [
    "FORMATS",
    "MAX_BYTES",
    "MAX_ROWS",
    "Dialect",
    "Statement",
    "StatementFile",
    "StatementLine",
    "StatementRefused",
    "line_keys",
    "read_statement",
]
