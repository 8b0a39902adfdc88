"""What follows a term other than agreed: nothing (it does not renew), or another term."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("subscriptions", "0021_add_on_entitlements")]

    operations = [
        migrations.AddField(
            model_name="subscription",
            name="last_term",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Term after which it does not renew, because that was asked; empty: as agreed.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="subscription",
            name="next_term",
            field=models.JSONField(
                blank=True,
                help_text="Term that follows at the end ({}: none, open-ended); empty: as agreed.",
                null=True,
            ),
        ),
    ]
