"""Late usage of subscriptions that have ended: no billing run comes to them any more, so it is billed by itself."""

import uuid
from datetime import datetime

from django.db import transaction

from billing import clock
from billing.context import Actor
from billing.models import Organisation
from subscriptions.models import Subscription
from subscriptions.periods import local_date
from subscriptions.services import claims, coupon_uses, documents, late_usage, rows

ACTOR = Actor.system("subscriptions")
REASON = "Usage changed after the end of the subscription"


def settle_ended(*, organisation: Organisation) -> int:
    """Bill or credit what changed in their windows, each subscription in a transaction of its own; returns how many.

    Two queries tell which have anything to do; the others wait for their windows to change or to be over.
    """
    at = clock.now(organisation)
    ended = Subscription.objects.of(organisation).filter(status__in=rows.ENDED)
    ids = late_usage.with_work(organisation=organisation, subscription_ids=ended.values("pk"), at=at)
    return sum(_settle(organisation, one, at) for one in ids)


@transaction.atomic
def _settle(organisation: Organisation, subscription_id: uuid.UUID, at: datetime) -> bool:
    subscription = rows.locked(subscription_id, skip_locked=True)
    if subscription is None or subscription.status not in rows.ENDED:
        return False
    subject = late_usage.Subject(subscription.pk, subscription.customer_id, subscription.currency)
    found = late_usage.corrections(organisation=organisation, subjects=[subject]).get(subscription.pk, [])
    lines = [line for one in found for line in one.lines]
    reading = late_usage.Reading(subject, subscription.plan_version_id, {}, {}, {}, found)
    today = local_date(at, clock.zone(organisation))
    first_on = min((line.period_start or today for line in lines), default=today)
    book = rows.book_of(subscription)
    planned = documents.plan(
        subscription=subscription, lines=lines, claims=lambda: claims.claims_of(subscription, first_on), credit_from=first_on,
        first_on=first_on, last_on=max((line.period_end or today for line in lines), default=today), at=at,
        held=lambda: coupon_uses.in_force(subscription, at=subscription.cancelled_at or subscription.period_end or at), books=[book],
        inclusive=book.inclusive, at_price_paid=True,
    )  # fmt: skip
    issued = documents.write(subscription=subscription, documents=planned, at=at, actor=ACTOR, reason=REASON)
    invoice_id = issued.invoice.pk if issued.invoice is not None else None
    late_usage.settle(organisation=organisation, readings=[(reading, invoice_id)], at=at)
    return bool(lines)
