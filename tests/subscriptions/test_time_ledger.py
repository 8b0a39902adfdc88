"""Add-ons, proration by the second, prices with tax inside: each day, or each second, is charged once.

As in ``test_day_ledger``: random histories against a count by days or seconds of service, at prices that come to whole cents a
second (and so a day). Everything is given back when it ends, so that nothing else is paid. Where prices contain the tax, what
is counted is what the customer pays, tax included.
"""

import os
import random
from collections import Counter
from datetime import timedelta
from decimal import Decimal

import pytest

from billing import clock
from billing.errors import DomainError
from billing.models import Event
from billing.services import ledger
from invoices.models import Invoice
from subscriptions.periods import local_date, start_of_day
from subscriptions.services import acting, add_ons, changing
from tests.subscriptions import test_day_ledger as by_days
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

pytestmark = pytest.mark.django_db
HISTORIES = int(os.environ.get("MUNIM_TIME_HISTORIES", "16"))
FIRST = int(os.environ.get("MUNIM_TIME_FIRST", "101"))
STEPS = 5
DAY = 24 * 60 * 60
DONE: Counter[str] = Counter()  # told when a history fails: what was tried
OFFERS = [(10, ("0.01", "0.02", "0.03")), (10, ("0.03", "0.01", "0.02")), (5, ("0", "0.02", "0.01"))]
"""Days of the interval, and what a second of the fee, of a seat and of an add-on costs."""


def plans_of(tenant, *, inclusive):
    """The plans, with what their seconds cost, by code; and how many days their periods have."""
    found, costs, days = [], {}, {}
    for interval, rates in OFFERS:
        fee, seat, extra = (f"{Decimal(rate) * DAY * interval:.2f}" for rate in rates)
        plan = make_plan(
            tenant, flat(fee, tax_category="saas"), seats(seat, tax_category="saas"),
            seats(extra, code="extra", name="Extra", kind="add_on", tax_category="saas"),
            interval="day", interval_count=interval, prices_include_tax=inclusive,
        )  # fmt: skip
        found.append(plan)
        costs[plan.code], days[plan.code] = tuple(map(Decimal, rates)), interval
    return found, costs, days


class Story:
    """A subscription that is lived, and which add-ons were taken when."""

    def __init__(self, subscription, costs, days):
        self.subscription, self.costs, self.days = subscription, costs, days
        self.taken = [(subscription.started_at, subscription.add_ons.get("extra", 0))]

    def take(self, quantity):
        organisation = self.subscription.organisation
        add_ons.set_add_ons(
            organisation=organisation, subscription_id=self.subscription.pk, actor=CLERK, add_ons={"extra": quantity}
        )
        self.taken.append((clock.now(organisation), quantity))

    def rate(self, plan, quantity, at):
        """What a second costs at the terms that hold from ``at``."""
        fee, seat, extra = self.costs[plan]
        return fee + seat * quantity + extra * [taken for since, taken in self.taken if since <= at][-1]

    def by_days(self):
        return sum(DAY * self.rate(*terms) for terms in by_days.served_days(self.subscription).values())

    def by_seconds(self):
        """Seconds of service at their terms. The first charge of a period counts the period's first day from its midnight."""
        total, last, stopped, rate, anchor, length = Decimal(0), None, None, None, None, None
        for event in Event.objects.filter(aggregate_id=self.subscription.pk).order_by("id"):
            news, at = event.type.removeprefix("subscription."), event.occurred_at
            if news not in by_days.SERVED | by_days.STOPS:
                continue
            if last is not None:
                total += rate * int((at - last).total_seconds())
            if news in by_days.STOPS:
                last, stopped = None, at if last is not None else stopped
                continue
            plan, quantity = event.payload["plan"], event.payload["quantity"]
            day = local_date(at, KOLKATA)
            if anchor is None or (last is not None and self.days[plan] != length):
                anchor = day
            midnight = start_of_day(day, KOLKATA)
            opens = (day - anchor).days % self.days[plan] == 0
            if last is None and news != "changed":
                last = midnight if opens and (stopped is None or stopped <= midnight) else at
            elif last is not None:
                last = at
            length, rate = self.days[plan], self.rate(plan, quantity, at)
        assert last is None, "every history ends"
        return total


def paid(subscription):
    """What its invoices claim, less what credit notes took off, tax included; and how many lines of notes there are.

    A note gives the net part of a line back and the tax on it, each rounded: together they may miss a cent.
    """
    invoices = Invoice.objects.filter(subscription_ref=subscription.pk).prefetch_related("credit_notes")
    notes = [note for one in invoices for note in one.credit_notes.all()]
    charged = sum(one.total.amount for one in invoices) - sum(note.total.amount for note in notes)
    return charged, sum(len(note.lines) for note in notes)


def live_one_step(dice, story, plans, told):
    subscription = fresh(story.subscription)
    tenant = subscription.organisation
    turn(tenant, clock.now(tenant) + timedelta(minutes=1))
    if dice.random() < 0.3:
        wanted = dice.randint(0, 4)
        told.append((str(clock.now(tenant)), "extra", wanted))
        try:
            story.take(wanted)
            DONE["extra"] += 1
        except DomainError as refused:
            DONE[f"extra refused: {refused.code}"] += 1
    else:
        action, options = by_days.ask(dice, clock.now(tenant), subscription, plans)
        told.append((str(clock.now(tenant)), action, options))
        by_days.do(action, options, subscription)
    for _ in range(dice.randint(1, 2)):
        turn(tenant, clock.now(tenant) + timedelta(minutes=dice.randint(1, 12_000)))
        if dice.random() < 0.7:
            run(tenant)


def one_history(seed, tenant, offers, proration):
    dice, told = random.Random(seed), [seed, proration]
    turn(tenant, local(f"2027-0{dice.randint(1, 9)}-{dice.randint(1, 28):02} {dice.randint(0, 23):02}:20"))
    plans, costs, days = offers
    agreed = {"quantity": dice.randint(1, 9), "add_ons": dice.choice([{}, {"extra": 2}]), "proration": proration}
    story = Story(subscribe(make_customer(tenant), dice.choice(plans), **agreed), costs, days)
    run(tenant)
    for _ in range(STEPS):
        live_one_step(dice, story, plans, told)
    run(tenant)
    found = fresh(story.subscription)
    assert found.failure == "", told
    if not found.has_ended:
        acting.cancel(organisation=tenant, subscription_id=found.pk, actor=CLERK, credit="prorated")
    expected = story.by_seconds() if proration == "second" else story.by_days()
    return found, expected, told


@pytest.mark.parametrize("proration", ["day", "second"])
@pytest.mark.parametrize("inclusive", [False, True])
def test_every_day_or_second_of_service_is_charged_once(proration, inclusive):
    tenant = make_organisation(local("2027-01-01 00:00"))
    offers = plans_of(tenant, inclusive=inclusive)
    for seed in range(FIRST, FIRST + HISTORIES // 4):
        subscription, expected, told = one_history(seed, tenant, offers, proration)
        if inclusive:
            charged, rounded = paid(subscription)
            assert abs(charged - expected) <= rounded * Decimal("0.01"), (told, DONE)
        else:
            assert by_days.charged(subscription) == expected, (told, DONE)
    owed = sum(invoice.due.amount for invoice in Invoice.objects.of(tenant))
    assert ledger.balance(organisation=tenant, account="receivable", currency="INR").amount == owed


def test_an_end_gives_back_what_a_change_of_interval_had_netted():
    """518.40 for five days, then 604.80 for ten less the 518.40; six of the ten are used: 362.88 stay charged."""
    tenant = make_organisation(local("2027-05-03 08:34"))
    short = make_plan(tenant, seats("86.40"), interval="day", interval_count=5)
    long = make_plan(tenant, seats("151.20"), interval="day", interval_count=10)
    subscription = subscribe(make_customer(tenant), short, quantity=6)
    run(tenant)
    about = {"organisation": tenant, "subscription_id": subscription.pk, "actor": CLERK}
    acting.change(**about, version=changing.version_for(organisation=tenant, plan_id=long.pk), quantity=4)
    turn(tenant, local("2027-05-08 14:08"))

    acting.cancel(**about, credit="prorated")

    assert f"{by_days.charged(subscription):.2f}" == "362.88"
