"""Thresholds at which usage is invoiced in mid-period: added, ended."""

import uuid

from django.db import transaction
from moneyed import Money

from billing import clock, money
from billing.context import Actor
from billing.errors import InvalidInput, NotFound
from billing.models import Organisation
from billing.services import audit
from subscriptions.models import Plan, Price, Subscription, UsageThreshold

MAX_THRESHOLDS = 20


@transaction.atomic
def add_threshold(
    *,
    organisation: Organisation,
    actor: Actor,
    amount: Money,
    plan_id: uuid.UUID | None = None,
    subscription_id: uuid.UUID | None = None,
    recurring: bool = False,
) -> UsageThreshold:
    """Invoice usage as soon as it costs ``amount``, for all of a plan or for one subscription (instead of its plan's).

    Raises ``NotFound`` for foreign ids, and ``InvalidInput``: not exactly one of the two, an amount that is not positive or
    not rounded, a currency without a metered price, one that is there already, too many.
    """
    if (plan_id is None) == (subscription_id is None):
        raise InvalidInput("Name a plan or a subscription, one of them.", field="plan")
    about = {"plan": _plan(organisation, plan_id), "subscription": _subscription(organisation, subscription_id)}
    _check_amount(amount)
    rows = UsageThreshold.objects.of(organisation).filter(**about, currency=amount.currency.code, ended_at=None)
    if rows.filter(amount=amount.amount).exists():
        raise InvalidInput("There is a threshold of this amount already.", field="amount")
    if rows.count() >= MAX_THRESHOLDS:
        raise InvalidInput(f"At most {MAX_THRESHOLDS} thresholds; end some.", field="amount")
    threshold = UsageThreshold.objects.create(
        organisation=organisation, amount=amount, recurring=recurring, created_at=clock.now(organisation), **about
    )
    after = {"amount": str(amount), "recurring": recurring, "of": str(threshold.plan or threshold.subscription)}
    audit.record(actor=actor, action="usage_threshold.added", target=threshold, after=after)
    return threshold


@transaction.atomic
def end_threshold(*, threshold_id: uuid.UUID, actor: Actor) -> UsageThreshold:
    """The threshold does not count any more; what it had invoiced stays. Safe to repeat."""
    threshold: UsageThreshold = UsageThreshold.objects.select_for_update().get(pk=threshold_id)
    if threshold.ended_at is None:
        threshold.ended_at = clock.now(threshold.organisation_id)
        threshold.save(update_fields=["ended_at"])
        audit.record(actor=actor, action="usage_threshold.ended", target=threshold)
    return threshold


def _check_amount(amount: Money) -> None:
    if amount.amount <= 0:
        raise InvalidInput("The amount must be more than zero.", field="amount")
    if money.quantize(amount.amount, amount.currency.code) != amount.amount:
        raise InvalidInput(f"Give an amount with at most the decimals of {amount.currency.code}.", field="amount")


def _plan(organisation: Organisation, plan_id: uuid.UUID | None) -> Plan | None:
    """The plan, locked, so that one threshold is added at a time."""
    if plan_id is None:
        return None
    plan = Plan.objects.of(organisation).select_for_update(no_key=True).filter(pk=plan_id).first()
    if plan is None:
        raise NotFound("No such plan in this organisation.", field="plan")
    if not Price.objects.of(organisation).filter(version__plan=plan, meter__isnull=False).exists():
        raise InvalidInput("The plan has no metered price; there is no usage to invoice.", field="plan")
    found: Plan = plan
    return found


def _subscription(organisation: Organisation, subscription_id: uuid.UUID | None) -> Subscription | None:
    if subscription_id is None:
        return None
    rows = Subscription.objects.of(organisation).select_for_update(no_key=True, of=("self",))
    found = rows.filter(pk=subscription_id).first()
    if found is None:
        raise NotFound("No such subscription in this organisation.", field="subscription")
    if not Price.objects.of(organisation).filter(version=found.plan_version_id, meter__isnull=False).exists():
        raise InvalidInput("Its plan has no metered price; there is no usage to invoice.", field="subscription")
    subscription: Subscription = found
    return subscription
