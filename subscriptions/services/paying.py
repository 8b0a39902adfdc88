"""How a running subscription is paid, and what is noted on it: changed for the invoices that come."""

import uuid
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from billing.context import Actor
from billing.errors import NotFound
from billing.models import Organisation
from payments.models import PaymentMethod
from subscriptions.errors import InvalidSubscription
from subscriptions.models import Subscription
from subscriptions.services import rows
from subscriptions.services.desk import Desk

CHANGEABLE = ("method_id", "collect_automatically", "net_days", "metadata")
MAX_NET_DAYS = 365


@transaction.atomic
def change_payment(
    *, subscription_id: uuid.UUID, actor: Actor, changes: Mapping[str, Any], reason: str = ""
) -> Subscription:
    """Change payment method (None: the customer's default), collection, net days or metadata (``CHANGEABLE``).

    It holds for invoices that are made from now on: issued ones, and drafts in their grace, keep what they were made with.
    Raises ``TransitionRefused`` for one that has ended, ``NotFound`` for another's method, ``InvalidSubscription``.
    """
    subscription = rows.lock(subscription_id)
    if subscription.has_ended:
        raise rows.refusal(subscription, "be changed")
    if unknown := sorted(changes.keys() - {*CHANGEABLE}):
        raise InvalidSubscription(f"'{unknown[0]}' is not changed here.", field=unknown[0])
    if "method_id" in changes:
        require_method(subscription.organisation, customer_id=subscription.customer_id, method_id=changes["method_id"])
    require_net_days(changes.get("net_days", 0))
    before = {name: getattr(subscription, name) for name in CHANGEABLE}
    changed = {name: value for name, value in changes.items() if value != before[name]}
    if changed:
        for name, value in changed.items():
            setattr(subscription, name, value)
        rows.save(subscription)
        desk = Desk(organisation=subscription.organisation, actor=actor)
        was = {name: _plain(before[name]) for name in changed}
        becomes = {name: _plain(value) for name, value in changed.items()}
        desk.record("payment_changed", subscription, reason=reason, before=was, after=becomes)
    return subscription


def require_method(organisation: Organisation, *, customer_id: uuid.UUID, method_id: uuid.UUID | None) -> None:
    """Raise ``NotFound`` unless the method is the customer's; None is none of them in particular."""
    if method_id is None:
        return
    if not PaymentMethod.objects.of(organisation).filter(pk=method_id, customer_id=customer_id).exists():
        raise NotFound("No such payment method of this customer.", field="payment_method")


def require_net_days(days: int) -> None:
    """Raise ``InvalidSubscription`` for a number of days that an invoice cannot have."""
    if not 0 <= days <= MAX_NET_DAYS:
        raise InvalidSubscription(f"net_days is 0 to {MAX_NET_DAYS}.", field="net_days")


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, uuid.UUID) else value
