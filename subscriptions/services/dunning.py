"""Dunning: one case for each overdue invoice, moved forward by days and attempts until it is paid or given up."""

import uuid
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import structlog
from django.db import transaction
from moneyed import Money

from billing import clock
from billing.errors import Conflict, DomainError
from billing.models import Organisation
from invoices.models import Invoice
from invoices.selectors import invoice_of
from invoices.services import settling
from payments.models import Payment
from subscriptions import dunning_rules as rules
from subscriptions.dunning_selectors import (
    COLLECTABLE,
    Step,
    counted_attempts,
    due_cases,
    owed_again_on,
    paused_days_of,
    step_of,
    subscriptions_billed_by,
    subscriptions_of,
)
from subscriptions.models import DunningCase, DunningPause, DunningPolicy, Subscription
from subscriptions.services import acting
from subscriptions.services import dunning_cases as cases
from subscriptions.services import dunning_measures as measures
from subscriptions.services.dunning_policies import create_policy, policy_for

__all__ = ["DunningReport", "PaidMeanwhile", "advance_case", "create_policy", "open_case", "run_dunning"]

UNFORESEEN = "It failed for a reason that nobody foresaw, which is in the log. The next run tries again."
log = structlog.get_logger(__name__)


CUTTING_DOWN = frozenset({rules.RESTRICT, rules.SUSPEND, rules.CANCEL})
ENDING_BILLING = frozenset({rules.SUSPEND, rules.CANCEL})


class PaidMeanwhile(Conflict):
    """Nobody is cut down for an invoice that was paid while the stage was taken."""

    code = "dunning_paid_meanwhile"
    message = "Invoice {number} was paid while its stage was taken; nothing was done."


class GatewayAtFault(Conflict):
    """Nobody is chased for a debit that we ourselves prevented."""

    code = "dunning_gateway_at_fault"
    message = "Not the customer's decline: {why}"


@dataclass(frozen=True, kw_only=True)
class DunningReport:
    """What a run did, or for a dry run would do."""

    on: date
    dry_run: bool
    steps: tuple[Step, ...]
    failures: tuple[tuple[uuid.UUID, str], ...]


@transaction.atomic
def open_case(*, invoice_id: uuid.UUID) -> DunningCase | None:
    """Begin to chase an overdue invoice; None when nothing is due any more. One invoice has one case."""
    invoice = (
        Invoice.objects.select_for_update(of=("self",), no_key=True).select_related("organisation").get(pk=invoice_id)
    )
    known: DunningCase | None = DunningCase.objects.filter(invoice=invoice).first()
    if known is not None or invoice.status not in COLLECTABLE or invoice.due_on is None:
        return known
    billed = list(subscriptions_billed_by(invoice)[:2])
    named = next((one for one in billed if one.pk == invoice.subscription_ref), None)
    subscription = named or (billed[0] if len(billed) == 1 else None)
    policy = policy_for(organisation=invoice.organisation, subscription=subscription or next(iter(billed), None))
    case = DunningCase(
        organisation=invoice.organisation,
        policy=policy,
        customer_id=invoice.customer_id,
        invoice=invoice,
        subscription=subscription,
        anchor=_anchor(invoice, policy, subscription, several=len(billed) > 1),
        overdue_since=invoice.due_on,
        attempts=counted_attempts(invoice),
        claimed=invoice.due,
        paid_before=invoice.paid,
        recovered=Money(0, invoice.due.currency),
        opened_at=clock.now(invoice.organisation),
    )
    if (again := owed_again_on(invoice)) is not None:
        case.settle_between(invoice.due_on, again)
    _lock_pause(invoice.customer_id)
    cases.look_ahead(case)
    case.save(force_insert=True)
    cases.publish("dunning.opened", case, at=case.opened_at)
    return case


def _anchor(invoice: Invoice, policy: DunningPolicy, subscription: Subscription | None, *, several: bool) -> uuid.UUID:
    """What the invoice is chased with: the subscription, the customer, or nothing else."""
    if policy.scope == DunningPolicy.Scope.CUSTOMER or (several and subscription is None):
        return invoice.customer_id
    return subscription.pk if subscription is not None else invoice.pk


def _lock_pause(customer_id: uuid.UUID) -> None:
    """A pause that is lifted this moment waits for us, or we for it: then the case's next day is right."""
    list(DunningPause.objects.select_for_update().filter(customer_id=customer_id, lifted_on=None))


def run_dunning(*, organisation: Organisation, dry_run: bool = False) -> DunningReport:
    """Take every stage that is reached today, each case in its own transaction. A dry run writes nothing.

    After an outage the stages that were missed are taken up to the next one that cuts off, which waits as many days as the
    policy puts between (``dunning_waits``); the case says why.

    Before a stage suspends or cancels, what was served until now is billed; where that cannot be done (its tax rate is
    missing, say), the stage is held back with the reason, for everybody to see. A case that is refused, for this or because
    its invoice was paid this moment, is reported and tried again by the next run. So is one whose debit was refused for a
    mistake of our own (``GatewayAtFault``): nobody is chased for that.
    """
    at = clock.now(organisation)
    today = at.astimezone(clock.zone(organisation)).date()
    steps: list[Step] = []
    failures: list[tuple[uuid.UUID, str]] = []
    due = list(due_cases(organisation=organisation, on=today))
    pauses = paused_days_of(case.customer_id for case in due)
    for case in due:
        try:
            foreseen = step_of(case, on=today, pauses=pauses)
            if foreseen is not None:
                _refuse_our_fault(case)
            if foreseen is not None and not dry_run:
                _bill_first(case, foreseen)
            if foreseen is None and not dry_run:
                cases.keep_waiting(case.pk, today=today)
            step = foreseen if dry_run or foreseen is None else advance_case(case_id=case.pk, at=at, today=today)
        except DomainError as exc:
            log.warning("dunning.refused", case=str(case.pk), code=exc.code)
            if not dry_run and not isinstance(exc, PaidMeanwhile):
                cases.hold_back(case, reason=str(exc))
            failures.append((case.pk, str(exc)))
            continue
        except Exception as exc:  # a deadlock, or what nobody foresaw: the others go on
            log.exception("dunning.failed", case=str(case.pk))
            if not dry_run:
                cases.hold_back(case, reason=UNFORESEEN)
            failures.append((case.pk, f"{type(exc).__name__}: {exc}"))
            continue
        if step is not None:
            steps.append(step)
    return DunningReport(on=today, dry_run=dry_run, steps=tuple(steps), failures=tuple(failures))


def _bill_first(case: DunningCase, step: Step) -> None:
    """Nothing is billed while a subscription is suspended, or once it has ended: what is due already would be lost."""
    if not ENDING_BILLING & {*step.actions}:
        return
    for one in subscriptions_of(case):
        if not one.has_ended:
            acting.bill_now(organisation=case.organisation, subscription_id=one.pk)


@transaction.atomic
def advance_case(*, case_id: uuid.UUID, at: datetime, today: date) -> Step | None:
    """Move a case to the stage that it has reached; None when another worker was faster, or it is to be left alone by now.

    Raises ``PaidMeanwhile``, and nothing is done.
    """
    case = (
        DunningCase.objects.select_for_update(of=("self",), skip_locked=True)
        .select_related("organisation", "policy", "invoice", "subscription")
        .filter(pk=case_id, status=DunningCase.Status.OPEN)
        .first()
    )
    if case is None or not due_cases(organisation=case.organisation, on=today).filter(pk=case_id).exists():
        return None
    step = step_of(case, on=today, pauses=paused_days_of([case.customer_id]))
    if step is None:
        return None
    _refuse_our_fault(case)
    done = _take(case, step)
    case.stage, case.history = step.stage, [*case.history, _noted(step, done, today)]
    cases.note_wait(case, today=today)
    cases.look_ahead(case)
    told = {"stage": step.stage, "days_overdue": step.days_overdue, "attempts": step.attempts, "actions": done}
    cases.publish("dunning.stage", case, at=at, **told)
    if step.stage == len(case.policy.stages):
        case.exhaust(at=at)
        cases.publish("dunning.exhausted", case, at=at)
    case.save()
    return step


def _take(case: DunningCase, step: Step) -> list[str]:
    """Do the step's actions; returns those that had something to be done to.

    Subscriptions are locked first, in the order of their ids, the invoice last: the house's order. So only then is it
    certain that nobody paid it in the meantime, and what was done is undone if somebody did.
    """
    cuts_down = bool({*step.actions} & CUTTING_DOWN)
    if cuts_down:
        ids = [one.pk for one in subscriptions_of(case)]
        list(Subscription.objects.select_for_update().filter(pk__in=ids).order_by("id"))
    in_order = sorted(step.actions, key=lambda action: action == rules.WRITE_OFF)
    done = {action for action in in_order if measures.act(case, action, step)}
    if cuts_down:
        _refuse_paid(case)
    return [action for action in step.actions if action in done]


def _refuse_our_fault(case: DunningCase) -> None:
    """While the last debit was refused for a mistake of ours (keys, switch, request), the case stays where it is."""
    why = measures.our_fault(case)
    if why:
        raise GatewayAtFault(why=why)


def _refuse_paid(case: DunningCase) -> None:
    found = settling.lock_invoice(case.invoice_id)
    if found.status == Invoice.Status.PAID and found.paid > case.invoice.paid:
        raise PaidMeanwhile(number=found.number)


def _noted(step: Step, done: list[str], today: date) -> dict[str, Any]:
    """A line of the case's history; what could not be done stands beside what was."""
    line: dict[str, Any] = {
        "stage": step.stage,
        "on": today.isoformat(),
        "days_overdue": step.days_overdue,
        "attempts": step.attempts,
        "actions": done,
    }
    skipped = [action for action in step.actions if action not in done]
    return line | {"skipped": skipped} if skipped else line


@transaction.atomic
def note_attempt(*, organisation_id: uuid.UUID, payment_id: uuid.UUID) -> None:
    """A debit was refused: count what was tried for its invoice, if it is chased. Safe to repeat."""
    payment = Payment.objects.of(organisation_id).get(pk=payment_id)
    invoice = invoice_of(organisation=organisation_id, reference=payment.reference)
    case = cases.locked(invoice.pk) if invoice is not None else None
    if invoice is None or case is None:
        return
    counted = counted_attempts(invoice)
    if counted > case.attempts:
        case.attempts = counted
        case.save(update_fields=["attempts"])
