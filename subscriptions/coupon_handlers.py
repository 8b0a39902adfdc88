"""What coupons hear: an invoice that is annulled gives back what it took."""

import uuid
from collections.abc import Sequence

from billing.models import Event
from billing.services.outbox import handles
from subscriptions.models import CouponUse
from subscriptions.services import coupon_uses


def _with_coupons(events: Sequence[Event]) -> set[int]:
    wanted = {uuid.UUID(event.payload["invoice_id"]) for event in events}
    found = set(CouponUse.objects.filter(invoice__in=wanted).values_list("invoice_id", flat=True))
    return {event.pk for event in events if uuid.UUID(event.payload["invoice_id"]) in found}


@handles("invoice.voided", consumer="subscriptions.give_coupons_back", alone=True, concerns=_with_coupons)
def give_back(event: Event) -> None:
    """A void invoice has used no coupon."""
    coupon_uses.give_back(invoice_id=uuid.UUID(event.payload["invoice_id"]))
