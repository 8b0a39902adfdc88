"""Whether a plan's prices include tax is part of what they say: it never changes."""

from django.db import migrations

CREATE = """
CREATE TRIGGER tax_basis_fixed BEFORE UPDATE ON subscriptions_plan FOR EACH ROW
WHEN (OLD.prices_include_tax IS DISTINCT FROM NEW.prices_include_tax)
EXECUTE FUNCTION subscriptions_refuse_change();
"""
DROP = "DROP TRIGGER tax_basis_fixed ON subscriptions_plan;"


class Migration(migrations.Migration):
    dependencies = [("subscriptions", "0015_coupon_use_counted")]

    operations = [migrations.RunSQL(CREATE, DROP)]
