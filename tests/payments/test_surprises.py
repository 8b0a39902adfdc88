"""Money that comes otherwise than asked for is booked or held, and put before a person."""

import uuid

import pytest
from django.db import IntegrityError, transaction
from moneyed import Money

from payments.errors import PaymentNotCollectable
from payments.gateways.base import ChargeResult, Decline, DeclineClass, Outcome, Recovery
from payments.gateways.registry import gateway_for
from payments.models import Payment, PaymentAttempt, ReconciliationException
from payments.services import attempts, charging, collection, offline, refunds, requests
from tests.payments.conftest import NOON, SYSTEM, again

pytestmark = pytest.mark.django_db


@pytest.fixture
def paid(razorpay, customer, save_method, ask, organisation):
    save_method(customer, razorpay)
    payment = ask("499.00")
    collection.collect_due(organisation=organisation)
    return again(payment)


def captured(ref, amount="499.00"):
    return ChargeResult(outcome=Outcome.CAPTURED, gateway_ref=ref, amount=Money(amount, "INR"))


def test_a_second_charge_becomes_a_payment_of_its_own_once(paid, razorpay, balance_of, published):
    attempt = paid.attempts.get()

    for _ in range(3):
        attempts.settle_attempt(attempt_id=attempt.pk, result=captured("pay_second"))

    second = Payment.objects.exclude(pk=paid.pk).get()
    assert (second.reference, second.status, second.customer) == ("duplicate:pay_second", "succeeded", paid.customer)
    assert again(paid).status == "succeeded"
    assert PaymentAttempt.objects.get(pk=attempt.pk).gateway_ref == attempt.gateway_ref
    assert balance_of("customer_credit") == "-998.00"
    assert balance_of(f"gateway_clearing:{razorpay.code}") == "998.00"
    assert published("payment.captured") == ["payment.captured"] * 2
    told = ReconciliationException.objects.get()
    assert (told.kind, told.source_id, told.amount) == ("duplicate_payment", second.pk, Money("499.00", "INR"))


def test_a_duplicate_made_at_the_gateway_can_be_refunded(
    razorpay, customer, save_method, ask, organisation, simulator, balance_of
):
    """A page paid by the customer while a late authorisation paid the same payment."""
    method = save_method(customer, razorpay)
    simulator.program(method.token, "late:60")
    payment = ask("499.00")
    collection.collect_due(organisation=organisation)
    collection.hosted_page(payment_id=payment.pk)
    link = payment.attempts.get(method=None).gateway_order_ref
    simulator.post("checkout", account=razorpay.key_id, payment_link=link, method="upi")
    simulator.post("clock", advance_seconds=3700)
    assert simulator.captured(razorpay) == [49900, 49900]

    for attempt in payment.attempts.all():
        found = gateway_for(razorpay).find(requests.charge_request(charging.load(attempt.pk)))
        charging.settle(attempt.pk, found)

    assert again(payment).status == "succeeded"
    second = Payment.objects.get(reference__startswith="duplicate:")
    assert balance_of("customer_credit") == "-998.00"
    assert (
        refunds.request_refund(payment_id=second.pk, amount=None, reason="Paid twice", actor=SYSTEM).status
        == "succeeded"
    )
    assert balance_of("customer_credit") == "-499.00"


@pytest.mark.parametrize("amount", ["498.99", "499.01", "0.01"])
def test_another_amount_is_not_taken_for_the_payment(
    razorpay, customer, save_method, ask, amount, balance_of, published
):
    save_method(customer, razorpay)
    payment = ask("499.00")
    attempt = attempts.begin_attempt(payment_id=payment.pk)

    for _ in range(2):
        attempts.settle_attempt(attempt_id=attempt.pk, result=captured("pay_x", amount))

    assert again(payment).status == "processing"
    assert balance_of("customer_credit") == "0.00"
    assert not published("payment.captured")
    assert ReconciliationException.objects.get().kind == "amount_differs"


def test_another_currency_is_not_taken_either(razorpay, customer, save_method, ask):
    save_method(customer, razorpay)
    attempt = attempts.begin_attempt(payment_id=ask("499.00").pk)
    result = ChargeResult(outcome=Outcome.CAPTURED, gateway_ref="pay_x", amount=Money("499.00", "USD"))

    attempts.settle_attempt(attempt_id=attempt.pk, result=result)

    assert ReconciliationException.objects.get().kind == "amount_differs"


@pytest.fixture
def held(razorpay, customer, save_method, ask, simulator):
    """An attempt whose charge the bank has authorised and nobody has captured."""
    save_method(customer, razorpay)
    payment = ask("499.00")
    attempt = attempts.begin_attempt(payment_id=payment.pk)
    order = simulator.session.post(f"{simulator.base}/v1/orders", auth=(razorpay.key_id, razorpay.key_secret),
                                   json={"amount": 49900, "currency": "INR", "payment_capture": False}).json()  # fmt: skip
    made = simulator.post("checkout", account=razorpay.key_id, order_id=order["id"], method="upi")
    assert made["status"] == "authorized"
    refs = {"gateway_order_ref": order["id"], "gateway_ref": made["razorpay_payment_id"]}
    return attempt, ChargeResult(outcome=Outcome.AUTHORIZED, **refs)


def test_what_is_authorised_is_captured_once(held, razorpay, simulator, balance_of, published):
    attempt, result = held

    for _ in range(2):
        charging.settle(attempt.pk, result)

    assert again(attempt.payment).status == "succeeded"
    assert simulator.captured(razorpay) == [49900]
    assert balance_of("customer_credit") == "-499.00"
    assert published("payment.") == ["payment.captured"]


def test_a_capture_whose_answer_is_lost_is_asked_for(held, razorpay, simulator, settings, balance_of):
    settings.GATEWAY_READ_SECONDS = 0.4
    attempt, result = held
    simulator.fault("timeout_after", "/capture")

    assert charging.settle(attempt.pk, result).status == "authorized"
    assert charging.resolve(attempt.pk).status == "captured"

    assert simulator.captured(razorpay) == [49900]
    assert balance_of("customer_credit") == "-499.00"


def test_what_nobody_wants_any_more_is_not_captured(held, razorpay, organisation, simulator, balance_of, published):
    attempt, result = held
    collection.cancel_payment(organisation_id=organisation.pk, reference=attempt.payment.reference)

    charging.settle(attempt.pk, result)

    assert again(attempt.payment).status == "cancelled"
    assert simulator.captured(razorpay) == []
    assert balance_of("customer_credit") == "0.00"
    assert published("payment.") == ["payment.cancelled"]


def test_a_cancelled_payment_ends_when_its_late_authorisation_does(
    held, razorpay, organisation, simulator, settings, published
):
    """A debit was declined, then authorised late, its capture unanswered, and by then nobody wanted it any more."""
    settings.GATEWAY_READ_SECONDS = 0.4
    attempt, result = held
    soft = Decline(decline_class=DeclineClass.SOFT, code="insufficient_funds", recovery=Recovery.RETRY_LATER)
    attempts.settle_attempt(attempt_id=attempt.pk, result=ChargeResult(outcome=Outcome.DECLINED, decline=soft))
    simulator.fault("timeout_before", "/capture")
    assert charging.settle(attempt.pk, result).status == "authorized"
    collection.cancel_payment(organisation_id=organisation.pk, reference=attempt.payment.reference)
    assert again(attempt.payment).status == "pending"

    charging.settle(attempt.pk, result)

    assert again(attempt.payment).status == "cancelled"
    assert simulator.captured(razorpay) == []
    assert published("payment.") == ["payment.declined", "payment.cancelled"]


def test_every_piece_of_old_news_changes_nothing(paid, balance_of, published):
    attempt = paid.attempts.get()
    for outcome in (
        Outcome.UNKNOWN,
        Outcome.PROCESSING,
        Outcome.AUTHORIZED,
        Outcome.REQUIRES_ACTION,
        Outcome.CANCELLED,
    ):
        attempts.settle_attempt(attempt_id=attempt.pk, result=ChargeResult(outcome=outcome))
    attempts.settle_unsent(attempt_id=attempt.pk)
    attempts.settle_attempt(attempt_id=attempt.pk, result=captured(attempt.gateway_ref))

    assert again(paid).status == "succeeded"
    assert PaymentAttempt.objects.get().status == "captured"
    assert balance_of("customer_credit") == "-499.00"
    assert published("payment.") == ["payment.captured"]


def test_cash_pays_an_invoice_that_waits_online_but_not_while_a_page_is_open(
    razorpay, customer, ask, organisation, balance_of
):
    payment = ask("499.00", reference="invoice:1", automatic=False)

    def cash():
        return offline.record_offline_payment(
            organisation=organisation, customer_id=customer.pk, amount=Money("499.00", "INR"), reference="invoice:1",
            received_on=NOON.date(), note="Cash", actor=SYSTEM,
        )  # fmt: skip

    collection.hosted_page(payment_id=payment.pk)
    with pytest.raises(PaymentNotCollectable):
        cash()
    attempts.settle_attempt(attempt_id=payment.attempts.get().pk, result=ChargeResult(outcome=Outcome.CANCELLED))

    assert cash() == payment
    assert again(payment).status == "succeeded"
    assert balance_of("gateway_clearing:offline") == "499.00"


def test_one_open_attempt_is_a_rule_of_the_database(razorpay, customer, save_method, ask, organisation):
    save_method(customer, razorpay)
    payment = ask("499.00")
    attempt = attempts.begin_attempt(payment_id=payment.pk)
    assert attempts.begin_attempt(payment_id=payment.pk) is None

    with pytest.raises(IntegrityError), transaction.atomic():
        PaymentAttempt.objects.create(
            organisation=organisation, payment=payment, number=2, gateway_account=razorpay, amount=payment.amount,
            idempotency_key=uuid.uuid4().hex, started_at=attempt.started_at,
        )  # fmt: skip
