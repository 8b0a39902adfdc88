"""What events of a subscription carry. Pure, so that the billing run can write thousands of them at once."""

import uuid
from typing import Any

from moneyed import Money

from billing import money


def subscription_payload(
    *,
    subscription_id: uuid.UUID,
    external_id: str,
    customer_id: uuid.UUID,
    plan: str,
    quantity: int,
    status: str,
    mrr: Money,
    **more: Any,
) -> dict[str, Any]:
    """Payload of ``subscription.*``; ``mrr`` is the level from now on."""
    code = mrr.currency.code
    return {
        "subscription_id": str(subscription_id),
        "external_id": external_id,
        "customer_id": str(customer_id),
        "plan": plan,
        "quantity": quantity,
        "status": status,
        "mrr": {"amount": f"{money.quantize(mrr.amount, code):f}", "currency": code},
        **more,
    }
