"""Dunning: one case for each overdue invoice, moved forward by days overdue until it is paid or given up."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import structlog
from django.db import transaction
from moneyed import Money

from billing import clock
from billing.context import Actor
from billing.errors import Conflict, DomainError
from billing.models import Organisation
from billing.services import audit, outbox
from invoices.events import text
from invoices.models import Invoice
from invoices.selectors import invoice_of
from invoices.selectors import payments_of as invoice_payments
from invoices.services import mailing, settling
from payments.models import Payment
from subscriptions import dunning_rules as rules
from subscriptions.dunning_selectors import due_cases
from subscriptions.models import DunningCase, DunningPolicy, Plan, Subscription
from subscriptions.services import lifecycle

log = structlog.get_logger(__name__)
ACTOR = Actor.system("dunning")
COLLECTABLE = (Invoice.Status.OPEN, Invoice.Status.PARTIALLY_PAID)
SERVED = (Subscription.Status.ACTIVE, Subscription.Status.PAST_DUE)
DEFAULT_CODE = "default"
NEEDS_NEW_METHOD = frozenset({"hard", "fraud"})


class UnknownPlans(DomainError):
    """A policy names plans that the organisation does not have."""

    code = "unknown_plan"
    http_status = 422
    message = "No such plan: {codes}. Name plans of this organisation by their code."


@dataclass(frozen=True, kw_only=True)
class DunningStep:
    """What one case is due for."""

    case_id: uuid.UUID
    invoice_number: str
    stage: int
    days_overdue: int
    actions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DunningReport:
    """What a run did, or for a dry run would do."""

    on: date
    dry_run: bool
    steps: tuple[DunningStep, ...]
    failures: tuple[tuple[uuid.UUID, str], ...]


@transaction.atomic
def create_policy(
    *,
    organisation: Organisation,
    code: str,
    stages: object,
    actor: Actor,
    plans: Sequence[str] = (),
    is_default: bool = False,
) -> DunningPolicy:
    """Add a policy for the plans named by code. A new default takes the place of the old one.

    Raises ``InvalidDunningPolicy`` for malformed stages and ``UnknownPlans``. Open cases keep their policy.
    """
    parsed = rules.parse_stages(stages)
    chosen = list(Plan.objects.of(organisation).filter(code__in=plans))
    if missing := sorted(set(plans) - {plan.code for plan in chosen}):
        raise UnknownPlans(codes=", ".join(missing), field="plans")
    if DunningPolicy.objects.of(organisation).filter(code=code).exists():
        raise Conflict(f"There is a dunning policy '{code}' already; choose another code.", field="code")
    if is_default:
        DunningPolicy.objects.of(organisation).filter(is_default=True).update(is_default=False)
    policy = DunningPolicy.objects.create(
        organisation=organisation,
        code=code,
        stages=[{"after_days": stage.after_days, "actions": list(stage.actions)} for stage in parsed],
        is_default=is_default,
        created_at=clock.now(organisation),
    )
    policy.plans.set(chosen)
    audit.record(
        actor=actor, action="dunning_policy.created", target=policy, after={"code": code, "stages": policy.stages}
    )
    return policy


def policy_for(*, organisation: Organisation, subscription: Subscription | None) -> DunningPolicy:
    """The policy of the subscription's plan, else the default one, which is made when it is first needed."""
    policies = DunningPolicy.objects.of(organisation)
    if subscription is not None:
        own = policies.filter(plans__versions=subscription.plan_version_id).order_by("-id").first()
        if own is not None:
            return own
    default = policies.filter(is_default=True).first()
    if default is not None:
        return default
    return policies.get_or_create(
        organisation=organisation,
        code=DEFAULT_CODE,
        defaults={"stages": rules.DEFAULT_STAGES, "is_default": True, "created_at": clock.now(organisation)},
    )[0]


@transaction.atomic
def open_case(*, invoice_id: uuid.UUID) -> DunningCase | None:
    """Begin to chase an overdue invoice; None when nothing is due any more. One invoice has one case."""
    invoice = (
        Invoice.objects.select_for_update(of=("self",), no_key=True).select_related("organisation").get(pk=invoice_id)
    )
    known = DunningCase.objects.filter(invoice=invoice).first()
    if known is not None or invoice.status not in COLLECTABLE or invoice.due_on is None:
        return known
    subscription = None
    if invoice.subscription_ref is not None:
        subscription = Subscription.objects.of(invoice.organisation).filter(pk=invoice.subscription_ref).first()
    policy = policy_for(organisation=invoice.organisation, subscription=subscription)
    case = DunningCase.objects.create(
        organisation=invoice.organisation,
        policy=policy,
        customer_id=invoice.customer_id,
        invoice=invoice,
        subscription=subscription,
        overdue_since=invoice.due_on,
        next_stage_on=rules.next_stage_on(rules.parse_stages(policy.stages), 0, invoice.due_on),
        claimed=invoice.due,
        recovered=Money(0, invoice.due.currency),
        opened_at=clock.now(invoice.organisation),
    )
    _publish("dunning.opened", case, at=case.opened_at)
    return case


def run_dunning(*, organisation: Organisation, dry_run: bool = False) -> DunningReport:
    """Take every stage that is reached today, each case in its own transaction. A dry run writes nothing.

    A case that is refused (its invoice was paid this moment, say) is reported and tried again by the next run.
    """
    at = clock.now(organisation)
    today = at.astimezone(clock.zone(organisation)).date()
    steps: list[DunningStep] = []
    failures: list[tuple[uuid.UUID, str]] = []
    for case in due_cases(organisation=organisation, on=today):
        try:
            step = _step(case, today) if dry_run else advance_case(case_id=case.pk, at=at, today=today)
        except DomainError as exc:
            log.warning("dunning.refused", case=str(case.pk), code=exc.code)
            failures.append((case.pk, str(exc)))
            continue
        except Exception as exc:  # a deadlock, or what nobody foresaw: the others go on
            log.exception("dunning.failed", case=str(case.pk))
            failures.append((case.pk, f"{type(exc).__name__}: {exc}"))
            continue
        if step is not None:
            steps.append(step)
    return DunningReport(on=today, dry_run=dry_run, steps=tuple(steps), failures=tuple(failures))


@transaction.atomic
def advance_case(*, case_id: uuid.UUID, at: datetime, today: date) -> DunningStep | None:
    """Move a case to the stage that its days overdue have reached; None when another worker was faster."""
    case = (
        DunningCase.objects.select_for_update(of=("self",), skip_locked=True)
        .select_related("organisation", "policy", "invoice", "subscription")
        .filter(pk=case_id, status=DunningCase.Status.OPEN)
        .first()
    )
    step = _step(case, today) if case is not None else None
    if case is None or step is None:
        return None
    for action in step.actions:
        _act(case, action, step)
    stages = rules.parse_stages(case.policy.stages)
    case.stage = step.stage
    case.next_stage_on = rules.next_stage_on(stages, step.stage, case.overdue_since)
    case.history = [
        *case.history,
        {
            "stage": step.stage,
            "on": today.isoformat(),
            "days_overdue": step.days_overdue,
            "actions": list(step.actions),
        },
    ]
    _publish("dunning.stage", case, at=at, stage=step.stage, days_overdue=step.days_overdue, actions=list(step.actions))
    if case.next_stage_on is None:
        case.exhaust(at=at)
        _publish("dunning.exhausted", case, at=at)
    case.save(update_fields=["stage", "next_stage_on", "history", "status", "closed_at"])
    return step


def _step(case: DunningCase, today: date) -> DunningStep | None:
    """What is due for the case as it stands; None when nothing is, or nothing is owed any more."""
    stages = rules.parse_stages(case.policy.stages)
    days = (today - case.overdue_since).days
    stage = rules.reached(stages, days)
    if stage <= case.stage or case.invoice.status not in COLLECTABLE:
        return None
    return DunningStep(
        case_id=case.pk,
        invoice_number=case.invoice.number,
        stage=stage,
        days_overdue=days,
        actions=tuple(rules.actions_between(stages, case.stage, stage)),
    )


def _act(case: DunningCase, action: str, step: DunningStep) -> None:
    """Do one action of a stage in the transaction of the case."""
    if action.startswith("mail:"):
        _write(case, kind=action.removeprefix("mail:"), step=step)
    elif action == rules.SUSPEND:
        _suspend(case)
    elif action == rules.CANCEL:
        _cancel(case)
    else:
        settling.write_off_invoice(
            invoice_id=case.invoice_id, reason=f"Unpaid for {step.days_overdue} days: dunning ended.", actor=ACTOR
        )


def _write(case: DunningCase, *, kind: str, step: DunningStep) -> None:
    asked = invoice_payments(organisation=case.organisation_id, invoice_id=case.invoice_id)
    declined = asked.values_list("decline_class", flat=True).last()
    mailing.queue_mail(
        organisation=case.organisation,
        customer_id=case.customer_id,
        kind=kind,
        key=f"dunning:{case.pk}:{step.stage}",
        invoice_id=case.invoice_id,
        context={
            "days_overdue": step.days_overdue,
            "stage": step.stage,
            "needs_new_method": declined in NEEDS_NEW_METHOD,
        },
    )


def _suspend(case: DunningCase) -> None:
    subscription = case.subscription
    if subscription is not None and subscription.status in SERVED:
        lifecycle.suspend(subscription_id=subscription.pk, actor=ACTOR)


def _cancel(case: DunningCase) -> None:
    subscription = case.subscription
    if subscription is not None and not subscription.has_ended:
        reason = f"Invoice {case.invoice.number} was not paid."
        lifecycle.cancel(subscription_id=subscription.pk, actor=ACTOR, reason=reason)


@transaction.atomic
def settle_case(*, invoice_id: uuid.UUID) -> None:
    """End the case of an invoice that is paid, void, credited in full or written off by hand."""
    case = _locked_case(invoice_id)
    if case is None:
        return
    invoice, at = case.invoice, clock.now(case.organisation_id)
    if invoice.status == Invoice.Status.PAID and invoice.paid.amount > 0:
        if case.status in (DunningCase.Status.OPEN, DunningCase.Status.EXHAUSTED):
            case.recovered = min(case.claimed, invoice.paid)
            case.recover(at=at)
            _save_closed(case)
            _publish("dunning.recovered", case, at=at, stage=case.stage, recovered=text(case.recovered))
    elif invoice.status not in COLLECTABLE and case.status == DunningCase.Status.OPEN:
        case.close(at=at)
        _save_closed(case)


@transaction.atomic
def reopen_case(*, invoice_id: uuid.UUID) -> None:
    """A payment was taken back: chase the invoice again from the stage where it was."""
    case = _locked_case(invoice_id)
    if case is None or case.status != DunningCase.Status.RECOVERED or case.invoice.status not in COLLECTABLE:
        return
    case.recovered = Money(Decimal(0), case.claimed.currency)
    case.reopen()
    case.next_stage_on = rules.next_stage_on(rules.parse_stages(case.policy.stages), case.stage, case.overdue_since)
    _save_closed(case)


@transaction.atomic
def ask_for_new_method(*, organisation_id: uuid.UUID, payment_id: uuid.UUID) -> None:
    """The bank said no for good: ask the customer for another method at once, once for each payment."""
    payment = Payment.objects.of(organisation_id).select_related("organisation").get(pk=payment_id)
    invoice = invoice_of(organisation=organisation_id, reference=payment.reference)
    if invoice is None or payment.status == Payment.Status.SUCCEEDED:
        return
    mailing.queue_mail(
        organisation=payment.organisation,
        customer_id=payment.customer_id,
        kind="new_method",
        key=f"new_method:{payment.pk}",
        invoice_id=invoice.pk,
        context={"payment_id": str(payment.pk)},
    )


def _locked_case(invoice_id: uuid.UUID) -> DunningCase | None:
    return (
        DunningCase.objects.select_for_update(of=("self",))
        .select_related("invoice", "policy")
        .filter(invoice_id=invoice_id)
        .first()
    )


def _save_closed(case: DunningCase) -> None:
    case.save(update_fields=["status", "recovered", "currency", "closed_at", "next_stage_on"])


def _publish(event_type: str, case: DunningCase, *, at: datetime, **more: Any) -> None:
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
