"""An end or a term changed at the instant of a billing run, a cancellation, a pause: one legal order, no day billed twice or lost."""

from collections import Counter
from functools import partial

import pytest

from subscriptions.errors import CancellationPlanned, NothingToChange, TransitionRefused
from subscriptions.rules import Term
from subscriptions.services import acting, changes, lasting, lifecycle
from subscriptions.services.billing_run import run_billing
from subscriptions.services.ending import Ended
from subscriptions.services.rows import Status
from tests.subscriptions.house import (
    CLERK,
    amounts,
    credit_notes_of,
    flat,
    fresh,
    invoices_of,
    local,
    make_customer,
    make_organisation,
    make_plan,
    run,
    subscribe,
    turn,
)
from tests.subscriptions.test_concurrency import billed, together

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS = 12


def started(**agreed):
    """Subscriptions of 300 a month since 1 April, billed."""
    tenant = make_organisation(local("2026-04-01 09:00"))
    plan = make_plan(tenant, flat("300.00"))
    rows = [subscribe(make_customer(tenant), plan, **agreed) for _ in range(ROUNDS)]
    run(tenant)
    return tenant, rows


def test_a_renewal_that_is_due_and_an_earlier_end_have_one_legal_order():
    tenant, rows = started()
    turn(tenant, local("2026-05-01 09:00"))
    orders = Counter()
    for row in rows:
        about = {"subscription_id": row.pk, "actor": CLERK}
        ended, _ = together(
            partial(lasting.change_end, ends_at=local("2026-05-11 00:00"), credit="prorated", **about),
            lambda pk=row.pk: run_billing(organisation=tenant, subscription_ids=[pk]),
        )
        assert isinstance(ended, Ended), ended
        run(tenant, row)
        orders[tuple(amounts(credit_notes_of(row)))] += 1
        assert f"{billed(row):.2f}" == "396.77"  # April, and ten of 31 days of May: billed so, or credited
    assert orders.keys() <= {(), ("203.23",)}, orders
    turn(tenant, local("2026-05-12 09:00"))
    run(tenant)
    assert {(fresh(row).status, f"{billed(row):.2f}") for row in rows} == {(Status.EXPIRED, "396.77")}


def test_an_end_that_is_due_and_is_taken_away_bills_on_or_is_over():
    tenant, rows = started(ends_at=local("2026-05-01 00:00"))
    turn(tenant, local("2026-05-01 09:00"))
    for row in rows:
        moved, _ = together(
            partial(lasting.change_end, subscription_id=row.pk, actor=CLERK, ends_at=None),
            lambda pk=row.pk: changes.apply_due(organisation=tenant, subscription_ids=[pk]),
        )
        run(tenant, row)
        found = fresh(row)
        if isinstance(moved, TransitionRefused):
            assert (found.status, amounts(invoices_of(row))) == (Status.EXPIRED, ["300.00"])
        else:
            assert (found.status, amounts(invoices_of(row))) == (Status.ACTIVE, ["300.00", "300.00"])


def test_a_term_switched_off_at_its_renewal_ends_then_or_with_the_next():
    tenant, rows = started(term=Term(interval="month"))
    turn(tenant, local("2026-05-01 00:00"))
    for row in rows:
        off, _ = together(
            partial(lasting.change_term, subscription_id=row.pk, actor=CLERK, renews=False),
            lambda pk=row.pk: changes.apply_due(organisation=tenant, subscription_ids=[pk]),
        )
        assert isinstance(off, Ended), off
    turn(tenant, local("2026-07-01 09:00"))
    run(tenant)
    for row in rows:
        found = fresh(row)
        assert (found.status, len(invoices_of(row))) == (Status.EXPIRED, found.term_number + 1)
        assert found.term_number in (0, 1)


def test_the_same_earlier_end_asked_many_times_gives_back_once():
    tenant, [row, *_] = started()
    turn(tenant, local("2026-04-10 09:00"))

    answers = together(
        *[partial(acting.change_end, organisation=tenant, subscription_id=row.pk, actor=CLERK,
                  ends_at=local("2026-04-21 00:00"), credit="prorated")] * 6
    )  # fmt: skip

    assert Counter(type(answer) for answer in answers) == {Ended: 1, NothingToChange: 5}
    assert amounts(credit_notes_of(row)) == ["100.00"]


def test_an_end_a_pause_and_a_cancellation_at_once_give_back_each_day_once():
    tenant, rows = started()
    turn(tenant, local("2026-04-10 09:00"))
    for row in rows:
        about = {"subscription_id": row.pk, "actor": CLERK}
        ended, paused, cancelled = together(
            partial(lasting.change_end, ends_at=local("2026-04-21 00:00"), credit="prorated", **about),
            partial(lifecycle.pause, credit="prorated", **about),
            partial(lifecycle.cancel, credit="prorated", **about),
        )
        assert isinstance(cancelled, Ended), cancelled
        assert isinstance(ended, Ended | TransitionRefused | CancellationPlanned), ended
        assert isinstance(paused, Ended | TransitionRefused), paused
        assert (fresh(row).status, f"{billed(row):.2f}") == (Status.CANCELLED, "100.00")  # ten days were used
