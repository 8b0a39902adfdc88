"""Money and dunning: what came at which stage, what was taken back, what comes too late, and debits that are on their way."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from moneyed import Money

from billing import clock
from billing.models import Event, TestClock
from billing.services import outbox
from invoices.models import Invoice, Mail, PaymentAllocation
from invoices.services import credit_notes, settling
from payments.models import Payment
from subscriptions import dunning_rules as rules
from subscriptions.dunning_selectors import due_cases, recovery
from subscriptions.models import DunningCase
from subscriptions.services import dunning_measures, dunning_pauses
from subscriptions.services.billing_run import run_billing
from subscriptions.services.dunning import advance_case, run_dunning

from .test_dunning import ACTOR, case_of, invoice_of, letters, live, nth, pay, works  # noqa: F401
from .test_dunning_measures import policy, refuse

pytestmark = pytest.mark.django_db
JUNE = (datetime(2026, 6, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
NOTHING = Money(0, "INR")


def book(invoice, amount, key):
    """Money for the invoice, or with a negative amount money that was taken back."""
    locked = settling.lock_invoice(invoice.pk)
    settling.book(
        invoice=locked, amount=Money(amount, "INR"), payment=None, key=key, at=clock.now(invoice.organisation)
    )
    outbox.dispatch(invoice.organisation_id, wait=True)


def figures(works):  # noqa: F811
    [found] = recovery(organisation=works, since=JUNE[0], until=JUNE[1])
    return found


class TestParts:
    def test_each_part_counts_for_the_stage_at_which_it_came(self, works):  # noqa: F811
        invoice = invoice_of(nth(works, 0))
        live(works, 1)
        book(invoice, "300.00", "one")
        live(works, 5)
        book(invoice, "100.00", "two")

        case = case_of(nth(works, 0))
        assert (case.status, case.recovered, case.recovered_by_stage) == (
            "open", Money("400.00", "INR"), {"1": "300.0000", "2": "100.0000"},
        )  # fmt: skip
        found = figures(works)
        assert (found.collected, str(found.rate)) == (Money("400.00", "INR"), "0")
        assert [row.amount.amount for row in found.by_stage] == [0, 300, 100]

        book(invoice, "369.95", "rest")
        live(works, 21)
        case = case_of(nth(works, 0))
        assert (case.status, case.recovered, case.stage) == ("recovered", case.claimed, 2)
        found = figures(works)
        assert (found.collected, str(found.rate)) == (Money("769.95", "INR"), "0.4466")
        assert [(row.cases, row.amount.amount) for row in found.by_stage] == [
            (0, 0), (0, 300), (1, Decimal("469.95")), (0, 0), (0, 0),
        ]  # fmt: skip

    def test_a_part_counts_though_the_rest_is_lost(self, works):  # noqa: F811
        live(works, 1)
        book(invoice_of(nth(works, 0)), "300.00", "one")
        live(works, 21)

        case = case_of(nth(works, 0))
        assert (case.status, case.recovered) == ("exhausted", Money("300.00", "INR"))
        assert str(figures(works).rate) == "0.1740"  # 300.00 of what both owe

    def test_what_was_paid_before_the_chase_is_not_its_merit(self, works):  # noqa: F811
        invoice = invoice_of(nth(works, 0))
        book(invoice, "400.00", "early")
        live(works, 1)
        case = case_of(nth(works, 0))
        assert (case.claimed, case.paid_before, case.recovered) == (
            Money("369.95", "INR"),
            Money("400.00", "INR"),
            NOTHING,
        )

        invoice.refresh_from_db()
        credit_notes.issue_credit_note(invoice_id=invoice.pk, amounts=None, reason="Goodwill", actor=ACTOR)
        outbox.dispatch(works.pk, wait=True)

        case = case_of(nth(works, 0))
        assert (Invoice.objects.get(pk=invoice.pk).status, case.status, case.recovered) == ("paid", "closed", NOTHING)

    def test_what_is_taken_back_leaves_the_latest_stage_first(self):
        sums = rules.with_money({"1": "300.00", "2": "100.00"}, stage=3, amount=Decimal(50))
        assert sums == {"1": "300.00", "2": "100.00", "3": "50"}
        assert rules.with_money(sums, stage=3, amount=Decimal(-200)) == {"1": "250.00"}


class TestTakenBack:
    def test_long_after_it_was_paid_goes_on_where_the_chase_was(self, works):  # noqa: F811
        """The sixty days in which nothing was owed do not count: nobody is cancelled for a payment taken back today."""
        invoice = invoice_of(nth(works, 0))
        live(works, 5)
        book(invoice, "769.95", "paid")
        live(works, 65)
        book(invoice, "-769.95", "back")

        case = case_of(nth(works, 0))
        assert (case.status, case.stage, case.recovered, case.recovered_by_stage) == ("open", 2, NOTHING, {})
        assert case.settled == [["2026-06-06", "2026-08-05"]]
        assert case.next_stage_on == date(2026, 8, 10)
        steps = {days: live(works, days).steps for days in (65, 69, 70)}
        own = {days: [step for step in steps[days] if step.invoice_number == invoice.number] for days in steps}
        assert (own[65], own[69]) == ([], [])
        [step] = own[70]
        assert (step.stage, step.days_overdue, nth(works, 0).status) == (3, 10, "suspended")

    def test_of_an_invoice_that_was_paid_in_time_begins_with_the_first_stage(self, works):  # noqa: F811
        invoice = invoice_of(nth(works, 0))
        book(invoice, "769.95", "paid")
        live(works, 90)
        book(invoice, "-769.95", "back")
        assert not DunningCase.objects.filter(invoice=invoice).exists()

        steps = [step for step in live(works, 91).steps if step.invoice_number == invoice.number]

        assert [(step.stage, step.days_overdue) for step in steps] == [(1, 1)]
        assert letters(nth(works, 0)) == ["reminder_1"]
        assert Mail.objects.get(kind="reminder_1", customer_id=invoice.customer_id).context["days_overdue"] == 1
        assert case_of(nth(works, 0)).next_stage_on == date(2026, 9, 4)

    def test_after_the_last_stage_is_given_up_again_and_holds_up_no_younger_debt(self, works):  # noqa: F811
        invoice = invoice_of(nth(works, 0))
        live(works, 21)
        book(invoice, "769.95", "late")
        assert case_of(nth(works, 0)).status == "recovered"

        book(invoice, "-769.95", "back")

        case = case_of(nth(works, 0))
        assert (case.status, case.recovered, Invoice.objects.get(pk=invoice.pk).status) == (
            "exhausted",
            NOTHING,
            "uncollectible",
        )
        assert len(live(works, 40).steps) == 0


class TestWrittenOff:
    def test_by_hand_is_a_debt_that_was_not_recovered(self, works):  # noqa: F811
        live(works, 1)
        invoice = invoice_of(nth(works, 0))
        settling.write_off_invoice(invoice_id=invoice.pk, reason="moved away", actor=ACTOR)
        outbox.dispatch(works.pk, wait=True)

        assert (case_of(nth(works, 0)).status, nth(works, 0).status) == ("exhausted", "active")
        assert (figures(works).exhausted, str(figures(works).rate)) == (1, "0.0000")

        book(invoice, "300.00", "after all")  # takes the write-off back: the rest is chased again
        case = case_of(nth(works, 0))
        assert (case.status, case.stage, case.recovered) == ("open", 1, Money("300.00", "INR"))

    def test_by_dunning_the_rest_stays_lost_when_a_part_comes(self, works):  # noqa: F811
        live(works, 21)
        invoice = invoice_of(nth(works, 0))

        book(invoice, "300.00", "after all")

        invoice.refresh_from_db()
        case = case_of(nth(works, 0))
        assert (invoice.status, invoice.due) == ("uncollectible", Money("469.95", "INR"))
        assert (case.status, case.recovered, case.recovered_by_stage) == (
            "exhausted",
            Money("300.00", "INR"),
            {"4": "300.0000"},
        )
        book(invoice, "469.95", "the rest")
        assert (case_of(nth(works, 0)).status, case_of(nth(works, 0)).recovered) == ("recovered", case.claimed)

    def test_an_ended_chase_still_holds_back_what_it_took(self, works):  # noqa: F811
        """The chase of May's debt ended with a suspension; paying June's does not bring the service back."""
        policy(works, [{"after_days": 40, "actions": ["mail:final_notice", "suspend"]}])
        live(works, 1)
        TestClock.objects.filter(pk=works.test_clock_id).update(now=datetime(2026, 7, 1, 6, 0, tzinfo=UTC))
        run_billing(organisation=works)
        outbox.dispatch(works.pk, wait=True)
        live(works, 40)
        assert (case_of(nth(works, 0)).status, nth(works, 0).status) == ("exhausted", "suspended")

        pay(invoice_of(nth(works, 0), 1))

        assert nth(works, 0).status == "suspended"
        pay(invoice_of(nth(works, 0)))
        assert (case_of(nth(works, 0)).status, nth(works, 0).status) == ("recovered", "active")

    def test_an_invoice_that_the_end_of_the_subscription_credits_needs_no_write_off(self, works, monkeypatch):  # noqa: F811
        live(works, 10)
        invoice = invoice_of(nth(works, 0))
        real = dunning_measures.MEASURES[rules.CANCEL]

        def credit_too(case, step):
            if case.invoice_id == invoice.pk:
                credit_notes.issue_credit_note(invoice_id=invoice.pk, amounts=None, reason="Unused", actor=ACTOR)
            return real(case, step)

        monkeypatch.setitem(dunning_measures.MEASURES, rules.CANCEL, credit_too)
        report = live(works, 21)

        assert report.failures == ()
        case = case_of(nth(works, 0))
        assert (case.status, case.history[-1]["actions"], case.history[-1]["skipped"]) == (
            "closed",
            ["cancel"],
            ["write_off"],
        )


class TestMeanwhile:
    """What happens between the reading of a run's list and the taking of a stage."""

    def take(self, works, case):  # noqa: F811
        at = clock.now(works)
        return advance_case(case_id=case.pk, at=at, today=at.astimezone(clock.zone(works)).date())

    def test_a_customer_who_is_paused_is_left_alone(self, works):  # noqa: F811
        policy(works, [{"after_attempts": 1, "actions": ["suspend"]}, {"after_days": 50, "actions": ["cancel"]}])
        live(works, 1)
        refuse(works, invoice_of(nth(works, 0)))
        assert due_cases(organisation=works, on=date(2026, 6, 2)).count() == 1
        dunning_pauses.pause(
            organisation=works,
            customer_id=nth(works, 0).customer_id,
            until=date(2026, 6, 9),
            reason="promised",
            actor=ACTOR,
        )

        assert self.take(works, case_of(nth(works, 0))) is None
        assert nth(works, 0).status == "past_due"

    def test_a_payment_undoes_the_stage(self, works, monkeypatch):  # noqa: F811
        live(works, 9)
        real = dunning_measures.act

        def paid_meanwhile(case, action, step):
            if case.pk == case_of(nth(works, 0)).pk:
                Invoice.objects.filter(pk=case.invoice_id).update(status="paid", paid=case.invoice.total, due=NOTHING)
            return real(case, action, step)

        monkeypatch.setattr(dunning_measures, "act", paid_meanwhile)
        report = live(works, 10)

        assert report.failures == (
            (
                case_of(nth(works, 0)).pk,
                f"Invoice {invoice_of(nth(works, 0)).number} was paid while its stage was taken; nothing was done.",
            ),
        )
        assert (nth(works, 0).status, nth(works, 1).status) == ("past_due", "suspended")
        assert letters(nth(works, 0)) == ["reminder_1", "reminder_2"]

    def test_a_debit_that_is_under_way_is_waited_for(self, works):  # noqa: F811
        live(works, 9)
        payment = refuse(works, invoice_of(nth(works, 0)))
        Payment.objects.filter(pk=payment.pk).update(status="processing")

        foreseen = run_dunning(organisation=works, dry_run=True)
        assert [step.case_id for step in live(works, 10).steps] == [case_of(nth(works, 1)).pk]
        assert foreseen.steps == ()
        assert nth(works, 0).status == "past_due"

        Payment.objects.filter(pk=payment.pk).update(status="failed")
        [step] = live(works, 11).steps
        assert (step.stage, nth(works, 0).status) == (3, "suspended")

    def test_the_debit_of_another_invoice_is_not(self, works):  # noqa: F811
        live(works, 9)
        payment = refuse(works, invoice_of(nth(works, 0)))
        Payment.objects.filter(pk=payment.pk).update(status="processing", reference=f"{payment.reference[:-1]}x")

        assert len(live(works, 10).steps) == 2


def test_another_currency_has_figures_of_its_own(works):  # noqa: F811
    live(works, 1)
    DunningCase.objects.filter(pk=case_of(nth(works, 1)).pk).update(currency="EUR", recovered_by_stage={"0": "5.00"})
    book(invoice_of(nth(works, 0)), "10.00", "one")

    found = {one.currency: one for one in recovery(organisation=works, since=JUNE[0], until=JUNE[1])}

    assert [row.amount for row in found["INR"].by_stage] == [NOTHING, Money("10.00", "INR")]
    assert [row.amount for row in found["EUR"].by_stage] == [Money("5.00", "EUR"), Money(0, "EUR")]
    assert PaymentAllocation.objects.count() == 1
    assert Event.objects.filter(type="dunning.recovered").count() == 0
