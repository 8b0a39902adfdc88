"""Terms of an agreement: gates, paid trials, fixed terms with notice, pauses and ends on dates, what is given back, tax inside."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction

from billing.models import Event, UsageEvent
from billing.services import ledger
from billing.services.outbox import dispatch
from invoices.models import Invoice
from invoices.services.settling import apply_customer_credit
from payments.models import Refund
from payments.services.offline import record_offline_payment
from subscriptions.errors import (
    InvalidPlan,
    InvalidSubscription,
    NothingToChange,
    PeriodOver,
    ProrationOff,
    QuantityBelowUse,
    TaxBasisDiffers,
    TransitionRefused,
)
from subscriptions.models import BilledPeriod, PlannedChange
from subscriptions.rules import Term, parse_rules, rules_of
from subscriptions.services import acting, changing, lifecycle
from subscriptions.services.catalog import PriceInput
from subscriptions.services.rows import Status
from tests.subscriptions.house import (
    CLERK,
    amounts,
    credit_notes_of,
    events_of,
    flat,
    fresh,
    invoices_of,
    lines_of,
    live,
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


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


@pytest.fixture
def customer(tenant):
    return make_customer(tenant)


def pay(subscription, invoice):
    """The customer pays over the counter; the house hears of it."""
    record_offline_payment(
        organisation=subscription.organisation, customer_id=subscription.customer_id, amount=invoice.due,
        reference=f"invoice:{invoice.pk}", received_on=invoice.issued_on, note="Counter", actor=CLERK,
    )  # fmt: skip
    dispatch(wait=True)


def about(subscription):
    return {"organisation": subscription.organisation, "subscription_id": subscription.pk, "actor": CLERK}


# --- payment-gated activation ---------------------------------------------------------------------
def test_it_is_incomplete_until_its_first_invoice_is_paid(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, flat("300.00")), payment_gate_days=5)
    run(tenant)
    assert fresh(subscription).status == Status.INCOMPLETE
    assert amounts(invoices_of(subscription)) == ["300.00"]
    live(tenant, local("2026-04-04 10:00"))

    pay(subscription, invoices_of(subscription)[0])

    found = fresh(subscription)
    assert (found.status, found.activate_by) == (Status.ACTIVE, None)
    live(tenant, local("2026-05-02 10:00"))
    assert amounts(invoices_of(subscription)) == ["300.00", "300.00"]
    assert [news for news, _ in events_of(subscription)] == ["created", "incomplete", "activated", "renewed"]


def test_unpaid_it_expires_and_its_invoice_is_void(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, flat("300.00")), payment_gate_days=5)
    run(tenant)

    live(tenant, local("2026-04-06 10:00"))

    found = fresh(subscription)
    assert (found.status, found.cancel_reason) == (Status.EXPIRED, "The first invoice was not paid in time.")
    assert [invoice.status for invoice in invoices_of(subscription)] == [Invoice.Status.VOID]
    assert ledger.balance(organisation=tenant, account="receivable", currency="INR").amount == 0
    live(tenant, local("2026-06-06 10:00"), step=timedelta(days=10))
    assert len(invoices_of(subscription)) == 1
    with pytest.raises(TransitionRefused):
        lifecycle.reactivate(subscription_id=subscription.pk, actor=CLERK)


def test_what_costs_nothing_waits_for_nothing(tenant, customer):
    free = subscribe(customer, make_plan(tenant, flat("0.00")), payment_gate_days=5)
    after_trial = subscribe(customer, make_plan(tenant, flat("10.00")), payment_gate_days=5, trial_days=3)
    run(tenant)

    assert (fresh(free).status, fresh(after_trial).status) == (Status.ACTIVE, Status.TRIALING)
    live(tenant, local("2026-04-04 10:00"))
    assert fresh(after_trial).status == Status.INCOMPLETE


def test_an_incomplete_one_is_neither_changed_nor_paused_and_may_be_cancelled(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, seats("300.00")), payment_gate_days=5)
    run(tenant)

    for refused in (
        lambda: changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=2),
        lambda: lifecycle.pause(subscription_id=subscription.pk, actor=CLERK),
    ):
        with pytest.raises(TransitionRefused):
            refused()
    lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK)

    assert fresh(subscription).status == Status.CANCELLED
    assert [invoice.status for invoice in invoices_of(subscription)] == [Invoice.Status.VOID]


# --- paid trial -----------------------------------------------------------------------------------
def test_a_paid_trial_is_billed_when_it_begins(tenant, customer):
    plan = make_plan(
        tenant, flat("300.00", tax_category="saas"), trial_days=14, rules={"trial_prices": {"INR": "49.00"}}
    )
    subscription = acting.subscribe(organisation=tenant, actor=CLERK, customer_id=customer.pk, plan_id=plan.pk)

    assert subscription.status == Status.TRIALING
    trial = invoices_of(subscription)[0]
    assert lines_of(trial) == [(f"Trial: {plan.name}", "49.00")]
    assert (str(trial.period_start), str(trial.period_end), f"{trial.total.amount:.2f}") == (
        "2026-04-01", "2026-04-14", "57.82",
    )  # fmt: skip
    live(tenant, local("2026-04-15 10:00"))
    assert amounts(invoices_of(subscription)) == ["49.00", "300.00"]
    assert [row.kind for row in BilledPeriod.objects.filter(subscription=subscription).order_by("starts_at")] == [
        "trial1", "cycle",
    ]  # fmt: skip


# --- terms ----------------------------------------------------------------------------------------
def test_a_term_renews_itself_as_often_as_agreed(tenant, customer):
    term = Term(interval="month", count=3, renewals=1, notice_days=10)
    subscription = subscribe(customer, make_plan(tenant, flat("100.00")), term=term)

    live(tenant, local("2026-12-01 10:00"))

    found = fresh(subscription)
    assert (found.status, found.term_number, found.renewals_left) == (Status.EXPIRED, 1, 0)
    assert amounts(invoices_of(subscription)) == ["100.00"] * 6
    assert [event for event, _ in events_of(subscription)].count("term_renewed") == 1


@pytest.mark.parametrize(("asked_on", "ends"), [("2026-06-10", "2026-07-01"), ("2026-06-25", "2026-10-01")])
def test_notice_given_too_late_is_for_the_next_term(tenant, customer, asked_on, ends):
    term = Term(interval="month", count=3, renewals=None, notice_days=10)
    subscription = subscribe(customer, make_plan(tenant, flat("100.00")), term=term)
    live(tenant, local(f"{asked_on} 10:00"))

    lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK, when="term_end")

    assert fresh(subscription).cancel_at == local(f"{ends} 00:00")
    live(tenant, local("2027-01-01 10:00"), step=timedelta(days=5))
    assert fresh(subscription).status == Status.CANCELLED
    assert str(invoices_of(subscription)[-1].period_end) == str(
        local(f"{ends} 00:00").date()
    )  # the evening before, UTC


# --- pauses and ends on dates ---------------------------------------------------------------------
def test_a_pause_with_credit_is_charged_again_from_the_day_it_ends(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, flat("300.00")))
    run(tenant)
    acting.pause(
        **about(subscription), on=local("2026-04-10 12:00"), resume_at=local("2026-04-21 12:00"), credit="prorated"
    )

    live(tenant, local("2026-05-02 10:00"))

    assert amounts(credit_notes_of(subscription)) == ["200.00"]  # 11 to 30 April
    assert amounts(invoices_of(subscription)) == ["300.00", "100.00", "300.00"]  # the rest from 21 April on


def test_a_credit_pays_the_next_invoice(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, seats("300.00")), quantity=2)
    run(tenant)
    pay(subscription, invoices_of(subscription)[0])
    turn(tenant, local("2026-04-16 10:00"))
    acting.change(**about(subscription), quantity=1)

    live(tenant, local("2026-05-02 10:00"))
    dispatch(wait=True)

    assert amounts(credit_notes_of(subscription)) == ["150.00"]
    assert f"{invoices_of(subscription)[1].due.amount:.2f}" == "150.00"
    assert apply_customer_credit(invoice_id=invoices_of(subscription)[1].pk) is None  # all of it is used


def test_several_changes_on_different_dates_take_hold_in_their_order(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, seats("300.00")))
    run(tenant)
    for day, quantity in (("21", 4), ("11", 2)):
        acting.change(**about(subscription), quantity=quantity, on=local(f"2026-04-{day} 00:00"))
    assert fresh(subscription).next_change_at == local("2026-04-11 00:00")

    live(tenant, local("2026-05-01 10:00"))

    assert amounts(invoices_of(subscription)) == ["300.00", "200.00", "200.00", "1200.00"]
    assert [change.status for change in PlannedChange.objects.all()] == ["applied", "applied"]


def test_a_change_planned_into_a_pause_takes_hold_when_it_ends(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, seats("300.00")))
    run(tenant)
    acting.change(**about(subscription), quantity=3, on=local("2026-05-10 00:00"))
    turn(tenant, local("2026-04-20 10:00"))
    acting.pause(**about(subscription))

    live(tenant, local("2026-06-01 10:00"), step=timedelta(days=5))
    assert (fresh(subscription).quantity, len(invoices_of(subscription))) == (1, 1)
    acting.resume(**about(subscription))

    assert (fresh(subscription).quantity, amounts(invoices_of(subscription))) == (3, ["300.00", "900.00"])


def test_cancelled_with_the_money_back(tenant, customer, monkeypatch):
    subscription = subscribe(customer, make_plan(tenant, flat("300.00")))
    run(tenant)
    pay(subscription, invoices_of(subscription)[0])
    turn(tenant, local("2026-04-10 10:00"))

    acting.cancel(**about(subscription), credit="refund")
    dispatch(wait=True)
    dispatch(wait=True)

    assert amounts(credit_notes_of(subscription)) == ["200.00"]
    assert [(f"{refund.amount.amount:.2f}", refund.reason) for refund in Refund.objects.all()] == [
        ("200.00", f"Credit note {credit_notes_of(subscription)[0].number}")
    ]
    assert ledger.balance(organisation=tenant, account="customer_credit", currency="INR").amount == 0


def test_reactivated_within_the_paid_time_it_goes_on(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, flat("300.00")))
    run(tenant)
    turn(tenant, local("2026-04-10 10:00"))
    acting.cancel(**about(subscription))
    turn(tenant, local("2026-04-20 10:00"))

    found = acting.reactivate(**about(subscription), reason="Came back")

    assert (found.status, found.cancelled_at) == (Status.ACTIVE, None)
    live(tenant, local("2026-05-02 10:00"))
    assert amounts(invoices_of(subscription)) == ["300.00", "300.00"]
    acting.cancel(**about(subscription), credit="prorated")
    live(tenant, local("2026-05-20 10:00"))
    with pytest.raises(PeriodOver):
        acting.reactivate(**about(subscription))


# --- how parts are counted ------------------------------------------------------------------------
def test_by_the_second_a_change_at_noon_costs_half_a_day_less(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, seats("300.00")), proration="second")
    run(tenant)
    assert amounts(invoices_of(subscription)) == ["300.00"]  # the first day counts as a whole
    turn(tenant, local("2026-04-16 12:00"))

    acting.change(**about(subscription), quantity=2)

    assert lines_of(invoices_of(subscription)[1]) == [
        ("Unused: Seats (1252800 of 2592000 seconds)", "-145.00"), ("Seats (1252800 of 2592000 seconds)", "290.00"),
    ]  # fmt: skip


def test_without_proration_a_period_is_charged_whole_once(tenant, customer):
    subscription = subscribe(
        customer, make_plan(tenant, seats("300.00")), proration="none", anchor_on=local("2026-03-15 12:00").date()
    )
    run(tenant)
    turn(tenant, local("2026-04-02 10:00"))

    changed = acting.change(**about(subscription), quantity=2)

    assert (changed.issued.invoice, amounts(invoices_of(subscription))) == (None, ["300.00"])
    for refused in (lambda: acting.cancel(**about(subscription), credit="prorated"),
                    lambda: acting.pause(**about(subscription), credit="prorated")):  # fmt: skip
        with pytest.raises(ProrationOff):
            refused()
    live(tenant, local("2026-04-16 10:00"))
    assert amounts(invoices_of(subscription)) == ["300.00", "600.00"]


def test_the_calendars_cycle_begins_with_a_part(tenant, customer):
    turn(tenant, local("2026-04-21 09:00"))
    monthly = subscribe(customer, make_plan(tenant, flat("300.00")), cycle="calendar")
    quarterly = subscribe(customer, make_plan(tenant, flat("910.00"), interval_count=3), cycle="calendar")

    live(tenant, local("2026-07-02 10:00"), step=timedelta(days=3))

    assert amounts(invoices_of(monthly)) == ["100.00", "300.00", "300.00", "300.00"]
    assert amounts(invoices_of(quarterly)) == ["710.00", "910.00"]  # 71 of 91 days


def test_prices_that_include_tax_stay_what_the_customer_pays(tenant, customer):
    plan = make_plan(tenant, seats("118.00", tax_category="saas"), prices_include_tax=True)
    subscription = subscribe(customer, plan, quantity=2)
    run(tenant)
    assert [(f"{one.net.amount:.2f}", f"{one.total.amount:.2f}") for one in invoices_of(subscription)] == [
        ("200.00", "236.00")
    ]
    turn(tenant, local("2026-04-16 10:00"))

    acting.change(**about(subscription), quantity=4)
    acting.change(**about(subscription), quantity=1)

    assert f"{invoices_of(subscription)[1].total.amount:.2f}" == "118.00"
    notes = credit_notes_of(subscription)
    assert f"{sum(note.total.amount for note in notes):.2f}" == "177.00"
    other = changing.version_for(organisation=tenant, plan_id=make_plan(tenant, seats("100.00")).pk)
    with pytest.raises(TaxBasisDiffers):
        acting.change(**about(subscription), version=other)
    with pytest.raises(IntegrityError), transaction.atomic():
        type(plan).objects.filter(pk=plan.pk).update(prices_include_tax=False)


def test_after_a_change_of_plan_tiers_begin_anew_or_go_on(tenant):
    make_meter(tenant)
    tiers = [{"up_to": "10", "unit_price": "0"}, {"up_to": None, "unit_price": "1"}]
    calls = PriceInput(code="calls", name="Calls", currency="INR", model="graduated", tiers=tiers, meter="calls")
    billed = {}
    for choice in ("restart", "continue"):
        customer = make_customer(tenant)
        rules = {"usage_after_change": choice}
        old, new = make_plan(tenant, flat("0"), calls, rules=rules), make_plan(tenant, flat("30"), calls)
        subscription = subscribe(customer, old)
        turn(tenant, local("2026-04-01 09:00"))
        run(tenant)
        meter = make_meter.__globals__["Meter"].objects.of(tenant).get(code="calls")
        use(customer, meter, "8", local("2026-04-05 10:00"))
        turn(tenant, local("2026-04-16 10:00"))
        acting.change(**about(subscription), version=changing.version_for(organisation=tenant, plan_id=new.pk))
        use(customer, meter, "8", local("2026-04-20 10:00"))
        turn(tenant, local("2026-05-01 10:00"))
        run(tenant)
        billed[choice] = amounts(invoices_of(subscription))
        lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK)
        turn(tenant, local("2026-04-01 09:00"))
    assert billed == {"restart": ["15.00", "30.00"], "continue": ["15.00", "36.00"]}  # 16 units, 6 above the free ones


@pytest.mark.parametrize("said", ["rule", "request"])
@pytest.mark.parametrize(
    ("terms", "minimum", "at_once", "documents", "afterwards"),
    [
        ({"quantity": 3}, None, True, (["20.00", "5.00"], []), "30.00"),  # 15 days of 10 more
        ({"quantity": 1}, None, False, (["20.00"], []), "10.00"),
        ({"price": "10.00"}, None, True, (["20.00"], []), "20.00"),  # as dear
        ({"price": "9.00"}, None, False, (["20.00"], []), "18.00"),
        ({"price": "9.00"}, "25.00", True, (["20.00"], ["1.00"]), "18.00"),  # its minimum makes it dearer
        ({"price": "9.00"}, "19.00", False, (["20.00"], []), "18.00"),
    ],
)
def test_by_value_what_is_as_dear_counts_now_and_what_is_cheaper_from_the_next_period_on(
    tenant, customer, said, terms, minimum, at_once, documents, afterwards
):
    plan = make_plan(tenant, seats("10.00"), rules={"change_when": "by_value"} if said == "rule" else {})
    subscription = subscribe(customer, plan, quantity=2)
    run(tenant)
    asked = dict(terms)
    if "price" in asked:
        least = {"INR": minimum} if minimum else None
        asked = {"version": make_plan(tenant, seats(asked["price"]), min_commitment=least).versions.get()}
    turn(tenant, local("2026-04-16 10:00"))
    acting.change(**about(subscription), **asked, **({} if said == "rule" else {"when": "by_value"}))

    assert (amounts(invoices_of(subscription)), amounts(credit_notes_of(subscription))) == documents
    assert PlannedChange.objects.filter(status="planned").count() == (0 if at_once else 1)
    turn(tenant, local("2026-05-01 10:00"))
    run(tenant)
    assert lines_of(invoices_of(subscription)[-1])[0] == ("Seats", afterwards)


# --- refusals -------------------------------------------------------------------------------------
def test_the_quantity_cannot_go_below_the_seats_in_use(tenant, customer):
    meter = make_meter(tenant, "in-use", "max")
    subscription = subscribe(customer, make_plan(tenant, seats("10.00"), rules={"seats_meter": "in-use"}), quantity=9)
    run(tenant)
    use(customer, meter, "6", local("2026-04-02 10:00"))
    turn(tenant, local("2026-04-03 10:00"))

    with pytest.raises(QuantityBelowUse, match="6 are in use"):
        acting.change(**about(subscription), quantity=5)
    acting.change(**about(subscription), quantity=6)


def test_seats_in_use_are_those_of_the_subscription(tenant, customer):
    """Two subscriptions of a customer count on one meter: each may go down to what its own people use."""
    meter = make_meter(tenant, "in-use", "max")
    plan = make_plan(tenant, seats("10.00"), rules={"seats_meter": "in-use"})
    first, second = (subscribe(customer, plan, quantity=9) for _ in range(2))
    run(tenant)
    for subscription, quantity in ((first, "6"), (second, "3")):
        UsageEvent.objects.create(
            organisation=tenant, event_id=f"seats-{quantity}", meter=meter, customer=customer, quantity=Decimal(quantity),
            subscription_ref=subscription.pk, occurred_at=local("2026-04-02 10:00"),
        )  # fmt: skip
    turn(tenant, local("2026-04-03 10:00"))

    with pytest.raises(QuantityBelowUse, match="3 are in use"):
        acting.change(**about(second), quantity=2)
    acting.change(**about(second), quantity=3)

    assert [fresh(one).quantity for one in (first, second)] == [9, 3]


def change(**asked):
    return lambda pk: changing.change_subscription(subscription_id=pk, actor=CLERK, **asked)


BAD = {
    "change in the past": change(quantity=2, on=local("2026-04-01 08:00")),
    "change far ahead": change(quantity=2, on=local("2040-01-01 00:00")),
    "change after the end": change(quantity=2, on=local("2026-12-01 00:00")),
    "when and on": change(quantity=2, when="period_end", on=local("2026-04-09 00:00")),
    "unknown when": change(quantity=2, when="soon"),
    "nothing": change(quantity=1, on=local("2026-04-09 00:00")),
    "pause in the past": lambda pk: lifecycle.pause(subscription_id=pk, actor=CLERK, on=local("2026-03-01 00:00")),
    "resume before the pause": lambda pk: lifecycle.pause(
        subscription_id=pk, actor=CLERK, on=local("2026-05-01 00:00"), resume_at=local("2026-04-20 00:00")),
    "cancel in the past": lambda pk: lifecycle.cancel(subscription_id=pk, actor=CLERK, on=local("2026-03-01 00:00")),
    "cancel after the end": lambda pk: lifecycle.cancel(subscription_id=pk, actor=CLERK, on=local("2026-12-01 00:00")),
    "cancel at no term's end": lambda pk: lifecycle.cancel(subscription_id=pk, actor=CLERK, when="term_end"),
    "cancel on no date": lambda pk: lifecycle.cancel(subscription_id=pk, actor=CLERK, when="on_date"),
    "unknown credit": lambda pk: lifecycle.cancel(subscription_id=pk, actor=CLERK, credit="all"),
}  # fmt: skip


@pytest.mark.parametrize("what", list(BAD))
def test_what_makes_no_sense_is_refused_and_changes_nothing(tenant, customer, what):
    subscription = subscribe(customer, make_plan(tenant, seats("10.00")), ends_at=local("2026-11-01 00:00"))
    run(tenant)
    before = fresh(subscription).version, Event.objects.count(), Invoice.objects.count(), PlannedChange.objects.count()

    with pytest.raises((InvalidSubscription, NothingToChange)) as refused:
        BAD[what](subscription.pk)

    assert refused.value.code in ("invalid_subscription", "nothing_to_change")
    assert before == (
        fresh(subscription).version, Event.objects.count(), Invoice.objects.count(), PlannedChange.objects.count(),
    )  # fmt: skip


@pytest.mark.parametrize(
    "rules",
    [{"proration": "hour"}, {"colour": "red"}, {"payment_gate_days": 0}, {"payment_gate_days": True}, {"seats_meter": 3},
     {"usage_in_advance_hours": 745},
     {"trial_prices": {"INR": "-1"}}, {"trial_prices": {"XXX": "1"}}, {"term": {"interval": "hour"}},
     {"term": {"interval": "month", "count": 0}}, {"term": {"interval": "month", "length": 3}}, {"term": 7}],
)  # fmt: skip
def test_a_rule_that_makes_no_sense_is_named(rules):
    with pytest.raises(InvalidPlan) as refused:
        parse_rules(rules)
    assert refused.value.field.startswith("rules")


def test_a_plan_differs_from_the_house_and_the_house_from_the_defaults():
    house = {"subscriptions": {"proration": "second", "cycle": "calendar", "last_day": "tuesday"}}

    found = rules_of(house, {"proration": "none", "term": {"interval": "year", "notice_days": 30}})

    assert (found.proration, found.cycle, found.last_day) == ("none", "calendar", "charged")
    assert found.term == Term(interval="year", count=1, renewals=None, notice_days=30)
    assert Decimal("49.00") == Decimal(rules_of({}, {"trial_prices": {"INR": "49.00"}}).trial_prices["INR"])
