"""What the database itself refuses of experiments: another plan, sample or variant once customers may have seen it, and another
variant for a customer who was shown one."""

from django.db import migrations

SAID = (
    "organisation_id, plan_id, code, salt, exclude_subscribers, conversion_days, baseline_rate, minimum_effect, significance, power, "
    "planned_sample, starts_at"
)
SHOWN = "organisation_id, experiment_id, variant_id, customer_id, channel, exposed_at"


def _changed(columns: str) -> str:
    return " OR ".join(f"OLD.{column} IS DISTINCT FROM NEW.{column}" for column in columns.split(", "))


FUNCTIONS = """
CREATE FUNCTION subscriptions_refuse_experiment_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% cannot be changed once the experiment has begun: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation', HINT = 'Stop this experiment and begin another one.';
END $$;
CREATE FUNCTION subscriptions_refuse_variant_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM subscriptions_experiment
        WHERE id = (CASE TG_OP WHEN 'INSERT' THEN NEW.experiment_id ELSE OLD.experiment_id END) AND status <> 'draft'
    ) THEN
        RAISE EXCEPTION '% cannot be changed once the experiment has begun: % refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'restrict_violation', HINT = 'Stop this experiment and begin another one.';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
"""
TRIGGERS = f"""
CREATE TRIGGER said BEFORE UPDATE ON subscriptions_experiment
    FOR EACH ROW WHEN (OLD.status <> 'draft' AND ({_changed(SAID)})) EXECUTE FUNCTION subscriptions_refuse_experiment_change();
CREATE TRIGGER kept BEFORE DELETE ON subscriptions_experiment
    FOR EACH ROW WHEN (OLD.status <> 'draft') EXECUTE FUNCTION subscriptions_refuse_experiment_change();
CREATE TRIGGER said BEFORE UPDATE ON subscriptions_experimentvariant
    FOR EACH ROW WHEN ({_changed("organisation_id, experiment_id, code, version_id, is_control")})
    EXECUTE FUNCTION subscriptions_refuse_variant_change();
CREATE TRIGGER complete BEFORE INSERT OR DELETE ON subscriptions_experimentvariant
    FOR EACH ROW EXECUTE FUNCTION subscriptions_refuse_variant_change();
CREATE TRIGGER shown BEFORE UPDATE ON subscriptions_experimentexposure
    FOR EACH ROW WHEN ({_changed(SHOWN)} OR (OLD.subscription_id IS NOT NULL AND ({_changed("subscription_id, converted_at")})))
    EXECUTE FUNCTION subscriptions_refuse_experiment_change();
CREATE TRIGGER kept BEFORE DELETE ON subscriptions_experimentexposure
    FOR EACH ROW EXECUTE FUNCTION subscriptions_refuse_experiment_change();
"""
DROP = """
DROP TRIGGER kept ON subscriptions_experimentexposure;
DROP TRIGGER shown ON subscriptions_experimentexposure;
DROP TRIGGER complete ON subscriptions_experimentvariant;
DROP TRIGGER said ON subscriptions_experimentvariant;
DROP TRIGGER kept ON subscriptions_experiment;
DROP TRIGGER said ON subscriptions_experiment;
DROP FUNCTION subscriptions_refuse_variant_change();
DROP FUNCTION subscriptions_refuse_experiment_change();
"""


class Migration(migrations.Migration):
    dependencies = [("subscriptions", "0012_experiments")]

    operations = [migrations.RunSQL(FUNCTIONS + TRIGGERS, DROP)]
