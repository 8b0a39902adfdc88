"""How long a subscription lasts, changed while it runs: fixed ends set, moved and removed; terms, their renewal and notice."""

from datetime import timedelta
from decimal import Decimal

import pytest

from billing.models import AuditRecord, Event, UsageNaming
from billing.services.outbox import dispatch
from payments.models import Refund
from payments.services.offline import record_offline_payment
from subscriptions.errors import (
    CancellationPlanned,
    InvalidSubscription,
    NothingToChange,
    NoticePassed,
    ProrationOff,
    TransitionRefused,
)
from subscriptions.models import Subscription
from subscriptions.rules import Term
from subscriptions.selectors import ending_before, renewing_before
from subscriptions.services import acting, lasting, lifecycle, preview
from subscriptions.services.catalog import PriceInput
from subscriptions.services.rows import Status
from subscriptions.services.terms import last_end, renews
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
    periods_of,
    run,
    seats,
    subscribe,
    turn,
    use,
)

pytestmark = pytest.mark.django_db
WEEK = timedelta(days=7)
QUARTERS = Term(interval="month", count=3, notice_days=10)


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


@pytest.fixture
def customer(tenant):
    return make_customer(tenant)


PLAIN = (flat("300.00"),)


def running(customer, *, prices=PLAIN, at="2026-04-10 10:00", **agreed):
    """A subscription since 1 April that is billed until now."""
    subscription = subscribe(customer, make_plan(customer.organisation, *prices), **agreed)
    run(customer.organisation)
    turn(customer.organisation, local(at))
    run(customer.organisation)
    return subscription


def end(subscription, until, **asked):
    ends_at = None if until is None else local(until)
    return acting.change_end(
        organisation=subscription.organisation, subscription_id=subscription.pk, actor=CLERK, ends_at=ends_at, **asked
    )


def term(subscription, **asked):
    return acting.change_term(
        organisation=subscription.organisation, subscription_id=subscription.pk, actor=CLERK, **asked
    )


def stands(subscription):
    """How long it lasts: end, last end, whether it renews."""
    found = fresh(subscription)
    return found.ends_at, last_end(found), renews(found)


# --- fixed ends -----------------------------------------------------------------------------------
def test_a_fixed_end_set_later_charges_its_last_period_by_the_day(tenant, customer):
    subscription = running(customer)

    end(subscription, "2026-06-10 15:00")

    live(tenant, local("2026-08-01 10:00"), step=WEEK)
    assert amounts(invoices_of(subscription)) == ["300.00", "300.00", "100.00"]  # ten of thirty days of June
    assert fresh(subscription).status == Status.EXPIRED
    assert [news for news, _ in events_of(subscription)][-3:] == ["renewed", "renewed", "expired"]


def test_an_end_within_the_paid_period_credits_what_is_past_it_at_once(tenant, customer):
    subscription = running(customer)

    changed = end(subscription, "2026-04-20 15:00", credit="prorated", reason="Moves out")

    assert amounts(changed.issued.credit_notes) == ["100.00"]  # 21 to 30 April
    found = fresh(subscription)
    assert (found.period_end, found.next_billing_at) == (local("2026-04-21 00:00"), local("2026-04-21 00:00"))
    live(tenant, local("2026-06-01 10:00"), step=WEEK)
    assert (fresh(subscription).status, amounts(invoices_of(subscription))) == (Status.EXPIRED, ["300.00"])
    assert amounts(credit_notes_of(subscription)) == ["100.00"]


def test_without_credit_what_is_paid_stays_paid(tenant, customer):
    subscription = running(customer)

    end(subscription, "2026-04-20 15:00")
    end(subscription, "2026-06-01 00:00")

    live(tenant, local("2026-07-01 10:00"), step=WEEK)
    assert (amounts(invoices_of(subscription)), credit_notes_of(subscription)) == (["300.00", "300.00"], [])


def test_an_end_that_moves_on_again_charges_what_was_given_back_from_there(tenant, customer):
    subscription = running(customer)
    end(subscription, "2026-04-20 15:00", credit="prorated")

    end(subscription, None)

    live(tenant, local("2026-05-02 10:00"))
    assert amounts(invoices_of(subscription)) == ["300.00", "100.00", "300.00"]
    assert periods_of(subscription) == [
        ("2026-04-01", "2026-05-01", "cycle"), ("2026-04-21", "2026-05-01", "cycle"), ("2026-05-01", "2026-06-01", "cycle"),
    ]  # fmt: skip


def test_an_end_agreed_from_the_beginning_moves_within_its_period(tenant, customer):
    subscription = running(customer, ends_at=local("2026-04-15 12:00"))
    assert amounts(invoices_of(subscription)) == ["150.00"]

    end(subscription, "2026-04-25 00:00")

    live(tenant, local("2026-05-20 10:00"))
    assert amounts(invoices_of(subscription)) == ["150.00", "90.00"]  # 16 to 24 April
    assert fresh(subscription).status == Status.EXPIRED


def test_by_the_second_the_end_counts_as_it_is(tenant, customer):
    subscription = running(customer, proration="second")

    changed = end(subscription, "2026-04-16 12:00", credit="prorated")

    assert amounts(changed.issued.credit_notes) == ["145.00"]
    assert fresh(subscription).period_end == local("2026-04-16 12:00")


def test_the_money_goes_back_where_it_came_from(tenant, customer):
    subscription = running(customer, at="2026-04-02 10:00")
    invoice = invoices_of(subscription)[0]
    record_offline_payment(
        organisation=tenant, customer_id=customer.pk, amount=invoice.due, reference=f"invoice:{invoice.pk}",
        received_on=invoice.issued_on, note="Counter", actor=CLERK,
    )  # fmt: skip
    dispatch(wait=True)

    end(subscription, "2026-04-11 00:00", credit="refund")
    dispatch(wait=True)
    dispatch(wait=True)

    assert [f"{refund.amount.amount:.2f}" for refund in Refund.objects.all()] == ["200.00"]


def test_usage_and_what_is_charged_afterwards_is_billed_up_to_the_new_end(tenant, customer):
    meter = make_meter(tenant)
    calls = PriceInput(
        code="calls", name="Calls", currency="INR", model="per_unit", unit_price=Decimal(2), meter="calls"
    )
    desks = seats("30.00", code="desks", name="Desks", pay_in_advance=False)
    subscription = running(customer, prices=(flat("300.00"), calls, desks))
    use(customer, meter, "7", local("2026-04-09 10:00"))

    end(subscription, "2026-04-20 15:00", credit="prorated")

    live(tenant, local("2026-05-02 10:00"))
    assert lines_of(invoices_of(subscription)[1]) == [("Calls", "14.00"), ("Desks (20 of 30 days)", "20.00")]
    assert len(invoices_of(subscription)) == 2


def test_a_trial_ends_with_its_subscription_and_costs_nothing(tenant, customer):
    subscription = running(customer, trial_days=20)

    end(subscription, "2026-04-15 00:00", credit="prorated")

    live(tenant, local("2026-05-10 10:00"))
    assert (fresh(subscription).status, invoices_of(subscription)) == (Status.EXPIRED, [])


def test_a_paused_subscription_ends_and_gives_back_what_it_still_has(tenant, customer):
    subscription = running(customer)
    lifecycle.pause(subscription_id=subscription.pk, actor=CLERK, resume_at=local("2026-04-15 00:00"))

    end(subscription, "2026-04-21 00:00", credit="prorated")

    live(tenant, local("2026-05-10 10:00"))
    assert (amounts(invoices_of(subscription)), amounts(credit_notes_of(subscription))) == (["300.00"], ["100.00"])
    assert fresh(subscription).status == Status.EXPIRED


def test_one_that_begins_later_may_end_after_its_start_only(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, flat("300.00")), start_at=local("2026-05-01 00:00"))

    with pytest.raises(InvalidSubscription) as refused:
        end(subscription, "2026-04-20 00:00")
    assert refused.value.field == "ends_at"
    end(subscription, "2026-05-11 00:00")

    live(tenant, local("2026-06-02 10:00"), step=WEEK)
    assert amounts(invoices_of(subscription)) == ["96.77"]  # ten of 31 days


REFUSED = {
    "in the past": ("2026-04-09 10:00", {}, InvalidSubscription),
    "this very moment": ("2026-04-10 10:00", {}, InvalidSubscription),
    "in a hundred years": ("2126-04-10 10:00", {}, InvalidSubscription),
    "none, as it is": (None, {}, NothingToChange),
    "an unknown credit": ("2026-05-10 10:00", {"credit": "all"}, InvalidSubscription),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_end_that_cannot_be_is_refused_and_nothing_changes(tenant, customer, case):
    until, options, refusal = REFUSED[case]
    subscription = running(customer)
    before, events = fresh(subscription).version, Event.objects.count()

    with pytest.raises(refusal):
        end(subscription, until, **options)

    found = fresh(subscription)
    assert (found.version, found.ends_at, Event.objects.count(), credit_notes_of(subscription)) == (
        before, None, events, [],
    )  # fmt: skip


def test_whole_periods_give_nothing_back(tenant, customer):
    subscription = running(customer, proration="none")

    with pytest.raises(ProrationOff):
        end(subscription, "2026-04-20 00:00", credit="prorated")
    end(subscription, "2026-04-20 00:00")
    end(subscription, "2026-05-15 00:00")

    live(tenant, local("2026-06-02 10:00"), step=WEEK)
    assert amounts(invoices_of(subscription)) == ["300.00", "300.00"]


def test_what_has_ended_or_is_cancelled_for_a_day_is_not_moved(tenant, customer):
    subscription = running(customer)
    lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK, when="period_end")
    for change in (lambda: end(subscription, "2026-12-01 00:00"), lambda: term(subscription, term=QUARTERS)):
        with pytest.raises(CancellationPlanned) as refused:
            change()
        assert "2026-05-01" in str(refused.value)
    lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK)

    for change in (lambda: end(subscription, "2026-12-01 00:00"), lambda: term(subscription, term=QUARTERS)):
        with pytest.raises(TransitionRefused):
            change()


def test_who_waits_for_a_first_payment_is_not_moved(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, flat("300.00")), payment_gate_days=5)
    run(tenant)

    with pytest.raises(TransitionRefused):
        end(subscription, "2026-12-01 00:00")


def test_who_decided_is_kept_with_the_reason_and_told(tenant, customer):
    subscription = running(customer)

    end(subscription, "2026-06-01 00:00", reason="Signed until May")

    kept = AuditRecord.objects.get(action="subscription.end_changed")
    assert (kept.reason, kept.before["ends_at"], kept.after["ends_at"]) == (
        "Signed until May", None, local("2026-06-01 00:00").isoformat(),
    )  # fmt: skip
    told = Event.objects.get(type="subscription.end_changed")
    assert (told.payload["ends_at"], told.payload["renews"], told.payload["status"]) == (
        local("2026-06-01 00:00").isoformat(), False, "active",
    )  # fmt: skip


def test_an_end_that_moves_on_over_another_subscription_makes_events_name_theirs(tenant, customer):
    make_meter(tenant)
    calls = PriceInput(code="calls", name="Calls", currency="INR", model="per_unit", unit_price=2, meter="calls")
    first = running(customer, prices=(flat("1.00"), calls), ends_at=local("2026-05-01 00:00"))
    subscribe(customer, make_plan(tenant, calls), start_at=local("2026-05-01 00:00"))
    assert not UsageNaming.objects.exists()

    end(first, "2026-05-20 00:00")

    assert [naming.first_ref for naming in UsageNaming.objects.all()] == [first.pk]


# --- renewal --------------------------------------------------------------------------------------
def test_renewal_switched_off_in_time_ends_it_with_its_term(tenant, customer):
    subscription = running(customer, at="2026-06-20 10:00", term=QUARTERS)

    term(subscription, renews=False)

    assert stands(subscription) == (local("2026-07-01 00:00"), local("2026-07-01 00:00"), False)
    live(tenant, local("2026-08-01 10:00"), step=WEEK)
    found = fresh(subscription)
    assert (found.status, found.cancelled_at) == (Status.EXPIRED, None)
    assert amounts(invoices_of(subscription)) == ["300.00"] * 3


def test_switched_off_too_late_it_ends_with_the_next_term(tenant, customer):
    subscription = running(customer, at="2026-06-21 10:00", term=QUARTERS)

    term(subscription, renews=False)

    assert stands(subscription) == (local("2026-07-01 00:00"), local("2026-10-01 00:00"), True)
    live(tenant, local("2026-11-01 10:00"), step=WEEK)
    assert (fresh(subscription).status, len(invoices_of(subscription))) == (Status.EXPIRED, 6)


@pytest.mark.parametrize("at", ["2026-06-20 10:00", "2026-06-25 10:00"])
def test_switched_on_again_it_goes_on_as_agreed(tenant, customer, at):
    agreed = Term(interval="month", count=3, renewals=5, notice_days=10)
    subscription = running(customer, at=at, term=agreed)
    term(subscription, renews=False)

    term(subscription, renews=True)

    assert stands(subscription) == (local("2026-07-01 00:00"), local("2027-10-01 00:00"), True)
    for again in (True, False):
        if again:
            with pytest.raises(NothingToChange):
                term(subscription, renews=True)
        else:
            term(subscription, renews=False)
            with pytest.raises(NothingToChange):
                term(subscription, renews=False)


def test_the_number_of_renewals_changes(tenant, customer):
    subscription = running(customer, term=QUARTERS)

    term(subscription, renewals=1)

    assert stands(subscription) == (local("2026-07-01 00:00"), local("2026-10-01 00:00"), True)
    term(subscription, renewals=0)
    assert stands(subscription) == (local("2026-07-01 00:00"), local("2026-07-01 00:00"), False)
    with pytest.raises(InvalidSubscription):
        term(subscription, renews=True)  # none are left: how many?
    term(subscription, renewals=None)
    assert stands(subscription) == (local("2026-07-01 00:00"), None, True)
    turn(tenant, local("2026-06-21 10:00"))
    with pytest.raises(NoticePassed) as refused:
        term(subscription, renewals=0)
    assert (refused.value.field, "2026-06-21" in str(refused.value)) == ("renewals", True)


# --- other terms ----------------------------------------------------------------------------------
def test_a_term_for_one_that_had_none_counts_from_the_running_period(tenant, customer):
    subscription = running(customer, at="2026-05-20 10:00")

    term(subscription, term=Term(interval="month", count=3, renewals=0))

    assert stands(subscription) == (local("2026-08-01 00:00"), local("2026-08-01 00:00"), False)
    live(tenant, local("2026-09-01 10:00"), step=WEEK)
    assert (fresh(subscription).status, len(invoices_of(subscription))) == (Status.EXPIRED, 4)


def test_a_trials_term_counts_from_the_first_charged_day(tenant, customer):
    subscription = running(customer, trial_days=20)

    term(subscription, term=Term(interval="month", renewals=0))

    assert stands(subscription)[0] == local("2026-05-21 00:00")


def test_another_term_from_the_next_one_on(tenant, customer):
    subscription = running(customer, term=QUARTERS)

    term(subscription, term=Term(interval="month", renewals=1), when="term_end")

    assert stands(subscription) == (local("2026-07-01 00:00"), local("2026-09-01 00:00"), True)
    live(tenant, local("2026-07-02 10:00"), step=WEEK)
    found = fresh(subscription)
    assert (found.term_interval, found.term_count, found.renewals_left, found.notice_days) == ("month", 1, 1, 0)
    assert (found.ends_at, found.next_term) == (local("2026-08-01 00:00"), None)
    live(tenant, local("2026-10-01 10:00"), step=WEEK)
    assert (fresh(subscription).status, len(invoices_of(subscription))) == (Status.EXPIRED, 5)


def test_a_term_becomes_open_ended_when_it_is_over_or_now(tenant, customer):
    subscription = running(customer, term=QUARTERS)
    other = subscribe(make_customer(tenant), make_plan(tenant, flat("10.00")), term=QUARTERS)

    term(subscription, term=None, when="term_end")
    term(other, term=None)

    assert stands(subscription) == (local("2026-07-01 00:00"), None, True)
    assert stands(other) == (None, None, False)
    live(tenant, local("2026-11-02 10:00"), step=WEEK)
    for one, months in ((subscription, 8), (other, 7)):
        found = fresh(one)
        assert (found.status, found.ends_at, found.term_interval) == (Status.ACTIVE, None, "")
        assert len(invoices_of(one)) == months


def test_a_term_may_follow_a_fixed_end(tenant, customer):
    subscription = running(customer, ends_at=local("2026-06-10 12:00"))

    term(subscription, term=Term(interval="month", renewals=0), when="term_end")

    assert stands(subscription)[1] == local("2026-07-11 00:00")  # counted from the day after the last
    live(tenant, local("2026-08-01 10:00"))
    assert amounts(invoices_of(subscription)) == ["300.00", "300.00", "100.00", "200.00", "96.77"]
    assert fresh(subscription).status == Status.EXPIRED


def test_a_shorter_term_now_gives_back_what_is_charged_past_it(tenant, customer):
    plan = make_plan(tenant, flat("365.00"), interval="year")
    subscription = subscribe(customer, plan)
    run(tenant)
    turn(tenant, local("2026-04-10 10:00"))

    changed = term(subscription, term=Term(interval="month", renewals=0), credit="prorated")

    assert amounts(changed.issued.credit_notes) == ["335.00"]
    with pytest.raises(InvalidSubscription) as refused:
        term(subscription, term=Term(interval="week"))
    assert (refused.value.field, "2026-04-01" in str(refused.value)) == ("term", True)


@pytest.mark.parametrize(
    ("asked", "ends"), [({"renews": False}, "2026-08-01 00:00"), ({"renewals": 2}, "2027-01-01 00:00")]
)
def test_what_follows_may_be_decided_anew_after_the_notice(tenant, customer, asked, ends):
    subscription = running(customer, at="2026-06-25 10:00", term=QUARTERS)
    term(subscription, term=Term(interval="month"), when="term_end")

    term(subscription, **asked)

    assert stands(subscription)[1] == local(ends)


def test_cancelled_at_the_terms_end_it_reaches_to_what_was_agreed_to_follow(tenant, customer):
    subscription = running(customer, at="2026-06-25 10:00", term=QUARTERS)
    term(subscription, term=Term(interval="month"), when="term_end")

    lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK, when="term_end")

    assert fresh(subscription).cancel_at == local("2026-08-01 00:00")


NONSENSE = {
    "nothing": ({}, "term"),
    "two things": ({"renews": True, "renewals": 3}, "term"),
    "when without a term": ({"renews": False, "when": "now"}, "when"),
    "credit without a term": ({"renews": False, "credit": "prorated"}, "credit"),
    "credit for later": ({"term": QUARTERS, "when": "term_end", "credit": "prorated"}, "credit"),
    "an unknown time": ({"term": QUARTERS, "when": "soon"}, "when"),
}
WITHOUT = {
    "a term after none": ({"term": QUARTERS, "when": "term_end"}, "when"),
    "no renewal of none": ({"renews": False}, "renews"),
    "renewal of none": ({"renews": True}, "renews"),
    "renewals of none": ({"renewals": 3}, "renewals"),
}


@pytest.mark.parametrize("case", NONSENSE | WITHOUT)
def test_what_makes_no_sense_is_refused_by_field(tenant, customer, case):
    asked, field = (NONSENSE | WITHOUT)[case]
    subscription = running(customer, term=None if case in WITHOUT else QUARTERS)
    before = fresh(subscription).version

    with pytest.raises(InvalidSubscription) as refused:
        term(subscription, **asked)

    assert (refused.value.field, fresh(subscription).version) == (field, before)


def test_no_change_is_planned_beyond_the_last_end(tenant, customer):
    subscription = running(customer, prices=(seats("300.00"),), term=QUARTERS)
    acting.change(
        organisation=tenant, subscription_id=subscription.pk, actor=CLERK, quantity=2, on=local("2026-09-01 00:00")
    )
    term(subscription, renews=False)

    with pytest.raises(InvalidSubscription) as refused:
        acting.change(
            organisation=tenant, subscription_id=subscription.pk, actor=CLERK, quantity=3, on=local("2026-09-01 00:00")
        )
    assert refused.value.field == "on"


def test_the_preview_tells_of_the_end_and_of_what_follows(tenant, customer):
    subscription = running(customer, term=QUARTERS)
    about = {"organisation": tenant, "subscription_id": subscription.pk, "count": 9}

    off = preview.preview_action(**about, action="change_term", renews=False)
    on = preview.preview_action(**about, action="change_term", term=None, when="term_end")

    assert [(one.at, one.what, one.status) for one in off.events if one.what not in ("renewed", "term_changed")] == [
        (local("2026-07-01 00:00"), "expired", "expired")
    ]
    assert (len(off.invoices), len(on.invoices)) == (2, 9)
    assert [one.at for one in on.events if one.what == "term_renewed"] == [local("2026-07-01 00:00")]
    assert stands(subscription)[2] is True


def test_lists_find_what_ends_and_what_renews(tenant):
    def one(**agreed):
        return subscribe(make_customer(tenant), make_plan(tenant, flat("1.00")), **agreed)

    open_ended, fixed, renewing, stopped, last, cancelled = (
        one(), one(ends_at=local("2026-06-01 00:00")), one(term=QUARTERS), one(term=QUARTERS),
        one(term=Term(interval="month", renewals=0)), one(term=QUARTERS),
    )  # fmt: skip
    followed = one(term=Term(interval="month", renewals=0))
    term(stopped, renews=False)
    term(followed, term=None, when="term_end")
    lifecycle.cancel(subscription_id=cancelled.pk, actor=CLERK, on=local("2026-05-05 00:00"))
    rows = Subscription.objects.of(tenant)

    def found(condition):
        return set(rows.filter(condition).values_list("pk", flat=True))

    at = local("2026-07-02 00:00")
    assert found(ending_before(at)) == {one.pk for one in (fixed, stopped, last, cancelled)}
    assert found(renewing_before(at)) == {renewing.pk, followed.pk}
    assert found(ending_before(local("2026-05-04 00:00"))) == {last.pk}
    assert open_ended.pk not in found(renewing_before(at) | ending_before(at))
    assert {row.pk for row in rows if row.ends_at and not renews(row)} == {fixed.pk, stopped.pk, last.pk}


def test_the_use_case_locks_and_saves_by_itself(tenant, customer):
    subscription = running(customer)

    lasting.change_end(subscription_id=subscription.pk, actor=CLERK, ends_at=local("2026-05-05 00:00"))

    assert fresh(subscription).next_change_at == local("2026-05-05 00:00")
