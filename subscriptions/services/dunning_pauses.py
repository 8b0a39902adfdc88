"""Leaving a customer alone for a while: no letter, no measure, and the days do not count."""

import uuid
from datetime import date, timedelta

from django.db import IntegrityError, transaction

from billing import clock
from billing.context import Actor
from billing.errors import Conflict, InvalidInput, NotFound
from billing.models import Customer, Organisation
from billing.services import audit, outbox
from subscriptions.dunning_selectors import next_step_on, paused_days_of
from subscriptions.models import DunningCase, DunningPause

MAX_PAUSE = timedelta(days=366)


class AlreadyPaused(Conflict):
    code = "dunning_already_paused"
    message = "Dunning of this customer is paused until {until}; lift that pause first."


class PauseOver(Conflict):
    code = "dunning_pause_over"
    message = "The pause ended on {on} already."


@transaction.atomic
def pause(
    *, organisation: Organisation, customer_id: uuid.UUID, until: date, reason: str, actor: Actor
) -> DunningPause:
    """Leave the customer alone from today to the day ``until`` (its end); the stages wait for as many days.

    Raises ``InvalidInput`` for a day that is past or more than a year away, ``NotFound`` and ``AlreadyPaused``.
    Payments are still tried, and what was taken away stays: dunning stands still, it is not undone.
    """
    now = clock.now(organisation)
    today = now.astimezone(clock.zone(organisation)).date()
    if not today <= until <= today + MAX_PAUSE:
        raise InvalidInput(f"A pause ends from today, {today}, to a year from now.", field="until")
    if len(reason.strip()) < 3:
        raise InvalidInput("Say why, in three letters or more; it is kept.", field="reason")
    if not Customer.objects.of(organisation).filter(pk=customer_id).exists():
        raise NotFound("No such customer in this organisation.", field="customer")
    _close_ended(customer_id, today)
    made = DunningPause(
        organisation=organisation,
        customer_id=customer_id,
        starts_on=today,
        until=until,
        reason=reason.strip()[:300],
        made_by=(actor.label or actor.type)[:150],
        created_at=now,
    )
    try:
        with transaction.atomic():
            made.save(force_insert=True)
    except IntegrityError as exc:
        found = DunningPause.objects.filter(customer_id=customer_id, lifted_on=None).first()
        raise AlreadyPaused(until=found.until if found else until) from exc
    _look_ahead(customer_id)
    after = {"customer": str(customer_id), "until": until.isoformat()}
    audit.record(actor=actor, action="dunning.paused", target=made, reason=reason, after=after)
    outbox.publish("dunning.paused", made, at=now, customer_id=str(customer_id), until=until.isoformat())
    return made


@transaction.atomic
def lift(*, pause_id: uuid.UUID, actor: Actor, reason: str = "") -> DunningPause:
    """End a pause today. Raises ``PauseOver`` when it has ended."""
    found: DunningPause = DunningPause.objects.select_for_update(of=("self",)).get(pk=pause_id)
    now = clock.now(found.organisation_id)
    today = now.astimezone(clock.zone(found.organisation)).date()
    if found.lifted_on is not None or found.until < today:
        raise PauseOver(on=found.ends_before - timedelta(days=1))
    found.lifted_on = today
    found.save(update_fields=["lifted_on"])
    _look_ahead(found.customer_id)
    audit.record(actor=actor, action="dunning.pause_lifted", target=found, reason=reason)
    outbox.publish("dunning.pause_lifted", found, at=now, customer_id=str(found.customer_id))
    return found


def _close_ended(customer_id: uuid.UUID, today: date) -> None:
    """A pause whose last day is past makes room for another one."""
    for ended in DunningPause.objects.filter(customer_id=customer_id, lifted_on=None, until__lt=today):
        ended.lifted_on = ended.ends_before
        ended.save(update_fields=["lifted_on"])


def _look_ahead(customer_id: uuid.UUID) -> None:
    """Note anew when the customer's open cases are to be looked at."""
    cases = DunningCase.objects.select_for_update(of=("self",)).select_related("policy")
    mine = list(cases.filter(customer_id=customer_id, status=DunningCase.Status.OPEN).order_by("id"))
    pauses = paused_days_of([customer_id])
    for case in mine:
        case.next_stage_on = next_step_on(case, pauses=pauses)
    DunningCase.objects.bulk_update(mine, ["next_stage_on"])
