"""How the database is emptied after a test with real transactions: only tables that have rows, and of those each row by itself.

Django truncates every table and then makes permissions and content types anew, which takes longer than most tests.
"""

from __future__ import annotations

from typing import Any

from django.db import connection, transaction
from django.test import TransactionTestCase

KEPT = {"django_content_type", "auth_permission"}  # the same for every test: migrating has made them


def install() -> None:
    """Let tests with real transactions leave an empty database behind in our way."""
    django_way = TransactionTestCase._fixture_teardown

    def teardown(case: Any) -> None:
        if case.serialized_rollback or case.available_apps is not None or not may_pass_over_triggers():
            django_way(case)
        else:
            empty()

    TransactionTestCase._fixture_teardown = teardown


def may_pass_over_triggers() -> bool:
    """Whether the database lets us delete without asking triggers and foreign keys; only its superusers may."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        return cursor.fetchone()[0]


def empty() -> None:
    """Delete every row but those that migrating has made."""
    tables = sorted(set(connection.introspection.django_table_names(include_views=False)) - KEPT)
    asked = " UNION ALL ".join(f"SELECT '{table}' WHERE EXISTS (SELECT FROM \"{table}\")" for table in tables)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(asked)
        filled = [table for (table,) in cursor.fetchall()]
        if filled:
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute("; ".join(f'DELETE FROM "{table}"' for table in filled))
