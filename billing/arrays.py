"""Columns of many values as one parameter: array literals, which cost a third of what a list adapted value by value does."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import UUIDField
from django.db.models.expressions import RawSQL


def array_of(values: Iterable[Any]) -> str:
    """A PostgreSQL array literal of ids, numbers or booleans (nothing that needs quoting); None becomes NULL."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def array_of_times(values: Iterable[datetime | None]) -> str:
    """A PostgreSQL array literal of times."""
    return "{" + ",".join(["NULL" if value is None else value.isoformat() for value in values]) + "}"


def among(ids: Iterable[Any]) -> RawSQL:
    """Many UUIDs for a filter with ``__in``, as one parameter: a list costs Django more than the database needs for the rows."""
    return RawSQL("SELECT unnest(%s::uuid[])", [array_of(ids)], output_field=UUIDField())
