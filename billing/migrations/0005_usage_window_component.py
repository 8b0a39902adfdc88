from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0004_usage_partitions")]

    operations = [
        migrations.AddField(
            model_name="usagewindow",
            name="component",
            field=models.CharField(default="", help_text="The component of that version.", max_length=60),
            preserve_default=False,
        ),
        migrations.RemoveConstraint(model_name="usagewindow", name="usage_window_once"),
        migrations.AddConstraint(
            model_name="usagewindow",
            constraint=models.UniqueConstraint(
                fields=("subscription_ref", "component", "starts_at"), name="usage_window_once"
            ),
        ),
    ]
