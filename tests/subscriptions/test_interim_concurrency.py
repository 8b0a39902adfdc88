"""Usage that is invoiced before the period's end, by workers and people who come at the same instant: charged once, whoever wins.

Real threads, each with a connection of its own. What an outcome may be is found by doing the same one after the other, in
every order.
"""

from collections import Counter
from contextlib import suppress
from decimal import Decimal
from itertools import permutations

import pytest
from moneyed import Money

from billing.errors import DomainError
from billing.models import UsageAdjustment
from billing.services import ledger
from invoices.models import CreditNote, Invoice
from subscriptions.models import BilledPeriod, DraftCycle, InterimInvoice
from subscriptions.services import acting, changing, interim
from subscriptions.services.billing_run import run_billing
from subscriptions.services.billing_terms import set_terms
from subscriptions.services.draft_finalizing import finalize_due
from subscriptions.services.thresholds import add_threshold
from tests.subscriptions.house import (
    CLERK,
    amounts,
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
from tests.subscriptions.test_concurrency import billed, together

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS = 6


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


def plan_of(tenant, fee="300.00", *, ahead=True):
    calls = seats("2.00", code="calls", name="Calls", meter="calls", pay_in_advance=ahead)
    return make_plan(tenant, flat(fee), calls, rules={"usage_in_advance_hours": 0})


def used(tenant, plan, meter, quantity="10"):
    """Subscribed on 1 April, 10 calls on 11 April at 8, which nobody has invoiced; it is 9."""
    turn(tenant, local("2026-04-01 09:00"))
    subscription = subscribe(make_customer(tenant), plan)
    run_billing(organisation=tenant, subscription_ids=[subscription.pk])
    turn(tenant, local("2026-04-11 09:00"))
    use(subscription.customer, meter, quantity, local("2026-04-11 08:00"))
    return subscription


def nobody_fell(answers):
    assert all(not isinstance(one, Exception) or isinstance(one, DomainError) for one in answers), answers


def books_hold(tenant):
    """Numbers without a gap, and the ledger says what the invoices say."""
    numbers = sorted(
        int(one.rsplit("/", 1)[1]) for one in Invoice.objects.exclude(number="").values_list("number", flat=True)
    )
    assert numbers == list(range(1, len(numbers) + 1))
    receivable = ledger.balance(organisation=tenant, account="receivable", currency="INR")
    assert receivable.amount == sum(invoice.due.amount for invoice in Invoice.objects.of(tenant).exclude(number=""))


@pytest.mark.parametrize("ahead", [True, False])
def test_two_workers_invoice_the_usage_of_each_once(tenant, ahead):
    """Charged in advance, or past a threshold: each subscription has one interim invoice, whichever worker wrote it."""
    meter, plan = make_meter(tenant), plan_of(tenant, ahead=ahead)
    if not ahead:
        add_threshold(organisation=tenant, actor=CLERK, plan_id=plan.pk, amount=Money(15, "INR"))
    rows = [used(tenant, plan, meter, quantity=f"{n}") for n in range(8, 20)]

    counts = together(*[lambda: interim.invoice_passed(organisation=tenant)] * 3)
    more = interim.invoice_passed(organisation=tenant)

    assert sum(counts) + more == 12
    assert Counter(InterimInvoice.objects.values_list("subscription_id", "number")) == {(row.pk, 1): 1 for row in rows}
    assert [amounts(invoices_of(row)) for row in rows] == [["300.00", f"{2 * n}.00"] for n in range(8, 20)]
    books_hold(tenant)


def test_a_worker_and_the_billing_run_at_the_periods_end_charge_usage_once(tenant):
    """The worker looked at its clock a minute before midnight; the run comes after."""
    meter, plan, seen = make_meter(tenant), plan_of(tenant), Counter()
    for _ in range(ROUNDS):
        subscription = used(tenant, plan, meter)
        turn(tenant, local("2026-04-30 23:59"))

        def close_month(pk=subscription.pk):
            turn(tenant, local("2026-05-01 00:00"))
            return run_billing(organisation=tenant, subscription_ids=[pk])

        nobody_fell(together(lambda: interim.invoice_passed(organisation=tenant), close_month))
        run_billing(organisation=tenant, subscription_ids=[subscription.pk])

        mine = amounts(invoices_of(subscription))
        assert mine in (["300.00", "320.00"], ["300.00", "20.00", "300.00"]), mine
        assert credit_notes_of(subscription) == []
        assert BilledPeriod.objects.filter(subscription=subscription).count() == 2
        seen[len(mine)] += 1
    assert seen.total() == ROUNDS
    books_hold(tenant)


def test_two_workers_a_run_a_change_and_a_pause_have_one_legal_order(tenant):
    """In the middle of the month: the ten calls are charged once, whoever charges them, and the rest as some order has it."""
    meter, plan = make_meter(tenant), plan_of(tenant)
    version = changing.version_for(organisation=tenant, plan_id=plan_of(tenant, "600.00").pk)

    def works(pk):
        about = {"organisation": tenant, "subscription_id": pk, "actor": CLERK}
        return [
            lambda: interim.invoice_passed(organisation=tenant),
            lambda: run_billing(organisation=tenant, subscription_ids=[pk]),
            lambda: acting.change(**about, version=version),
            lambda: acting.pause(**about, credit="prorated"),
        ]

    def outcome(subscription):
        found = fresh(subscription)
        lines = Counter()
        for invoice in invoices_of(subscription):
            for line in invoice.lines.all():
                lines[line.code] += line.amount.amount
        return (
            found.status,
            found.plan_version_id,
            found.usage_from,
            f"{billed(subscription):.2f}",
            f"{lines['calls']:.2f}",
        )

    legal = set()
    for order in permutations(range(4)):
        subscription = used(tenant, plan, meter)
        for position in order:
            with suppress(DomainError):
                works(subscription.pk)[position]()
        legal.add(outcome(subscription))
    assert {calls for *_, calls in legal} == {"20.00"}

    seen = Counter()
    for _ in range(ROUNDS):
        subscription = used(tenant, plan, meter)
        nobody_fell(together(*works(subscription.pk), works(subscription.pk)[0]))
        seen[outcome(subscription)] += 1
        assert InterimInvoice.objects.filter(subscription=subscription).count() <= 1
    assert seen.keys() <= legal, (seen, legal)
    assert seen.total() == ROUNDS
    books_hold(tenant)


def test_workers_who_end_the_grace_of_several_drafts_bill_late_usage_once(tenant):
    """Three drafts of a daily subscription wait, calls of a day before came late: one worker ends them all, or each some."""
    meter = make_meter(tenant)
    plan = make_plan(tenant, flat("10.00"), seats("2.00", code="calls", name="Calls", meter="calls"), interval="day")
    rows = []
    for _ in range(4):
        turn(tenant, local("2026-04-01 09:00"))
        customer = make_customer(tenant)
        rows.append(subscribe(customer, plan))
        run_billing(organisation=tenant, subscription_ids=[rows[-1].pk])
    turn(tenant, local("2026-04-02 09:00"))
    run(tenant)
    for row in rows:
        set_terms(organisation=tenant, customer_id=row.customer_id, actor=CLERK, grace_days=3)
        use(row.customer, meter, "5", local("2026-04-01 12:00"))
    turn(tenant, local("2026-04-05 09:00"))
    run(tenant)
    assert DraftCycle.objects.filter(finalized_at=None).count() == 12
    turn(tenant, local("2026-04-08 09:00"))

    nobody_fell(
        together(
            *[lambda: finalize_due(organisation=tenant)] * 2,
            lambda: acting.cancel(
                organisation=tenant, subscription_id=rows[0].pk, actor=CLERK, credit="none", waive_unbilled=True
            ),
            lambda: run_billing(organisation=tenant, subscription_ids=[rows[1].pk]),
        )
    )
    finalize_due(organisation=tenant)

    assert Counter(UsageAdjustment.objects.values_list("amount", flat=True)) == {Decimal(10): 4}
    assert [amounts(invoices_of(row))[:5] for row in rows] == [["10.00", "10.00", "20.00", "10.00", "10.00"]] * 4
    assert not CreditNote.objects.exists()
    books_hold(tenant)
