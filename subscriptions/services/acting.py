"""What a person or an application asks for, with the billing that goes with it: before, so that nothing lags, and after."""

import uuid
from datetime import datetime
from typing import Any

from django.db import transaction

from billing import clock
from billing.context import Actor
from billing.models import Organisation
from billing.services import audit
from subscriptions.models import FailedCycle, Subscription
from subscriptions.selectors import subscriptions_of
from subscriptions.services import catching_up, changing, lasting, lifecycle, plan_migrations, rows
from subscriptions.services.changing import Changed
from subscriptions.services.draft_finalizing import finalize_for
from subscriptions.services.lifecycle import Ended


def subscribe(*, organisation: Organisation, actor: Actor, **agreed: Any) -> Subscription:
    """Begin an agreement and bill what is due at once. Raises what ``create_subscription`` raises."""
    subscription = lifecycle.create_subscription(organisation=organisation, actor=actor, **agreed)
    return bill_now(organisation=organisation, subscription_id=subscription.pk)


def change(*, organisation: Organisation, subscription_id: uuid.UUID, actor: Actor, **asked: Any) -> Changed:
    """``change_subscription`` (its options in ``asked``) on an up-to-date row."""
    _settle(organisation=organisation, subscription_id=subscription_id)
    return changing.change_subscription(subscription_id=subscription_id, actor=actor, **asked)


def pause(*, organisation: Organisation, subscription_id: uuid.UUID, actor: Actor, **asked: Any) -> Ended:
    """``lifecycle.pause`` (its options in ``asked``) on an up-to-date row."""
    _settle(organisation=organisation, subscription_id=subscription_id)
    return lifecycle.pause(subscription_id=subscription_id, actor=actor, **asked)


def resume(
    *,
    organisation: Organisation,
    subscription_id: uuid.UUID,
    actor: Actor,
    on: datetime | None = None,
    reason: str = "",
) -> Subscription:
    """``lifecycle.resume``, and the bill for the rest of the running period if one is due."""
    bill_now(organisation=organisation, subscription_id=subscription_id)
    lifecycle.resume(subscription_id=subscription_id, actor=actor, on=on, reason=reason)
    return bill_now(organisation=organisation, subscription_id=subscription_id)


def reactivate(
    *, organisation: Organisation, subscription_id: uuid.UUID, actor: Actor, reason: str = ""
) -> Subscription:
    """Take up again what was suspended, or cancelled within its paid period; and the bill for what is due by that."""
    lifecycle.take_up(subscription_id=subscription_id, actor=actor, reason=reason)
    return bill_now(organisation=organisation, subscription_id=subscription_id)


def suspend(*, organisation: Organisation, subscription_id: uuid.UUID, actor: Actor, reason: str = "") -> Subscription:
    """``lifecycle.suspend`` on an up-to-date row: what is due already is billed, for nothing is while it is suspended."""
    bill_now(organisation=organisation, subscription_id=subscription_id)
    return lifecycle.suspend(subscription_id=subscription_id, actor=actor, reason=reason)


def cancel(*, organisation: Organisation, subscription_id: uuid.UUID, actor: Actor, **asked: Any) -> Ended:
    """``lifecycle.cancel`` (its options in ``asked``) on an up-to-date row."""
    _settle(organisation=organisation, subscription_id=subscription_id)
    return lifecycle.cancel(subscription_id=subscription_id, actor=actor, **asked)


def uncancel(*, organisation: Organisation, subscription_id: uuid.UUID, actor: Actor, reason: str = "") -> Subscription:
    """``lifecycle.uncancel`` on an up-to-date row: an end whose time has passed has happened, though no job came by yet."""
    bill_now(organisation=organisation, subscription_id=subscription_id)
    return lifecycle.uncancel(subscription_id=subscription_id, actor=actor, reason=reason)


def cancel_planned_change(
    *, organisation: Organisation, subscription_id: uuid.UUID, actor: Actor, **asked: Any
) -> Subscription:
    """``changing.cancel_planned_change`` (its options in ``asked``) on an up-to-date row: what was due before has happened."""
    bill_now(organisation=organisation, subscription_id=subscription_id)
    return changing.cancel_planned_change(subscription_id=subscription_id, actor=actor, **asked)


def change_end(*, organisation: Organisation, subscription_id: uuid.UUID, actor: Actor, **asked: Any) -> Ended:
    """``lasting.change_end`` (its options in ``asked``) on an up-to-date row."""
    _settle(organisation=organisation, subscription_id=subscription_id)
    return lasting.change_end(subscription_id=subscription_id, actor=actor, **asked)


def change_term(*, organisation: Organisation, subscription_id: uuid.UUID, actor: Actor, **asked: Any) -> Ended:
    """``lasting.change_term`` (what is asked in ``asked``) on an up-to-date row."""
    _settle(organisation=organisation, subscription_id=subscription_id)
    return lasting.change_term(subscription_id=subscription_id, actor=actor, **asked)


def bill_now(*, organisation: Organisation, subscription_id: uuid.UUID) -> Subscription:
    """Bring one subscription up to the present: planned things and billing moments, in turns. Returns it as it is then.

    Where it is behind, the plan migrations that are due move it first: else it would be billed at the old prices.
    """
    if catching_up.is_behind(subscriptions_of(organisation).get(pk=subscription_id), clock.now(organisation)):
        plan_migrations.settle_due_of(organisation=organisation, subscription_id=subscription_id)
    return catching_up.catch_up(organisation=organisation, subscription_id=subscription_id)


def _settle(*, organisation: Organisation, subscription_id: uuid.UUID) -> None:
    """Bring the subscription up to the present, and end the grace of its drafts: a change is weighed against invoices."""
    bill_now(organisation=organisation, subscription_id=subscription_id)
    finalize_for(organisation=organisation, subscription_id=subscription_id)


def take_up_again(
    *, organisation: Organisation, subscription_id: uuid.UUID, actor: Actor, reason: str = ""
) -> Subscription:
    """Try a subscription again that was set aside, once its cause is mended. Raises ``TransitionRefused`` when none was."""
    with transaction.atomic():
        subscription = rows.lock(subscription_id)
        if not subscription.failure:
            raise rows.refusal(subscription, "be taken up again: it was not set aside")
        audit.record(
            actor=actor,
            action="subscription.taken_up_again",
            target=subscription,
            before={"failure": subscription.failure},
            reason=reason,
        )
        subscription.failure = ""
        rows.save(subscription)
        failed = FailedCycle.objects.filter(subscription=subscription, retried_at=None)
        failed.update(retried_at=clock.now(organisation))
    return bill_now(organisation=organisation, subscription_id=subscription_id)
