"""The unmodified Stripe SDK against the simulator."""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import stripe

from tests.simulator.conftest import STRIPE_KEY, Sim

Save = Callable[[str], str]
Charge = Callable[..., stripe.PaymentIntent]


def test_an_off_session_charge_succeeds_and_expands(charge: Charge, saved_card: Save) -> None:
    intent = charge(saved_card("pm_card_visa"), 5_000, expand=["latest_charge.balance_transaction", "customer"])

    assert (intent.status, intent.amount_received) == ("succeeded", 5_000)
    txn = intent.latest_charge.balance_transaction
    assert (txn.amount, txn.fee, txn.net, txn.type) == (5_000, 175, 4_825, "charge")
    assert intent.customer.email == "ada@example.com"


@pytest.mark.parametrize(
    ("behaviour", "code", "decline_code", "advice"),
    [("insufficient_funds", "card_declined", "insufficient_funds", "try_again_later"),
     ("lost_card", "card_declined", "lost_card", "do_not_try_again"),
     ("expired_card", "expired_card", None, "confirm_card_data"),
     ("processing_error", "processing_error", None, "try_again_later"),
     ("authentication_required", "authentication_required", "authentication_required", None)],
)  # fmt: skip
def test_declines_tell_code_and_advice_and_leave_the_intent_open(
    sim: Sim, st: stripe.StripeClient, charge: Charge, saved_card: Save,
    behaviour: str, code: str, decline_code: str | None, advice: str | None,
) -> None:  # fmt: skip
    card = saved_card("pm_card_visa")
    sim.post(f"/_sim/tokens/{card}", {"behaviour": [behaviour]})

    with pytest.raises(stripe.CardError) as caught:
        charge(card, metadata={"attempt": "1"})

    error = caught.value.error
    assert (caught.value.http_status, error.code) == (402, code)
    assert (error.to_dict().get("decline_code"), error.to_dict().get("advice_code")) == (decline_code, advice)
    intent = st.v1.payment_intents.retrieve(error.payment_intent.id)
    assert (intent.status, intent.last_payment_error.code) == ("requires_payment_method", code)
    failed = st.v1.charges.retrieve(intent.latest_charge)
    assert (failed.status, failed.paid, failed.failure_code) == ("failed", False, code)
    assert st.v1.payment_intents.confirm(intent.id, {"payment_method": card, "off_session": True}).status == "succeeded"


@pytest.mark.parametrize(
    ("alias", "decline"),
    [("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"), ("pm_card_chargeDeclined", "generic_decline"),
     ("pm_card_radarBlock", "fraudulent"), ("pm_card_visa_chargeDeclinedStolenCard", "stolen_card")],
)  # fmt: skip
def test_declining_test_cards_cannot_be_attached(saved_card: Save, alias: str, decline: str) -> None:
    with pytest.raises(stripe.CardError) as caught:
        saved_card(alias)
    assert caught.value.error.decline_code == decline


def test_a_card_that_fails_once_saved(charge: Charge, saved_card: Save) -> None:
    with pytest.raises(stripe.CardError):
        charge(saved_card("pm_card_chargeCustomerFail"))


def test_a_setup_intent_with_authentication_frees_later_charges(
    sim: Sim, st: stripe.StripeClient, stripe_customer: stripe.Customer, charge: Charge
) -> None:
    setup = st.v1.setup_intents.create({
        "customer": stripe_customer.id, "payment_method": "pm_card_authenticationRequiredOnSetup", "confirm": True,
        "return_url": "https://shop.example/back"})  # fmt: skip
    assert setup.status == "requires_action"
    assert setup.next_action.redirect_to_url.url == f"{sim.base}/_sim/pay/{setup.id}"

    sim.post("/_sim/checkout", {"account": "pk_test", "setup_intent": setup.id, "3ds": "ok"})

    done = st.v1.setup_intents.retrieve(setup.id, {"expand": ["mandate"]})
    assert (done.status, done.mandate.status) == ("succeeded", "active")
    assert charge(done.payment_method).status == "succeeded"


def test_without_setup_the_same_card_asks_for_the_customer(charge: Charge, saved_card: Save) -> None:
    with pytest.raises(stripe.CardError) as caught:
        charge(saved_card("pm_card_authenticationRequiredOnSetup"))
    assert caught.value.code == "authentication_required"


def test_checkout_saves_a_new_card_for_a_setup_intent(
    sim: Sim, st: stripe.StripeClient, stripe_customer: stripe.Customer, charge: Charge
) -> None:
    setup = st.v1.setup_intents.create({"customer": stripe_customer.id, "usage": "off_session"})

    result = sim.post("/_sim/checkout", {
        "account": "pk_test", "setup_intent": setup.id, "method": "card",
        "card": {"number": "5555555555554444", "exp_month": 11, "exp_year": 2031}})  # fmt: skip

    assert result["status"] == "succeeded"
    card = st.v1.payment_methods.retrieve(result["payment_method"])
    assert (card.customer, card.card.brand, card.card.exp_year) == (stripe_customer.id, "mastercard", 2031)
    assert charge(card.id).status == "succeeded"


def test_the_page_of_the_bank_sends_the_customer_back(
    sim: Sim, st: stripe.StripeClient, saved_card: Save, charge: Charge
) -> None:
    intent = charge(
        saved_card("pm_card_authenticationRequired"), off_session=False, return_url="https://shop.example/back?o=1"
    )
    url = intent.next_action.redirect_to_url.url
    page = requests.get(url, timeout=5).text
    assert "USD 50.00" in page
    assert 'value="fail"' in page

    answer = requests.post(url, data={"outcome": "ok"}, allow_redirects=False, timeout=5)

    assert answer.status_code == 303
    back = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert (back["o"], back["payment_intent"], back["redirect_status"]) == (["1"], [intent.id], ["succeeded"])
    done = st.v1.payment_intents.retrieve(intent.id, {"expand": ["latest_charge"]})
    assert done.status == "succeeded"
    assert done.latest_charge.payment_method_details.card.three_d_secure.result == "authenticated"


@pytest.mark.parametrize("outcome", ["fail", "abandon"])
def test_failing_or_leaving_the_bank_page_takes_no_money(
    sim: Sim, st: stripe.StripeClient, saved_card: Save, charge: Charge, outcome: str
) -> None:
    intent = charge(saved_card("pm_card_authenticationRequired"), off_session=False, return_url="https://shop.example/")

    sim.post("/_sim/pay", {"id": intent.id, "outcome": outcome})

    after = st.v1.payment_intents.retrieve(intent.id)
    assert after.status == {"fail": "requires_payment_method", "abandon": "requires_action"}[outcome]
    assert sim.truth("pk_test")["objects"] == {}
    if outcome == "fail":
        assert after.last_payment_error.code == "payment_intent_authentication_failure"


def test_a_bank_that_wanted_the_customer_asks_when_the_customer_is_there(
    sim: Sim, st: stripe.StripeClient, saved_card: Save, charge: Charge
) -> None:
    card = saved_card("pm_card_visa")
    sim.post(f"/_sim/tokens/{card}", {"behaviour": ["authentication_required"]})
    with pytest.raises(stripe.CardError) as caught:
        charge(card)

    again = st.v1.payment_intents.confirm(
        caught.value.error.payment_intent.id, {"payment_method": card, "return_url": "https://shop.example/"}
    )

    assert again.status == "requires_action"


def test_a_revoked_mandate_declines(sim: Sim, saved_card: Save, charge: Charge) -> None:
    card = saved_card("pm_card_visa")
    sim.post(f"/_sim/tokens/{card}", {"status": "revoked"})

    with pytest.raises(stripe.CardError) as caught:
        charge(card)

    assert caught.value.error.decline_code == "revocation_of_authorization"


def test_the_same_key_is_the_same_charge(sim: Sim, saved_card: Save, charge: Charge) -> None:
    card = saved_card("pm_card_visa")
    key = {"idempotency_key": "attempt-1"}
    first = charge(card, options=dict(key))

    again = charge(card, options=dict(key))

    assert again.id == first.id
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    with pytest.raises(stripe.IdempotencyError):
        charge(card, 6_000, options=dict(key))
    assert sim.truth("pk_test")["totals"]["USD"]["captured"] == 5_000
    sim.advance(hours=25)
    assert charge(card, options=dict(key)).id != first.id


def test_a_decline_is_replayed_under_its_key(sim: Sim, saved_card: Save, charge: Charge) -> None:
    card = saved_card("pm_card_visa")
    sim.post(f"/_sim/tokens/{card}", {"behaviour": ["do_not_honor"]})
    intents = []
    for _ in range(2):
        with pytest.raises(stripe.CardError) as caught:
            charge(card, options={"idempotency_key": "attempt-2"})
        intents.append(caught.value.error.payment_intent.id)
    assert intents[0] == intents[1]


def test_manual_capture_in_part_releases_the_rest(
    sim: Sim, st: stripe.StripeClient, saved_card: Save, charge: Charge
) -> None:
    held = charge(saved_card("pm_card_visa"), 5_000, capture_method="manual")
    assert (held.status, held.amount_capturable) == ("requires_capture", 5_000)

    done = st.v1.payment_intents.capture(held.id, {"amount_to_capture": 3_000})

    assert (done.status, done.amount_received) == ("succeeded", 3_000)
    rows = st.v1.balance_transactions.list().data
    assert [(row.reporting_category, row.net) for row in rows] == [
        ("partial_capture_reversal", -2_000),
        ("charge", 4_883),
    ]
    assert sim.truth("pk_test")["objects"][done.latest_charge]["captured"] == 3_000
    with pytest.raises(stripe.InvalidRequestError) as caught:
        st.v1.payment_intents.cancel(held.id)
    assert caught.value.code == "payment_intent_unexpected_state"


def test_a_hold_expires_after_seven_days(sim: Sim, st: stripe.StripeClient, saved_card: Save, charge: Charge) -> None:
    held = charge(saved_card("pm_card_visa"), capture_method="manual")

    sim.advance(days=7)

    after = st.v1.payment_intents.retrieve(held.id)
    assert (after.status, after.cancellation_reason) == ("canceled", "automatic")


def test_refunds_are_partial_then_full_then_refused(
    sim: Sim, st: stripe.StripeClient, saved_card: Save, charge: Charge
) -> None:
    intent = charge(saved_card("pm_card_visa"), 5_000)

    first = st.v1.refunds.create({"payment_intent": intent.id, "amount": 2_000, "metadata": {"refund": "1"}})
    st.v1.refunds.create({"charge": intent.latest_charge})

    assert (first.status, first.metadata["refund"]) == ("succeeded", "1")
    paid = st.v1.charges.retrieve(intent.latest_charge, {"expand": ["refunds"]})
    assert (paid.refunded, paid.amount_refunded, len(paid.refunds.data)) == (True, 5_000, 2)
    with pytest.raises(stripe.InvalidRequestError) as caught:
        st.v1.refunds.create({"payment_intent": intent.id})
    assert caught.value.code == "charge_already_refunded"
    other = charge(saved_card("pm_card_visa"), 1_000)
    with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded"):
        st.v1.refunds.create({"payment_intent": other.id, "amount": 1_001})
    assert sim.truth("pk_test")["objects"][intent.latest_charge]["refunded"] == 5_000


def test_search_finds_by_metadata_and_status(st: stripe.StripeClient, saved_card: Save, charge: Charge) -> None:
    card = saved_card("pm_card_visa")
    wanted = charge(card, metadata={"attempt": "a-1"})
    charge(card, metadata={"attempt": "a-2"})

    found = st.v1.payment_intents.search({"query": "metadata['attempt']:'a-1' AND status:'succeeded'"})

    assert [intent.id for intent in found.data] == [wanted.id]
    assert st.v1.payment_intents.search({"query": 'metadata["attempt"]:"none"'}).data == []
    with pytest.raises(stripe.InvalidRequestError, match="parse your search query"):
        st.v1.payment_intents.search({"query": "nonsense"})


def test_lists_page_by_cursor(st: stripe.StripeClient, saved_card: Save, charge: Charge, stripe_customer: Any) -> None:
    card = saved_card("pm_card_visa")
    made = [charge(card, 1_000 + n).id for n in range(5)][::-1]

    page = st.v1.payment_intents.list({"limit": 2, "customer": stripe_customer.id})
    every = [intent.id for intent in page.auto_paging_iter()]

    assert ([i.id for i in page.data], page.has_more, every) == (made[:2], True, made)
    back = st.v1.payment_intents.list({"limit": 2, "ending_before": made[3]})
    assert [i.id for i in back.data] == made[1:3]


def test_unknown_parameters_versions_keys_and_ids_are_refused(sim: Sim, st: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="unknown parameter: colour") as caught:
        st.v1.customers.create({"colour": "blue"})  # type: ignore[typeddict-unknown-key]
    assert (caught.value.code, caught.value.param, caught.value.http_status) == ("parameter_unknown", "colour", 400)
    with pytest.raises(stripe.AuthenticationError):
        stripe.StripeClient("sk_test_wrong", base_addresses={"api": sim.base}).v1.customers.list()
    with pytest.raises(stripe.InvalidRequestError) as gone:
        st.v1.customers.retrieve("cus_none")
    assert (gone.value.code, gone.value.http_status) == ("resource_missing", 404)
    with pytest.raises(stripe.InvalidRequestError, match="Invalid Stripe API version"):
        st.v1.customers.list(options={"stripe_version": "yesterday"})
    with pytest.raises(stripe.InvalidRequestError, match="Missing required param: currency"):
        st.v1.payment_intents.create({"amount": 100})  # type: ignore[typeddict-item]


def test_accounts_do_not_see_each_other(sim: Sim, st: stripe.StripeClient, saved_card: Save, charge: Charge) -> None:
    intent = charge(saved_card("pm_card_visa"))
    sim.post("/_sim/accounts", {"provider": "stripe", "key_id": "pk_2", "key_secret": "sk_test_second"})
    other = stripe.StripeClient("sk_test_second", base_addresses={"api": sim.base})

    with pytest.raises(stripe.InvalidRequestError):
        other.v1.payment_intents.retrieve(intent.id)

    assert other.v1.payment_intents.list().data == []
    assert STRIPE_KEY != "sk_test_second"


def test_detached_and_foreign_cards_cannot_be_charged(
    st: stripe.StripeClient, saved_card: Save, charge: Charge
) -> None:
    card = saved_card("pm_card_visa")
    stranger = st.v1.customers.create({"email": "eve@example.com"})
    with pytest.raises(stripe.InvalidRequestError, match="another customer"):
        charge(card, customer=stranger.id)

    st.v1.payment_methods.detach(card)

    with pytest.raises(stripe.InvalidRequestError, match="attached to its customer"):
        charge(card)
