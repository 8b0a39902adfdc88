"""Collecting payments through both adapters and the simulator."""

from datetime import UTC, datetime, timedelta

import pytest

from billing import clock
from payments.errors import AttemptUnderWay, PaymentNotCollectable
from payments.models import Payment, PaymentAttempt, PaymentMethod, ReconciliationException
from payments.services import charging, collection, methods
from tests.payments.conftest import SYSTEM, again

pytestmark = pytest.mark.django_db
now_of = clock.now


def test_a_due_payment_is_debited_from_the_saved_method(
    account, customer, save_method, ask, organisation, simulator, balance_of, published
):
    method = save_method(customer, account)
    payment = ask("499.00")

    assert collection.collect_due(organisation=organisation) == 1

    payment = again(payment)
    attempt = payment.attempts.get()
    assert (payment.status, payment.attempts_made) == ("succeeded", 1)
    assert (attempt.status, attempt.method, attempt.idempotency_key) == ("captured", method, f"att_{attempt.pk.hex}")
    assert attempt.gateway_ref
    assert attempt.gateway_order_ref
    assert simulator.captured(account) == [49900]
    assert balance_of(f"gateway_clearing:{account.code}") == "499.00"
    assert balance_of("customer_credit") == "-499.00"
    assert published("payment.") == ["payment.captured"]


def test_a_reference_is_asked_for_once(ask, customer, razorpay):
    first = ask("499.00", reference="invoice:1")

    assert ask("499.00", reference="invoice:1") == first
    with pytest.raises(collection.AmountChanged):
        ask("500.00", reference="invoice:1")


def test_a_reference_of_one_customer_is_not_answered_with_anothers_payment(ask, customer, make_customer, razorpay):
    ask("499.00", reference="excursion")

    with pytest.raises(collection.ReferenceTaken, match="by another customer"):
        ask("499.00", reference="excursion", customer_id=make_customer().pk)

    assert Payment.objects.get().customer_id == customer.pk


def test_soft_declines_are_tried_on_days_1_3_5_7_in_the_morning_then_given_up(
    razorpay, customer, save_method, ask, organisation, simulator, advance, published
):
    method = save_method(customer, razorpay)
    simulator.program(method.token, *["insufficient_funds"] * 5)
    payment = ask("499.00")
    collection.collect_due(organisation=organisation)

    days = []
    for _ in range(4):
        due = again(payment).next_attempt_at
        days.append((due.date() - datetime(2025, 4, 7, tzinfo=UTC).date()).days)
        local = due + timedelta(hours=5, minutes=30)
        assert local.hour == 7
        advance(days=0, seconds=(due - now_of(organisation)).total_seconds() - 1)
        assert collection.collect_due(organisation=organisation) == 0, "not a second before it is due"
        advance(seconds=1)
        assert collection.collect_due(organisation=organisation) == 1

    payment = again(payment)
    assert days == [1, 3, 5, 7]
    assert (payment.status, payment.decline_class, payment.decline_code) == ("failed", "soft", "insufficient_funds")
    assert [a.status for a in payment.attempts.order_by("number")] == ["declined"] * 5
    assert published("payment.")[-2:] == ["payment.declined", "payment.failed"]
    assert published("payment.").count("payment.declined") == 5
    assert simulator.captured(razorpay) == []
    refs = set(payment.attempts.values_list("gateway_order_ref", flat=True))
    assert len(refs) == 1, "all attempts share one order"


def test_a_soft_decline_then_success(account, customer, save_method, ask, organisation, simulator, advance):
    method = save_method(customer, account)
    simulator.program(method.token, "insufficient_funds")
    payment = ask("499.00")
    collection.collect_due(organisation=organisation)
    assert again(payment).status == "pending"

    advance(days=2)
    collection.collect_due(organisation=organisation)

    assert again(payment).status == "succeeded"
    assert simulator.captured(account) == [49900]


def test_a_hard_decline_waits_for_a_new_method(account, customer, save_method, ask, organisation, simulator, published):
    method = save_method(customer, account)
    simulator.program(method.token, "card_expired" if account.provider == "razorpay" else "expired_card")
    payment = ask("499.00")
    collection.collect_due(organisation=organisation)
    assert again(payment).status == "failed"
    assert published()[-2:] == ["payment.declined", "payment.failed"]

    methods.detach(method_id=method.pk, actor=SYSTEM)
    save_method(customer, account)
    assert collection.wake_payments_of(customer=customer) == [payment.pk]
    collection.collect_due(organisation=organisation)

    assert again(payment).status == "succeeded"
    assert simulator.captured(account) == [49900]


def test_technical_faults_are_tried_after_minutes(razorpay, customer, save_method, ask, organisation, simulator):
    method = save_method(customer, razorpay)
    simulator.program(method.token, "bank_technical_error")
    payment = ask("499.00")

    collection.collect_due(organisation=organisation)

    wait = again(payment).next_attempt_at - now_of(organisation)
    assert timedelta(minutes=15) <= wait < timedelta(minutes=17)
    assert again(payment).decline_class == "technical"


def test_a_gateway_that_refuses_connections_charges_nothing(
    razorpay, customer, save_method, ask, organisation, settings, simulator
):
    save_method(customer, razorpay)
    payment = ask("499.00")
    settings.RAZORPAY_API_BASE = "http://127.0.0.1:9"

    collection.collect_due(organisation=organisation)

    attempt = again(payment).attempts.get()
    assert (attempt.status, attempt.decline_code) == ("abandoned", "gateway_unavailable")
    assert again(payment).status == "pending"
    settings.RAZORPAY_API_BASE = simulator.base
    collection.retry_now(payment_id=payment.pk, actor=SYSTEM)
    assert again(payment).status == "succeeded"


@pytest.mark.parametrize("kind", ["timeout_after", "drop", "500", "502_html", "truncated"])
def test_a_lost_answer_is_unknown_then_asked_for_and_charged_once(
    account, kind, customer, save_method, ask, organisation, simulator, balance_of, published, settings
):
    settings.GATEWAY_READ_SECONDS = 0.4
    save_method(customer, account)
    payment = ask("499.00")
    path = "create/recurring" if account.provider == "razorpay" else "payment_intents$"
    simulator.fault(kind, path, effect=True) if kind in ("500", "502_html") else simulator.fault(kind, path)

    collection.collect_due(organisation=organisation)

    attempt = payment.attempts.get()
    assert (attempt.status, again(payment).status) == ("unknown", "processing")
    assert "payment.captured" not in published()

    charging.resolve(attempt.pk)
    charging.resolve(attempt.pk)

    assert again(payment).status in ("succeeded", "processing")
    if again(payment).status == "processing":  # the effect had not happened: never heard of
        charging.resolve(attempt.pk, grace=timedelta(0))
        collection.retry_now(payment_id=payment.pk, actor=SYSTEM)
    assert again(payment).status == "succeeded"
    assert simulator.captured(account) == [49900]
    assert balance_of(f"gateway_clearing:{account.code}") == "499.00"
    assert published("payment.captured") == ["payment.captured"]


def test_a_time_out_before_the_effect_is_abandoned_and_tried_again(
    account, customer, save_method, ask, organisation, simulator, settings, advance
):
    settings.GATEWAY_READ_SECONDS = 0.4
    save_method(customer, account)
    payment = ask("499.00")
    simulator.fault("timeout_before", "create/recurring" if account.provider == "razorpay" else "payment_intents$")
    collection.collect_due(organisation=organisation)
    attempt = payment.attempts.get()
    assert attempt.status == "unknown"

    charging.resolve(attempt.pk)
    assert PaymentAttempt.objects.get(pk=attempt.pk).status == "unknown", "it may still be on its way"
    advance(minutes=11)
    charging.resolve(attempt.pk)

    assert PaymentAttempt.objects.get(pk=attempt.pk).status == "abandoned"
    advance(minutes=20)
    collection.collect_due(organisation=organisation)
    assert again(payment).status == "succeeded"
    assert simulator.captured(account) == [49900]


def test_a_debit_above_the_limit_asks_the_customer_for_a_page(
    razorpay, customer, save_method, ask, organisation, simulator, published
):
    save_method(customer, razorpay)
    payment = ask("15000.01")

    collection.collect_due(organisation=organisation)

    payment = again(payment)
    assert payment.status == "requires_action"
    assert payment.action_url.startswith(simulator.base)
    assert published("payment.")[-1] == "payment.requires_action"
    link = payment.attempts.get().gateway_order_ref
    simulator.post("checkout", account=razorpay.key_id, payment_link=link, method="upi")
    charging.resolve(payment.attempts.get().pk)
    assert again(payment).status == "succeeded"
    assert simulator.captured(razorpay) == [1500001]


def test_an_e_mandate_is_debited_above_that_limit(razorpay, customer, save_method, ask, organisation, simulator):
    save_method(customer, razorpay, kind="emandate")
    payment = ask("45000.00")

    collection.collect_due(organisation=organisation)

    assert again(payment).status == "succeeded"


def test_authentication_at_razorpay_becomes_a_page(razorpay, customer, save_method, ask, organisation, simulator):
    method = save_method(customer, razorpay, kind="card")
    simulator.program(method.token, "authentication_failed")
    payment = ask("499.00")

    collection.collect_due(organisation=organisation)

    payment = again(payment)
    assert [a.status for a in payment.attempts.order_by("number")] == ["declined", "requires_action"]
    assert payment.status == "requires_action"


def test_authentication_at_stripe_keeps_the_intent(stripe, make_customer, save_method, ask, organisation, simulator):
    customer = make_customer("EUR")
    save_method(customer, stripe, card="4000002760003184")
    payment = ask("19.90", "EUR", customer_id=customer.pk)

    collection.collect_due(organisation=organisation)

    payment = again(payment)
    attempt = payment.attempts.get()
    assert (payment.status, attempt.status) == ("requires_action", "requires_action")
    simulator.post("checkout", account=stripe.key_secret, payment_intent=attempt.gateway_order_ref, **{"3ds": "ok"})
    charging.resolve(attempt.pk)
    assert again(payment).status == "succeeded"
    assert simulator.captured(stripe) == [1990]


def test_a_cancelled_payment_is_not_collected(razorpay, customer, save_method, ask, organisation, simulator, published):
    save_method(customer, razorpay)
    payment = ask("499.00")

    collection.cancel_payment(organisation_id=organisation.pk, reference=payment.reference)
    collection.cancel_payment(organisation_id=organisation.pk, reference=payment.reference)

    assert again(payment).status == "cancelled"
    assert collection.collect_due(organisation=organisation) == 0
    assert simulator.captured(razorpay) == []
    assert published("payment.").count("payment.cancelled") == 1
    with pytest.raises(PaymentNotCollectable):
        collection.retry_now(payment_id=payment.pk, actor=SYSTEM)


def test_cancelling_a_page_closes_it_at_the_gateway(razorpay, customer, ask, organisation, simulator):
    payment = ask("499.00", automatic=False)
    url = collection.hosted_page(payment_id=payment.pk)
    assert collection.hosted_page(payment_id=payment.pk) == url

    collection.cancel_payment(organisation_id=organisation.pk, reference=payment.reference)
    charging.close_attempts(payment.pk)

    assert again(payment).status == "cancelled"
    link = payment.attempts.get().gateway_order_ref
    refused = simulator.session.post(
        f"{simulator.base}/_sim/checkout", json={"account": razorpay.key_id, "payment_link": link, "method": "upi"}
    )
    assert refused.status_code >= 400


def test_money_that_comes_after_the_cancellation_is_still_money(
    razorpay, customer, ask, organisation, simulator, balance_of
):
    payment = ask("499.00", automatic=False)
    collection.hosted_page(payment_id=payment.pk)
    collection.cancel_payment(organisation_id=organisation.pk, reference=payment.reference)
    link = payment.attempts.get().gateway_order_ref
    simulator.post("checkout", account=razorpay.key_id, payment_link=link, method="upi")

    charging.close_attempts(payment.pk)

    assert again(payment).status == "succeeded"
    assert balance_of("customer_credit") == "-499.00"
    told = ReconciliationException.objects.get(organisation=organisation)
    assert (told.kind, told.source_id) == ("duplicate_payment", payment.pk)


def test_an_unpaid_page_ends_after_two_weeks(razorpay, customer, ask, organisation, advance, published):
    payment = ask("499.00")
    collection.collect_due(organisation=organisation)
    assert again(payment).status == "requires_action", "no saved method: the customer has to come"

    advance(days=14)
    collection.collect_due(organisation=organisation)

    assert again(payment).status == "failed"
    assert published("payment.")[-1] == "payment.failed"
    assert collection.hosted_page(payment_id=payment.pk).startswith("http")


def test_a_page_opened_before_the_first_debit_does_not_take_its_place(
    account, customer, save_method, ask, organisation, simulator, advance, published
):
    currency = "INR" if account.provider == "razorpay" else "EUR"
    save_method(customer, account)
    payment = ask("499.00", currency)
    collection.hosted_page(payment_id=payment.pk)

    advance(days=14)
    collection.collect_due(organisation=organisation)
    collection.collect_due(organisation=organisation)

    payment = again(payment)
    assert payment.status == "succeeded"
    assert [(one.number, one.is_page) for one in payment.attempts.order_by("number")] == [(1, True), (2, False)]
    assert simulator.captured(account) == [49900]
    assert "payment.failed" not in published()


def test_after_a_page_between_two_debits_the_next_one_is_a_debit(
    razorpay, customer, save_method, ask, organisation, simulator, advance
):
    method = save_method(customer, razorpay)
    simulator.program(method.token, "insufficient_funds", "ok")
    payment = ask("499.00")
    collection.collect_due(organisation=organisation)
    assert again(payment).decline_class == "soft"
    collection.hosted_page(payment_id=payment.pk)

    advance(days=14)
    collection.collect_due(organisation=organisation)
    collection.collect_due(organisation=organisation)

    payment = again(payment)
    assert payment.status == "succeeded"
    assert [one.is_page for one in payment.attempts.order_by("number")] == [False, True, False]


def test_a_payment_under_way_is_not_tried_twice(
    razorpay, customer, save_method, ask, organisation, simulator, settings
):
    settings.GATEWAY_READ_SECONDS = 0.4
    save_method(customer, razorpay)
    payment = ask("499.00")
    simulator.fault("timeout_after", "create/recurring")
    collection.collect_due(organisation=organisation)

    with pytest.raises(AttemptUnderWay):
        collection.retry_now(payment_id=payment.pk, actor=SYSTEM)
    with pytest.raises(AttemptUnderWay):
        collection.hosted_page(payment_id=payment.pk)
    assert payment.attempts.count() == 1


def test_a_late_authorisation_after_a_decline_is_taken(
    razorpay, customer, save_method, ask, organisation, simulator, published
):
    method = save_method(customer, razorpay)
    simulator.program(method.token, "late:540")
    payment = ask("499.00")
    collection.collect_due(organisation=organisation)
    attempt = payment.attempts.get()
    assert (attempt.status, again(payment).decline_code) == ("declined", "payment_timed_out")

    simulator.post("clock", advance_seconds=541 * 60)
    collection.retry_now(payment_id=payment.pk, actor=SYSTEM)

    assert again(payment).status == "succeeded"
    assert sorted(payment.attempts.values_list("status", flat=True)) == ["abandoned", "captured"]
    assert PaymentAttempt.objects.get(pk=attempt.pk).status == "captured"
    assert simulator.captured(razorpay) == [49900]


def test_a_pending_upi_debit_is_waited_for(razorpay, customer, save_method, ask, organisation, simulator):
    method = save_method(customer, razorpay)
    simulator.program(method.token, "pending:3600")
    payment = ask("499.00")
    collection.collect_due(organisation=organisation)
    attempt = payment.attempts.get()
    assert (attempt.status, again(payment).status) == ("processing", "processing")

    simulator.post("clock", advance_seconds=3601)
    charging.resolve(attempt.pk)

    assert again(payment).status == "succeeded"


def test_a_revoked_method_is_not_debited(razorpay, customer, save_method, ask, organisation, simulator):
    method = save_method(customer, razorpay)
    simulator.post(f"tokens/{method.token}", status="cancelled")
    methods.refresh_token(account=razorpay, token=method.token)
    assert PaymentMethod.objects.get(pk=method.pk).status == "revoked"
    payment = ask("499.00")

    collection.collect_due(organisation=organisation)

    assert again(payment).status == "requires_action"
    assert payment.attempts.get().method is None


def test_what_nobody_wants_any_more_is_not_tried_however_late_that_is_said(
    monkeypatch, account, customer, save_method, ask, simulator
):
    """The invoice is paid in cash in the moment in which a person presses *Try now*."""
    save_method(customer, account)
    payment, looked = ask(), collection._make_ready

    def look_then_cancel(payment_id):
        looked(payment_id)
        Payment.objects.filter(pk=payment_id).update(cancel_requested=True)

    monkeypatch.setattr(collection, "_make_ready", look_then_cancel)

    with pytest.raises(PaymentNotCollectable, match="cancelled"):
        collection.retry_now(payment_id=payment.pk, actor=SYSTEM)

    assert (again(payment).status, again(payment).cancel_requested, payment.attempts.count()) == ("pending", True, 0)
    assert simulator.captured(account) == []
