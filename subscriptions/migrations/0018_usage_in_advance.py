"""Usage may be charged in advance: what the columns mean is said anew. Nothing changes in the database."""

import django.db.models.deletion
from django.db import migrations, models

from billing.models.fields import AmountField

USED = "Price of the window's usage so far that is charged afterwards; of an invoice in advance: of that usage."


class Migration(migrations.Migration):
    dependencies = [("billing", "0005_usage_window_component"), ("subscriptions", "0017_dunning_money")]

    operations = [
        migrations.AlterField(
            model_name="interiminvoice",
            name="threshold",
            field=AmountField(
                currency_field_name="currency", decimal_places=4, max_digits=19,
                help_text="The amount that was passed; 0: charged in advance.",
            ),
        ),
        migrations.AlterField(
            model_name="interiminvoice",
            name="used",
            field=AmountField(currency_field_name="currency", decimal_places=4, help_text=USED, max_digits=19),
        ),
        migrations.AlterField(
            model_name="price",
            name="meter",
            field=models.ForeignKey(
                blank=True, help_text="Set: billed by usage.", null=True, on_delete=django.db.models.deletion.PROTECT,
                related_name="+", to="billing.meter",
            ),
        ),
        migrations.AlterField(
            model_name="price",
            name="pay_in_advance",
            field=models.BooleanField(
                default=True, help_text="Billed when the period begins; a metered one: soon after the usage."
            ),
        ),
    ]  # fmt: skip
