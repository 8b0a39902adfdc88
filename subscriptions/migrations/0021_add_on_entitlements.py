"""What an add-on gives of a feature, beside what the plan gives. Rows there are the plan's own."""

from django.db import migrations, models

HELP = "Code of the add-on that gives it, to who took it; then a limit per unit is per unit of the add-on. Empty: the plan."


class Migration(migrations.Migration):
    dependencies = [("subscriptions", "0020_coupon_sums")]

    operations = [
        migrations.AddField(
            model_name="planentitlement",
            name="add_on",
            field=models.SlugField(
                blank=True, db_default="", db_index=False, default="", help_text=HELP, max_length=60
            ),
        ),
        migrations.RemoveConstraint(model_name="planentitlement", name="plan_entitlement_once"),
        migrations.AddConstraint(
            model_name="planentitlement",
            constraint=models.UniqueConstraint(fields=("version", "feature", "add_on"), name="plan_entitlement_once"),
        ),
    ]
