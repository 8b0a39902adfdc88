"""From the charge to the bank statement, through the unmodified SDKs against the simulator: everything leads to zero."""

from datetime import date, timedelta
from decimal import Decimal

import pytest
import requests
from moneyed import Money

from billing.models import Customer, TestClock
from payments.models import (
    BankAccount,
    BankLine,
    Dispute,
    PaymentAttempt,
    ReconciliationException,
    Refund,
    Settlement,
    SettlementLine,
)
from payments.selectors.reconciliation import summary
from payments.services import accounts, collection, refunds
from payments.services.fetching import fetch_settlements
from payments.services.matching import run_matching
from payments.services.resolving import resolve_exception
from payments.services.statements import import_statement
from tests.payments.conftest import NOON, SYSTEM, Simulator

pytestmark = pytest.mark.django_db(transaction=True)
CURRENCY = {"razorpay": "INR", "stripe": "EUR"}


@pytest.fixture
def simulator_process():
    """A simulator of its own: these tests move its clock by days."""
    running = Simulator()
    yield running
    running.stop()


class House:
    """An organisation, an account at the simulator, a customer with a saved method, and one clock for both sides."""

    def __init__(self, organisation, account, simulator, customer, method):
        self.organisation, self.account, self.simulator, self.customer, self.method = (
            organisation,
            account,
            simulator,
            customer,
            method,
        )
        self.currency = CURRENCY[account.provider]
        self.bank = BankAccount.objects.create(
            organisation=organisation, code="main", name="Main", currency=self.currency
        )
        self.at_simulator = account.key_id if account.provider == "razorpay" else account.key_secret

    def charge(self, *amounts):
        """Ask for payments and collect them."""
        payments = [
            collection.request_payment(organisation=self.organisation, customer_id=self.customer.pk, reference=f"ref:{self.account.pk}:{n}",
                                       amount=Money(amount, self.currency))
            for n, amount in enumerate(amounts)
        ]  # fmt: skip
        collection.collect_due(organisation=self.organisation)
        return payments

    def days(self, count):
        """Both clocks go on; every day payouts are fetched and matched, as the jobs do."""
        for _ in range(count):
            clock = TestClock.objects.get(organisations=self.organisation)
            TestClock.objects.filter(pk=clock.pk).update(now=clock.now + timedelta(days=1))
            self.simulator.post("clock", advance_seconds=86_400)
            assert fetch_settlements(organisation=self.organisation).errors == {}
            run_matching(organisation=self.organisation)

    def statement(self, form, **noise):
        """The bank's statement of everything so far, imported and matched."""
        today = TestClock.objects.get(organisations=self.organisation).now.date()
        query = {"from": "2025-04-01", "to": today.isoformat(), "format": form, "currency": self.currency} | noise
        answer = requests.get(f"{self.simulator.base}/_sim/bank/{self.at_simulator}", params=query, timeout=10)
        assert answer.status_code == 200, answer.text
        done = import_statement(organisation=self.organisation, bank_account=self.bank, file_name=f"s.{form}", content=answer.content,
                                actor=SYSTEM)  # fmt: skip
        return done, run_matching(organisation=self.organisation)

    def sums(self):
        found = summary(organisation=self.organisation, first=date(2025, 1, 1), last=date(2026, 12, 31))
        return next(row for row in found if row.currency == self.currency)

    def truth(self):
        sums = dict(self.simulator.truth(self.account)["totals"][self.currency])
        sums |= {f"{name}_account": value for name, value in sums.pop("balances").items()}
        return {name: Decimal(value).scaleb(-2) for name, value in sums.items()}

    def dispute_fees(self):
        return sum(dispute.fee.amount for dispute in Dispute.objects.of(self.organisation))

    def open_exceptions(self):
        rows = ReconciliationException.objects.of(self.organisation).filter(status="open").order_by("kind", "amount")
        return [(row.kind, row.source_type, row.amount.amount) for row in rows]

    def agrees_with_the_gateway(self):
        """Our books and the gateway's say the same, and nothing is unexplained."""
        sums, truth = self.sums(), self.truth()
        assert sums.unexplained.amount == 0, sums
        assert sums.captured.amount == truth["captured"]
        assert sums.refunded.amount == truth["refunded"]
        assert sums.disputes.amount == truth["disputed"] + self.dispute_fees()
        assert sums.settled.amount == truth["bank_account"]
        not_yet_settled_fees = truth["fees"] - sums.fees.amount - sums.tax.amount - self.dispute_fees()
        assert truth["gateway_account"] == sums.clearing.amount - not_yet_settled_fees
        return sums


@pytest.fixture
def house(organisation, account, simulator, save_method):
    currency = CURRENCY[account.provider]
    customer = Customer.objects.create(organisation=organisation, external_id="e2e", name="E", email="e@example.com",
                                       phone="+919000000001", currency=currency, created_at=NOON)  # fmt: skip
    return House(organisation, account, simulator, customer, save_method(customer, account))


def test_thirty_payments_refunds_and_a_dispute_settle_into_the_bank_to_the_last_cent(house):
    payments = house.charge(*(f"{100 + n}.{n:02d}" for n in range(30)))
    assert PaymentAttempt.objects.filter(status="captured").count() == 30
    for payment, amount in (
        (payments[0], None),
        (payments[1], Money("10.50", house.currency)),
        (payments[2], Money(1, house.currency)),
    ):
        refunds.request_refund(payment_id=payment.pk, amount=amount, reason="test", actor=SYSTEM)
    disputed = PaymentAttempt.objects.get(payment=payments[3])
    house.simulator.post("disputes", payment=disputed.gateway_ref)
    house.days(5)
    assert Refund.objects.filter(status="succeeded").count() == 3
    assert Dispute.objects.count() == 1  # no webhook told of it: the settlement did
    done, report = house.statement("camt053")
    assert done.rows_new == Settlement.objects.count() == report.bank > 0
    assert set(SettlementLine.objects.values_list("state", flat=True)) == {"matched"}
    assert set(Settlement.objects.values_list("status", "unexplained")) == {("in_bank", Decimal(0))}
    waiting = {kind for kind, *_ in house.open_exceptions()}
    assert waiting <= {"dispute_unanswered"}  # at Razorpay its last day is near by now
    sums = house.agrees_with_the_gateway()
    late = house.charge(*(f"{100 + n}.{n:02d}" for n in range(30)), "77.00")[-1]
    sums = house.agrees_with_the_gateway()
    assert (sums.in_transit.amount, sums.clearing, sums.in_bank) == (0, late.amount, sums.settled)
    assert house.statement("mt940")[0].rows_known == 0  # another format names lines in another way: see below
    assert {kind for kind, *_ in house.open_exceptions()} == {"duplicate"} | waiting


def test_noise_gives_exactly_the_exceptions_it_should_and_they_can_be_resolved(house):
    house.charge("1000.00", "2000.00")
    house.days(1)
    house.charge("1000.00", "2000.00", "3000.00")
    house.days(4)
    assert Settlement.objects.count() == 2
    _, report = house.statement("csv", noise=1, short=590, mangle=2)
    first = Settlement.objects.order_by("created_at").first()
    assert report.bank == 1
    assert BankLine.objects.get(state="matched").rule == ("amount_and_day" if house.currency == "INR" else "reference")
    assert house.open_exceptions() == [("amount_differs", "bank_line", first.amount.amount - Decimal("5.90"))]
    exception = ReconciliationException.objects.get(status="open")
    resolve_exception(organisation=house.organisation, exception_id=exception.pk, resolution="bank_charge", reason="Bank keeps 5.90.",
                      actor=SYSTEM)  # fmt: skip
    sums = house.agrees_with_the_gateway()
    assert (sums.in_transit.amount, sums.clearing.amount, house.open_exceptions()) == (0, 0, [])


def test_a_monthly_charge_of_the_bank_is_an_unknown_line_until_it_is_booked(house):
    house.charge("1000.00")
    house.days(25)
    _, report = house.statement("camt053", noise=1)
    charge = Decimal("-118.00") if house.currency == "INR" else Decimal("-5.00")
    assert (report.bank, house.open_exceptions()) == (1, [("unknown_reference", "bank_line", charge)])
    exception = ReconciliationException.objects.get(status="open")
    resolve_exception(organisation=house.organisation, exception_id=exception.pk, resolution="bank_charge", reason="The price list.",
                      actor=SYSTEM)  # fmt: skip
    assert house.agrees_with_the_gateway().in_transit.amount == 0


def test_a_charge_whose_answer_and_webhook_were_lost_is_found_by_its_settlement(house):
    path = "/v1/payments/create/recurring" if house.account.provider == "razorpay" else "/v1/payment_intents"
    house.simulator.fault("timeout_after", path, seconds=2)
    house.charge("640.00")
    attempt = PaymentAttempt.objects.get()
    assert attempt.status in ("unknown", "created", "captured")
    if attempt.status != "captured":
        house.days(4)
    attempt = PaymentAttempt.objects.get()
    assert (attempt.status, attempt.payment.status) == ("captured", "succeeded")
    house.days(4)
    house.statement("mt940")
    assert (house.open_exceptions(), house.agrees_with_the_gateway().clearing.amount) == ([], 0)


def test_a_line_missing_on_the_statement_is_said_after_four_banking_days_and_closed_when_it_comes(house):
    house.charge("500.00")
    house.days(12)
    house.statement("camt053", noise=1, missing=1)
    assert [kind for kind, *_ in house.open_exceptions()] == ["missing_in_bank"]
    house.statement("camt053")
    assert house.open_exceptions() == []
    assert ReconciliationException.objects.get().resolution == "cause_gone"
    assert house.agrees_with_the_gateway().in_transit.amount == 0


@pytest.mark.parametrize("account", ["stripe"], indirect=True)
def test_a_failed_payout_comes_again_and_everything_still_adds_up(house):
    house.charge("500.00", "250.00")
    house.days(3)
    first = Settlement.objects.get()
    assert first.status == "paid"
    house.simulator.post(f"payouts/{first.gateway_ref}/fail")
    house.days(5)
    assert dict(Settlement.objects.values_list("gateway_ref", "status"))[first.gateway_ref] == "failed"
    house.statement("camt053")
    sums = house.agrees_with_the_gateway()
    assert (sums.in_transit.amount, sums.clearing.amount, house.open_exceptions()) == (0, 0, [])
    assert sorted(BankLine.objects.values_list("rule", flat=True)) == ["reference", "reference", "returned"]


def test_what_a_stopped_account_captured_is_still_settled(house):
    house.charge("499.00")
    accounts.set_active(account=house.account, active=False, actor=SYSTEM, reason="We change the gateway")

    house.days(8)
    house.statement("camt053")

    assert (house.sums().in_bank.amount > 0, house.sums().clearing.amount) == (True, 0)
    house.agrees_with_the_gateway()
