"""Two leaves of the schema become one."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("subscriptions", "0012_failed_cycle_open"), ("subscriptions", "0013_experiment_guards")]

    operations = []
