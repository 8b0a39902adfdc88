"""What a coupon took off is the sum of its uses in the customer's currency.

Until amounts were kept apart by currency, those in others were added to it. The uses themselves were always right, so the
sums are made of them again, in one statement; nobody writes a use meanwhile. There is nothing to undo.
"""

from django.db import migrations

LOCK = "LOCK TABLE subscriptions_couponuse IN SHARE MODE;"
REPAIR = """
UPDATE subscriptions_appliedcoupon AS applied
SET discounted = sums.own
FROM (
    SELECT one.id, COALESCE(SUM(used.amount) FILTER (WHERE used.currency = one.currency), 0) AS own
    FROM subscriptions_appliedcoupon AS one
    LEFT JOIN subscriptions_couponuse AS used ON used.applied_id = one.id
    GROUP BY one.id
) AS sums
WHERE sums.id = applied.id AND applied.discounted <> sums.own;
"""


class Migration(migrations.Migration):
    dependencies = [("subscriptions", "0019_dunning_held")]

    operations = [migrations.RunSQL([LOCK, REPAIR], migrations.RunSQL.noop)]
