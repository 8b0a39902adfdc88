"""A payment refused for our own mistake: said where people look, one exception, no try used up, tried again once mended."""

from datetime import timedelta

import pytest
from django.urls import reverse

from payments.gateways import registry
from payments.gateways.faults import SETUP_FAULTS, GatewayMisconfigured, GatewayRejected
from payments.models import GatewayAccount, Payment, ReconciliationException
from payments.services import accounts, charging, collection, fetching, matching
from payments.services.attempts import _history
from tests.payments.conftest import NOON, SYSTEM, again

pytestmark = pytest.mark.django_db(transaction=True)
REFUSED = "gateway_key_refused"


def board():
    rows = ReconciliationException.objects.order_by("opened_at", "pk")
    return [(row.kind, row.source_type, row.source_id, row.status) for row in rows]


def spoil(account, secret="sk_wrong"):
    GatewayAccount.objects.filter(pk=account.pk).update(key_secret=secret)
    registry.forget()


@pytest.fixture
def asked(account, customer, make_customer, save_method, ask):
    """Three payments of a customer with a saved method, at either provider."""
    currency = "INR" if account.provider == "razorpay" else "EUR"
    payer = make_customer(currency)
    save_method(payer, account)
    account.secret = account.key_secret
    return [ask("499.00", currency, customer_id=payer.pk) for _ in range(3)]


@pytest.mark.parametrize(("secret", "code"), [("sk_wrong", REFUSED), ("", "gateway_key_missing")])
def test_a_wrong_or_missing_key_is_said_once_for_the_account_and_uses_up_no_try(
    account, asked, advance, simulator, secret, code
):
    spoil(account, secret)
    for payment in asked:
        collection.collect(payment.pk)
    assert [(again(one).status, again(one).decline_class, again(one).decline_code) for one in asked] == [
        ("pending", "config", code)
    ] * 3
    assert board() == [("gateway_misconfigured", "gateway_account", account.pk, "open")]
    said = ReconciliationException.objects.get()
    assert said.explanation == f"Account '{account.code}': {SETUP_FAULTS[code]}"
    assert not secret or secret not in said.explanation

    for _ in range(12):  # every day; none of it is a try of the customer's bank
        advance(days=1, hours=3)
        collection.collect(asked[0].pk)
    payment = again(asked[0])
    history = _history(payment, payment.attempts.last(), NOON + timedelta(days=14))
    assert (payment.status, payment.attempts_made >= 12, history.debits, history.debits_of_method) == (
        "pending",
        True,
        0,
        0,
    )
    assert (len(board()), simulator.captured(account)) == (1, [])


def test_once_the_keys_are_right_everything_is_tried_and_the_exception_closes(
    account, asked, advance, organisation, simulator
):
    spoil(account)
    for payment in asked:
        collection.collect(payment.pk)
    advance(minutes=1)
    accounts.change_keys(account=account, key_id=account.key_id, key_secret=account.secret, actor=SYSTEM)
    registry.forget()
    assert {again(one).decline_class for one in asked} == {"config"}  # until the gateway says otherwise
    collection.collect_due(organisation=organisation)
    assert [again(one).status for one in asked] == ["succeeded"] * 3
    assert len(simulator.captured(account)) == 3
    matching.run_matching(organisation=organisation)
    assert [row[3] for row in board() if row[0] == "gateway_misconfigured"] == ["resolved"]


def test_an_account_that_is_switched_off_is_said_and_goes_on_when_it_is_switched_on(
    account, asked, organisation, advance
):
    accounts.set_active(account=account, active=False, actor=SYSTEM)
    for payment in asked:
        collection.collect(payment.pk)
    payment = again(asked[0])
    assert (payment.status, payment.decline_code, payment.next_attempt_at, payment.attempts_made) == (
        "pending", "gateway_account_stopped", None, 0,
    )  # fmt: skip
    assert board() == [("gateway_misconfigured", "gateway_account", account.pk, "open")]
    accounts.set_active(account=account, active=True, actor=SYSTEM)
    collection.collect_due(organisation=organisation)
    assert [again(one).status for one in asked] == ["succeeded"] * 3


def test_a_customer_without_a_method_waits_for_a_page_and_nothing_is_wrong(account, customer, ask):
    accounts.set_active(account=account, active=False, actor=SYSTEM)
    payment = ask()
    collection.collect(payment.pk)
    assert (again(payment).decline_class, board()) == ("", [])


def test_a_request_that_is_refused_is_an_exception_of_its_payment_with_the_gateway_s_words(
    razorpay, customer, save_method, ask, monkeypatch
):
    save_method(customer, razorpay)
    payment = ask()

    class Refuses:
        def charge(self, request):
            raise GatewayRejected(reason="Amount exceeds maximum")

    monkeypatch.setattr(charging, "gateway_for", lambda account: Refuses())
    collection.collect(payment.pk)
    assert again(payment).decline_code == "gateway_rejected"
    assert board() == [("request_refused", "payment", payment.pk, "open")]
    said = f"{payment.reference} at '{razorpay.code}': The payment gateway refused the request: Amount exceeds maximum."
    assert ReconciliationException.objects.get().explanation == said


def test_test_and_live_mixed_up_at_stripe_is_ours_and_no_reason_to_ask_for_another_card(
    stripe, make_customer, save_method, ask, monkeypatch
):
    import stripe as sdk

    from payments.gateways import stripe_wire

    exc = sdk.InvalidRequestError(
        "No such PaymentMethod: 'pm_1'; a similar object exists in test mode, but a live mode key was used to make this request.",
        "payment_method", code="resource_missing", http_status=404,
    )  # fmt: skip
    with pytest.raises(GatewayMisconfigured) as refused, stripe_wire.writing():
        raise exc
    assert refused.value.fault == "gateway_modes_mixed"


def test_payouts_that_cannot_be_asked_for_with_a_wrong_key_are_the_same_exception(account, asked, organisation):
    spoil(account)
    report = fetching.fetch_settlements(organisation=organisation)
    fetching.fetch_settlements(organisation=organisation)
    assert report.errors == {account.code: SETUP_FAULTS[REFUSED]}
    assert board() == [("gateway_misconfigured", "gateway_account", account.pk, "open")]


def test_page_and_api_say_it_with_a_stable_code_and_in_words(
    razorpay, customer, save_method, ask, client_of, console, organisation
):
    save_method(customer, razorpay)
    payment = ask()
    spoil(razorpay, "a-secret-that-nobody-sees")
    collection.collect(payment.pk)
    got = client_of(organisation).get(f"/api/v1/payments/{payment.pk}").json()
    for part in (got, got["attempts"][0]):
        assert (part["decline_class"], part["decline_code"], part["decline_message"]) == (
            "config",
            REFUSED,
            SETUP_FAULTS[REFUSED],
        )
    page = console("manager").get(reverse("admin:payments_payment_change", args=[payment.pk])).content.decode()
    assert "Not the customer&#x27;s fault: The gateway refuses the key of the account" in page
    assert "Gateway account not set up" in page
    assert "a-secret-that-nobody-sees" not in page
    assert Payment.objects.get().status == "pending"
