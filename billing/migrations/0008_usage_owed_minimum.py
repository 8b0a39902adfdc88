from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0007_event_handed_over")]

    operations = [
        migrations.AddField(
            model_name="usagewindow",
            name="owed_minimum",
            field=models.DecimalField(
                db_default=0,
                decimal_places=4,
                default=0,
                help_text="How much of it is of the version's minimum.",
                max_digits=19,
            ),
        ),
        migrations.AddConstraint(
            model_name="usagewindow",
            constraint=models.CheckConstraint(
                condition=models.Q(("owed_minimum__gte", 0), ("owed_minimum__lte", models.F("owed"))),
                name="usage_window_owed",
            ),
        ),
    ]
