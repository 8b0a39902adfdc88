"""Refunds and disputes: never more back than came, booked as the gateway says, once."""

import random
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from moneyed import Money

from billing.context import correlated
from billing.errors import InvalidAmount
from payments.errors import NotRefundable, ReferencePaid, RefundExceedsCaptured
from payments.gateways import razorpay_wire, stripe_wire
from payments.gateways.base import DisputeRecord, DisputeState
from payments.gateways.registry import gateway_for
from payments.models import Dispute, Payment, ReconciliationException, Refund
from payments.selectors.reconciliation import summary
from payments.services import collection, disputes, offline, refunds, requests
from tests.payments.conftest import NOON, SYSTEM, again

pytestmark = pytest.mark.django_db


@pytest.fixture
def paid(account, customer, save_method, ask, organisation):
    """A captured payment of 499.00."""
    save_method(customer, account)
    payment = ask("499.00")
    collection.collect_due(organisation=organisation)
    return again(payment)


def back(payment, amount=None, **more):
    money = None if amount is None else Money(amount, payment.amount.currency)
    given = {"reason": "Meals not taken", "actor": SYSTEM} | more
    return refunds.request_refund(payment_id=payment.pk, amount=money, **given)


def refunded_at_gateway(simulator, account):
    objects = simulator.truth(account)["objects"].values()
    return sum(item.get("refunded", 0) for item in objects)


def test_a_partial_refund_and_then_the_rest(account, paid, simulator, balance_of, published):
    first = back(paid, "99.00")
    second = back(paid)

    assert (first.status, second.status) == ("succeeded", "succeeded")
    assert (str(second.amount.amount), str(again(paid).refunded.amount)) == ("400.0000", "499.0000")
    assert simulator.truth(account)["totals"]
    assert balance_of("customer_credit") == "0.00"
    assert balance_of(f"gateway_clearing:{account.code}") == "0.00"
    assert published("refund.") == ["refund.succeeded", "refund.succeeded"]
    with pytest.raises(RefundExceedsCaptured):
        back(paid)


@pytest.mark.parametrize("amount", ["499.01", "1000000"])
def test_more_than_was_captured_is_refused_and_nothing_changes(account, paid, amount, published, balance_of):
    with pytest.raises(RefundExceedsCaptured) as refusal:
        back(paid, amount)

    assert refusal.value.http_status == 422
    assert "499.00 INR" in str(refusal.value)
    assert not Refund.objects.exists()
    assert not published("refund.")
    assert balance_of("customer_credit") == "-499.00"


@pytest.mark.parametrize("amount", ["0", "-1", "0.001"])
def test_amounts_that_are_no_refund_are_refused(razorpay, customer, save_method, ask, organisation, amount):
    save_method(customer, razorpay)
    payment = ask()
    collection.collect_due(organisation=organisation)
    with pytest.raises(InvalidAmount):
        back(again(payment), amount)
    assert not Refund.objects.exists()


def test_only_captured_money_goes_back(razorpay, ask):
    with pytest.raises(NotRefundable):
        back(ask("499.00"), "1.00")


def test_the_same_key_is_the_same_refund(account, paid):
    first = back(paid, "99.00", key="order-7")

    assert back(paid, "99.00", key="order-7") == first
    assert Refund.objects.count() == 1


@pytest.mark.parametrize("kind", ["timeout_after", "drop", "500", "truncated"])
def test_a_lost_answer_is_asked_for_and_refunded_once(account, paid, kind, simulator, settings, balance_of, published):
    settings.GATEWAY_READ_SECONDS = 0.4
    simulator.fault(kind, "refund", effect=True) if kind == "500" else simulator.fault(kind, "refund")

    refund = back(paid, "99.00")
    assert refund.status == "unknown"
    assert str(again(paid).refunded.amount) == "99.0000", "reserved while unknown"
    assert not published("refund.")

    refunds.resolve(refund.pk)
    refunds.resolve(refund.pk)

    assert Refund.objects.get().status == "succeeded"
    assert published("refund.") == ["refund.succeeded"]
    assert balance_of("customer_credit") == "-400.00"


def test_sent_again_by_another_request_it_is_the_same_refund_there(account, paid, simulator, balance_of):
    """The first sender died with the answer in hand; another worker, with another correlation id, sends it again."""
    refund = refunds.open_refund(payment_id=paid.pk, amount=None, reason="Meals not taken", actor=SYSTEM)
    attempt = refunds.captured_attempt(paid)
    with correlated("first"):
        gateway_for(account).refund(requests.refund_request(refund, attempt=attempt))

    with correlated("second"):
        assert refunds.send(refund.pk).status == "succeeded"

    assert refunded_at_gateway(simulator, account) == 49900
    assert (balance_of("customer_credit"), str(again(paid).refunded.amount)) == ("0.00", "499.0000")


def test_a_refusal_of_what_was_made_before_is_not_believed(account, paid, simulator, balance_of):
    """The gateway forgot the key meanwhile and says that nothing is left: our refund is there, so it succeeded."""
    refund = refunds.open_refund(payment_id=paid.pk, amount=None, reason="Meals not taken", actor=SYSTEM)
    attempt = refunds.captured_attempt(paid)
    gateway_for(account).refund(requests.refund_request(refund, attempt=attempt))
    Refund.objects.filter(pk=refund.pk).update(idempotency_key="ref_forgotten")

    assert refunds.send(refund.pk).status == "succeeded"

    assert refunded_at_gateway(simulator, account) == 49900
    assert balance_of("customer_credit") == "0.00"


def test_a_refund_that_was_never_sent_is_sent_by_the_schedule(account, paid, simulator, settings, balance_of):
    settings.RAZORPAY_API_BASE = settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    refund = back(paid, "99.00")
    assert refund.status == "requested"

    settings.RAZORPAY_API_BASE = settings.STRIPE_API_BASE = simulator.base
    refunds.resolve(refund.pk)

    assert Refund.objects.get().status == "succeeded"
    assert balance_of("customer_credit") == "-400.00"


def test_a_refund_the_bank_returns_later_frees_the_amount_again(account, paid, simulator, balance_of, published):
    refund = back(paid, "99.00")
    simulator.post(f"refunds/{refund.gateway_ref}/fail")

    refunds.follow_gateway(account=account, refund_ref=refund.gateway_ref, charge_ref=paid.attempts.get().gateway_ref)

    assert Refund.objects.get().status == "failed"
    assert str(again(paid).refunded.amount) == "0.0000"
    assert balance_of("customer_credit") == "-499.00"
    assert published("refund.") == ["refund.succeeded", "refund.failed"]
    assert back(paid).status == "succeeded"


def test_a_pending_refund_is_followed(make_account, customer, save_method, ask, organisation, simulator, balance_of):
    account = make_account("razorpay", options={"refund_seconds": 3600})
    save_method(customer, account)
    payment = ask("499.00")
    collection.collect_due(organisation=organisation)
    refund = back(payment, "99.00")
    assert refund.status == "processing"
    assert balance_of("customer_credit") == "-499.00"

    simulator.post("clock", advance_seconds=3601)
    refunds.resolve(refund.pk)

    assert Refund.objects.get().status == "succeeded"
    assert balance_of("customer_credit") == "-400.00"


def test_a_cash_payment_is_refunded_by_hand(organisation, customer, balance_of):
    payment = offline.record_offline_payment(
        organisation=organisation, customer_id=customer.pk, amount=Money("500.00", "INR"), reference="receipt-1",
        received_on=NOON.date(), note="Cash, counter 2", actor=SYSTEM,
    )  # fmt: skip
    assert payment.status == "succeeded"
    assert balance_of("gateway_clearing:offline") == "500.00"

    assert back(payment, "200.00").status == "succeeded"
    assert balance_of("gateway_clearing:offline") == "300.00"
    assert balance_of("customer_credit") == "-300.00"


def test_recording_the_same_receipt_twice_is_one_payment(organisation, customer, balance_of, published):
    for _ in range(2):
        offline.record_offline_payment(
            organisation=organisation, customer_id=customer.pk, amount=Money("500.00", "INR"), reference="receipt-1",
            received_on=NOON.date(), note="Cash", actor=SYSTEM,
        )  # fmt: skip
    assert Payment.objects.count() == 1
    assert balance_of("customer_credit") == "-500.00"
    assert published("payment.") == ["payment.captured"]


def test_the_database_itself_refuses_more_back_than_came(account, paid):
    with pytest.raises(IntegrityError), transaction.atomic():
        Payment.objects.filter(pk=paid.pk).update(refunded="499.01")


@pytest.mark.django_db(transaction=True)
def test_50_threads_refund_one_payment_in_parts(
    razorpay, customer, save_method, ask, organisation, simulator, balance_of
):
    save_method(customer, razorpay)
    for seed in range(3):
        payment = ask("499.00", reference=f"invoice:{uuid.uuid4()}")
        collection.collect_due(organisation=organisation)
        parts = [random.Random(seed * 100 + n).choice(["10.00", "25.50", "99.99"]) for n in range(50)]
        barrier = threading.Barrier(50)

        def one(part, payment=payment, barrier=barrier):
            barrier.wait()
            try:
                back(payment, part)
                return part
            except RefundExceedsCaptured:
                return None
            finally:
                connection.close()

        with ThreadPoolExecutor(50) as pool:
            done = [part for part in pool.map(one, parts) if part]

        total = sum(Money(part, "INR").amount for part in done)
        assert total <= 499
        assert again(payment).refunded.amount == total
        rows = Refund.objects.filter(payment=payment)
        assert {row.status for row in rows} == {"succeeded"}
        assert sum(row.amount.amount for row in rows) == total
        assert 499 - total < 100, "the rest is smaller than the largest part"
    assert refunded_at_gateway(simulator, razorpay) == sum(int(r.amount.amount * 100) for r in Refund.objects.all())


def test_a_dispute_opened_and_won(account, paid, simulator, balance_of, published):
    charge = paid.attempts.get().gateway_ref
    made = simulator.post("disputes", payment=charge, reason="fraudulent")
    disputes.follow_gateway(account=account, dispute_ref=made["id"])
    disputes.follow_gateway(account=account, dispute_ref=made["id"])

    dispute = Dispute.objects.get()
    assert (dispute.status, str(dispute.amount.amount)) == ("open", "499.0000")
    assert str(again(paid).disputed.amount) == "499.0000"
    assert balance_of("dispute_pending") == "499.00"
    fee = dispute.fee.amount
    assert balance_of(f"gateway_clearing:{account.code}") == f"{-fee:.2f}"
    with pytest.raises(RefundExceedsCaptured):
        back(paid, "1.00")

    simulator.post(f"disputes/{made['id']}/close", outcome="won")
    disputes.follow_gateway(account=account, dispute_ref=made["id"])

    assert Dispute.objects.get().status == "won"
    assert str(again(paid).disputed.amount) == "0.0000"
    assert balance_of("dispute_pending") == "0.00"
    assert balance_of("dispute_fees") == f"{fee:.2f}"
    assert published("dispute.") == ["dispute.opened", "dispute.won"]


def test_a_lost_dispute_told_before_its_opening(account, paid, simulator, balance_of, published):
    charge = paid.attempts.get().gateway_ref
    made = simulator.post("disputes", payment=charge, reason="fraudulent")
    simulator.post(f"disputes/{made['id']}/close", outcome="lost")

    disputes.follow_gateway(account=account, dispute_ref=made["id"])

    assert Dispute.objects.get().status == "lost"
    assert balance_of("dispute_pending") == "0.00"
    assert balance_of("chargeback_loss") == "499.00"
    assert published("dispute.") == ["dispute.opened", "dispute.lost"]


# --- inquiries: a bank asks before it takes ---------------------------------------------------------
def asked(payment, state="open", *, taken=False, amount="499.00"):
    """What a gateway says about a dispute of the payment."""
    return DisputeRecord(
        gateway_ref="dp_inquiry", charge_ref=payment.attempts.get().gateway_ref, amount=Money(amount, "INR"),
        fee=Money("15.00" if taken else "0", "INR"), state=DisputeState(state), taken=taken, reason="fraudulent",
    )  # fmt: skip


def booked(balance_of, account):
    return [
        balance_of(one)
        for one in ("dispute_pending", "dispute_fees", "chargeback_loss", f"gateway_clearing:{account.code}")
    ]


def unexplained(organisation):
    """What banks took and keep, and what documents and books differ by, of the reconciliation's page of figures."""
    (found,) = summary(organisation=organisation, first=date(2020, 1, 1), last=date(2029, 12, 31))
    return f"{found.disputes.amount:.2f}", f"{found.unexplained.amount:.2f}"


def test_what_was_refunded_while_the_bank_asked_and_is_taken_all_the_same_is_before_a_person(account, paid, balance_of):
    disputes.record(account=account, found=asked(paid))
    back(paid, "499.00")
    for _ in range(2):
        disputes.record(account=account, found=asked(paid, taken=True))

    (found,) = ReconciliationException.objects.all()
    assert (found.kind, found.source_type, found.source_id) == (
        "refunded_and_disputed",
        "dispute",
        Dispute.objects.get().pk,
    )
    assert f"{found.amount.amount:.2f}" == "499.00"
    with pytest.raises(RefundExceedsCaptured, match=r"At most 0\.00 INR of this payment"):
        back(paid, "1.00")
    with pytest.raises(RefundExceedsCaptured, match=r"At most 0\.00 INR of this payment"):
        back(paid, None)
    assert Refund.objects.count() == 1
    assert booked(balance_of, account) == ["499.00", "15.00", "0.00", "-514.00"]
    assert balance_of("customer_credit") == "0.00"


def test_a_part_that_was_taken_is_booked_as_that_part_and_what_follows_as_it_comes(account, paid, balance_of):
    for amount in ("300.00", "300.00", "400.00", "300.00"):  # told twice, more, and an older answer that comes late
        disputes.record(account=account, found=asked(paid, taken=True, amount=amount))
    assert booked(balance_of, account) == ["400.00", "15.00", "0.00", "84.00"]
    assert str(again(paid).disputed.amount) == "400.0000"
    assert unexplained(paid.organisation) == ("415.00", "0.00")
    assert back(paid, None).amount == Money("99.00", "INR")

    for _ in range(2):
        disputes.record(account=account, found=asked(paid, "lost", taken=True, amount="350.00"))

    assert booked(balance_of, account) == ["0.00", "15.00", "350.00", "35.00"]
    assert (str(again(paid).disputed.amount), Dispute.objects.get().amount) == ("350.0000", Money("350.00", "INR"))
    assert unexplained(paid.organisation) == ("365.00", "0.00")
    assert not ReconciliationException.objects.exists()


def test_what_a_bank_takes_later_counts_when_it_takes_it(account, paid, organisation, advance):
    disputes.record(account=account, found=asked(paid, taken=True, amount="300.00"))
    first_day = NOON.date()
    advance(days=1)
    disputes.record(account=account, found=asked(paid, taken=True, amount="400.00"))
    advance(days=1)
    disputes.record(account=account, found=asked(paid, "lost", taken=True, amount="350.00"))

    by_day = [
        [(f"{found.disputes.amount:.2f}", f"{found.unexplained.amount:.2f}")]
        for day in range(3)
        for found in summary(
            organisation=organisation, first=first_day + timedelta(days=day), last=first_day + timedelta(days=day)
        )
    ]
    assert by_day == [[("315.00", "0.00")], [("100.00", "0.00")], [("-50.00", "0.00")]]


def test_of_a_part_that_was_taken_that_part_comes_back_when_it_is_won(account, paid, balance_of):
    disputes.record(account=account, found=asked(paid, taken=True, amount="300.00"))
    disputes.record(account=account, found=asked(paid, "won", amount="499.00"))  # nothing is deducted any more

    assert booked(balance_of, account) == ["0.00", "15.00", "0.00", "484.00"]
    assert (str(again(paid).disputed.amount), Dispute.objects.get().amount) == ("0.0000", Money("300.00", "INR"))


def test_razorpay_deducts_a_part():
    """Through the gateway's own answer: 499.00 is contested, 300.00 was deducted."""
    found = razorpay_wire.dispute_record({
        "id": "disp_1", "payment_id": "pay_1", "amount": 49900, "currency": "INR", "status": "open", "amount_deducted": 30000,
    })  # fmt: skip
    assert (found.taken, found.amount) == (True, Money("300.00", "INR"))
    asks = razorpay_wire.dispute_record({
        "id": "disp_1", "payment_id": "pay_1", "amount": 49900, "currency": "INR", "status": "open", "amount_deducted": 0,
    })  # fmt: skip
    assert (asks.taken, asks.amount) == (False, Money("499.00", "INR"))


def test_an_inquiry_that_comes_to_nothing_moves_no_money(account, paid, balance_of, published):
    for state in ("open", "under_review", "won", "won"):
        disputes.record(account=account, found=asked(paid, state))

    assert Dispute.objects.get().status == "won"
    assert str(again(paid).disputed.amount) == "0.0000"
    assert booked(balance_of, account) == ["0.00", "0.00", "0.00", "499.00"]
    assert published("dispute.") == ["dispute.opened", "dispute.won"]
    assert unexplained(paid.organisation) == ("0.00", "0.00")


def test_what_is_only_asked_about_can_be_refunded(account, paid):
    disputes.record(account=account, found=asked(paid))
    assert back(paid, "499.00").status == "succeeded"


@pytest.mark.parametrize(
    ("end", "books"), [("won", ["0.00", "15.00", "0.00", "484.00"]), ("lost", ["0.00", "15.00", "499.00", "-15.00"])]
)
def test_an_inquiry_that_becomes_a_chargeback_is_booked_when_the_money_goes_once(account, paid, balance_of, end, books):
    disputes.record(account=account, found=asked(paid))
    assert booked(balance_of, account) == ["0.00", "0.00", "0.00", "499.00"]
    assert unexplained(paid.organisation) == ("0.00", "0.00")

    for _ in range(2):
        disputes.record(account=account, found=asked(paid, taken=True))
    assert booked(balance_of, account) == ["499.00", "15.00", "0.00", "-15.00"]
    assert str(again(paid).disputed.amount) == "499.0000"
    assert unexplained(paid.organisation) == ("514.00", "0.00")

    for _ in range(2):
        disputes.record(account=account, found=asked(paid, end, taken=True))
    disputes.record(account=account, found=asked(paid, taken=True))  # an older message, late
    assert (Dispute.objects.get().status, booked(balance_of, account)) == (end, books)


@pytest.mark.parametrize(
    ("status", "moved", "taken"),
    [("warning_needs_response", [], False), ("warning_under_review", [], False), ("warning_closed", [], False),
     ("prevented", [], False), ("needs_response", [{"fee": 1500}], True), ("lost", [{"fee": 1500}], True), ("under_review", [], True)],
)  # fmt: skip
def test_stripe_says_whether_money_was_taken(status, moved, taken):
    found = stripe_wire.dispute_record(
        {
            "id": "dp_1",
            "charge": "ch_1",
            "amount": 49900,
            "currency": "inr",
            "status": status,
            "balance_transactions": moved,
        }
    )
    assert found.taken is taken


@pytest.mark.parametrize(
    ("status", "deducted", "taken"),
    [("open", 0, False), ("open", 49900, True), ("under_review", 0, False), ("lost", 49900, True), ("lost", 0, True),
     ("closed", 0, False), ("won", 0, False)],
)  # fmt: skip
def test_razorpay_says_whether_money_was_taken(status, deducted, taken):
    found = razorpay_wire.dispute_record(
        {
            "id": "disp_1",
            "payment_id": "pay_1",
            "amount": 49900,
            "currency": "INR",
            "status": status,
            "amount_deducted": deducted,
        }
    )
    assert found.taken is taken


# --- money over the counter for what was paid before -------------------------------------------------
TODAY = NOON.date()


def counter(organisation, customer, amount="499.00", *, reference, on=TODAY):
    return offline.record_offline_payment(
        organisation=organisation, customer_id=customer.pk, amount=Money(amount, "INR"), reference=reference, received_on=on,
        note="Cash", actor=SYSTEM,
    )  # fmt: skip


def test_cash_for_what_was_paid_online_is_refused_and_not_swallowed(
    paid, organisation, customer, balance_of, published
):
    with pytest.raises(ReferencePaid, match="paid online already") as refusal:
        counter(organisation, customer, reference=paid.reference)

    assert (refusal.value.http_status, refusal.value.field) == (409, "reference")
    assert (balance_of("customer_credit"), published("payment.")) == ("-499.00", ["payment.captured"])
    assert counter(organisation, customer, reference=f"{paid.reference}:cash").status == "succeeded"
    assert balance_of("customer_credit") == "-998.00"


def test_a_second_receipt_of_another_day_is_not_the_first_one(organisation, customer, balance_of):
    first = counter(organisation, customer, reference="receipt-1")
    assert counter(organisation, customer, reference="receipt-1") == first

    with pytest.raises(ReferencePaid, match="received on 2025-04-07 already"):
        counter(organisation, customer, reference="receipt-1", on=NOON.date() - timedelta(days=1))
    assert balance_of("customer_credit") == "-499.00"
