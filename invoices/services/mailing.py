"""Letters to customers: noted in the transaction of what they tell, sent later by the mail queue."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction

from billing import clock
from billing.models import Customer, Organisation
from invoices.models import Mail


@transaction.atomic
def queue_mail(
    *,
    organisation: Organisation,
    customer_id: uuid.UUID,
    kind: str,
    key: str,
    invoice_id: uuid.UUID | None = None,
    credit_note_id: uuid.UUID | None = None,
    context: Mapping[str, Any] | None = None,
    send_after: datetime | None = None,
) -> Mail:
    """Note one letter to a customer; the same ``key`` is the same letter, however often it is asked for."""
    now = clock.now(organisation)
    customer = Customer.objects.of(organisation).get(pk=customer_id)
    return Mail.objects.get_or_create(
        organisation=organisation,
        key=key,
        defaults={
            "customer": customer,
            "kind": kind,
            "invoice_id": invoice_id,
            "credit_note_id": credit_note_id,
            "recipient": customer.email,
            "context": dict(context or {}),
            "send_after": send_after or now,
            "created_at": now,
        },
    )[0]
