"""Usage by months: the table of events is partitioned, event ids get a table of their own, hours are added up by triggers.

Every event of the former table is copied with its key and its hour; the former table is dropped in the same transaction.
"""

import django.db.models.deletion
from django.db import migrations, models

ROLLUP = """
CREATE FUNCTION billing_usage_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO billing_usagehour AS known
           (customer_id, meter_id, hour, subscription_ref, events, total, greatest, amount, changes)
    SELECT customer_id, meter_id, date_trunc('hour', occurred_at, 'UTC'), subscription_ref,
           count(*), sum(quantity), max(quantity), coalesce(sum(amount), 0), count(*)
    FROM added
    GROUP BY 1, 2, 3, 4
    ORDER BY 1, 2, 3, 4  -- senders lock hours in one order, and never wait for each other in a circle
    ON CONFLICT (customer_id, meter_id, hour, subscription_ref) DO UPDATE
    SET events = known.events + excluded.events, total = known.total + excluded.total,
        greatest = CASE WHEN known.events = 0 THEN excluded.greatest ELSE greatest(known.greatest, excluded.greatest) END,
        amount = known.amount + excluded.amount, changes = known.changes + excluded.changes;
    RETURN NULL;
END $$;

-- A revision may lower a maximum: its hour is added up anew. The lock comes first and in a statement of its own: whoever
-- holds the hour has committed before it is read, and whoever waits for it adds to what was read.
CREATE FUNCTION billing_usage_revised() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    the_hour timestamptz := date_trunc('hour', NEW.occurred_at, 'UTC');
BEGIN
    PERFORM FROM billing_usagehour
     WHERE customer_id = NEW.customer_id AND meter_id = NEW.meter_id AND hour = the_hour
       AND subscription_ref = NEW.subscription_ref FOR UPDATE;
    UPDATE billing_usagehour h
       SET events = now.events, total = now.total, greatest = now.greatest, amount = now.amount, changes = h.changes + 1
      FROM (SELECT count(*) AS events, coalesce(sum(coalesce(r.quantity, e.quantity)), 0) AS total,
                   coalesce(max(coalesce(r.quantity, e.quantity)), 0) AS greatest, coalesce(sum(e.amount), 0) AS amount
              FROM billing_usageevent e
              LEFT JOIN billing_usagerevision r ON r.event_ref = e.id AND r.is_current
             WHERE e.customer_id = NEW.customer_id AND e.meter_id = NEW.meter_id
               AND e.subscription_ref = NEW.subscription_ref
               AND e.occurred_at >= the_hour AND e.occurred_at < the_hour + interval '1 hour'
               AND r.kind IS DISTINCT FROM 'void') now
     WHERE h.customer_id = NEW.customer_id AND h.meter_id = NEW.meter_id AND h.hour = the_hour
       AND h.subscription_ref = NEW.subscription_ref;
    RETURN NULL;
END $$;
"""
UNDO_ROLLUP = "DROP FUNCTION billing_usage_added(); DROP FUNCTION billing_usage_revised();"

GUARDS = """
ALTER TABLE billing_usagehour SET (fillfactor = 80);
ALTER TABLE billing_usageimport ALTER COLUMN content SET STORAGE EXTERNAL;  -- parts of a file are read without the whole
CREATE TRIGGER usage_revised AFTER INSERT ON billing_usagerevision
    FOR EACH ROW EXECUTE FUNCTION billing_usage_revised();
CREATE TRIGGER billing_usagerevision_fixed BEFORE UPDATE OF organisation_id, event_ref, event_id, meter_id, customer_id,
    subscription_ref, occurred_at, kind, quantity, number, reason, made_by, made_at ON billing_usagerevision
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_change();
CREATE TRIGGER billing_usagerevision_no_delete BEFORE DELETE ON billing_usagerevision
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_change();
CREATE TRIGGER billing_usagerevision_no_truncate BEFORE TRUNCATE ON billing_usagerevision
    FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse_change();
CREATE TRIGGER billing_usageadjustment_no_change BEFORE UPDATE OR DELETE ON billing_usageadjustment
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_change();
CREATE TRIGGER billing_usageadjustment_no_truncate BEFORE TRUNCATE ON billing_usageadjustment
    FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse_change();
"""
UNDO_GUARDS = """
DROP TRIGGER usage_revised ON billing_usagerevision;
DROP TRIGGER billing_usagerevision_fixed ON billing_usagerevision;
DROP TRIGGER billing_usagerevision_no_delete ON billing_usagerevision;
DROP TRIGGER billing_usagerevision_no_truncate ON billing_usagerevision;
DROP TRIGGER billing_usageadjustment_no_change ON billing_usageadjustment;
DROP TRIGGER billing_usageadjustment_no_truncate ON billing_usageadjustment;
"""

COLUMNS = """organisation_id, event_id, meter_id, customer_id, subscription_ref, quantity, amount, subject, properties,
             occurred_at, recorded_at"""

PARTITION = """
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE billing_usageevent RENAME TO billing_usageevent_former;
DROP TRIGGER billing_usageevent_no_change ON billing_usageevent_former;
DROP TRIGGER billing_usageevent_no_truncate ON billing_usageevent_former;
DROP INDEX usage_window;

CREATE SEQUENCE billing_usageevent_ref AS bigint;
SELECT setval('billing_usageevent_ref', greatest(coalesce(max(id), 0), 1), max(id) IS NOT NULL) FROM billing_usageevent_former;
CREATE TABLE billing_usageevent (
    id bigint NOT NULL DEFAULT nextval('billing_usageevent_ref'),
    organisation_id uuid NOT NULL REFERENCES billing_organisation (id),
    event_id varchar(100) NOT NULL,
    meter_id uuid NOT NULL REFERENCES billing_meter (id),
    customer_id uuid NOT NULL REFERENCES billing_customer (id),
    subscription_ref uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    quantity numeric(30, 12) NOT NULL DEFAULT 1,
    amount numeric(30, 12),
    subject varchar(200) NOT NULL DEFAULT '',
    properties jsonb NOT NULL DEFAULT '{}',
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, occurred_at)
) PARTITION BY RANGE (occurred_at);
ALTER SEQUENCE billing_usageevent_ref OWNED BY billing_usageevent.id;
CREATE INDEX usage_window ON billing_usageevent (customer_id, meter_id, occurred_at) INCLUDE (quantity);
CREATE TABLE billing_usageevent_default PARTITION OF billing_usageevent DEFAULT;

DO $$
DECLARE
    month timestamp;
BEGIN
    FOR month IN
        SELECT date_trunc('month', occurred_at AT TIME ZONE 'UTC') FROM billing_usageevent_former
        UNION SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month' FROM generate_series(-1, 3) n
    LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF billing_usageevent FOR VALUES FROM (%L) TO (%L)',
                       to_char(month, '"billing_usageevent_y"YYYY"m"MM'),
                       month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
    END LOOP;
END $$;

CREATE TRIGGER billing_usageevent_no_change BEFORE UPDATE OR DELETE ON billing_usageevent
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_change();
CREATE TRIGGER billing_usageevent_no_truncate BEFORE TRUNCATE ON billing_usageevent
    FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse_change();
CREATE TRIGGER usage_added AFTER INSERT ON billing_usageevent
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION billing_usage_added();

INSERT INTO billing_usageevent (id, COLUMNS) SELECT id, COLUMNS FROM billing_usageevent_former;
INSERT INTO billing_usagekey (key, event_ref, occurred_at)
SELECT encode(substr(sha256(convert_to(organisation_id::text || ':' || event_id, 'UTF8')), 1, 16), 'hex')::uuid, id, occurred_at
FROM billing_usageevent_former;
DROP TABLE billing_usageevent_former;
""".replace("COLUMNS", COLUMNS)

MERGE = """
ALTER TABLE billing_usageevent RENAME TO billing_usageevent_parts;
DROP TRIGGER billing_usageevent_no_change ON billing_usageevent_parts;
SET CONSTRAINTS ALL IMMEDIATE;
CREATE TABLE billing_usageevent (
    id bigint PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY,
    organisation_id uuid NOT NULL REFERENCES billing_organisation (id) DEFERRABLE INITIALLY DEFERRED,
    event_id varchar(100) NOT NULL,
    meter_id uuid NOT NULL REFERENCES billing_meter (id) DEFERRABLE INITIALLY DEFERRED,
    customer_id uuid NOT NULL REFERENCES billing_customer (id) DEFERRABLE INITIALLY DEFERRED,
    subscription_ref uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    quantity numeric(30, 12) NOT NULL,
    amount numeric(30, 12),
    subject varchar(200) NOT NULL DEFAULT '',
    properties jsonb NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    CONSTRAINT usage_event_once UNIQUE (organisation_id, event_id)
);
INSERT INTO billing_usageevent (id, COLUMNS) SELECT id, COLUMNS FROM billing_usageevent_parts;
SELECT setval(pg_get_serial_sequence('billing_usageevent', 'id'), greatest(coalesce(max(id), 0), 1), max(id) IS NOT NULL)
FROM billing_usageevent;
DROP TABLE billing_usageevent_parts;
CREATE INDEX usage_window ON billing_usageevent (customer_id, meter_id, occurred_at) INCLUDE (quantity);
CREATE TRIGGER billing_usageevent_no_change BEFORE UPDATE OR DELETE ON billing_usageevent
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_change();
CREATE TRIGGER billing_usageevent_no_truncate BEFORE TRUNCATE ON billing_usageevent
    FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse_change();
""".replace("COLUMNS", COLUMNS)

NO_KEY = {
    "db_constraint": False,
    "db_index": False,
    "on_delete": django.db.models.deletion.PROTECT,
    "related_name": "+",
}


class Migration(migrations.Migration):
    dependencies = [("billing", "0003_usage")]

    operations = [
        migrations.CreateModel(
            name="UsageKey",
            fields=[
                (
                    "key",
                    models.UUIDField(
                        help_text="First 128 bits of SHA-256 over organisation and event id.",
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("event_ref", models.BigIntegerField()),
                ("occurred_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="UsageHour",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "customer_id",
                        "meter_id",
                        "hour",
                        "subscription_ref",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("hour", models.DateTimeField()),
                ("subscription_ref", models.UUIDField()),
                ("events", models.BigIntegerField()),
                ("total", models.DecimalField(decimal_places=12, max_digits=38)),
                ("greatest", models.DecimalField(decimal_places=12, max_digits=30)),
                ("amount", models.DecimalField(decimal_places=12, max_digits=38)),
                (
                    "changes",
                    models.BigIntegerField(help_text="Events and revisions that made it what it is; only grows."),
                ),
                ("customer", models.ForeignKey(to="billing.customer", **NO_KEY)),
                ("meter", models.ForeignKey(to="billing.meter", **NO_KEY)),
            ],
        ),
        migrations.RunSQL(ROLLUP, UNDO_ROLLUP),
        migrations.RunSQL(GUARDS, UNDO_GUARDS),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(PARTITION, MERGE)],
            state_operations=[migrations.RemoveConstraint(model_name="usageevent", name="usage_event_once")],
        ),
    ]
