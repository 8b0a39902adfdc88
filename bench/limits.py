"""The limits beside which the product is measured: the same rows by one statement inside the database."""

from pathlib import Path
from typing import Any

import psycopg

BILLING = (Path(__file__).parent / "billing_limit.sql").read_text()
NEW_ID = """
CREATE OR REPLACE FUNCTION pg_temp.new_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$
SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7'
        || substr(md5(random()::text), 1, 3) || '8' || substr(md5(random()::text), 1, 15))::uuid
$$
"""
NEW_ID_18 = "CREATE OR REPLACE FUNCTION pg_temp.new_id() RETURNS uuid LANGUAGE sql VOLATILE AS 'SELECT uuidv7()'"


def bill_set_based(connection: psycopg.Connection[Any], organisation_code: str) -> int:
    """Bill everything that is due by one statement, in one transaction; returns the number of invoices."""
    version = connection.info.server_version
    connection.execute(NEW_ID_18 if version >= 180000 else NEW_ID)
    with connection.transaction():
        row = connection.execute(BILLING, {"code": organisation_code}).fetchone()
    return row[0] if row else 0


PLAIN_USAGE = """
CREATE TABLE IF NOT EXISTS bench_usage (
    id bigserial PRIMARY KEY, organisation_id uuid NOT NULL REFERENCES billing_organisation, event_id varchar(100) NOT NULL,
    meter_id uuid NOT NULL REFERENCES billing_meter, customer_id uuid NOT NULL REFERENCES billing_customer,
    quantity numeric(30, 12) NOT NULL, properties jsonb NOT NULL, occurred_at timestamptz NOT NULL, recorded_at timestamptz NOT NULL,
    UNIQUE (organisation_id, event_id)
);
CREATE INDEX IF NOT EXISTS bench_usage_window ON bench_usage (customer_id, meter_id, occurred_at) INCLUDE (quantity);
"""
STAGE_USAGE = """
CREATE TEMPORARY TABLE IF NOT EXISTS bench_staged (
    event_id text, meter_id uuid, customer_id uuid, quantity numeric, properties jsonb, occurred_at timestamptz
) ON COMMIT DELETE ROWS
"""
INSERT_USAGE = {
    "plain": """
INSERT INTO bench_usage (organisation_id, event_id, meter_id, customer_id, quantity, properties, occurred_at, recorded_at)
SELECT %s, event_id, meter_id, customer_id, quantity, properties, occurred_at, now() FROM bench_staged
ON CONFLICT (organisation_id, event_id) DO NOTHING
""",
    "product": """
WITH incoming AS MATERIALIZED (
    SELECT nextval('billing_usageevent_ref') AS id, %s::uuid AS organisation_id, s.* FROM bench_staged s
), fresh AS (
    INSERT INTO billing_usagekey (key, event_ref, occurred_at)
    SELECT encode(substr(sha256(convert_to(organisation_id::text || ':' || event_id, 'UTF8')), 1, 16), 'hex')::uuid, id, occurred_at
    FROM incoming ON CONFLICT DO NOTHING RETURNING event_ref
)
INSERT INTO billing_usageevent (id, organisation_id, event_id, meter_id, customer_id, quantity, properties, occurred_at)
SELECT id, organisation_id, event_id, meter_id, customer_id, quantity, properties, occurred_at
FROM incoming JOIN fresh ON event_ref = id
""",
}


def stage_usage(
    connection: psycopg.Connection[Any], organisation_id: Any, rows: list[tuple[Any, ...]], *, into: str
) -> int:
    """Take rows in by staged COPY, each event id once: into the product's tables, or into one plain table of events."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(STAGE_USAGE)
        with cursor.copy("COPY bench_staged FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        cursor.execute(INSERT_USAGE[into], [organisation_id])
        return cursor.rowcount
