"""A database of its own for the measurements, made beside the configured one and dropped afterwards."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from django.core.management import call_command
from django.db import connection
from psycopg import sql

NAME = f"munim_bench_{os.getpid()}"  # two measurements at once keep out of each other's way


def connect(name: str = "") -> psycopg.Connection[Any]:
    """A plain connection to the bench database, or to the one named."""
    given = connection.settings_dict
    return psycopg.connect(
        host=given["HOST"] or None,
        port=given["PORT"] or None,
        user=given["USER"] or None,
        password=given["PASSWORD"] or None,
        dbname=name or given["NAME"],
        autocommit=True,
    )


@contextlib.contextmanager
def of_our_own() -> Iterator[None]:
    """Make an empty, migrated database; this process and its children use it meanwhile."""
    before, address = connection.settings_dict["NAME"], os.environ["DATABASE_URL"]
    connection.close()
    _recreate(before)
    connection.settings_dict["NAME"] = NAME
    os.environ["DATABASE_URL"] = urlunsplit(urlsplit(address)._replace(path=f"/{NAME}"))
    try:
        call_command("migrate", verbosity=0)
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = before
        os.environ["DATABASE_URL"] = address
        _drop(before)


def analyze() -> None:
    """Let the planner know the rows, as autovacuum would after a while."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def forget_usage() -> None:
    """Make room: the events of populations that were compared, and their hours, are not asked for any more."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("TRUNCATE billing_usageevent, billing_usagehour")
        cursor.execute("SET session_replication_role = origin")


def _recreate(from_name: str) -> None:
    _drop(from_name)
    with connect(from_name) as plain:
        plain.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(NAME)))


def _drop(from_name: str) -> None:
    with connect(from_name) as plain:
        plain.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(NAME)))
