"""Keeping MRR: a level for each subscription event that changes it, and the customer's movements made anew from them."""

from collections import defaultdict
from decimal import Decimal
from uuid import UUID

from django.db import transaction
from moneyed import Money

from analytics import mrr
from analytics.models import MrrLevel, MrrMovement
from billing import clock
from billing.models import Customer, Event, Organisation

OVER = frozenset({"cancelled", "expired"})
NOT_YET = frozenset({"pending", "incomplete", "trialing"})


@transaction.atomic
def record_level(*, event: Event) -> MrrLevel | None:
    """Take the subscription's MRR after ``event``. Repeating an event, or news that change nothing, writes nothing."""
    payload = event.payload
    status = payload["status"]
    paid = status not in OVER | NOT_YET | {"paused"}
    amount = Decimal(payload["mrr"]["amount"]) if paid else Decimal(0)
    subscription_id, customer_id = UUID(payload["subscription_id"]), UUID(payload["customer_id"])
    Customer.objects.select_for_update(no_key=True).only("pk").get(pk=customer_id)  # one writer per customer
    last = (
        MrrLevel.objects.filter(subscription_id=subscription_id, effective_at__lte=event.occurred_at)
        .order_by("-effective_at", "-event_ref")
        .first()
    )
    if last is None and amount == 0:
        return None  # P3: a trial, or a start in the future, has no MRR
    if last is not None and last.mrr.amount == amount and (last.reason in OVER) == (status in OVER):
        return None
    level, is_new = MrrLevel.objects.get_or_create(
        subscription_id=subscription_id,
        event_ref=event.pk,
        defaults={
            "organisation_id": event.organisation_id,
            "customer_id": customer_id,
            "mrr": Money(amount, payload["mrr"]["currency"]),
            "reason": status,
            "effective_at": event.occurred_at,
        },
    )
    if is_new:
        restate_customer(organisation_id=event.organisation_id, customer_id=customer_id)
    return level


@transaction.atomic
def restate_customer(*, organisation_id: UUID, customer_id: UUID) -> int:
    """Write the customer's movements anew from its levels; returns how many there are."""
    organisation = Organisation.objects.get(pk=organisation_id)
    zone = clock.zone(organisation)
    levels: dict[str, list[mrr.Level]] = defaultdict(list)
    for row in MrrLevel.objects.filter(organisation_id=organisation_id, customer_id=customer_id):
        levels[row.mrr.currency.code].append(
            mrr.Level(
                subscription_id=row.subscription_id,
                at=row.effective_at,
                order=row.event_ref,
                mrr=row.mrr.amount,
                active=row.reason not in OVER,
            )
        )
    MrrMovement.objects.filter(organisation_id=organisation_id, customer_id=customer_id).delete()
    rows = [
        MrrMovement(
            organisation_id=organisation_id,
            customer_id=customer_id,
            kind=move.kind,
            amount=Money(move.amount, currency),
            occurred_at=move.at,
            month=move.month,
        )
        for currency, of_currency in levels.items()
        for move in mrr.movements(of_currency, zone=zone)
    ]
    MrrMovement.objects.bulk_create(rows)
    return len(rows)
