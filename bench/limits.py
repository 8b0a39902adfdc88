"""The limits beside which the product is measured: the same rows by one statement inside the database."""

from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

BILLING = (Path(__file__).parent / "billing_limit.sql").read_text()
NEW_ID = """
CREATE FUNCTION pg_temp.new_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$
SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7'
        || substr(md5(random()::text), 1, 3) || '8' || substr(md5(random()::text), 1, 15))::uuid
$$
"""
NEW_ID_18 = "CREATE FUNCTION pg_temp.new_id() RETURNS uuid LANGUAGE sql VOLATILE AS 'SELECT uuidv7()'"


def bill_set_based(connection: psycopg.Connection[Any], organisation_code: str) -> int:
    """Bill everything that is due by one statement, in one transaction; returns the number of invoices."""
    version = connection.info.server_version
    connection.execute(NEW_ID_18 if version >= 180000 else NEW_ID)
    with connection.transaction():
        row = connection.execute(BILLING, {"code": organisation_code}).fetchone()
    return row[0] if row else 0


def copy_usage(connection: psycopg.Connection[Any], rows: list[tuple[Any, ...]]) -> None:
    """Append usage events by one COPY into the product's own table."""
    columns = (
        "organisation_id",
        "event_id",
        "meter_id",
        "customer_id",
        "quantity",
        "properties",
        "occurred_at",
        "recorded_at",
    )
    statement = sql.SQL("COPY billing_usageevent ({}) FROM STDIN").format(
        sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with connection.transaction(), connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
