"""Two branches of the schema meet: prices of a whole catalogue, and what the billing run writes."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("subscriptions", "0004_billing_terms_and_drafts"),
        ("subscriptions", "0005_price_guards"),
    ]

    operations: list[object] = []
