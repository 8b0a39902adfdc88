"""Dunning: an overdue invoice is chased by days overdue, each stage once, until it is paid or given up."""

from datetime import UTC, date, datetime, timedelta

import pytest
import time_machine
from django.apps import apps
from moneyed import Money

from bench import population
from billing import clock
from billing.context import Actor
from billing.models import AuditRecord, Event, Organisation, TestClock
from billing.services import outbox
from invoices.models import Invoice, Mail, PaymentAllocation
from invoices.services import settling
from invoices.services.overdue import mark_overdue
from payments.models import Payment
from subscriptions import dunning_rules as rules
from subscriptions.dunning_selectors import recovery
from subscriptions.models import DunningCase, DunningPolicy, Subscription
from subscriptions.services import dunning_measures
from subscriptions.services.billing_run import run_billing
from subscriptions.services.dunning import run_dunning
from subscriptions.services.dunning_pauses import pause
from subscriptions.services.dunning_policies import UnknownPlans, archive_policy, create_policy

pytestmark = pytest.mark.django_db

ACTOR = Actor.system("test")
DUE = date(2026, 6, 1)


@pytest.fixture
def works(db):
    """Two customers with an invoice each, due on 1 June 2026."""
    organisation = population.build(customers=2, code="works")
    run_billing(organisation=organisation)
    outbox.dispatch(organisation.pk, wait=True)
    return organisation


def nth(organisation, n):
    return Subscription.objects.of(organisation).get(external_id=f"subscription-{n:07d}")


def invoice_of(subscription, number=0):
    return Invoice.objects.filter(subscription_ref=subscription.pk).order_by("id")[number]


def case_of(subscription, number=0):
    return DunningCase.objects.get(invoice=invoice_of(subscription, number))


def live(organisation, days):
    """Let it become ``days`` after the due date, day by day, and what the clock runs then; the last day's report."""
    today = (clock.now(organisation).date() - DUE).days
    for day in range(min(max(today + 1, 1), days), days):
        wake(organisation, day)
    return wake(organisation, days)


def wake(organisation, days):
    """Let it be ``days`` after the due date at once, as after an outage, and what the clock runs then."""
    at = datetime(2026, 6, 1, 6, 0, tzinfo=UTC) + timedelta(days=days)
    TestClock.objects.filter(pk=organisation.test_clock_id).update(now=at)
    mark_overdue(organisation=organisation)
    outbox.dispatch(organisation.pk, wait=True)
    report = run_dunning(organisation=organisation)
    outbox.dispatch(organisation.pk, wait=True)
    return report


def pay(invoice):
    """The invoice is paid in full, as the payments app would leave it."""
    payment = Payment.objects.of(invoice.organisation).filter(reference=f"invoice:{invoice.pk}").first()
    if payment is None:
        payment = Payment(
            organisation=invoice.organisation, customer=invoice.customer, reference=f"invoice:{invoice.pk}", amount=invoice.total,
            refunded=Money(0, "INR"), disputed=Money(0, "INR"), created_at=invoice.created_at,
        )  # fmt: skip
        payment.save()
    Payment.objects.filter(pk=payment.pk).update(status="succeeded")
    settling.allocate_payment(payment_id=payment.pk)
    outbox.dispatch(invoice.organisation.pk, wait=True)


def letters(subscription):
    """Kinds of the reminders, in order."""
    kinds = Mail.objects.filter(key__startswith="dunning:", customer_id=subscription.customer_id)
    return list(kinds.order_by("id").values_list("kind", flat=True))


def told(organisation):
    return list(
        Event.objects.of(organisation).filter(type__startswith="dunning.").order_by("id").values_list("type", flat=True)
    )


def test_from_the_first_reminder_to_the_loss(works):
    subscription = nth(works, 0)
    invoice = invoice_of(subscription)
    statuses = {}

    for days in range(23):
        live(works, days)
        statuses[days] = (nth(works, 0).status, len(letters(subscription)))

    assert statuses[0] == ("active", 0)
    assert statuses[1] == statuses[4] == ("past_due", 1)
    assert statuses[5] == statuses[9] == ("past_due", 2)
    assert statuses[10] == statuses[20] == ("suspended", 3)
    assert statuses[21] == statuses[22] == ("cancelled", 3)
    assert letters(subscription) == ["reminder_1", "reminder_2", "final_notice"]
    case = case_of(subscription)
    assert (case.status, case.stage, case.next_stage_on) == ("exhausted", 4, None)
    assert [(step["stage"], step["on"], step["actions"]) for step in case.history] == [
        (1, "2026-06-02", ["mail:reminder_1"]),
        (2, "2026-06-06", ["mail:reminder_2"]),
        (3, "2026-06-11", ["mail:final_notice", "suspend"]),
        (4, "2026-06-22", ["cancel", "write_off"]),
    ]
    assert Invoice.objects.get(pk=invoice.pk).status == "uncollectible"
    assert told(works) == ["dunning.opened"] * 2 + ["dunning.stage"] * 6 + ["dunning.stage", "dunning.exhausted"] * 2


def test_each_stage_is_taken_once_however_often_the_run_fires(works):
    live(works, 1)

    assert [len(live(works, 1).steps) for _ in range(3)] == [0, 0, 0]
    assert letters(nth(works, 0)) == ["reminder_1"]


def steps_of(organisation, subscription, days):
    """What each of the ``days`` does to a subscription's first case, where it does something."""
    case = case_of(subscription)
    taken = {day: [step for step in wake(organisation, day).steps if step.case_id == case.pk] for day in days}
    return {day: (step.stage, step.actions) for day, steps in taken.items() for step in steps}


def test_after_an_outage_it_writes_first_and_then_cuts_off_stage_by_stage_with_the_days_between(works):
    """Nothing ran for forty days: one letter, and what cuts off has the policy's days before it, as on any other day."""
    [step, _] = wake(works, 40).steps
    assert (step.stage, step.days_overdue, step.actions) == (2, 40, ("mail:reminder_2",))
    assert (nth(works, 0).status, letters(nth(works, 0))) == ("past_due", ["reminder_2"])
    case = case_of(nth(works, 0))
    assert case.next_stage_on == DUE + timedelta(days=45)
    assert case.held_because.startswith("Stage 3 comes on 2026-07-16 at the earliest")

    assert steps_of(works, nth(works, 0), range(40, 70)) == {
        45: (3, ("mail:final_notice", "suspend")),
        56: (4, ("cancel", "write_off")),
    }

    case = case_of(nth(works, 0))
    assert (case.status, case.held_because, nth(works, 0).status) == ("exhausted", "", "cancelled")
    assert letters(nth(works, 0))[:2] == ["reminder_2", "final_notice"], (
        "then the period that was billed meanwhile is chased"
    )


def test_an_outage_after_the_first_letter_does_not_cut_off_on_the_day_it_ends(works):
    live(works, 1)
    wake(works, 60)

    case = case_of(nth(works, 0))
    assert (case.stage, nth(works, 0).status, case.next_stage_on) == (2, "past_due", DUE + timedelta(days=65))
    assert steps_of(works, nth(works, 0), range(60, 90)) == {
        65: (3, ("mail:final_notice", "suspend")),
        76: (4, ("cancel", "write_off")),
    }


def test_a_stage_whose_letter_went_out_in_time_is_taken_at_once_and_the_next_one_waits(works):
    live(works, 5)

    assert steps_of(works, nth(works, 0), [50, 60, 61]) == {
        50: (3, ("mail:final_notice", "suspend")),
        61: (4, ("cancel", "write_off")),
    }


def test_a_dry_run_waits_as_the_run_does(works):
    for day in (40, 44, 45, 55, 56):
        at = datetime(2026, 6, 1, 6, 0, tzinfo=UTC) + timedelta(days=day)
        TestClock.objects.filter(pk=works.test_clock_id).update(now=at)
        mark_overdue(organisation=works)
        outbox.dispatch(works.pk, wait=True)
        foreseen = run_dunning(organisation=works, dry_run=True)
        done = run_dunning(organisation=works)
        outbox.dispatch(works.pk, wait=True)
        assert (foreseen.steps, len(done.steps)) == (done.steps, 0 if day in (44, 55) else 2), day


def test_a_policy_that_never_writes_ends_too_stage_by_stage(works):
    stages = [
        {"after_days": 5, "actions": ["restrict"]},
        {"after_days": 10, "actions": ["suspend"]},
        {"after_days": 20, "actions": ["cancel", "write_off"]},
    ]
    create_policy(organisation=works, code="silent", stages=stages, is_default=True, actor=ACTOR)

    [step, _] = wake(works, 40).steps

    assert step.actions == ("restrict",)
    assert steps_of(works, nth(works, 0), range(41, 60)) == {45: (2, ("suspend",)), 55: (3, ("cancel", "write_off"))}


def test_days_of_a_pause_are_no_days_of_the_wait(works):
    wake(works, 40)
    pause(
        organisation=works,
        customer_id=nth(works, 0).customer_id,
        until=DUE + timedelta(days=47),
        reason="Talks",
        actor=ACTOR,
    )

    assert case_of(nth(works, 0)).next_stage_on == DUE + timedelta(days=53)
    assert steps_of(works, nth(works, 0), range(41, 56)) == {53: (3, ("mail:final_notice", "suspend"))}


class TestOnRealTime:
    """Letters leave on their own queue: one that has not left warns nobody."""

    @pytest.fixture
    def chased(self, works):
        """Written to, then an outage; from then on time is real."""
        live(works, 5)
        TestClock.objects.filter(pk=works.test_clock_id).update(now=datetime(2026, 6, 21, 6, 0, tzinfo=UTC))
        with time_machine.travel(datetime(2026, 6, 21, 6, 0, tzinfo=UTC), tick=False):
            Organisation.objects.filter(pk=works.pk).update(test_clock=None)
            works.refresh_from_db()
            yield works

    def sent(self, on):
        Mail.objects.filter(key__startswith="dunning:").update(
            status="sent", sent_at=datetime(2026, 6, on, 6, 0, tzinfo=UTC)
        )

    def test_nobody_is_cut_off_while_no_letter_has_left(self, chased):
        assert [len(run_dunning(organisation=chased, dry_run=dry).steps) for dry in (True, False)] == [0, 0]
        case = case_of(nth(chased, 0))
        assert (case.stage, case.held_because) == (2, "Stage 3 waits until a letter before it has been sent.")

        self.sent(6)
        assert [step.stage for step in run_dunning(organisation=chased).steps] == [3, 3]
        assert case_of(nth(chased, 0)).stage == 3

    def test_a_letter_that_left_late_counts_from_then(self, chased):
        self.sent(18)
        assert run_dunning(organisation=chased).steps == ()
        assert case_of(nth(chased, 0)).next_stage_on == date(2026, 6, 23)

    def test_a_letter_that_cannot_be_sent_does_not_hold_the_chase_up(self, chased):
        Mail.objects.filter(key__startswith="dunning:").update(status="failed")
        assert [step.stage for step in run_dunning(organisation=chased).steps] == [3, 3]


def test_a_paid_invoice_ends_the_chase_and_the_subscription_recovers(works):
    live(works, 10)
    assert nth(works, 0).status == "suspended"

    pay(invoice_of(nth(works, 0)))

    case = case_of(nth(works, 0))
    assert (case.status, case.recovered, case.stage) == ("recovered", case.claimed, 3)
    assert nth(works, 0).status == "active"
    assert nth(works, 1).status == "suspended"
    live(works, 25)
    assert letters(nth(works, 0)) == ["reminder_1", "reminder_2", "final_notice"]
    assert case_of(nth(works, 0)).status == "recovered"
    recovered = Event.objects.get(type="dunning.recovered")
    assert (recovered.payload["recovered"], recovered.payload["amount"]) == ("769.95", "769.95")


def test_a_void_invoice_closes_its_case(works):
    live(works, 1)

    settling.void_invoice(invoice_id=invoice_of(nth(works, 1)).pk, reason="issued in error", actor=ACTOR)
    outbox.dispatch(works.pk, wait=True)

    assert case_of(nth(works, 1)).status == "closed"
    assert len(live(works, 5).steps) == 1


def test_money_that_comes_after_the_loss_is_still_money(works):
    live(works, 21)
    assert case_of(nth(works, 0)).status == "exhausted"

    pay(invoice_of(nth(works, 0)))

    assert case_of(nth(works, 0)).status == "recovered"
    assert nth(works, 0).status == "cancelled"


def test_a_payment_taken_back_goes_on_where_the_chase_was(works):
    live(works, 5)
    invoice = invoice_of(nth(works, 0))
    pay(invoice)
    allocation = PaymentAllocation.objects.get(invoice=invoice)

    settling.book(
        invoice=settling.lock_invoice(invoice.pk), amount=-allocation.amount, payment=allocation.payment, key="taken back",
        at=allocation.created_at,
    )  # fmt: skip
    outbox.dispatch(works.pk, wait=True)

    case = case_of(nth(works, 0))
    assert (case.status, case.stage, case.recovered) == ("open", 2, Money(0, "INR"))
    assert case.next_stage_on == DUE + timedelta(days=10)
    live(works, 10)
    assert letters(nth(works, 0)) == ["reminder_1", "reminder_2", "final_notice"]


def test_of_several_unpaid_invoices_only_the_oldest_is_chased(works):
    gentle = [{"after_days": 3, "actions": ["mail:reminder_1"]}, {"after_days": 60, "actions": ["mail:final_notice"]}]
    create_policy(organisation=works, code="gentle", stages=gentle, actor=ACTOR, is_default=True)
    live(works, 3)
    TestClock.objects.filter(pk=works.test_clock_id).update(now=datetime(2026, 7, 1, 6, 0, tzinfo=UTC))
    run_billing(organisation=works)
    outbox.dispatch(works.pk, wait=True)

    live(works, 35)  # July's invoice is five days overdue
    subscription = nth(works, 0)
    assert (case_of(subscription).stage, case_of(subscription, 1).stage) == (1, 0)
    assert letters(subscription) == ["reminder_1"]

    pay(invoice_of(subscription))
    live(works, 36)

    assert (case_of(subscription).status, case_of(subscription, 1).stage) == ("recovered", 1)
    assert letters(subscription) == ["reminder_1", "reminder_1"]
    assert nth(works, 0).status == "past_due"
    pay(invoice_of(subscription, 1))
    assert nth(works, 0).status == "active"


def test_a_dry_run_shows_the_steps_and_writes_nothing(works):
    at = datetime(2026, 6, 11, 6, 0, tzinfo=UTC)
    TestClock.objects.filter(pk=works.test_clock_id).update(now=at)
    mark_overdue(organisation=works)
    outbox.dispatch(works.pk, wait=True)
    before = {model: model._default_manager.count() for model in apps.get_models() if model._meta.managed}

    foreseen = run_dunning(organisation=works, dry_run=True)

    assert {model: model._default_manager.count() for model in apps.get_models() if model._meta.managed} == before
    assert nth(works, 0).status == "past_due"
    done = run_dunning(organisation=works)
    assert foreseen.steps == done.steps
    assert len(done.steps) == 2


@pytest.mark.parametrize("error", [rules.InvalidDunningPolicy("broken"), KeyError("unforeseen")])
def test_a_case_that_is_refused_does_not_stop_the_others(works, monkeypatch, error):
    live(works, 1)
    refused = case_of(nth(works, 0))
    real = dunning_measures.act

    def refuse(case, action, step):
        if case.pk == refused.pk:
            raise error
        return real(case, action, step)

    monkeypatch.setattr(dunning_measures, "act", refuse)
    report = live(works, 5)
    assert [one[0] for one in report.failures] == [refused.pk]
    assert [step.case_id for step in report.steps] == [case_of(nth(works, 1)).pk]
    assert case_of(nth(works, 0)).stage == 1

    monkeypatch.setattr(dunning_measures, "act", real)
    assert len(live(works, 5).steps) == 1


class TestDeclines:
    """A bank that says no for good."""

    def declined(self, works, decline_class, *, rest=""):
        invoice = invoice_of(nth(works, 0))
        reference = f"invoice:{invoice.pk}{rest}"
        payment = Payment.objects.of(works).filter(reference=reference).first() or Payment.objects.create(
            organisation=works, customer=invoice.customer, reference=reference, amount=invoice.total,
            refunded=Money(0, "INR"), disputed=Money(0, "INR"), created_at=invoice.created_at,
        )  # fmt: skip
        Payment.objects.filter(pk=payment.pk).update(decline_class=decline_class, status="failed")
        for news in ("payment.declined", "payment.failed"):
            outbox.publish(news, payment, decline_class=decline_class, payment_id=str(payment.pk))
        outbox.dispatch(works.pk, wait=True)
        return payment

    def asked(self):
        return Mail.objects.filter(kind="new_method").count()

    def test_asks_for_another_method_at_once_and_once(self, works):
        payment = self.declined(works, "hard")
        self.declined(works, "hard")

        letter = Mail.objects.get(kind="new_method")
        assert (letter.invoice_id, letter.context["payment_id"]) == (invoice_of(nth(works, 0)).pk, str(payment.pk))

    def test_asks_for_it_when_only_the_rest_was_refused(self, works):
        """After a credit note the rest is collected under a reference of its own."""
        payment = self.declined(works, "hard", rest=":2")
        live(works, 1)

        letter = Mail.objects.get(kind="new_method")
        assert (letter.invoice_id, letter.context["payment_id"]) == (invoice_of(nth(works, 0)).pk, str(payment.pk))
        reminder = Mail.objects.get(kind="reminder_1", customer_id=payment.customer_id)
        assert reminder.context["needs_new_method"] is True

    def test_is_not_bothered_for_a_refusal_that_may_pass(self, works):
        self.declined(works, "soft")

        assert self.asked() == 0

    def test_is_reminded_of_it_by_the_letters(self, works):
        self.declined(works, "hard")
        live(works, 1)

        contexts = Mail.objects.filter(kind="reminder_1").order_by("id").values_list("context", flat=True)
        assert sorted(context["needs_new_method"] for context in contexts) == [False, True]


class TestPolicies:
    """Stages are checked when a policy is made."""

    @pytest.mark.parametrize(
        ("stages", "field"),
        [
            ([], "stages"),
            ("reminder", "stages"),
            ([{"after_days": 0, "actions": ["suspend"]}], "stages[0].after_days"),
            ([{"after_days": True, "actions": ["suspend"]}], "stages[0].after_days"),
            ([{"after_days": 1, "actions": []}], "stages[0].actions"),
            ([{"after_days": 1, "actions": ["mail:love"]}], "stages[0].actions"),
            ([{"after_days": 1, "actions": ["suspend", "suspend"]}], "stages[0].actions"),
            ([{"after_days": 1, "actions": [{}]}], "stages[0].actions"),
            ([{"after_days": 1}], "stages[0]"),
            (
                [{"after_days": 5, "actions": ["suspend"]}, {"after_days": 5, "actions": ["cancel"]}],
                "stages[1].after_days",
            ),
            ([{"after_days": 1, "actions": ["write_off"]}, {"after_days": 2, "actions": ["cancel"]}], "stages"),
        ],
    )
    def test_malformed_stages_are_refused(self, stages, field):
        with pytest.raises(rules.InvalidDunningPolicy) as refused:
            rules.parse_stages(stages)

        assert refused.value.field == field

    def test_a_plan_has_its_own_policy(self, works):
        stages = [{"after_days": 2, "actions": ["suspend"]}]
        create_policy(organisation=works, code="strict", stages=stages, plans=["team"], actor=ACTOR)

        live(works, 2)

        assert nth(works, 0).status == "suspended"
        assert letters(nth(works, 0)) == []
        assert AuditRecord.objects.filter(action="dunning_policy.created").count() == 1

    def test_a_plan_that_nobody_sells_is_refused(self, works):
        with pytest.raises(UnknownPlans):
            create_policy(
                organisation=works, code="strict", stages=rules.DEFAULT_STAGES, plans=["team", "nobody"], actor=ACTOR
            )

        assert not DunningPolicy.objects.exists()

    def test_a_policy_that_is_only_called_default_is_not_followed_by_everybody(self, works):
        """The house's own stages take another code then; twice asked, they are there once."""
        stages = [{"after_days": 2, "actions": ["suspend"]}]
        named = create_policy(organisation=works, code="default", stages=stages, actor=ACTOR)
        archive_policy(policy_id=named.pk, actor=ACTOR)

        live(works, 2)

        assert [case_of(nth(works, n)).policy.code for n in range(2)] == ["default-2", "default-2"]
        assert [nth(works, n).status for n in range(2)] == ["past_due", "past_due"]
        assert letters(nth(works, 0)) == ["reminder_1"]
        assert list(DunningPolicy.objects.order_by("id").values_list("code", "is_default")) == [
            ("default", False), ("default-2", True),
        ]  # fmt: skip

    def test_a_new_default_takes_the_place_of_the_old(self, works):
        for code in ("first", "second"):
            create_policy(organisation=works, code=code, stages=rules.DEFAULT_STAGES, is_default=True, actor=ACTOR)

        assert DunningPolicy.objects.get(is_default=True).code == "second"


def test_recovery_is_told_by_currency_and_stage(works):
    live(works, 5)
    first = case_of(nth(works, 0))
    pay(invoice_of(nth(works, 0)))
    live(works, 21)
    second = case_of(nth(works, 1))

    [figures] = recovery(
        organisation=works, since=datetime(2026, 6, 1, tzinfo=UTC), until=datetime(2026, 7, 1, tzinfo=UTC)
    )

    assert (figures.currency, figures.opened, figures.open, figures.recovered, figures.exhausted) == ("INR", 2, 0, 1, 1)
    assert (figures.claimed, figures.collected) == (first.claimed + second.claimed, first.claimed)
    expected = first.claimed.amount / (first.claimed + second.claimed).amount
    assert figures.rate == expected.quantize(figures.rate)
    nothing = Money(0, "INR")
    assert [(row.stage, row.reached, row.cases, row.amount, str(row.rate)) for row in figures.by_stage] == [
        (0, 2, 0, nothing, "0.0000"),
        (1, 2, 0, nothing, "0.0000"),
        (2, 2, 1, first.claimed, "0.5000"),
        (3, 1, 0, nothing, "0.0000"),
        (4, 1, 0, nothing, "0.0000"),
    ]


def test_a_quiet_day_costs_two_queries(works, django_assert_num_queries):
    live(works, 1)

    with django_assert_num_queries(2):
        run_dunning(organisation=works)


def test_another_organisation_is_left_alone(works):
    other = population.build(customers=1, code="other")
    run_billing(organisation=other)
    outbox.dispatch(other.pk, wait=True)
    at = datetime(2026, 6, 11, 6, 0, tzinfo=UTC)
    TestClock.objects.filter(pk=other.test_clock_id).update(now=at)
    mark_overdue(organisation=other)
    outbox.dispatch(other.pk, wait=True)

    live(works, 10)

    assert DunningCase.objects.of(other).get().stage == 0
