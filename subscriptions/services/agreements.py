"""What a new subscription agrees on: checked, and made into a row that is not saved. The preview prices the same row."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from billing.errors import NotFound
from billing.models import Beneficiary, Customer, Organisation
from billing.parties import clean_time_zone
from subscriptions import periods
from subscriptions.errors import InvalidSubscription
from subscriptions.experiments.offers import offer_for
from subscriptions.models import Plan, Subscription
from subscriptions.periods import local_date, start_of_day
from subscriptions.rules import CALENDAR, CUSTOMER, MAX_GATE_DAYS, Rules, Term, rules_of, trial_price_of
from subscriptions.services import catalog, changing, rows, terms
from subscriptions.services.paying import require_method, require_net_days
from subscriptions.services.zones import zone_named

BACK_DATED_AT_MOST = timedelta(days=3 * 366)
AHEAD_AT_MOST = timedelta(days=5 * 366)
LASTS_AT_MOST = timedelta(days=50 * 366)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What a new subscription agrees on; times are instants, ``anchor_on`` a local day on or before the first charge.

    What is left empty follows the plan's rules, the organisation's settings, the defaults (``subscriptions.rules``).
    """

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
    cycle: str = ""
    proration: str = ""
    time_zone: str | None = None
    payment_gate_days: int | None = None
    term: Term | None = None
    beneficiary_id: uuid.UUID | None = None
    method_id: uuid.UUID | None = None
    collect_automatically: bool = True
    net_days: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)


def drafted(*, organisation: Organisation, agreement: Agreement, now: datetime) -> Subscription:
    """The checked row of a new subscription before its start; not saved."""
    start_at = agreement.start_at or now
    _check(agreement, start_at, now)
    customer, asked = _customer(organisation, agreement), _plan(organisation, agreement)
    offer = offer_for(
        organisation=organisation, customer_id=customer.pk, plan=asked, at=now, start_at=agreement.start_at
    )
    plan = offer.version.plan if offer is not None else asked
    rules = rules_of(organisation.settings, plan.rules)
    zone_name = _zone_name(agreement, rules, customer)
    zone = zone_named(zone_name or organisation.time_zone)
    version = catalog.version_at(plan=asked, at=start_at, on=local_date(start_at, zone))
    version.plan = asked
    if offer is not None:
        version = offer.version
    currency = agreement.currency or customer.currency
    trial_ends_at = _trial_ends_at(agreement, plan, start_at, zone)
    billed_from = trial_ends_at or start_at
    require_method(organisation, customer_id=customer.pk, method_id=agreement.method_id)
    subscription = Subscription(
        organisation=organisation,
        customer=customer,
        external_id=agreement.external_id or f"sub_{uuid.uuid4().hex[:16]}",
        plan_version=version,
        currency=currency,
        quantity=agreement.quantity,
        add_ons={code: quantity for code, quantity in agreement.add_ons.items() if quantity},
        beneficiary_id=_beneficiary_id(organisation, agreement),
        method_id=agreement.method_id,
        collect_automatically=agreement.collect_automatically,
        net_days=agreement.net_days,
        started_at=start_at,
        trial_ends_at=trial_ends_at,
        trial_price=trial_price_of(rules, currency) if trial_ends_at else None,
        time_zone=zone_name,
        proration=agreement.proration or rules.proration,
        gate_days=agreement.payment_gate_days or rules.payment_gate_days,
        anchor_on=_anchor(agreement, rules, plan, local_date(billed_from, zone)),
        next_billing_at=billed_from,
        ends_at=agreement.ends_at,
        metadata=agreement.metadata,
        created_at=now,
    )
    term = agreement.term or rules.term
    if term is not None and agreement.ends_at is None:
        terms.begin(subscription, term, first_on=local_date(billed_from, zone))
    rows.book_of(subscription)  # refuses a plan without a price in the currency, and add-ons it does not offer
    return subscription


def _check(agreement: Agreement, start_at: datetime, now: datetime) -> None:
    if not now - BACK_DATED_AT_MOST <= start_at <= now + AHEAD_AT_MOST:
        raise InvalidSubscription("start_at lies at most three years back and five years ahead.", field="start_at")
    if agreement.trial_days is not None and not 0 <= agreement.trial_days <= catalog.MAX_TRIAL_DAYS:
        raise InvalidSubscription(f"trial_days is 0 to {catalog.MAX_TRIAL_DAYS}.", field="trial_days")
    if agreement.ends_at is not None and not start_at < agreement.ends_at <= start_at + LASTS_AT_MOST:
        raise InvalidSubscription("ends_at comes after start_at, at most fifty years.", field="ends_at")
    if agreement.ends_at is not None and agreement.term is not None:
        raise InvalidSubscription("Give either ends_at or a term, which has an end of its own.", field="term")
    if agreement.payment_gate_days is not None and not 1 <= agreement.payment_gate_days <= MAX_GATE_DAYS:
        raise InvalidSubscription(f"payment_gate_days is 1 to {MAX_GATE_DAYS}.", field="payment_gate_days")
    require_net_days(agreement.net_days)
    if not 1 <= agreement.quantity <= changing.MAX_QUANTITY:
        raise InvalidSubscription(f"The quantity is 1 to {changing.MAX_QUANTITY}.", field="quantity")


def _customer(organisation: Organisation, agreement: Agreement) -> Customer:
    found = Customer.objects.of(organisation).filter(pk=agreement.customer_id, archived_at=None).first()
    if found is None:
        raise NotFound("No such customer in this organisation.", field="customer")
    return found


def _plan(organisation: Organisation, agreement: Agreement) -> Plan:
    plan = Plan.objects.of(organisation).filter(pk=agreement.plan_id).first()
    if plan is None:
        raise NotFound("No such plan in this organisation.", field="plan")
    return plan


def _zone_name(agreement: Agreement, rules: Rules, customer: Customer) -> str:
    if agreement.time_zone is not None:
        return clean_time_zone(agreement.time_zone) if agreement.time_zone else ""
    return customer.time_zone if rules.time_zone == CUSTOMER else ""


def _trial_ends_at(agreement: Agreement, plan: Plan, start_at: datetime, zone: Any) -> datetime | None:
    days = plan.trial_days if agreement.trial_days is None else agreement.trial_days
    return start_of_day(local_date(start_at, zone) + timedelta(days=days), zone) if days else None


def _anchor(agreement: Agreement, rules: Rules, plan: Plan, first_on: date) -> date:
    """The day that periods are counted from: the first charged day, one given before it, or the calendar's own."""
    if agreement.anchor_on is None:
        if (agreement.cycle or rules.cycle) == CALENDAR:
            return periods.calendar_anchor(first_on=first_on, interval=plan.interval, count=plan.interval_count)
        return first_on
    if agreement.cycle == CALENDAR:
        raise InvalidSubscription("Give either anchor_on or the calendar's cycle.", field="anchor_on")
    if not first_on - timedelta(days=366) <= agreement.anchor_on <= first_on:
        raise InvalidSubscription(
            "anchor_on lies on the first charged day or up to a year before it.", field="anchor_on"
        )
    return agreement.anchor_on


def _beneficiary_id(organisation: Organisation, agreement: Agreement) -> uuid.UUID | None:
    wanted = agreement.beneficiary_id
    if wanted is None:
        return None
    known = Beneficiary.objects.of(organisation).filter(pk=wanted, customer_id=agreement.customer_id)
    if not known.exists():
        raise NotFound("No such beneficiary of this customer.", field="beneficiary")
    return wanted
