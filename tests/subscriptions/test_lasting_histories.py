"""Ends and terms changed at random, among changes, pauses and cancellations: each preview says what then happens, to the cent.

As ``test_histories``, whose steps these are, and among what ``test_mixed_histories`` mixes in; a history is made from its seed alone.
"""

import os
import random
import sys
from datetime import timedelta

import pytest

from billing.models import Meter
from billing.services import ledger
from invoices.models import Invoice
from subscriptions.rules import Term
from subscriptions.services import acting
from subscriptions.services.rows import Status
from tests.subscriptions import test_histories as plain
from tests.subscriptions import test_mixed_histories as mixed
from tests.subscriptions.house import CLERK, local, make_organisation, turn

pytestmark = pytest.mark.django_db
HISTORIES = int(os.environ.get("MUNIM_LASTING_HISTORIES", "30"))
BATCH = 10
FOUND = (20124,)
"""Seeds that showed a fault: 20124, usage in advance of the last period of a term was not invoiced before its end."""


def a_term(dice):
    interval, most = dice.choice([("day", 40), ("week", 6), ("month", 4)])
    return Term(
        interval=interval, count=dice.randint(1, most), renewals=dice.choice([None, 0, 1, 3]),
        notice_days=dice.choice([0, 0, 5, 30]),
    )  # fmt: skip


def ask(dice, now, subscription, plans):
    """Another end or term more often than anything else."""
    if subscription.status == Status.CANCELLED or dice.random() < 0.35:
        return plain.ask(dice, now, subscription, plans)
    later = now + timedelta(days=dice.randint(-1, 60), hours=dice.randint(0, 23))
    credit = "none" if subscription.proration == "none" else dice.choice(["none", "prorated", "prorated"])
    ends = [("change_end", {"ends_at": later, "credit": credit})] * 3 + [("change_end", {"ends_at": None})]
    when = dice.choice(["now", "term_end"]) if subscription.ends_at else "now"
    terms = [
        ("change_term", {"term": a_term(dice), "credit": credit}),
        ("change_term", {"term": a_term(dice), "when": when}),
        ("change_term", {"term": None, "when": when}),
    ]
    if subscription.term_interval:
        terms += [("change_term", {"renews": False})] * 3
        terms += [("change_term", {"renews": True}), ("change_term", {"renewals": dice.choice([None, 0, 1, 2])})]
    return dice.choice(ends + terms)


def do(action, options, subscription):
    if action not in ("change_end", "change_term"):
        return plain.do(action, options, subscription)
    about = {"organisation": subscription.organisation, "subscription_id": subscription.pk, "actor": CLERK}
    return getattr(acting, action)(**about, **options)


def agreed_at_first(dice):
    """Half of them begin with a term or a fixed end."""
    begins = dice.random()
    if begins < 0.3:
        return {"term": a_term(dice)}
    return {"ends_at": timedelta(days=dice.randint(1, 90), hours=dice.randint(0, 23))} if begins < 0.5 else {}


@pytest.mark.parametrize("batch", range(HISTORIES // BATCH))
def test_every_history_of_ends_and_terms_was_foretold(batch):
    tenant = make_organisation(local("2027-01-01 00:00"))
    plans = plain.plans_of(tenant, random.Random(1000 + batch))
    meter = Meter.objects.of(tenant).get(code="calls")
    before = plain.DONE.copy()
    for seed in range(5000 + batch * BATCH, 5000 + (batch + 1) * BATCH):
        turn(tenant, local("2027-01-01 00:00"))
        plain.one_history(seed, tenant, plans, meter, asking=ask, doing=do, agreeing=agreed_at_first)
    done = plain.DONE - before
    assert min(done["change_end"], done["change_term"]) >= 5, done
    owed = sum(invoice.due.amount for invoice in Invoice.objects.of(tenant))
    assert ledger.balance(organisation=tenant, account="receivable", currency="INR").amount == owed


@pytest.mark.parametrize("seed", [*FOUND, *range(20000, 20000 + HISTORIES // 10)])
def test_a_mixed_history_of_ends_and_terms_was_foretold(seed):
    """With coupons, add-ons, usage in mid-period, tax inside, payments in parts and notes by hand."""
    mixed.one_history(seed, life=sys.modules[__name__])
