"""The life of a subscription: begin, pause, resume, suspend, recover, cancel, expire.

While paused or suspended nothing is billed. Billing resumes with the rest of the period that is running then, by the day,
and keeps the anchor: the customer's billing day stays what it was. A period already paid for stays paid. Ending bills the
usage that is not billed yet; cancelling now may credit the days after today.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction

from billing import clock
from billing.context import Actor
from billing.errors import NotFound
from billing.models import Beneficiary, Customer, Organisation
from billing.services import audit
from invoices.drafts import LineInput
from payments.models import PaymentMethod
from subscriptions.errors import ChangePlanned, ExternalIdTaken, InvalidSubscription
from subscriptions.models import BilledPeriod, Plan, PlanVersion, Subscription
from subscriptions.periods import local_date, start_of_day
from subscriptions.services import catalog, changing, documents, rows
from subscriptions.services.documents import Documents, Issued
from subscriptions.services.rows import Status
from subscriptions.switching import Terms, unused_lines

BACK_DATED_AT_MOST = timedelta(days=3 * 366)
AHEAD_AT_MOST = timedelta(days=5 * 366)
LASTS_AT_MOST = timedelta(days=50 * 366)
NONE, PRORATED = "none", "prorated"
_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What a new subscription agrees on; times are instants, ``anchor_on`` a local day on or before the first charge."""

    customer_id: uuid.UUID
    plan_id: uuid.UUID
    currency: str = ""
    quantity: int = 1
    add_ons: Mapping[str, int] = field(default_factory=dict)
    external_id: str = ""
    start_at: datetime | None = None
    trial_days: int | None = None
    ends_at: datetime | None = None
    anchor_on: date | None = None
    beneficiary_id: uuid.UUID | None = None
    method_id: uuid.UUID | None = None
    collect_automatically: bool = True
    net_days: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The subscription after a pause or an end, and what was issued by it."""

    subscription: Subscription
    issued: Issued = field(default_factory=Issued)


def create_subscription(*, organisation: Organisation, actor: Actor, **agreed: Any) -> Subscription:
    """Begin an agreement (fields of ``Agreement``) now, in the future or in the past, with a trial or without.

    It takes the plan version that is effective at its start. What is due is billed by the billing run, all periods of a
    back-dated one included. Raises ``PlanUnavailable``, ``MissingPrice``, ``ExternalIdTaken``, ``InvalidSubscription``.
    """
    return begin(organisation=organisation, actor=actor, agreement=Agreement(**agreed))


@transaction.atomic
def begin(*, organisation: Organisation, actor: Actor, agreement: Agreement) -> Subscription:
    """Write the subscription that was agreed on, and everything that has happened to it until now."""
    now = clock.now(organisation)
    customers = Customer.objects.of(organisation).select_for_update(no_key=True)
    customers.filter(pk=agreement.customer_id).first()  # of two that begin at once on one meter, one is refused
    subscription = drafted(organisation=organisation, agreement=agreement, now=now)
    subscription.next_change_at = rows.next_change_at(subscription, None)
    try:
        with transaction.atomic():
            subscription.save(force_insert=True)
    except IntegrityError as exc:
        if "subscription_external_id" not in str(exc):
            raise
        raise ExternalIdTaken(external_id=subscription.external_id, field="external_id") from exc
    rows.publish("created", subscription, at=now)
    if subscription.status != Status.PENDING and subscription.trial_ends_at:
        rows.publish("trial_started", subscription, at=subscription.started_at)
    if subscription.status == Status.ACTIVE:
        rows.publish("activated", subscription, at=subscription.next_billing_at or now)
    audit.record(
        actor=actor, action="subscription.created", target=subscription,
        after={"plan": subscription.plan_version.plan.code, "quantity": subscription.quantity, "currency": subscription.currency},
    )  # fmt: skip
    return subscription


def drafted(*, organisation: Organisation, agreement: Agreement, now: datetime) -> Subscription:
    """The checked row of a new subscription, as it stands now; not saved. The preview prices it."""
    start_at = agreement.start_at or now
    _check_times(agreement, start_at, now)
    if not 1 <= agreement.quantity <= changing.MAX_QUANTITY:
        raise InvalidSubscription(f"The quantity is 1 to {changing.MAX_QUANTITY}.", field="quantity")
    customer, version = _customer(organisation, agreement), _version(organisation, agreement, start_at)
    zone = clock.zone(organisation)
    trial_days = version.plan.trial_days if agreement.trial_days is None else agreement.trial_days
    trial_ends_at = None
    if trial_days:
        trial_ends_at = start_of_day(local_date(start_at, zone) + timedelta(days=trial_days), zone)
    billed_from = trial_ends_at or start_at
    subscription = Subscription(
        organisation=organisation,
        customer=customer,
        external_id=agreement.external_id or f"sub_{uuid.uuid4().hex[:16]}",
        plan_version=version,
        currency=agreement.currency or customer.currency,
        quantity=agreement.quantity,
        add_ons={code: quantity for code, quantity in agreement.add_ons.items() if quantity},
        beneficiary_id=_beneficiary_id(organisation, agreement),
        method_id=_method_id(organisation, agreement),
        collect_automatically=agreement.collect_automatically,
        net_days=agreement.net_days,
        started_at=start_at,
        trial_ends_at=trial_ends_at,
        anchor_on=_anchor(agreement, local_date(billed_from, zone)),
        next_billing_at=billed_from,
        ends_at=agreement.ends_at,
        metadata=agreement.metadata,
        created_at=now,
    )
    rows.book_of(subscription)  # refuses a plan without a price in the currency, and add-ons it does not offer
    rows.refuse_taken_meters(subscription, version, since=start_at)
    if start_at <= now:
        if trial_ends_at is not None and trial_ends_at > now:
            subscription.start_trial()
        else:
            activate(subscription, at=billed_from)
    return subscription


def activate(subscription: Subscription, *, at: datetime) -> None:
    """From ``at`` on the subscription is paid for and its usage counts; the caller saves it."""
    subscription.activate()
    subscription.usage_from = at


@transaction.atomic
def pause(*, subscription_id: uuid.UUID, actor: Actor, resume_at: datetime | None = None, reason: str = "") -> Ended:
    """Bill nothing from now on, until ``resume`` or ``resume_at``. The paid period is not credited; usage is billed up to now."""
    subscription = rows.lock(subscription_id)
    now = clock.now(subscription.organisation_id)
    if resume_at is not None and not now < resume_at <= now + AHEAD_AT_MOST:
        raise InvalidSubscription("resume_at must be in the future, at most five years ahead.", field="resume_at")
    with rows.refusing(subscription, "be paused"):
        subscription.pause(at=now, resume_at=resume_at)
    planned = plan_end(subscription=subscription, until=now, at=now, credit=False)
    issued = _write_end(subscription, planned, until=now, at=now, actor=actor, reason=reason or "Pause")
    subscription.usage_from = subscription.usage_version = subscription.next_billing_at = None
    subscription.earlier_terms = []
    rows.save(subscription)
    audit.record(
        actor=actor, action="subscription.paused", target=subscription, reason=reason,
        after={"resume_at": resume_at.isoformat() if resume_at else None},
    )  # fmt: skip
    rows.publish("paused", subscription, at=now)
    return Ended(subscription=subscription, issued=issued)


@transaction.atomic
def resume(*, subscription_id: uuid.UUID, actor: Actor, at: datetime | None = None, reason: str = "") -> Subscription:
    """Bill again: from the end of the paid period, or at once for the rest of the running one."""
    subscription = rows.lock(subscription_id)
    resume_locked(subscription, at=at or clock.now(subscription.organisation_id))
    rows.save(subscription)
    audit.record(actor=actor, action="subscription.resumed", target=subscription, reason=reason)
    return subscription


def resume_locked(subscription: Subscription, *, at: datetime) -> None:
    """Resume a locked row at ``at``; the caller saves it."""
    with rows.refusing(subscription, "be resumed"):
        subscription.resume()
    subscription.usage_from = at
    subscription.next_billing_at = _billed_again_at(subscription, at)
    rows.publish("resumed", subscription, at=at)


@transaction.atomic
def suspend(*, subscription_id: uuid.UUID, actor: Actor, reason: str = "") -> Subscription:
    """Stop serving and billing because the customer does not pay; ``recover`` takes it up again."""
    subscription = rows.lock(subscription_id)
    now = clock.now(subscription.organisation_id)
    with rows.refusing(subscription, "be suspended"):
        subscription.suspend()
    subscription.next_billing_at = None
    rows.save(subscription)
    audit.record(actor=actor, action="subscription.suspended", target=subscription, reason=reason)
    rows.publish("suspended", subscription, at=now)
    return subscription


@transaction.atomic
def fall_behind(*, subscription_id: uuid.UUID) -> Subscription | None:
    """An invoice became overdue: active becomes past due, any other status stays. Safe to repeat."""
    subscription = rows.lock(subscription_id)
    if subscription.status != Status.ACTIVE:
        return None
    subscription.fall_behind()
    rows.save(subscription)
    rows.publish("past_due", subscription, at=clock.now(subscription.organisation_id))
    return subscription


@transaction.atomic
def recover(*, subscription_id: uuid.UUID, actor: Actor) -> Subscription:
    """What was owed is paid: past due or suspended becomes active, and billing goes on."""
    subscription = rows.lock(subscription_id)
    now, was_suspended = clock.now(subscription.organisation_id), subscription.status == Status.SUSPENDED
    with rows.refusing(subscription, "recover"):
        subscription.recover()
    if was_suspended:
        subscription.next_billing_at = _billed_again_at(subscription, now)
    rows.save(subscription)
    audit.record(actor=actor, action="subscription.recovered", target=subscription)
    rows.publish("recovered", subscription, at=now)
    return subscription


@transaction.atomic
def cancel(
    *, subscription_id: uuid.UUID, actor: Actor, when: str = changing.NOW, credit: str = NONE, reason: str = ""
) -> Ended:
    """End the agreement now, or at the end of the paid period (a trial: at its end).

    Now: unbilled usage is invoiced; ``credit="prorated"`` gives back the days after today. Without a paid period that
    still runs, ``period_end`` means now. Raises ``TransitionRefused``.
    """
    subscription = rows.lock(subscription_id)
    now = clock.now(subscription.organisation_id)
    if subscription.has_ended:
        raise rows.refusal(subscription, "be cancelled")
    if when == changing.PERIOD_END and (at := _runs_until(subscription)) is not None and at > now:
        subscription.cancel_at, subscription.cancel_reason = at, reason
        rows.save(subscription)
        audit.record(
            actor=actor, action="subscription.cancellation_planned", target=subscription, reason=reason,
            after={"cancel_at": at.isoformat()},
        )  # fmt: skip
        return Ended(subscription=subscription)
    issued = end_locked(subscription, until=now, at=now, actor=actor, credit=credit == PRORATED, reason=reason)
    rows.save(subscription)
    audit.record(actor=actor, action="subscription.cancelled", target=subscription, reason=reason)
    return Ended(subscription=subscription, issued=issued)


@transaction.atomic
def uncancel(*, subscription_id: uuid.UUID, actor: Actor, reason: str = "") -> Subscription:
    """Take a planned cancellation back. Raises ``ChangePlanned`` when there is none."""
    subscription = rows.lock(subscription_id)
    if subscription.has_ended:
        raise rows.refusal(subscription, "be uncancelled")
    if subscription.cancel_at is None:
        raise ChangePlanned(what="planned cancellation")
    subscription.cancel_at, subscription.cancel_reason = None, ""
    rows.save(subscription)
    audit.record(actor=actor, action="subscription.uncancelled", target=subscription, reason=reason)
    return subscription


def end_locked(
    subscription: Subscription, *, until: datetime, at: datetime, actor: Actor, credit: bool = False, reason: str = "",
    expired: bool = False,
) -> Issued:  # fmt: skip
    """End a locked row as of ``until``: bill what was used, credit what was asked for, drop plans; the caller saves it."""
    planned = plan_end(subscription=subscription, until=until, at=at, credit=credit)
    issued = _write_end(
        subscription, planned, until=until, at=at, actor=actor, reason=reason or "End of the subscription"
    )
    if expired:
        with rows.refusing(subscription, "expire"):
            subscription.expire()
    else:
        with rows.refusing(subscription, "be cancelled"):
            subscription.cancel(at=until, reason=reason or subscription.cancel_reason)
    if (change := rows.planned_change(subscription)) is not None:
        change.cancel()
        change.save(update_fields=["status"])
    subscription.usage_from = subscription.usage_version = subscription.cancel_at = None
    subscription.earlier_terms = []
    subscription.failure = ""
    rows.publish("expired" if expired else "cancelled", subscription, at=until)
    return issued


def plan_end(*, subscription: Subscription, until: datetime, at: datetime, credit: bool) -> Documents:
    """What ending at ``until`` bills and credits. Reads only."""
    if subscription.status in rows.NOT_STARTED:
        return Documents()
    today = local_date(until, clock.zone(subscription.organisation))
    lines: list[LineInput] = []
    if subscription.usage_from is not None:
        lines += documents.usage_due(subscription=subscription, until=until, at_end=True)
    if credit and subscription.period_end is not None and subscription.period_end > until:
        paid = changing.paid_period(subscription)
        old = Terms(rows.book_of(subscription), subscription.quantity)
        unused = unused_lines(old=old, paid=paid, from_on=today + _ONE_DAY)
        lines += documents.still_claimed(subscription=subscription, lines=unused, from_on=today + _ONE_DAY)
    first_on = today
    if lines:
        first_on = min(line.period_start or today for line in lines)
    return documents.plan(subscription=subscription, lines=lines, first_on=first_on, last_on=today, at=at)


def _write_end(
    subscription: Subscription, planned: Documents, *, until: datetime, at: datetime, actor: Actor, reason: str
) -> Issued:
    issued = documents.write(subscription=subscription, documents=planned, at=at, actor=actor, reason=reason)
    if issued.invoice is not None and subscription.usage_from is not None:
        BilledPeriod.objects.create(
            organisation_id=subscription.organisation_id, subscription=subscription, starts_at=subscription.usage_from,
            ends_at=until, kind="final", invoice=issued.invoice, billed_at=at,
        )  # fmt: skip
    return issued


def _billed_again_at(subscription: Subscription, at: datetime) -> datetime:
    """When billing goes on after an interruption that ends at ``at``."""
    end = subscription.period_end
    if end is None:
        return max(at, subscription.next_billing_at or at)
    return max(at, end)


def _runs_until(subscription: Subscription) -> datetime | None:
    """The end of what is paid for, or of the trial."""
    if subscription.status == Status.TRIALING:
        return subscription.trial_ends_at
    return None if subscription.status == Status.PENDING else subscription.period_end


def _check_times(agreement: Agreement, start_at: datetime, now: datetime) -> None:
    if not now - BACK_DATED_AT_MOST <= start_at <= now + AHEAD_AT_MOST:
        raise InvalidSubscription("start_at lies at most three years back and five years ahead.", field="start_at")
    if agreement.trial_days is not None and not 0 <= agreement.trial_days <= catalog.MAX_TRIAL_DAYS:
        raise InvalidSubscription(f"trial_days is 0 to {catalog.MAX_TRIAL_DAYS}.", field="trial_days")
    if agreement.ends_at is not None and not start_at < agreement.ends_at <= start_at + LASTS_AT_MOST:
        raise InvalidSubscription("ends_at comes after start_at, at most fifty years.", field="ends_at")
    if not 0 <= agreement.net_days <= 365:
        raise InvalidSubscription("net_days is 0 to 365.", field="net_days")


def _customer(organisation: Organisation, agreement: Agreement) -> Customer:
    found = Customer.objects.of(organisation).filter(pk=agreement.customer_id, archived_at=None).first()
    if found is None:
        raise NotFound("No such customer in this organisation.", field="customer")
    return found


def _version(organisation: Organisation, agreement: Agreement, start_at: datetime) -> PlanVersion:
    plan = Plan.objects.of(organisation).filter(pk=agreement.plan_id).first()
    if plan is None:
        raise NotFound("No such plan in this organisation.", field="plan")
    return catalog.version_at(plan=plan, at=start_at, on=local_date(start_at, clock.zone(organisation)))


def _beneficiary_id(organisation: Organisation, agreement: Agreement) -> uuid.UUID | None:
    wanted = agreement.beneficiary_id
    if wanted is None:
        return None
    known = Beneficiary.objects.of(organisation).filter(pk=wanted, customer_id=agreement.customer_id)
    if not known.exists():
        raise NotFound("No such beneficiary of this customer.", field="beneficiary")
    return wanted


def _method_id(organisation: Organisation, agreement: Agreement) -> uuid.UUID | None:
    wanted = agreement.method_id
    if wanted is None:
        return None
    if not PaymentMethod.objects.of(organisation).filter(pk=wanted, customer_id=agreement.customer_id).exists():
        raise NotFound("No such payment method of this customer.", field="payment_method")
    return wanted


def _anchor(agreement: Agreement, first_on: date) -> date:
    """The anchor day: the first charged day unless an earlier one is given (bill from the 1st, say)."""
    anchor = agreement.anchor_on or first_on
    if not first_on - timedelta(days=366) <= anchor <= first_on:
        raise InvalidSubscription(
            "anchor_on lies on the first charged day or up to a year before it.", field="anchor_on"
        )
    return anchor
