"""What a stage of dunning does: letters, texts, another debit, and cutting a customer's service down and up again."""

import uuid
from collections.abc import Callable
from datetime import date

from django.db import transaction

from billing import clock
from billing.context import Actor
from billing.services import audit
from invoices.models import Invoice
from invoices.selectors import invoice_of
from invoices.selectors import payments_of as invoice_payments
from invoices.services import mailing, settling, texting
from payments.models import Payment
from payments.services import collection, misconfigured
from subscriptions import dunning_rules as rules
from subscriptions.dunning_selectors import COLLECTABLE, Step, held_measures, subscriptions_of, taken_measures
from subscriptions.models import DunningCase, Subscription
from subscriptions.services import lifecycle, rows

ACTOR = Actor.system("dunning")
SERVED = (Subscription.Status.ACTIVE, Subscription.Status.PAST_DUE)
TROUBLED = (Subscription.Status.PAST_DUE, Subscription.Status.SUSPENDED)
NEEDS_NEW_METHOD = frozenset({"hard", "fraud"})


def act(case: DunningCase, action: str, step: Step) -> bool:
    """Do one action of a stage in the transaction of the case; False where there was nothing to do it to."""
    channel, _, kind = action.partition(":")
    if kind:
        return _write(case, kind=kind, step=step) if channel == "mail" else _text(case, kind=kind, step=step)
    return MEASURES[action](case, step)


def _last_decline(case: DunningCase) -> str:
    asked = invoice_payments(organisation=case.organisation_id, invoice_id=case.invoice_id)
    return asked.values_list("decline_class", flat=True).last() or ""


def our_fault(case: DunningCase) -> str:
    """Why a debit for the case's invoice cannot be made, where that is a mistake of ours; else nothing."""
    last = invoice_payments(organisation=case.organisation_id, invoice_id=case.invoice_id).last()
    return misconfigured.our_fault(last) if last is not None else ""


def _write(case: DunningCase, *, kind: str, step: Step) -> bool:
    mailing.queue_mail(
        organisation=case.organisation,
        customer_id=case.customer_id,
        kind=kind,
        key=f"dunning:{case.pk}:{step.stage}",
        invoice_id=case.invoice_id,
        context={
            "days_overdue": step.days_overdue,
            "stage": step.stage,
            "needs_new_method": _last_decline(case) in NEEDS_NEW_METHOD,
        },
    )
    return True


def _text(case: DunningCase, *, kind: str, step: Step) -> bool:
    texting.queue_text(
        organisation=case.organisation,
        customer_id=case.customer_id,
        kind=kind,
        key=f"dunning:{case.pk}:{step.stage}",
        invoice_id=case.invoice_id,
    )
    return True


def _retry(case: DunningCase, step: Step) -> bool:
    """Another debit now, unless the bank refused for good: then only a new method helps, and no try is burnt."""
    if _last_decline(case) in NEEDS_NEW_METHOD:
        return False
    asked = invoice_payments(organisation=case.organisation_id, invoice_id=case.invoice_id)
    payment_id = asked.values_list("pk", flat=True).last()
    return payment_id is not None and collection.make_due(payment_id=payment_id, actor=ACTOR)


def _restrict(case: DunningCase, step: Step) -> bool:
    cut = [_cut(subscription, case) for subscription in subscriptions_of(case) if not subscription.has_ended]
    return any(cut)


def _cut(subscription: Subscription, case: DunningCase) -> bool:
    locked = rows.lock(subscription.pk)
    if locked.restricted_at is not None:
        return False
    at = clock.now(locked.organisation_id)
    locked.restricted_at = at
    rows.save(locked)
    reason = f"Invoice {case.invoice.number} is not paid."
    audit.record(actor=ACTOR, action="subscription.restricted", target=locked, reason=reason)
    rows.publish("restricted", locked, at=at)
    return True


def _suspend(case: DunningCase, step: Step) -> bool:
    served = [one for one in subscriptions_of(case) if one.status in SERVED]
    for subscription in served:
        lifecycle.suspend(subscription_id=subscription.pk, actor=ACTOR)
    return bool(served)


def _cancel(case: DunningCase, step: Step) -> bool:
    running = [one for one in subscriptions_of(case) if not one.has_ended]
    for subscription in running:
        reason = f"Invoice {case.invoice.number} was not paid."
        lifecycle.cancel(subscription_id=subscription.pk, actor=ACTOR, reason=reason)
    return bool(running)


def _write_off(case: DunningCase, step: Step) -> bool:
    """The loss is accepted; nothing is left to write off where ending the subscription credited the invoice in full."""
    if settling.lock_invoice(case.invoice_id).status not in COLLECTABLE:
        return False
    settling.write_off_invoice(
        invoice_id=case.invoice_id, reason=f"Unpaid for {step.days_overdue} days: dunning ended.", actor=ACTOR
    )
    return True


def give_up_again(case: DunningCase) -> None:
    """Dunning had ended, and the invoice is due again: what the last stage wrote off is written off again, as far as it is due.

    Money that came after the write-off took all of it back; it was for a part, or it was taken back itself.
    """
    if rules.WRITE_OFF in rules.parse_stages(case.policy.stages)[-1].actions:
        reason = "Dunning had ended; the rest is not expected any more."
        settling.write_off_invoice(invoice_id=case.invoice_id, reason=reason, actor=ACTOR)


MEASURES: dict[str, Callable[[DunningCase, Step], bool]] = {
    rules.RETRY: _retry,
    rules.RESTRICT: _restrict,
    rules.SUSPEND: _suspend,
    rules.CANCEL: _cancel,
    rules.WRITE_OFF: _write_off,
}


# --- when the debt is gone, or a younger one takes its place ----------------------------------------
@transaction.atomic
def re_anchor(case: DunningCase, *, today: date) -> None:
    """A case ended: what its measures took away comes back, as far as no other debt of the subscription forbids it.

    The oldest debt that is left decides, by its own days and attempts: a customer who paid the debt of a month ago is
    not kept suspended for one of yesterday.
    """
    for subscription in subscriptions_of(case):
        if subscription.status in TROUBLED or subscription.restricted_at is not None:
            _relieve(subscription, today=today)


def _relieve(subscription: Subscription, *, today: date) -> None:
    held, taken = held_measures(subscription, on=today), taken_measures(subscription)
    locked = rows.lock(subscription.pk)
    if locked.restricted_at is not None and rules.RESTRICT not in held:
        _restore(locked)
    owes = rows.has_overdue(locked)
    if locked.status == Subscription.Status.SUSPENDED and rules.SUSPEND in taken - held:
        lifecycle.recover(subscription_id=locked.pk, actor=ACTOR)
        if owes:
            lifecycle.fall_behind(subscription_id=locked.pk)
    elif locked.status == Subscription.Status.PAST_DUE and not owes:
        lifecycle.recover(subscription_id=locked.pk, actor=ACTOR)


def _restore(subscription: Subscription) -> None:
    at = clock.now(subscription.organisation_id)
    subscription.restricted_at = None
    rows.save(subscription)
    audit.record(actor=ACTOR, action="subscription.unrestricted", target=subscription)
    rows.publish("unrestricted", subscription, at=at)


# --- a refusal for good ----------------------------------------------------------------------------
@transaction.atomic
def ask_for_new_method(*, organisation_id: uuid.UUID, payment_id: uuid.UUID) -> None:
    """The bank said no for good: ask the customer for another method at once, once for each payment."""
    payment = Payment.objects.of(organisation_id).select_related("organisation").get(pk=payment_id)
    invoice: Invoice | None = invoice_of(organisation=organisation_id, reference=payment.reference)
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
