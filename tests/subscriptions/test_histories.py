"""Whatever happens to a subscription, its preview said so: random histories on a real database, to the cent.

Every step of a history is previewed before it is done: what it issues at once and the invoices and credit notes that come
next. Then it is done, time passes, and the documents must be the same. A history is made from its seed alone, so a failure is
repeated by its number.
"""

import os
import random
from collections import Counter
from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import transaction

from billing import clock
from billing.errors import DomainError
from billing.models import Meter
from billing.services import ledger
from invoices.models import Invoice
from subscriptions.models import BilledPeriod
from subscriptions.services import acting, changing, preview
from subscriptions.services.catalog import PriceInput
from subscriptions.services.rows import Status
from tests.subscriptions.house import (
    CLERK,
    credit_notes_of,
    flat,
    fresh,
    invoices_of,
    local,
    make_customer,
    make_meter,
    make_organisation,
    make_plan,
    run,
    seats,
    subscribe,
    turn,
    use,
)

pytestmark = pytest.mark.django_db
HISTORIES = int(os.environ.get("MUNIM_HISTORIES", "120"))
BATCH = 20
STEPS = 4
DONE: Counter[str] = Counter()  # printed when a history fails: what was tried
INTERVALS = [("month", 1), ("month", 1), ("week", 1), ("day", 10), ("month", 3)]


def plans_of(tenant, dice):
    """Four plans to move between, some metered, one of another interval."""
    make_meter(tenant)
    metered = PriceInput(
        code="calls",
        name="Calls",
        currency="INR",
        model="per_unit",
        unit_price="0.333",
        meter="calls",
        tax_category="saas",
    )
    arrears = PriceInput(
        code="desks", name="Desks", currency="INR", model="per_unit", unit_price="11.11", pay_in_advance=False,
        tax_category="saas",
    )  # fmt: skip
    setup = PriceInput(code="setup", name="Set-up", currency="INR", model="flat", unit_price="50", kind="one_off")
    fixed = seats("7.77", code="lines", name="Lines", prorated=False)
    plans = []
    for interval, count in (INTERVALS[0], INTERVALS[1], dice.choice(INTERVALS[2:])):
        prices = [flat(f"{dice.randint(0, 99999) / 100:.2f}", tax_category="saas"),
                  seats(f"{dice.randint(1, 9999) / 100:.2f}", tax_category=dice.choice(["saas", ""]))]  # fmt: skip
        prices += [one for one in (metered, arrears, setup, fixed) if dice.random() < 0.4]
        plans.append(make_plan(tenant, *prices, interval=interval, interval_count=count))
    return plans


def said(found):
    """What a preview says, as plain values."""
    invoices = [
        (one.period_start, one.period_end, [(line.given.description, line.amount, line.tax) for line in one.priced.lines],
         one.priced.total)
        for one in found.invoices
    ]  # fmt: skip
    credits = sorted((one.at, one.priced.net, one.priced.tax, one.priced.total) for one in found.credits)
    return invoices, credits


def happened(subscription, invoices_before, notes_before):
    """What was issued since, as the same plain values."""
    invoices = [
        (one.period_start, one.period_end, [(line.description, line.amount.amount, line.tax.amount) for line in one.lines.all()],
         one.total.amount)
        for one in invoices_of(subscription) if one.pk not in invoices_before
    ]  # fmt: skip
    credits = sorted(
        (one.created_at, one.net.amount, one.tax.amount, one.total.amount)
        for one in credit_notes_of(subscription) if one.pk not in notes_before
    )  # fmt: skip
    return invoices, credits


def ask(dice, now, subscription, plans):
    """Something that a person may ask for now."""
    later = now + timedelta(days=dice.randint(1, 50), hours=dice.randint(0, 23))
    status = subscription.status
    if status == Status.PAUSED:
        return dice.choice([("resume", {}), ("resume", {"on": later}), ("cancel", {"credit": "prorated"})])
    if status == Status.CANCELLED:
        return ("reactivate", {})
    credit = "none" if subscription.proration == "none" else dice.choice(["none", "prorated"])
    version = None
    if dice.random() < 0.5:
        version = changing.version_for(organisation=subscription.organisation, plan_id=dice.choice(plans).pk)
    terms = {"version": version, "quantity": dice.randint(1, 9)}
    options = [
        *[("change", terms)] * 5,
        ("change", terms | {"when": "period_end"}),
        ("change", terms | {"on": later}),
        ("change", terms | {"on": later, "keep_planned": True}),
        ("pause", {"credit": credit}),
        ("pause", {"credit": credit, "resume_at": later}),
        ("pause", {"on": later, "credit": credit, "resume_at": later + timedelta(days=dice.randint(1, 30))}),
        ("cancel", {"credit": credit}),
        ("cancel", {"when": "period_end"}),
        ("cancel", {"on": later, "credit": credit}),
        ("", {}),
    ]
    if subscription.cancel_at is not None:
        options += [("uncancel", {})] * 6
    return dice.choice(options)


def do(action, options, subscription):
    about = {"organisation": subscription.organisation, "subscription_id": subscription.pk, "actor": CLERK}
    if action in ("change", "pause", "resume", "cancel", "reactivate"):
        getattr(acting, action)(**about, **options)
    elif action == "uncancel":
        acting.lifecycle.uncancel(subscription_id=subscription.pk, actor=CLERK)


def live_one_step(dice, subscription, plans, meter, told, asking=ask, doing=do):
    """Preview something, do it, let time pass, compare. Returns whether the history goes on."""
    organisation, now = subscription.organisation, clock.now(subscription.organisation)
    action, options = asking(dice, now, subscription, plans)
    told.append((now, action, options))
    before = {one.pk for one in invoices_of(subscription)}, {one.pk for one in credit_notes_of(subscription)}
    try:
        with transaction.atomic():
            found = preview.preview_action(
                organisation=organisation, subscription_id=subscription.pk, action=action, count=2, **options
            )
    except DomainError as refused:
        with pytest.raises(type(refused)), transaction.atomic():
            doing(action, options, subscription)
        DONE["refused " + action] += 1
        return
    doing(action, options, subscription)
    DONE[action] += 1
    last = max([now, *(one.at for one in (*found.invoices, *found.credits))])
    moments = sorted({event.at for event in found.events if now < event.at <= last} | {last})
    for at in moments:
        turn(organisation, at)
        run(organisation, subscription)
    assert said(found) == happened(subscription, *before), (told, DONE)
    turn(organisation, last + timedelta(hours=dice.randint(0, 400)))
    run(organisation, subscription)
    if dice.random() < 0.3:
        use(subscription.customer, meter, str(dice.randint(1, 50)), clock.now(organisation) - timedelta(minutes=1))


def check_books(subscription):
    """Invariants of what was billed: no failure, nothing twice, credits within invoices, receivable as the invoices say."""
    found = fresh(subscription)
    assert found.failure == ""
    cycles = BilledPeriod.objects.filter(subscription=subscription, kind="cycle").order_by("starts_at")
    assert all(one.ends_at <= two.starts_at or two.starts_at >= one.starts_at for one, two in pairwise(cycles))
    for invoice in invoices_of(subscription):
        assert sum(note.total.amount for note in invoice.credit_notes.all()) <= invoice.total.amount


def one_history(seed, tenant, plans, meter, *, asking=ask, doing=do, agreeing=lambda dice: {}):
    dice = random.Random(seed)
    turn(tenant, local(f"2027-0{dice.randint(1, 9)}-{dice.randint(1, 28):02} {dice.randint(0, 23):02}:20"))
    agreed = {
        "quantity": dice.randint(1, 9),
        "cycle": dice.choice(["anniversary", "anniversary", "calendar"]),
        "proration": dice.choice(["day", "day", "second", "none"]),
        "trial_days": dice.choice([0, 0, 0, 9]),
        "time_zone": dice.choice(["", "", "America/New_York"]),
    }
    agreed |= agreeing(dice)
    if "ends_at" in agreed:
        agreed["ends_at"] += clock.now(tenant)
    subscription = subscribe(make_customer(tenant), dice.choice(plans), **agreed)
    run(tenant, subscription)
    told = [seed, agreed]
    for _ in range(STEPS):
        found = fresh(subscription)
        if found.status == Status.EXPIRED or (found.status == Status.CANCELLED and dice.random() < 0.7):
            break
        live_one_step(dice, found, plans, meter, told, asking, doing)
    check_books(subscription)


@pytest.mark.parametrize("batch", range(HISTORIES // BATCH))
def test_every_history_was_foretold(batch):
    tenant = make_organisation(local("2027-01-01 00:00"))
    plans = plans_of(tenant, random.Random(batch))
    meter = Meter.objects.of(tenant).get(code="calls")
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        one_history(seed, tenant, plans, meter)
    owed = sum(invoice.due.amount for invoice in Invoice.objects.of(tenant))
    assert ledger.balance(organisation=tenant, account="receivable", currency="INR").amount == owed
