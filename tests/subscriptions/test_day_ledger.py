"""Each day of service is charged once, at the terms that held when it ended: random histories against a count by days.

Prices here come to whole cents a day. What happened to a subscription is read from its events, and every day on which it was
served is priced by itself; the lines of invoices less those of credit notes must come to the same sum. Everything is given
back when it ends, so that nothing else is paid. Half of the customers have a coupon of 50 % for ever, and pay the half of
each day. Histories mix changes, pauses, ends and new beginnings, now and planned,
two subscriptions on one invoice, drafts that wait, and runs that come late.
"""

import os
import random
from collections import Counter
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db.models import Q

from billing import clock
from billing.errors import DomainError
from billing.models import Event
from billing.services import ledger
from invoices.models import Invoice, InvoiceLine
from subscriptions.periods import local_date, start_of_day
from subscriptions.services import acting, changing
from subscriptions.services.billing_terms import set_terms
from subscriptions.services.draft_finalizing import finalize_due
from subscriptions.services.rows import Status
from tests.subscriptions.house import (
    CLERK,
    KOLKATA,
    flat,
    fresh,
    local,
    make_customer,
    make_organisation,
    make_plan,
    run,
    seats,
    subscribe,
    turn,
)
from tests.subscriptions.test_coupons import coupon, give

pytestmark = pytest.mark.django_db
HISTORIES = int(os.environ.get("MUNIM_DAY_HISTORIES", "40"))
STEPS = 6
DONE: Counter[str] = Counter()  # told when a history fails: what was tried
SERVED = {"activated", "changed", "resumed", "reactivated"}
STOPS = {"paused", "cancelled", "expired"}


def plans_of(tenant):
    """Plans whose days cost whole cents, with what a day costs: flat, and by seat."""
    made = [
        (make_plan(tenant, flat("7.00"), seats("10.00"), interval="day", interval_count=10), ("0.70", "1.00")),
        (make_plan(tenant, flat("30.00"), seats("20.00"), interval="day", interval_count=10), ("3.00", "2.00")),
        (make_plan(tenant, seats("15.00"), interval="day", interval_count=5), ("0", "3.00")),
        (make_plan(tenant, flat("7.00"), seats("28.00", pay_in_advance=False), interval="week"), ("1.00", "4.00")),
    ]  # fmt: skip
    return [plan for plan, _ in made], {plan.code: tuple(map(Decimal, costs)) for plan, costs in made}


def served(subscription, costs):
    """What the days of service cost."""
    return sum(costs[plan][0] + costs[plan][1] * quantity for plan, quantity, _ in served_days(subscription).values())


def served_days(subscription):
    """Each local day of service with its terms (plan, quantity, since when), by the events of the subscription."""
    zone, days, last, terms = KOLKATA, {}, None, None

    def fill(until):
        day = last
        while day is not None and day < until:
            days[day] = terms
            day += timedelta(days=1)

    for event in Event.objects.filter(aggregate_id=subscription.pk).order_by("id"):
        news, at = event.type.removeprefix("subscription."), event.occurred_at
        if news not in SERVED | STOPS:
            continue
        day = local_date(at, zone)
        fill(day)
        if news in STOPS:
            if last is not None and start_of_day(day, zone) < at:
                days[day] = terms
            last = None
        else:
            is_live = last is not None
            if is_live or news != "changed":
                last = day
            terms = (event.payload["plan"], event.payload["quantity"], at)
    assert last is None, "every history ends"
    return days


def charged(subscription):
    """Lines of its invoices, less what credit notes took off them."""
    total = Decimal(0)
    named = Q(subscription_ref=subscription.pk) | Q(subscription_ref=None, invoice__subscription_ref=subscription.pk)
    lines = InvoiceLine.objects.filter(named, organisation=subscription.organisation)
    for line in lines.select_related("invoice").prefetch_related("invoice__credit_notes"):
        assert line.invoice.status != "draft"
        total += line.amount.amount
        for note in line.invoice.credit_notes.all():
            total -= sum(Decimal(one["amount"]) for one in note.lines if one["position"] == line.position)
    return total


def ask(dice, now, subscription, plans):
    later = now + timedelta(days=dice.randint(1, 25), hours=dice.randint(0, 23))
    if subscription.status == Status.PAUSED:
        return dice.choice([("resume", {}), ("resume", {"on": later}), ("cancel", {"credit": "prorated"}), ("", {})])
    if subscription.status == Status.CANCELLED:
        return ("reactivate", {})
    version = None
    if dice.random() < 0.5:
        version = changing.version_for(organisation=subscription.organisation, plan_id=dice.choice(plans).pk)
    terms = {"version": version, "quantity": dice.randint(1, 9)}
    return dice.choice([
        *[("change", terms)] * 4,
        ("change", terms | {"when": "period_end"}),
        ("change", terms | {"on": later}),
        ("change", terms | {"on": later, "keep_planned": True}),
        ("pause", {"credit": "prorated"}),
        ("pause", {"credit": "prorated", "resume_at": later}),
        ("pause", {"credit": "prorated", "on": later, "resume_at": later + timedelta(days=dice.randint(1, 20))}),
        ("cancel", {"credit": "prorated"}),
        ("cancel", {"credit": "prorated", "when": "period_end"}),
        ("cancel", {"credit": "prorated", "on": later}),
        ("uncancel", {}),
        ("", {}),
    ])  # fmt: skip


def do(action, options, subscription):
    about = {"organisation": subscription.organisation, "subscription_id": subscription.pk, "actor": CLERK}
    try:
        if action == "uncancel":
            acting.lifecycle.uncancel(subscription_id=subscription.pk, actor=CLERK)
        elif action:
            getattr(acting, action)(**about, **options)
        DONE[action] += 1
    except DomainError as exc:
        DONE[f"{action} refused: {exc.code}"] += 1


def one_history(seed, tenant, plans, costs):
    dice = random.Random(seed)
    told = [seed]
    turn(tenant, local(f"2027-0{dice.randint(1, 9)}-{dice.randint(1, 28):02} {dice.randint(0, 23):02}:20"))
    customer = make_customer(tenant)
    set_terms(organisation=tenant, customer_id=customer.pk, actor=CLERK, consolidate=dice.random() < 0.5,
              grace_days=dice.choice([0, 0, 3]))  # fmt: skip
    share = Decimal(1)
    if seed % 2:
        give(customer, "half")
        share = Decimal("0.5")
    pair = [subscribe(customer, dice.choice(plans), quantity=dice.randint(1, 9)) for _ in range(2)]
    run(tenant)
    for _ in range(STEPS):
        found = fresh(dice.choice(pair))
        action, options = ask(dice, clock.now(tenant), found, plans)
        told.append((str(clock.now(tenant)), found.external_id, action, options))
        do(action, options, found)
        for _ in range(dice.randint(1, 3)):
            turn(tenant, clock.now(tenant) + timedelta(hours=dice.randint(0, 200)))
            if dice.random() < 0.7:
                run(tenant)
                finalize_due(organisation=tenant)
    run(tenant)
    for one in pair:
        assert fresh(one).failure == "", told
        if not fresh(one).has_ended:
            acting.cancel(organisation=tenant, subscription_id=one.pk, actor=CLERK, credit="prorated")
    turn(tenant, clock.now(tenant) + timedelta(days=4))
    finalize_due(organisation=tenant)
    for one in pair:
        assert charged(one) == served(one, costs) * share, (one.external_id, told, DONE)


@pytest.mark.parametrize("batch", range(HISTORIES // 20))
def test_every_day_of_service_is_charged_once(batch):
    tenant = make_organisation(local("2027-01-01 00:00"))
    plans, costs = plans_of(tenant)
    coupon(tenant, "half", percent="50", duration="forever")
    for seed in range(batch * 20, batch * 20 + 20):
        one_history(seed, tenant, plans, costs)
    owed = sum(invoice.due.amount for invoice in Invoice.objects.of(tenant))
    assert ledger.balance(organisation=tenant, account="receivable", currency="INR").amount == owed
