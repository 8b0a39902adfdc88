"""What the database itself sees to: a new catalogue number for every change of features and plans, and consumptions that stay.

Statement-level triggers, so that a bulk write counts once. The number comes from a sequence: one that was rolled back never
comes again, so nothing can be cached under it for another content.
"""

from django.db import migrations

WATCHED = (
    "subscriptions_feature",
    "subscriptions_planentitlement",
    "subscriptions_plan",
    "subscriptions_planversion",
    "subscriptions_price",
)
EVENTS = {"insert": "NEW", "update": "NEW", "delete": "OLD"}

RENEW = """
CREATE SEQUENCE subscriptions_catalogue_number;
CREATE FUNCTION subscriptions_renew_catalogue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO subscriptions_entitlementcatalogue (organisation_id, version)
    SELECT organisation_id, nextval('subscriptions_catalogue_number')
    FROM (SELECT DISTINCT organisation_id FROM changed ORDER BY organisation_id) AS owner
    ON CONFLICT (organisation_id) DO UPDATE SET version = excluded.version;
    RETURN NULL;
END $$;
"""
KEEP = """
CREATE FUNCTION subscriptions_keep_consumption() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation', HINT = 'Release what was consumed instead.';
END $$;
CREATE TRIGGER kept BEFORE UPDATE OR DELETE ON subscriptions_consumption
    FOR EACH ROW EXECUTE FUNCTION subscriptions_keep_consumption();
"""


def _create() -> str:
    triggers = [
        f"CREATE TRIGGER catalogue_{event} AFTER {event.upper()} ON {table} REFERENCING {rows} TABLE AS changed "
        "FOR EACH STATEMENT EXECUTE FUNCTION subscriptions_renew_catalogue();"
        for table in WATCHED
        for event, rows in EVENTS.items()
    ]
    return "\n".join([RENEW, *triggers, KEEP])


def _drop() -> str:
    triggers = [f"DROP TRIGGER catalogue_{event} ON {table};" for table in WATCHED for event in EVENTS]
    functions = [
        "DROP TRIGGER kept ON subscriptions_consumption;",
        "DROP FUNCTION subscriptions_keep_consumption();",
        "DROP FUNCTION subscriptions_renew_catalogue();",
        "DROP SEQUENCE subscriptions_catalogue_number;",
    ]
    return "\n".join([*triggers, *functions])


class Migration(migrations.Migration):
    dependencies = [("subscriptions", "0008_entitlements")]

    operations = [migrations.RunSQL(_create(), _drop())]
