"""Dunning beyond days: attempts, grace, pauses, texts, restriction, and the oldest debt that is left."""

from datetime import UTC, date, datetime, timedelta

import pytest
from moneyed import Money

from bench import population
from billing import clock
from billing.context import Actor
from billing.errors import Conflict, InvalidInput, NotFound
from billing.models import AuditRecord, Customer, Event, TestClock
from billing.services import outbox
from invoices.models import TextMessage
from invoices.services import settling
from payments.models import GatewayAccount, Payment, PaymentAttempt, PaymentMethod
from subscriptions import dunning_rules as rules
from subscriptions.models import DunningCase, DunningPause, DunningPolicy, Subscription
from subscriptions.services import dunning_pauses as pauses
from subscriptions.services.billing_run import run_billing
from subscriptions.services.dunning import run_dunning
from subscriptions.services.dunning_policies import DefaultPolicyNeeded, archive_policy, create_policy

from .test_dunning import ACTOR, case_of, invoice_of, letters, live, nth, pay, works  # noqa: F401

pytestmark = pytest.mark.django_db

CARDS = [
    {"after_days": 1, "actions": ["mail:reminder_1"]},
    {"after_days": 20, "after_attempts": 3, "actions": ["mail:final_notice", "restrict"]},
    {"after_days": 40, "actions": ["suspend"]},
]


def policy(works, stages, **more):  # noqa: F811
    return create_policy(
        organisation=works, code=more.pop("code", "own"), stages=stages, is_default=True, actor=ACTOR, **more
    )


def refuse(works, invoice, decline_class="soft", *, own_try=False):  # noqa: F811
    """A debit (or the customer's own try on a page) that the bank refused, as the payments app leaves it."""
    account, _ = GatewayAccount.objects.get_or_create(
        organisation=works,
        code="test",
        defaults={"provider": "razorpay", "key_id": "k", "key_secret": "s", "webhook_secret": "w"},
    )
    method, _ = PaymentMethod.objects.get_or_create(
        organisation=works, customer=invoice.customer, gateway_account=account,
        defaults={"kind": "card", "status": "active", "token": "t", "token_hash": str(invoice.customer_id),
                  "created_at": invoice.created_at},
    )  # fmt: skip
    payment, _ = Payment.objects.get_or_create(
        organisation=works, reference=f"invoice:{invoice.pk}",
        defaults={"customer": invoice.customer, "amount": invoice.total, "refunded": Money(0, "INR"), "disputed": Money(0, "INR"),
                  "created_at": invoice.created_at},
    )  # fmt: skip
    Payment.objects.filter(pk=payment.pk).update(decline_class=decline_class, next_attempt_at=None)
    number = payment.attempts.count() + 1
    PaymentAttempt.objects.create(
        organisation=works, payment=payment, number=number, gateway_account=account, method=None if own_try else method,
        amount=payment.amount, idempotency_key=f"{payment.pk}:{number}", status="declined", decline_class=decline_class,
        started_at=invoice.created_at,
    )  # fmt: skip
    outbox.publish("payment.declined", payment, payment_id=str(payment.pk), decline_class=decline_class)
    outbox.dispatch(works.pk, wait=True)
    return payment


class TestAttempts:
    def test_three_refusals_for_now_reach_the_stage_before_its_day(self, works):  # noqa: F811
        policy(works, CARDS)
        live(works, 1)
        invoice = invoice_of(nth(works, 0))
        for _ in range(2):
            refuse(works, invoice)
        assert len(live(works, 3).steps) == 0
        assert case_of(nth(works, 0)).attempts == 2

        refuse(works, invoice)
        foreseen = run_dunning(organisation=works, dry_run=True)
        [step] = live(works, 3).steps

        assert foreseen.steps == (step,)
        assert (step.stage, step.attempts, step.days_overdue) == (2, 3, 3)
        case = case_of(nth(works, 0))
        assert (case.stage, case.next_stage_on, case.next_stage_attempts) == (2, date(2026, 7, 11), None)
        assert nth(works, 0).restricted_at is not None
        assert nth(works, 0).status == "past_due", "restricted, not suspended: it is still billed"
        assert case_of(nth(works, 1)).stage == 1

    @pytest.mark.parametrize(
        ("decline_class", "own_try"), [("hard", False), ("fraud", False), ("technical", False), ("soft", True)]
    )
    def test_refusals_for_good_faults_and_own_tries_use_none_up(self, works, decline_class, own_try):  # noqa: F811
        policy(works, CARDS)
        live(works, 1)
        for _ in range(4):
            refuse(works, invoice_of(nth(works, 0)), decline_class, own_try=own_try)

        assert len(live(works, 3).steps) == 0
        assert case_of(nth(works, 0)).attempts == 0

    def test_what_was_refused_before_the_case_was_opened_counts(self, works):  # noqa: F811
        policy(works, CARDS)
        for _ in range(3):
            refuse(works, invoice_of(nth(works, 0)))

        live(works, 1)

        assert (case_of(nth(works, 0)).stage, case_of(nth(works, 1)).stage) == (2, 1)

    def test_a_retry_makes_the_debit_due_but_not_after_a_refusal_for_good(self, works):  # noqa: F811
        policy(
            works,
            [{"after_days": 2, "actions": ["retry", "mail:reminder_1"]}, {"after_days": 30, "actions": ["cancel"]}],
        )
        live(works, 1)
        soft = refuse(works, invoice_of(nth(works, 0)))
        hard = refuse(works, invoice_of(nth(works, 1)), "hard")
        Payment.objects.filter(pk__in=[soft.pk, hard.pk]).update(status="failed")

        live(works, 2)

        soft, hard = Payment.objects.get(pk=soft.pk), Payment.objects.get(pk=hard.pk)
        assert (soft.status, soft.next_attempt_at, soft.decline_class) == ("pending", clock.now(works), "soft")
        assert (hard.status, hard.next_attempt_at) == ("failed", None)
        assert case_of(nth(works, 0)).history[-1]["actions"] == ["retry", "mail:reminder_1"]
        assert case_of(nth(works, 1)).history[-1] == {
            "stage": 1, "on": "2026-06-03", "days_overdue": 2, "attempts": 0, "actions": ["mail:reminder_1"], "skipped": ["retry"],
        }  # fmt: skip

    def test_a_customers_own_payment_clears_the_case_whatever_was_refused(self, works):  # noqa: F811
        policy(works, CARDS)
        for _ in range(3):
            refuse(works, invoice_of(nth(works, 0)))
        live(works, 1)
        assert nth(works, 0).restricted_at is not None

        pay(invoice_of(nth(works, 0)))

        assert (case_of(nth(works, 0)).status, nth(works, 0).status, nth(works, 0).restricted_at) == (
            "recovered",
            "active",
            None,
        )


class TestGraceAndPauses:
    def test_days_of_grace_do_not_count(self, works):  # noqa: F811
        policy(works, [{"after_days": 2, "actions": ["suspend"]}], grace_days=5)

        assert [len(live(works, days).steps) for days in (1, 6, 7)] == [0, 0, 2]
        assert case_of(nth(works, 0)).history[0]["days_overdue"] == 7

    def test_a_paused_customer_is_left_alone_and_the_stages_wait_as_long(self, works):  # noqa: F811
        live(works, 1)
        one = nth(works, 0)
        made = self.pause(works, one, until=date(2026, 6, 11))
        assert (made.starts_on, case_of(one).next_stage_on) == (date(2026, 6, 2), date(2026, 6, 16))

        assert [len(live(works, days).steps) for days in (5, 10)] == [1, 1]  # the other customer
        assert letters(one) == ["reminder_1"]
        assert [len(live(works, days).steps) for days in (14, 15)] == [0, 1]
        assert letters(one) == ["reminder_1", "reminder_2"]
        assert case_of(one).history[-1]["days_overdue"] == 15
        assert case_of(one).next_stage_on == date(2026, 6, 21)

    def test_a_case_that_opens_in_a_pause_begins_after_it(self, works):  # noqa: F811
        TestClock.objects.filter(pk=works.test_clock_id).update(now=datetime(2026, 6, 1, 6, tzinfo=UTC))
        self.pause(works, nth(works, 0), until=date(2026, 6, 8))
        live(works, 3)
        assert (case_of(nth(works, 0)).stage, case_of(nth(works, 1)).stage) == (0, 1)
        assert case_of(nth(works, 0)).next_stage_on == date(2026, 6, 10)

        live(works, 9)

        assert case_of(nth(works, 0)).stage == 1

    def test_a_lifted_pause_gives_the_days_back(self, works):  # noqa: F811
        live(works, 1)
        made = self.pause(works, nth(works, 0), until=date(2026, 8, 1))
        live(works, 4)

        pauses.lift(pause_id=made.pk, actor=ACTOR, reason="Paid half, promised the rest")

        assert case_of(nth(works, 0)).next_stage_on == date(2026, 6, 9)  # three days later than without
        live(works, 8)
        assert letters(nth(works, 0)) == ["reminder_1", "reminder_2"]
        with pytest.raises(pauses.PauseOver):
            pauses.lift(pause_id=made.pk, actor=ACTOR)
        assert list(AuditRecord.objects.filter(target_id=str(made.pk)).order_by("id").values_list("action", flat=True)) == [
            "dunning.paused", "dunning.pause_lifted",
        ]  # fmt: skip

    def test_one_pause_at_a_time_and_another_after_it(self, works):  # noqa: F811
        live(works, 1)
        self.pause(works, nth(works, 0), until=date(2026, 6, 4))
        with pytest.raises(pauses.AlreadyPaused):
            self.pause(works, nth(works, 0), until=date(2026, 6, 9))
        live(works, 6)

        self.pause(works, nth(works, 0), until=date(2026, 6, 9))

        assert DunningPause.objects.count() == 2
        assert case_of(nth(works, 0)).next_stage_on == date(2026, 6, 6) + timedelta(days=3 + 3)

    @pytest.mark.parametrize(("until", "reason", "field"), [
        (date(2026, 6, 1), "too late", "until"), (date(2027, 6, 30), "too long", "until"), (date(2026, 6, 9), "  ", "reason"),
    ])  # fmt: skip
    def test_bad_input_is_named_and_nothing_is_written(self, works, until, reason, field):  # noqa: F811
        live(works, 1)
        with pytest.raises(InvalidInput) as refused:
            self.pause(works, nth(works, 0), until=until, reason=reason)
        assert refused.value.field == field
        assert not DunningPause.objects.exists()

    def test_a_foreign_customer_is_not_found(self, works):  # noqa: F811
        other = population.build(customers=1, code="other")
        live(works, 1)
        with pytest.raises(NotFound):
            pauses.pause(
                organisation=works,
                customer_id=Customer.objects.of(other).get().pk,
                until=date(2026, 6, 9),
                reason="theirs",
                actor=ACTOR,
            )

    def pause(self, works, subscription, *, until, reason="Cheque is on its way"):  # noqa: F811
        return pauses.pause(
            organisation=works, customer_id=subscription.customer_id, until=until, reason=reason, actor=ACTOR
        )


class TestMeasures:
    def test_a_text_is_written_beside_the_letter_once(self, works):  # noqa: F811
        Customer.objects.of(works).update(phone="")
        customer = nth(works, 0).customer
        customer.phone, customer.phone_hash = "+919845012345", "h"
        customer.save()
        policy(
            works,
            [
                {"after_days": 1, "actions": ["mail:reminder_1", "sms:reminder_1"]},
                {"after_days": 9, "actions": ["cancel"]},
            ],
        )

        for _ in range(3):
            live(works, 1)

        rows = list(TextMessage.objects.order_by("status").values_list("status", "customer_id", "invoice_id"))
        assert rows == [
            ("due", nth(works, 0).customer_id, invoice_of(nth(works, 0)).pk),
            ("failed", nth(works, 1).customer_id, invoice_of(nth(works, 1)).pk),
        ]

    def test_the_oldest_debt_that_is_left_decides_what_is_held_back(self, works):  # noqa: F811
        """Suspended for May's debt; when it is paid, June's debt of a few days does not keep the service away."""
        policy(works, [
            {"after_days": 1, "actions": ["mail:reminder_1"]}, {"after_days": 20, "actions": ["restrict"]},
            {"after_days": 33, "actions": ["suspend"]}, {"after_days": 90, "actions": ["cancel"]},
        ])  # fmt: skip
        live(works, 21)
        TestClock.objects.filter(pk=works.test_clock_id).update(now=datetime(2026, 7, 1, 6, 0, tzinfo=UTC))
        run_billing(organisation=works)
        outbox.dispatch(works.pk, wait=True)
        live(works, 34)
        one = nth(works, 0)
        assert (one.status, one.restricted_at is not None, case_of(one, 1).stage) == ("suspended", True, 0)

        pay(invoice_of(one))

        one = nth(works, 0)
        assert (one.status, one.restricted_at) == ("past_due", None)
        assert [step.stage for step in live(works, 34).steps if step.case_id == case_of(one, 1).pk] == [1]
        pay(invoice_of(one, 1))
        assert nth(works, 0).status == "active"

    def test_measures_of_a_customers_debt_meet_all_of_the_customers_subscriptions(self, db):
        works = population.build(customers=2, code="works")  # noqa: F811
        Subscription.objects.filter(pk=nth(works, 1).pk).update(customer=nth(works, 0).customer)
        run_billing(organisation=works)
        outbox.dispatch(works.pk, wait=True)
        stages = [{"after_days": 2, "actions": ["restrict", "suspend"]}, {"after_days": 99, "actions": ["cancel"]}]
        policy(works, stages, scope="customer")

        report = live(works, 2)

        assert len(report.steps) == 1, "the debts of a customer are one chase"
        assert {nth(works, n).status for n in (0, 1)} == {"suspended"}
        assert all(nth(works, n).restricted_at for n in (0, 1))
        assert Event.objects.filter(type="subscription.restricted").count() == 2

        pay(DunningCase.objects.get(stage=1).invoice)

        assert {nth(works, n).status for n in (0, 1)} == {"suspended"}, "the other debt is as old"
        pay(DunningCase.objects.get(status="open").invoice)
        assert {nth(works, n).status for n in (0, 1)} == {"active"}
        assert not any(nth(works, n).restricted_at for n in (0, 1))


class TestPolicies:
    def test_a_policy_put_away_is_followed_by_no_new_case(self, works):  # noqa: F811
        strict = create_policy(organisation=works, code="strict", stages=CARDS, plans=["team"], actor=ACTOR)
        archive_policy(policy_id=strict.pk, actor=ACTOR, reason="too strict")

        live(works, 1)

        assert DunningPolicy.objects.get(cases__isnull=False, cases=case_of(nth(works, 0))).code == "default"

    def test_the_default_cannot_be_put_away(self, works):  # noqa: F811
        default = policy(works, CARDS)
        with pytest.raises(DefaultPolicyNeeded):
            archive_policy(policy_id=default.pk, actor=ACTOR)

    @pytest.mark.parametrize(("stages", "field"), [
        ([{"after_attempts": 3, "actions": ["suspend"]}], "stages[0].after_days"),
        ([{"after_attempts": 3, "after_days": 3, "match": "all", "actions": ["suspend"]}], "stages[0].after_days"),
        ([{"actions": ["suspend"]}], "stages[0]"),
        ([{"after_days": 1, "match": "some", "actions": ["suspend"]}], "stages[0].match"),
        ([{"after_days": 1, "after_attempts": 0, "actions": ["suspend"]}], "stages[0].after_attempts"),
        ([{"after_days": 1, "colour": "red", "actions": ["suspend"]}], "stages[0]"),
        ([{"after_attempts": 4, "actions": ["restrict"]}, {"after_days": 3, "after_attempts": 3, "actions": ["cancel"]}],
         "stages[1].after_attempts"),
    ])  # fmt: skip
    def test_malformed_stages_are_refused(self, stages, field):
        with pytest.raises(rules.InvalidDunningPolicy) as refused:
            rules.parse_stages(stages)
        assert refused.value.field == field

    def test_grace_and_scope_have_bounds(self, works):  # noqa: F811
        for wrong, field in (
            ({"grace_days": 91}, "grace_days"),
            ({"grace_days": -1}, "grace_days"),
            ({"scope": "house"}, "scope"),
        ):
            with pytest.raises(InvalidInput) as refused:
                policy(works, CARDS, **wrong)
            assert refused.value.field == field
        policy(works, CARDS)
        with pytest.raises(Conflict):
            policy(works, CARDS)


def test_a_void_debt_lifts_the_restriction(works):  # noqa: F811
    policy(works, [{"after_days": 1, "actions": ["restrict"]}, {"after_days": 50, "actions": ["cancel"]}])
    live(works, 1)
    assert nth(works, 1).restricted_at is not None

    settling.void_invoice(invoice_id=invoice_of(nth(works, 1)).pk, reason="issued in error", actor=Actor.system("test"))
    outbox.dispatch(works.pk, wait=True)

    assert (nth(works, 1).status, nth(works, 1).restricted_at) == ("active", None)
    assert nth(works, 0).restricted_at is not None
