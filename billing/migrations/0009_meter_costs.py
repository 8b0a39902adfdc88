"""What a unit costs gets dates: the cost that a meter had counts from the beginning."""

import django.db.models.deletion
from django.db import migrations, models

import billing.ids

KEEP = """
INSERT INTO billing_metercost (id, recorded_at, organisation_id, meter_id, effective_on, unit_cost)
SELECT gen_random_uuid(), now(), organisation_id, id, '1970-01-01', unit_cost FROM billing_meter WHERE unit_cost IS NOT NULL
"""
BACK = """
UPDATE billing_meter m SET unit_cost = c.unit_cost
FROM (SELECT DISTINCT ON (meter_id) meter_id, unit_cost FROM billing_metercost ORDER BY meter_id, effective_on DESC) c
WHERE c.meter_id = m.id
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0008_usage_owed_minimum")]

    operations = [
        migrations.CreateModel(
            name="MeterCost",
            fields=[
                (
                    "id",
                    models.UUIDField(default=billing.ids.uuid7, editable=False, primary_key=True, serialize=False),
                ),
                (
                    "recorded_at",
                    models.DateTimeField(auto_now_add=True, help_text="When the row was written (wall clock)."),
                ),
                ("effective_on", models.DateField(help_text="First day it counts on.")),
                (
                    "unit_cost",
                    models.DecimalField(
                        blank=True,
                        decimal_places=12,
                        help_text="In the organisation's currency; empty: not known from then on.",
                        max_digits=24,
                        null=True,
                    ),
                ),
                (
                    "meter",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="costs", to="billing.meter"
                    ),
                ),
                (
                    "organisation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="billing.organisation"
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="metercost",
            constraint=models.UniqueConstraint(fields=("meter", "effective_on"), name="meter_cost_once"),
        ),
        migrations.RunSQL(KEEP, BACK),
        migrations.RemoveField(model_name="meter", name="unit_cost"),
    ]
