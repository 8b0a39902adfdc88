"""A migrated, empty database kept in the private cluster: to start clean again is to copy it, not to migrate anew.

It is named by what made it (all migrations, the locked libraries), so a changed schema is never served from an old copy.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from config.local.places import ROOT
from config.local.postgres import DATABASE, USER

PREFIX = "pristine_"
MADE_OF = ("*/migrations/*.py", "*/management/commands/migrate.py", "config/migrating.py", "requirements/*.txt")


def name() -> str:
    """Name of the copy that fits this checkout."""
    digest = hashlib.sha256()
    for pattern in MADE_OF:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return PREFIX + digest.hexdigest()[:16]


def take_clean(sockets: Path) -> bool:
    """Make our database anew: from the copy that fits, and say so; else an empty one."""
    with _postgres(sockets) as connection:
        fits = name() in _copies(connection)
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(DATABASE)))
        template = name() if fits else "template1"
        _create(connection, DATABASE, template)
    return fits


def keep(sockets: Path) -> None:
    """Keep a copy of our database, which was migrated and nothing else; older copies go. Nobody may be connected to it."""
    with _postgres(sockets) as connection:
        for old in _copies(connection):
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(old)))
        _create(connection, name(), DATABASE)


@contextmanager
def _postgres(sockets: Path) -> Iterator["psycopg.Connection[tuple[str]]"]:
    """A connection to the cluster's own database, because nobody may be connected to what is copied."""
    with psycopg.connect(host=str(sockets), user=USER, dbname="postgres", autocommit=True) as connection:
        yield connection


def _copies(connection: "psycopg.Connection[tuple[str]]") -> list[str]:
    rows = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [PREFIX])
    return [row[0] for row in rows]


def _create(connection: "psycopg.Connection[tuple[str]]", database: str, template: str) -> None:
    connection.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(database), sql.Identifier(template))
    )
