"""What would be billed, without writing anything: by the same code that bills.

Drafts in their grace are shown as they will be issued (``draft_foreseeing``). A preview takes a copy of the row, does to it what
is asked on a ``Sketch`` (a desk that keeps documents in memory) and walks its time line: planned things by
``changes.apply_next``, billing moments by the billing run's ``Cycles``, plan migrations that are decided by ``MigrationsAhead``.
Usage counts as far as it is measured now, and a first invoice that is waited for counts as paid; everything else equals, to the
cent, what then happens.
"""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from billing import clock
from billing.errors import NotFound
from billing.models import Organisation
from subscriptions.models import PlanVersion, Subscription
from subscriptions.selectors import subscriptions_of
from subscriptions.services import (
    activation,
    add_ons,
    agreements,
    catching_up,
    changes,
    changing,
    ending,
    interim,
    lasting,
    lifecycle,
    moments,
    rows,
)
from subscriptions.services.agreements import Agreement
from subscriptions.services.interim_lines import foresee
from subscriptions.services.plan_migrations_ahead import MigrationsAhead, migrations_for
from subscriptions.services.rows import Status
from subscriptions.services.sketch import Preview, Sketch

__all__ = ["ACTIONS", "Preview", "preview_action", "preview_change", "preview_new"]
MAX_DOCUMENTS = 48
MAX_STEPS = 400


def preview_new(*, organisation: Organisation, agreement: Agreement, count: int = 2) -> Preview:
    """The invoices of a new subscription: all that are due at once, and the next ones up to ``count`` in all.

    Raises what ``create_subscription`` raises.
    """
    now = clock.now(organisation)
    sketch = Sketch(organisation=organisation, now=now, is_new=True)
    subscription = agreements.drafted(organisation=organisation, agreement=agreement, now=now)
    sketch.tell("created", subscription, at=now)
    if subscription.started_at <= now:
        activation.start(subscription, sketch, at=subscription.started_at, seen=now)
    _walk(subscription, sketch, now=now, count=count, ahead=migrations_for(subscription, now=now, is_new=True))
    return sketch.found()


ACTIONS: Mapping[str, Any] = {
    "change": changing.change_row,
    "add_ons": add_ons.set_add_ons_row,
    "cancel_change": changing.cancel_planned_row,
    "pause": lifecycle.pause_row,
    "resume": lifecycle.resume_row,
    "suspend": lifecycle.suspend_row,
    "cancel": ending.cancel_row,
    "uncancel": ending.uncancel_row,
    "change_end": lasting.change_end_row,
    "change_term": lasting.change_term_row,
    "reactivate": lifecycle.take_up_row,
    "recover": lifecycle.recover_row,
}


def preview_action(
    *, organisation: Organisation, subscription_id: uuid.UUID, action: str = "", count: int = 1, **options: Any
) -> Preview:
    """What an action (a name of ``ACTIONS``, with its options) would issue now, and after it the next ``count`` invoices.

    Without an action, the coming invoices alone. What is due already comes first, as it would. Raises what the action raises.
    """
    now = clock.now(organisation)
    subscription = subscriptions_of(organisation).filter(pk=subscription_id).first()
    if subscription is None:
        raise NotFound("No such subscription in this organisation.", field="subscription")
    subscription.organisation = organisation
    sketch, ahead = Sketch(organisation=organisation, now=now), migrations_for(subscription, now=now)
    if action:
        if not subscription.failure and catching_up.is_behind(subscription, now):
            _walk(subscription, sketch, now=now, count=0, ahead=ahead)
        ACTIONS[action](subscription, sketch, **options)
    issued = len(sketch.invoices) if action else 0
    _walk(subscription, sketch, now=now, count=0, ahead=ahead)
    _foresee(subscription, sketch)
    _walk(subscription, sketch, now=now, count=issued + count, ahead=ahead)
    sketch.pass_grace(subscription, before=None, now=now)
    return sketch.found()


def preview_change(
    *,
    organisation: Organisation,
    subscription_id: uuid.UUID,
    version: PlanVersion | None = None,
    quantity: int | None = None,
    count: int = 1,
    **options: Any,
) -> Preview:
    """``preview_action`` of a change of terms; without new ones, the coming invoices alone."""
    if version is None and quantity is None:
        return preview_action(organisation=organisation, subscription_id=subscription_id, count=count)
    return preview_action(
        organisation=organisation, subscription_id=subscription_id, action="change", count=count, version=version,
        quantity=quantity, **options,
    )  # fmt: skip


def _walk(subscription: Subscription, sketch: Sketch, *, now: datetime, count: int, ahead: MigrationsAhead) -> None:
    """Move the row on in memory until ``count`` invoices are found, and past everything that is due at ``now``."""
    for _ in range(MAX_STEPS):
        if subscription.status == Status.INCOMPLETE and sketch.invoices:
            activation.complete(subscription, sketch, at=sketch.now)
        at = _next_at(subscription, sketch)
        moved_at = ahead.next_at(subscription, at)
        at = moved_at or at
        if at is None or (at > now and len(sketch.invoices) >= count) or len(sketch.invoices) >= MAX_DOCUMENTS:
            break
        held = _held_at(subscription, sketch)
        sketch.now = max(at if held is None else min(at, held), now)
        sketch.pass_grace(subscription, before=sketch.now, now=now)
        sketch.amend_coupons(subscription, before=sketch.now)
        if held is not None and held < at:
            sketch.held_back = None
            _foresee(subscription, sketch)
        elif moved_at is not None:
            ahead.carry_out(subscription, sketch)
        elif changes.is_due(subscription, at):
            changes.apply_next(subscription, sketch)
            if sketch.now > now:  # what is due now, others look at afterwards
                _foresee(subscription, sketch)
        else:
            _bill(subscription, sketch, now=now)
    sketch.now = now


def _foresee(subscription: Subscription, sketch: Sketch) -> None:
    """Usage so far that is about to be invoiced before the period's end: charged in advance, or past a threshold.

    What is charged in advance may have to wait, because some of it was invoiced not long ago.
    """
    since = subscription.usage_from
    if since is None:
        return
    found = interim.foreseen(subscription, at=sketch.now, coupons=sketch.coupons)
    if found is not None:
        draft, lines, before = found
        sketch.note_interim(since, draft)
        foresee(subscription, lines, before=before)
    elif (until := interim.held_until(subscription)) is not None and until > sketch.now:
        sketch.held_back = since, until


def _held_at(subscription: Subscription, sketch: Sketch) -> datetime | None:
    """When usage that is held back may be invoiced, as long as its window is the present one."""
    since, until = sketch.held_back or (None, None)
    return until if since == subscription.usage_from else None


def _next_at(subscription: Subscription, sketch: Sketch) -> datetime | None:
    """When the next thing happens: a planned one, or a billing moment."""
    subscription.next_change_at = rows.next_change_at(subscription, sketch.planned(subscription))
    billed = subscription.status in (*rows.LIVE, Status.INCOMPLETE)
    times = (subscription.next_change_at, subscription.next_billing_at if billed else None)
    return min((at for at in times if at is not None), default=None)


def _bill(subscription: Subscription, sketch: Sketch, *, now: datetime) -> None:
    """Price one billing moment as it is issued, at once or when its grace ends, and move the row to the next."""
    issued_at = moments.issued_at(subscription, at=sketch.now)
    sketch.pass_grace(subscription, before=issued_at, now=now)  # what these drafts bill, it does not
    cycle = moments.cycle_of(subscription, at=issued_at, coupons=sketch.coupons)
    renews = subscription.period_start is not None
    at = cycle.moment.at
    moments.move_past(subscription, cycle)
    sketch.note_cycle(cycle, issued_at=issued_at)
    if renews:
        sketch.tell("renewed", subscription, at=at)
