"""What the database itself refuses: a version or a price that changes after somebody subscribed to it, or ever."""

from django.db import migrations

FIXED = {
    "subscriptions_planversion": "organisation_id, plan_id, number, effective_from",
    "subscriptions_price": (
        "organisation_id, version_id, code, name, currency, model, unit_price, tiers, meter_id, unit, tax_category, position"
    ),
    "subscriptions_plan": "organisation_id, code, interval, interval_count",
}
GUARDED_ROWS = ("subscriptions_planversion", "subscriptions_price")

REFUSE = """
CREATE FUNCTION subscriptions_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% cannot be changed: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation', HINT = 'Add a new plan version instead.';
END $$;
"""


def _create() -> str:
    parts = [REFUSE]
    for table, columns in FIXED.items():
        changed = " OR ".join(f"OLD.{column} IS DISTINCT FROM NEW.{column}" for column in columns.split(", "))
        parts.append(
            f"CREATE TRIGGER fixed BEFORE UPDATE ON {table} FOR EACH ROW WHEN ({changed}) "
            "EXECUTE FUNCTION subscriptions_refuse_change();"
        )
    parts += [
        f"CREATE TRIGGER kept BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION subscriptions_refuse_change();"
        for table in GUARDED_ROWS
    ]
    return "\n".join(parts)


def _drop() -> str:
    parts = [f"DROP TRIGGER fixed ON {table};" for table in FIXED]
    parts += [f"DROP TRIGGER kept ON {table};" for table in GUARDED_ROWS]
    return "\n".join([*parts, "DROP FUNCTION subscriptions_refuse_change();"])


class Migration(migrations.Migration):
    dependencies = [("subscriptions", "0001_initial")]

    operations = [migrations.RunSQL(_create(), _drop())]
