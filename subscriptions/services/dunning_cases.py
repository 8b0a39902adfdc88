"""A dunning case and its invoice: what was paid is noted, and who pays, is credited or written off is chased no longer."""

import uuid
from datetime import date, datetime
from typing import Any

from django.db import transaction
from moneyed import Money

from billing import clock
from billing.services import outbox
from invoices.events import text
from invoices.models import Invoice
from subscriptions import dunning_rules as rules
from subscriptions.dunning_selectors import COLLECTABLE, day_that_counts, next_step_on, paused_days_of, reach_of
from subscriptions.models import DunningCase
from subscriptions.services import dunning_measures as measures

Status = DunningCase.Status
CHANGING = [
    "status", "recovered", "recovered_by_stage", "currency", "settled", "closed_at", "next_stage_on", "next_stage_attempts",
    "held_because",
]  # fmt: skip


@transaction.atomic
def follow_invoice(*, invoice_id: uuid.UUID) -> None:
    """Bring the case of an invoice to where the invoice stands now. Safe to repeat, and in any order of the news.

    What was paid is noted by the stage at which it came. Paid, void, credited in full or written off by hand: the chase ends,
    and what its measures took away comes back, unless an older or younger debt forbids it. Due again, because a payment was
    taken back: it goes on where it was.
    """
    case = locked(invoice_id)
    if case is None:
        return
    at = clock.now(case.organisation_id)
    today = at.astimezone(clock.zone(case.organisation)).date()
    came = _note_money(case)
    ended = _end(case, at=at)
    again = not ended and _go_on(case, today=today, at=at)
    if came or ended or again:
        case.save(update_fields=CHANGING)
    if ended:
        measures.re_anchor(case, today=today)


def _note_money(case: DunningCase) -> bool:
    """What was paid since the case was opened, as far as it was claimed; whether that is another amount than before."""
    paid = case.invoice.paid - case.paid_before
    recovered = max(min(paid, case.claimed), Money(0, case.claimed.currency))
    more = recovered.amount - case.recovered.amount
    if not more:
        return False
    case.recovered = recovered
    case.recovered_by_stage = rules.with_money(case.recovered_by_stage, stage=case.stage, amount=more)
    return True


def _end(case: DunningCase, *, at: datetime) -> bool:
    """End the case if nothing is to be had any more; whether it was ended now."""
    invoice, status = case.invoice, case.status
    if invoice.status == Invoice.Status.PAID and case.recovered.amount > 0:
        if status not in (Status.OPEN, Status.EXHAUSTED):
            return False
        case.recover(at=at)
        publish("dunning.recovered", case, at=at, stage=case.stage, recovered=text(case.recovered))
        return True
    if invoice.status == Invoice.Status.UNCOLLECTIBLE:
        if status != Status.OPEN:
            return False
        case.exhaust(at=at)
        publish("dunning.exhausted", case, at=at)
        return True
    if invoice.status not in COLLECTABLE and status in (Status.OPEN, Status.EXHAUSTED):
        case.close(at=at)
        return True
    return False


def _go_on(case: DunningCase, *, today: date, at: datetime) -> bool:
    """The invoice is due again: a payment was taken back, or a part of what a person wrote off was paid after all.

    Chase it from the stage where the case was. Where none is left it is given up, with what the last stage wrote off.
    """
    if case.invoice.status not in COLLECTABLE or case.status not in (Status.RECOVERED, Status.EXHAUSTED):
        return False
    at_the_end = case.stage == len(case.policy.stages)
    if case.status == Status.EXHAUSTED and at_the_end:
        measures.give_up_again(case)
        return False
    assert case.closed_at is not None
    over_on = case.closed_at.astimezone(clock.zone(case.organisation)).date()
    case.reopen(over_on=over_on, on=today)
    look_ahead(case)
    if at_the_end:
        measures.give_up_again(case)
        case.exhaust(at=at)
        publish("dunning.exhausted", case, at=at)
    return True


def locked(invoice_id: uuid.UUID) -> DunningCase | None:
    """The case of an invoice, locked; None when it is not chased."""
    return (
        DunningCase.objects.select_for_update(of=("self",))
        .select_related("organisation", "invoice", "policy")
        .filter(invoice_id=invoice_id)
        .first()
    )


def hold_back(case: DunningCase, *, reason: str) -> None:
    """Note why the stage that the case has reached was not taken; taking it forgets the reason.

    Not where another worker has taken it since ``case`` was read: then nothing is held back.
    """
    seen = DunningCase.objects.filter(pk=case.pk, status=Status.OPEN, stage=case.stage)
    seen.update(held_because=reason[:300])


def note_wait(case: DunningCase, *, today: date) -> None:
    """Say on the case why a stage that it has reached waits, if one does; the caller saves it."""
    pauses = paused_days_of([case.customer_id])
    found = reach_of(case, on=today, pauses=pauses)
    case.held_because = ""
    if found.waiting and found.not_before is None:
        case.held_because = f"Stage {found.waiting} waits until a letter before it has been sent."
    elif found.waiting and found.not_before is not None:
        until = day_that_counts(case, found.not_before, pauses=pauses)
        case.held_because = (
            f"Stage {found.waiting} comes on {until} at the earliest: what goes before it was late, and the customer is given "
            f"the days that the policy puts between."
        )


@transaction.atomic
def keep_waiting(case_id: uuid.UUID, *, today: date) -> None:
    """Note why a case that was looked at today takes no stage, and when it is to be looked at next."""
    case = (
        DunningCase.objects.select_for_update(of=("self",))
        .select_related("policy", "organisation", "invoice")
        .get(pk=case_id)
    )
    if case.status == Status.OPEN:
        note_wait(case, today=today)
        look_ahead(case)
        case.save(update_fields=["held_because", "next_stage_on", "next_stage_attempts"])


def look_ahead(case: DunningCase) -> None:
    """Note when the case is to be looked at next; the caller saves it."""
    case.next_stage_on = next_step_on(case, pauses=paused_days_of([case.customer_id]))
    case.next_stage_attempts = rules.next_attempts(rules.parse_stages(case.policy.stages), case.stage)


def publish(event_type: str, case: DunningCase, *, at: datetime, **more: Any) -> None:
    """Tell the house about a case."""
    outbox.publish(
        event_type,
        case,
        at=at,
        case_id=str(case.pk),
        invoice_id=str(case.invoice_id),
        customer_id=str(case.customer_id),
        subscription_id=str(case.subscription_id) if case.subscription_id else None,
        amount=text(case.claimed),
        currency=case.claimed.currency.code,
        **more,
    )
