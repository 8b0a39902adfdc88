"""Join what was written at the same time."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("subscriptions", "0006_dunning_steps"), ("subscriptions", "0006_merge")]

    operations: list[migrations.operations.base.Operation] = []
