"""Whose API key that is: the look-up before every request of an application, in one statement written once.

It is read each time, so a revoked key is refused from its commit on.
"""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from django.db import InterfaceError, NotSupportedError, OperationalError, connection

from billing.models import Organisation
from billing.prepared import prepared_cursor

Found = TypeVar("Found")

COLUMNS = [field.column for field in Organisation._meta.concrete_fields]
NAMES = [field.attname for field in Organisation._meta.concrete_fields]
SETTINGS = NAMES.index("settings")
READ = """
SELECT key.id, key.name, key.scopes::text, key.last_used_at, {columns}
FROM billing_apikey key JOIN billing_organisation organisation ON organisation.id = key.organisation_id
WHERE key.key_hash = %s AND key.revoked_at IS NULL AND (key.expires_at IS NULL OR key.expires_at > %s)
""".format(columns=", ".join(f'organisation."{column}"' for column in COLUMNS))


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """An API key that is good, and its organisation."""

    id: uuid.UUID
    name: str
    scopes: frozenset[str]
    last_used_at: datetime | None
    organisation: Organisation


def holder_of_key(*, key_hash: str, now: datetime) -> KeyHolder | None:
    """The key with this hash unless it is unknown, revoked or expired at ``now`` (wall clock)."""
    row = first_read(lambda: _one(READ, [key_hash, now]))
    if row is None:
        return None
    pk, name, scopes, last_used_at, *values = row
    values[SETTINGS] = json.loads(values[SETTINGS])
    organisation = Organisation.from_db(connection.alias, NAMES, values)
    return KeyHolder(pk, name, frozenset(json.loads(scopes)), last_used_at, organisation)


def first_read(work: Callable[[], Found]) -> Found:
    """Do the first read of a request, which finds out by itself whether the kept connection is still alive.

    Asking the database for a sign of life before would be one trip more in every request. When the connection is dead, or has
    planned the read for columns that a migration changed since, it is made anew and ``work``, which writes nothing, is done
    once more.
    """
    connection.health_check_done = True  # type: ignore[attr-defined]  # of the connection behind it
    try:
        return work()
    except (OperationalError, InterfaceError, NotSupportedError):
        if connection.in_atomic_block:
            raise
        connection.close()
        return work()


def _one(statement: str, values: list[Any]) -> tuple[Any, ...] | None:
    with prepared_cursor() as cursor:
        cursor.execute(statement, values)
        found: tuple[Any, ...] | None = cursor.fetchone()
        return found
