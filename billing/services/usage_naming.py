"""Customers with several subscriptions on one meter: their events have to say which one they were used on."""

import uuid

from billing.models import UsageNaming


def require_naming(
    *, organisation_id: uuid.UUID, customer_id: uuid.UUID, meter_id: uuid.UUID, first_ref: uuid.UUID
) -> UsageNaming:
    """From now on events of this customer on this meter name a subscription; the ones that do not are ``first_ref``'s.

    Said once: who was first stays first.
    """
    naming, _ = UsageNaming.objects.get_or_create(
        customer_id=customer_id,
        meter_id=meter_id,
        defaults={"organisation_id": organisation_id, "first_ref": first_ref},
    )
    return naming
