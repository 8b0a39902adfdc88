"""The new columns of prices and versions are as fixed as the old ones, and nothing is added to a version that has subscribers."""

from django.db import migrations

OLD = {
    "subscriptions_planversion": "organisation_id, plan_id, number, effective_from",
    "subscriptions_price": (
        "organisation_id, version_id, code, name, currency, model, unit_price, tiers, meter_id, unit, tax_category, position"
    ),
}
NEW = {
    "subscriptions_planversion": f"{OLD['subscriptions_planversion']}, min_commitment",
    "subscriptions_price": (
        f"{OLD['subscriptions_price']}, kind, properties, pay_in_advance, prorated, min_commitment, group_by"
    ),
}
FILTER = "organisation_id, price_id, key, name, conditions, unit_price, tiers, properties, position"

ARREARS = "UPDATE subscriptions_price SET pay_in_advance = false WHERE meter_id IS NOT NULL;"

REFUSE_ADDITION = """
CREATE FUNCTION subscriptions_refuse_addition() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    taken uuid;
BEGIN
    IF TG_TABLE_NAME = 'subscriptions_price' THEN
        taken := NEW.version_id;
    ELSE
        SELECT version_id INTO taken FROM subscriptions_price WHERE id = NEW.price_id;
    END IF;
    IF EXISTS (SELECT 1 FROM subscriptions_subscription WHERE plan_version_id = taken) THEN
        RAISE EXCEPTION '% cannot be changed: somebody has subscribed to this version', TG_TABLE_NAME
            USING ERRCODE = 'restrict_violation', HINT = 'Add a new plan version instead.';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER complete BEFORE INSERT ON subscriptions_price
    FOR EACH ROW EXECUTE FUNCTION subscriptions_refuse_addition();
CREATE TRIGGER complete BEFORE INSERT ON subscriptions_pricefilter
    FOR EACH ROW EXECUTE FUNCTION subscriptions_refuse_addition();
"""
DROP_ADDITION = """
DROP TRIGGER complete ON subscriptions_pricefilter;
DROP TRIGGER complete ON subscriptions_price;
DROP FUNCTION subscriptions_refuse_addition();
"""


def _fixed(table: str, columns: str) -> str:
    changed = " OR ".join(f"OLD.{column} IS DISTINCT FROM NEW.{column}" for column in columns.split(", "))
    return (
        f"CREATE TRIGGER fixed BEFORE UPDATE ON {table} FOR EACH ROW WHEN ({changed}) "
        "EXECUTE FUNCTION subscriptions_refuse_change();"
    )


def _again(tables: dict[str, str]) -> str:
    return "\n".join(f"DROP TRIGGER fixed ON {table};\n{_fixed(table, columns)}" for table, columns in tables.items())


KEEP_FILTER = "CREATE TRIGGER kept BEFORE DELETE ON subscriptions_pricefilter FOR EACH ROW EXECUTE FUNCTION subscriptions_refuse_change();"
DROP_FILTER = "DROP TRIGGER fixed ON subscriptions_pricefilter; DROP TRIGGER kept ON subscriptions_pricefilter;"


class Migration(migrations.Migration):
    dependencies = [("subscriptions", "0004_charge_models")]

    operations = [
        migrations.RunSQL(ARREARS, migrations.RunSQL.noop),
        migrations.RunSQL(_again(NEW), _again(OLD)),
        migrations.RunSQL(_fixed("subscriptions_pricefilter", FILTER) + KEEP_FILTER, DROP_FILTER),
        migrations.RunSQL(REFUSE_ADDITION, DROP_ADDITION),
    ]
