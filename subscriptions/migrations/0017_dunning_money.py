from django.db import migrations, models

import billing.models.fields

FILL = """
    UPDATE subscriptions_dunningcase AS c
    SET paid_before = greatest(i.paid - c.recovered, 0),
        recovered_by_stage = CASE WHEN c.recovered > 0
            THEN jsonb_build_object(c.stage::text, c.recovered::text) ELSE '{}'::jsonb END
    FROM invoices_invoice AS i WHERE i.id = c.invoice_id
"""


class Migration(migrations.Migration):
    dependencies = [("subscriptions", "0016_fixed_tax_basis"), ("invoices", "0004_texts")]

    operations = [
        migrations.AddField(
            model_name="dunningcase",
            name="paid_before",
            field=billing.models.fields.AmountField(decimal_places=4, default_currency=None, max_digits=19, null=True),
        ),
        migrations.AddField(
            model_name="dunningcase",
            name="recovered_by_stage",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text="The same by the stages taken when it came: {stage: amount}.",
            ),
        ),
        migrations.AddField(
            model_name="dunningcase",
            name="settled",
            field=models.JSONField(
                blank=True,
                default=list,
                help_text="Times since then in which the invoice was paid, until that was taken back: [[first day, first day after]].",
            ),
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
        migrations.RunSQL("SET CONSTRAINTS ALL IMMEDIATE", migrations.RunSQL.noop),
        migrations.AlterField(
            model_name="dunningcase",
            name="paid_before",
            field=billing.models.fields.AmountField(
                decimal_places=4, default_currency=None, help_text="What had been paid by then.", max_digits=19
            ),
        ),
        migrations.AlterField(
            model_name="dunningcase",
            name="recovered",
            field=billing.models.fields.AmountField(
                decimal_places=4,
                default_currency=None,
                help_text="Of what was claimed, what was paid since.",
                max_digits=19,
            ),
        ),
    ]
