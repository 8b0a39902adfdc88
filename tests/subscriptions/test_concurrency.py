"""At the same instant: whatever the order, it is one of the legal ones, and nothing is billed twice."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import permutations

import pytest
from django.db import connection, transaction

from billing.errors import DomainError
from billing.models import Event
from billing.services import ledger
from invoices.models import Invoice
from subscriptions.errors import ExternalIdTaken, NothingToChange, TransitionRefused
from subscriptions.models import BilledPeriod, DraftCycle, Subscription
from subscriptions.services import acting, changes, changing, lifecycle
from subscriptions.services.billing_run import run_billing
from subscriptions.services.billing_terms import set_terms
from subscriptions.services.draft_finalizing import finalize_due
from subscriptions.services.rows import Status
from tests.subscriptions.house import (
    CLERK,
    credit_notes_of,
    fresh,
    invoices_of,
    local,
    make_customer,
    make_organisation,
    make_plan,
    run,
    seats,
    subscribe,
    turn,
)

pytestmark = pytest.mark.django_db(transaction=True)


def together(*works: Callable[[], object]) -> list[object]:
    """Run the works in threads that start at the same moment; results, or the exceptions, in order."""
    barrier = threading.Barrier(len(works))

    def begin(work: Callable[[], object]) -> object:
        try:
            barrier.wait()
            return work()
        except Exception as exc:
            return exc
        finally:
            connection.close()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(begin, works))


def billed(subscription):
    """Net of all invoices less net of all credit notes."""
    invoiced = sum(invoice.net.amount for invoice in invoices_of(subscription))
    return invoiced - sum(note.net.amount for note in credit_notes_of(subscription))


def test_a_change_and_a_pause_at_the_same_instant_have_one_legal_order():
    tenant = make_organisation(local("2026-04-01 09:00"))
    customer, plan = make_customer(tenant), make_plan(tenant, seats("300.00"))
    orders = Counter()
    for _ in range(12):
        turn(tenant, local("2026-04-01 09:00"))
        subscription = subscribe(customer, plan)
        run(tenant)
        turn(tenant, local("2026-04-11 09:00"))

        changed, paused = together(
            lambda pk=subscription.pk: changing.change_subscription(subscription_id=pk, actor=CLERK, quantity=3),
            lambda pk=subscription.pk: lifecycle.pause(subscription_id=pk, actor=CLERK),
        )

        found = fresh(subscription)
        assert not isinstance(paused, Exception)
        assert found.status == Status.PAUSED
        if isinstance(changed, TransitionRefused):  # paused first
            assert (found.quantity, billed(subscription)) == (1, 300)
            orders["pause first"] += 1
        else:
            assert (found.quantity, billed(subscription)) == (3, 700)
            orders["change first"] += 1
    assert sum(orders.values()) == 12


def test_one_of_many_cancellations_wins():
    tenant = make_organisation(local("2026-04-01 09:00"))
    subscription = subscribe(make_customer(tenant), make_plan(tenant, seats("300.00")))
    run(tenant)
    turn(tenant, local("2026-04-11 09:00"))

    answers = together(*[lambda: lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK, credit="prorated")] * 8)

    assert Counter(type(answer) for answer in answers) == {lifecycle.Ended: 1, TransitionRefused: 7}
    assert [f"{note.net.amount:.2f}" for note in credit_notes_of(subscription)] == ["190.00"]
    assert Event.objects.filter(aggregate_id=subscription.pk, type="subscription.cancelled").count() == 1


def test_the_same_change_asked_many_times_is_charged_once():
    tenant = make_organisation(local("2026-04-01 09:00"))
    subscription = subscribe(make_customer(tenant), make_plan(tenant, seats("300.00")))
    run(tenant)
    turn(tenant, local("2026-04-16 09:00"))

    answers = together(
        *[lambda: changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=5)] * 8
    )

    assert Counter(type(answer) for answer in answers) == {changing.Changed: 1, NothingToChange: 7}
    assert billed(subscription) == 900


def test_an_external_id_subscribes_once():
    tenant = make_organisation(local("2026-04-01 09:00"))
    customer, plan = make_customer(tenant), make_plan(tenant, seats("300.00"))

    answers = together(
        *[
            lambda: acting.subscribe(
                organisation=tenant, actor=CLERK, customer_id=customer.pk, plan_id=plan.pk, external_id="one"
            )
        ]
        * 8
    )

    assert sum(isinstance(answer, Subscription) for answer in answers) == 1
    assert all(isinstance(answer, Subscription | ExternalIdTaken) for answer in answers), answers
    assert (Subscription.objects.count(), Invoice.objects.count()) == (1, 1)


def test_jobs_and_people_at_once_bill_each_period_once():
    """A renewal is due, a change is planned, and everybody comes at the same moment."""
    tenant = make_organisation(local("2026-04-01 09:00"))
    plan = make_plan(tenant, seats("300.00"))
    rows = [subscribe(make_customer(tenant), plan) for _ in range(6)]
    run(tenant)
    for row in rows:
        changing.change_subscription(subscription_id=row.pk, actor=CLERK, quantity=2, when="period_end")
    turn(tenant, local("2026-05-01 09:00"))

    together(
        *[lambda: changes.apply_due(organisation=tenant)] * 2,
        *[lambda: run_billing(organisation=tenant)] * 2,
        *[lambda pk=row.pk: acting.bill_now(organisation=tenant, subscription_id=pk) for row in rows[:3]],
        lambda: lifecycle.cancel(subscription_id=rows[5].pk, actor=CLERK),
    )
    run(tenant)

    assert [billed(row) for row in rows[:5]] == [900] * 5
    assert billed(rows[5]) in (300, 900)
    counts = Counter(BilledPeriod.objects.values_list("subscription_id", flat=True))
    assert [counts[row.pk] for row in rows[:5]] == [2] * 5
    numbers = sorted(int(number.rsplit("/", 1)[1]) for number in Invoice.objects.values_list("number", flat=True))
    assert numbers == list(range(1, len(numbers) + 1))
    receivable = ledger.balance(organisation=tenant, account="receivable", currency="INR")
    assert receivable.amount == sum(invoice.due.amount for invoice in Invoice.objects.all())


ROUNDS = 100


def test_two_runs_a_change_and_a_pause_at_the_same_instant_have_one_legal_order():
    """A renewal is due. Whatever comes first, the end is one that some order one after the other leads to."""
    tenant = make_organisation(local("2026-04-01 09:00"))
    customer, plan = make_customer(tenant), make_plan(tenant, seats("300.00"))

    def begin():
        turn(tenant, local("2026-04-01 09:00"))
        subscription = subscribe(customer, plan)
        run_billing(organisation=tenant, subscription_ids=[subscription.pk])
        turn(tenant, local("2026-05-01 09:00"))
        return subscription

    def works(pk):
        return [
            lambda: run_billing(organisation=tenant, subscription_ids=[pk]),
            lambda: changing.change_subscription(subscription_id=pk, actor=CLERK, quantity=3),
            lambda: lifecycle.pause(subscription_id=pk, actor=CLERK, credit="prorated"),
        ]

    def outcome(subscription):
        found = fresh(subscription)
        return found.status, found.quantity, found.next_billing_at, f"{billed(subscription):.2f}"

    legal = set()
    for order in permutations(range(3)):
        subscription = begin()
        for position in order:
            with suppress(DomainError):
                works(subscription.pk)[position]()
        legal.add(outcome(subscription))

    seen = Counter()
    for _ in range(ROUNDS):
        subscription = begin()
        first_run, change, pause = works(subscription.pk)
        answers = together(first_run, change, pause, works(subscription.pk)[0])
        assert all(not isinstance(one, Exception) or isinstance(one, DomainError) for one in answers), answers
        seen[outcome(subscription)] += 1
        periods = Counter(BilledPeriod.objects.filter(subscription=subscription).values_list("starts_at", "kind"))
        assert set(periods.values()) == {1}
    assert seen.keys() <= legal, (seen, legal)
    assert seen.total() == ROUNDS


def test_a_pause_that_waited_for_a_change_of_plan_finds_the_subscription():
    """The row that it gets is of another plan than the one it began to wait for."""
    tenant = make_organisation(local("2026-04-01 09:00"))
    subscription = subscribe(make_customer(tenant), make_plan(tenant, seats("300.00")))
    other = make_plan(tenant, seats("600.00"))
    run(tenant)
    turn(tenant, local("2026-04-11 09:00"))
    held = threading.Event()
    about = {"organisation": tenant, "subscription_id": subscription.pk, "actor": CLERK}

    def change():
        with transaction.atomic():
            acting.change(**about, version=changing.version_for(organisation=tenant, plan_id=other.pk))
            held.set()
            time.sleep(0.5)  # the other one is at the row by now, or comes later: both are right

    def pause():
        held.wait()
        return acting.pause(**about, credit="prorated")

    answers = together(change, pause)

    assert not any(isinstance(one, Exception) for one in answers), answers
    found = fresh(subscription)
    assert (found.status, found.plan_version.plan_id) == (Status.PAUSED, other.pk)
    assert f"{billed(subscription):.2f}" == "120.00"  # 10 days of 10.00, the 11th of 20.00


def test_a_cancellation_waits_for_the_worker_that_finalises_its_draft():
    """Else it would find nothing to credit, and the draft would be issued in full the moment after."""
    tenant = make_organisation(local("2026-04-01 09:00"))
    customer = make_customer(tenant)
    set_terms(organisation=tenant, customer_id=customer.pk, actor=CLERK, grace_days=3)
    subscription = subscribe(customer, make_plan(tenant, seats("30.00")))
    run(tenant)
    turn(tenant, local("2026-04-06 09:00"))
    held = threading.Event()

    def finalise():
        with transaction.atomic():
            list(DraftCycle.objects.select_for_update().all())
            held.set()
            time.sleep(0.5)  # the other one is at the row by now, or comes later: both are right
            finalize_due(organisation=tenant)

    def cancel():
        held.wait()
        return acting.cancel(
            organisation=tenant, subscription_id=subscription.pk, actor=CLERK, credit="prorated", reason="Moved away"
        )

    answers = together(finalise, cancel)

    assert not any(isinstance(one, Exception) for one in answers), answers
    assert [f"{note.net.amount:.2f}" for note in credit_notes_of(subscription)] == ["24.00"]
    assert DraftCycle.objects.get().finalized_at is not None
