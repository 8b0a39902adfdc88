"""The hosted page: what a customer's browser gets."""

import hashlib
import hmac
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import razorpay
import requests
import stripe

from tests.simulator.conftest import KEY_SECRET, Sim


def test_a_link_is_paid_in_the_browser_and_the_callback_is_signed(sim: Sim, rzp: razorpay.Client) -> None:
    link = rzp.payment_link.create({"amount": 25_000, "currency": "INR", "reference_id": "att-1", "callback_method": "get",
                                    "callback_url": "http://shop.example/back", "description": "Fees <June>"})  # fmt: skip
    page = requests.get(link["short_url"], timeout=5)
    assert "INR 250.00" in page.text
    assert "Fees &lt;June&gt;" in page.text

    answer = requests.post(link["short_url"], data={"outcome": "ok", "method": "upi", "vpa": "success@razorpay"},
                           allow_redirects=False, timeout=5)  # fmt: skip

    back = {k: v[0] for k, v in parse_qs(urlsplit(answer.headers["Location"]).query).items()}
    assert (back["razorpay_payment_link_reference_id"], back["razorpay_payment_link_status"]) == ("att-1", "paid")
    assert rzp.utility.verify_payment_link_signature({
        "payment_link_id": back["razorpay_payment_link_id"], "payment_link_reference_id": "att-1",
        "payment_link_status": "paid", "razorpay_payment_id": back["razorpay_payment_id"],
        "razorpay_signature": back["razorpay_signature"]})  # fmt: skip
    assert "This payment is paid" in requests.get(link["short_url"], timeout=5).text


def test_an_order_page_can_save_the_card(sim: Sim, rzp: razorpay.Client, order: Any, customer: Any) -> None:
    made = order(customer_id=customer["id"])

    answer = requests.post(f"{sim.base}/_sim/pay/{made['id']}?return_url=http://shop.example/b", allow_redirects=False, timeout=5,
                           data={"outcome": "ok", "method": "card", "card": "4100280000001007", "save": "on"})  # fmt: skip

    back = {k: v[0] for k, v in parse_qs(urlsplit(answer.headers["Location"]).query).items()}
    mark = hmac.new(KEY_SECRET.encode(), f"{made['id']}|{back['razorpay_payment_id']}".encode(), hashlib.sha256)
    assert back["razorpay_signature"] == mark.hexdigest()
    assert rzp.token.all(customer["id"])["count"] == 1


def test_a_declined_card_on_the_page_says_why(sim: Sim, order: Any) -> None:
    url = f"{sim.base}/_sim/pay/{order()['id']}"

    answer = requests.post(url, data={"outcome": "ok", "method": "card", "card": "4100280000080001"}, timeout=5)

    assert "insufficient_funds" in answer.text
    assert requests.get(f"{sim.base}/_sim/pay/order_none", timeout=5).status_code == 404


def test_an_intent_without_card_can_be_paid_on_its_page(sim: Sim, st: stripe.StripeClient) -> None:
    intent = st.v1.payment_intents.create({"amount": 1_500, "currency": "jpy"})
    url = f"{sim.base}/_sim/pay/{intent.id}"
    assert "JPY 1500" in requests.get(url, timeout=5).text

    requests.post(url, data={"outcome": "ok", "method": "card", "card": "4242424242424242"}, timeout=5)

    assert st.v1.payment_intents.retrieve(intent.id).status == "succeeded"


def test_a_saved_card_form_for_a_setup(sim: Sim, st: stripe.StripeClient, stripe_customer: stripe.Customer) -> None:
    setup = st.v1.setup_intents.create({"customer": stripe_customer.id})

    requests.post(f"{sim.base}/_sim/pay/{setup.id}", timeout=5,
                  data={"outcome": "ok", "method": "card", "card": "4000002500003155"})  # fmt: skip

    assert st.v1.setup_intents.retrieve(setup.id).status == "succeeded"


@pytest.fixture
def session(st: stripe.StripeClient, stripe_customer: stripe.Customer) -> stripe.checkout.Session:
    return st.v1.checkout.sessions.create({
        "mode": "payment", "customer": stripe_customer.id, "client_reference_id": "att-1", "metadata": {"attempt": "1"},
        "success_url": "https://shop.example/done?s={CHECKOUT_SESSION_ID}", "payment_intent_data": {"metadata": {"attempt": "1"}},
        "line_items": [{"quantity": 2, "price_data": {"currency": "eur", "unit_amount": 1_250,
                                                      "product_data": {"name": "Seats"}}}]})  # fmt: skip


def test_a_checkout_session_is_paid_on_its_page(
    sim: Sim, st: stripe.StripeClient, session: stripe.checkout.Session, stripe_customer: stripe.Customer
) -> None:
    assert (session.status, session.amount_total, session.payment_intent) == ("open", 2_500, None)
    assert "EUR 25.00" in requests.get(session.url, timeout=5).text
    declined = requests.post(
        session.url, data={"outcome": "ok", "method": "card", "card": "4000000000009995"}, timeout=5
    )
    assert "card_declined" in declined.text

    answer = requests.post(session.url, data={"outcome": "ok", "method": "card", "card": "4242424242424242"},
                           allow_redirects=False, timeout=5)  # fmt: skip

    assert answer.headers["Location"] == f"https://shop.example/done?s={session.id}"
    done = st.v1.checkout.sessions.retrieve(session.id, {"expand": ["payment_intent"]})
    assert (done.status, done.payment_status, done.url) == ("complete", "paid", None)
    assert (done.payment_intent.status, done.payment_intent.metadata["attempt"]) == ("succeeded", "1")
    assert [s.id for s in st.v1.checkout.sessions.list({"customer": stripe_customer.id}).data] == [session.id]
    with pytest.raises(stripe.InvalidRequestError, match="can be expired"):
        st.v1.checkout.sessions.expire(session.id)


def test_a_checkout_session_expires(sim: Sim, st: stripe.StripeClient, session: stripe.checkout.Session) -> None:
    sim.post("/_sim/pay", {"id": session.id, "outcome": "abandon"})
    assert st.v1.checkout.sessions.retrieve(session.id).status == "open"

    sim.advance(days=1)

    assert st.v1.checkout.sessions.retrieve(session.id).status == "expired"
    sim.post("/_sim/pay", {"id": session.id}, status=400)


def test_a_setup_session_saves_a_card(sim: Sim, st: stripe.StripeClient, stripe_customer: stripe.Customer) -> None:
    session = st.v1.checkout.sessions.create({"mode": "setup", "customer": stripe_customer.id, "currency": "eur",
                                              "success_url": "https://shop.example/"})  # fmt: skip

    sim.post("/_sim/pay", {"id": session.id, "outcome": "ok"})

    done = st.v1.checkout.sessions.retrieve(session.id, {"expand": ["setup_intent.payment_method"]})
    assert (done.status, done.setup_intent.payment_method.customer) == ("complete", stripe_customer.id)
