from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0005_usage_window_component")]

    operations = [
        migrations.AddField(
            model_name="usagewindow",
            name="least",
            field=models.JSONField(
                default=dict,
                help_text="What minimums held the usage against: own, the component's; all, the version's, and what was charged beside.",
            ),
        ),
    ]
