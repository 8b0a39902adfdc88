"""Failed cycles taken up again, once their cause is mended: one by one, or all of a run."""

import uuid

from django.db import transaction

from billing import clock
from billing.context import Actor
from billing.errors import NotFound
from billing.models import Organisation
from billing.services import audit
from subscriptions.errors import NothingToRetry
from subscriptions.models import BillingRun, FailedCycle, Subscription
from subscriptions.services import acting
from subscriptions.services.billing_run import start_run


def retry_cycle(*, organisation: Organisation, cycle_id: uuid.UUID, actor: Actor, reason: str = "") -> Subscription:
    """Bill the subscription of a failed cycle now. Its ``failure`` is empty afterwards, or says why it failed again.

    Raises ``NotFound`` and, where it is not set aside any more, ``NothingToRetry``.
    """
    cycle = FailedCycle.objects.of(organisation).filter(pk=cycle_id).select_related("subscription").first()
    if cycle is None:
        raise NotFound("No such failed cycle in this organisation.")
    if cycle.retried_at is not None or not cycle.subscription.failure:
        raise NothingToRetry
    return acting.take_up_again(
        organisation=organisation, subscription_id=cycle.subscription_id, actor=actor, reason=reason
    )


@transaction.atomic
def retry_run(*, organisation: Organisation, run_id: uuid.UUID, actor: Actor, reason: str = "") -> BillingRun:
    """Clear everything that a run set aside, and start a run that bills it; a worker takes it up.

    Raises ``NotFound`` and ``NothingToRetry``.
    """
    run = BillingRun.objects.of(organisation).filter(pk=run_id).first()
    if run is None:
        raise NotFound("No such billing run in this organisation.")
    failed = FailedCycle.objects.filter(run=run, retried_at=None).values("subscription")
    rows = Subscription.objects.of(organisation).filter(pk__in=failed).exclude(failure="").order_by("pk")
    locked = list(rows.select_for_update(no_key=True).values_list("pk", flat=True))
    if not locked:
        raise NothingToRetry
    now = clock.now(organisation)
    Subscription.objects.filter(pk__in=locked).update(failure="")
    FailedCycle.objects.filter(subscription__in=locked, retried_at=None).update(retried_at=now)
    audit.record(
        actor=actor, action="billing_run.retried", target=run, reason=reason, after={"subscriptions": len(locked)}
    )
    return start_run(organisation=organisation, actor=actor)
