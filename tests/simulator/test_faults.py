"""Failures on command, as the two SDKs see them."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import razorpay
import requests
import stripe
from razorpay.errors import BadRequestError, GatewayError, ServerError

from tests.simulator.conftest import KEY_ID, STRIPE_KEY, Sim

Make = Callable[..., Any]
DEBIT = {"method": "POST", "path": "/payments/create/recurring"}


def captured(sim: Sim, account: str = KEY_ID) -> int:
    return int(sum(totals["captured"] for totals in sim.truth(account)["totals"].values()))


@pytest.mark.parametrize(("kind", "taken"), [("timeout_before", 0), ("drop", 0), ("timeout_after", 50_000)])
def test_a_lost_answer_may_or_may_not_have_taken_the_money(
    sim: Sim, rzp: razorpay.Client, order: Make, token: str, debit: Make, kind: str, taken: int
) -> None:
    made = order(50_000)
    sim.post("/_sim/faults", {**DEBIT, "kind": kind})

    with pytest.raises(requests.exceptions.ConnectionError):
        debit(token, into=made)

    assert captured(sim) == taken
    assert rzp.order.payments(made["id"])["count"] == (1 if taken else 0)


def test_a_hanging_gateway_meets_the_clients_timeout(sim: Sim, rzp: razorpay.Client, order: Make) -> None:
    sim.post("/_sim/faults", {"method": "GET", "path": "/v1/orders", "kind": "timeout_before", "seconds": 5})

    with pytest.raises(requests.exceptions.ReadTimeout):
        rzp.order.all(timeout=0.2)


@pytest.mark.parametrize(
    ("kind", "error"), [("500", ServerError), ("503", GatewayError), ("429", BadRequestError), ("409", BadRequestError)]
)
def test_razorpay_refusals_by_status(sim: Sim, rzp: razorpay.Client, order: Make, kind: str, error: type) -> None:
    sim.post("/_sim/faults", {"path": "/v1/orders", "kind": kind})

    with pytest.raises(error):
        order()

    assert order()["status"] == "created"


@pytest.mark.parametrize("kind", ["502_html", "truncated"])
def test_bodies_that_are_no_json(sim: Sim, rzp: razorpay.Client, order: Make, kind: str) -> None:
    sim.post("/_sim/faults", {"path": "/v1/orders", "kind": kind})

    with pytest.raises(requests.exceptions.JSONDecodeError):
        order()


def test_slow_is_slow_but_right(sim: Sim, rzp: razorpay.Client, order: Make) -> None:
    sim.post("/_sim/faults", {"path": "/v1/orders", "kind": "slow", "seconds": 0.3})
    started = time.monotonic()

    assert order()["status"] == "created"

    assert 0.3 <= time.monotonic() - started < 2


def test_rules_hit_the_nth_call_a_count_or_a_share(sim: Sim, rzp: razorpay.Client) -> None:
    def outcomes(calls: int) -> list[bool]:
        result = []
        for _ in range(calls):
            try:
                rzp.order.all()
                result.append(True)
            except ServerError:
                result.append(False)
        return result

    sim.post("/_sim/faults", {"path": "/v1/orders$", "kind": "500", "nth": 2, "count": 2})
    assert outcomes(5) == [True, False, False, True, True]
    sim.call("DELETE", "/_sim/faults")
    sim.post("/_sim/faults", {"path": "/v1/orders$", "kind": "500", "probability": 0.5})
    share = outcomes(60).count(False)
    assert 15 < share < 45
    assert sim.get("/_sim/faults")["faults"][0]["fired"] == share
    sim.call("DELETE", "/_sim/faults")
    assert outcomes(2) == [True, True]
    sim.post("/_sim/faults", {"kind": "explode"}, status=400)


def test_a_stripe_timeout_after_the_charge_is_healed_by_the_same_key(
    sim: Sim, st: stripe.StripeClient, saved_card: Make, charge: Make
) -> None:
    card, options = saved_card(), {"idempotency_key": "attempt-9"}
    sim.post("/_sim/faults", {"method": "POST", "path": "/v1/payment_intents", "kind": "timeout_after"})
    with pytest.raises(stripe.APIConnectionError):
        charge(card, options=dict(options))
    assert captured(sim, "pk_test") == 5_000

    again = charge(card, options=dict(options))

    assert again.status == "succeeded"
    assert captured(sim, "pk_test") == 5_000


def test_a_stripe_500_stays_under_its_key(sim: Sim, st: stripe.StripeClient, saved_card: Make, charge: Make) -> None:
    card, options = saved_card(), {"idempotency_key": "attempt-10"}
    sim.post("/_sim/faults", {"path": "/v1/payment_intents", "kind": "500"})

    for _ in range(2):
        with pytest.raises(stripe.APIError):
            charge(card, options=dict(options))

    assert captured(sim, "pk_test") == 0
    assert charge(card, options={"idempotency_key": "attempt-11"}).status == "succeeded"


def test_a_stripe_500_can_hide_a_charge_that_search_finds(
    sim: Sim, st: stripe.StripeClient, saved_card: Make, charge: Make
) -> None:
    sim.post("/_sim/faults", {"path": "/v1/payment_intents", "kind": "500", "effect": True})
    with pytest.raises(stripe.APIError):
        charge(saved_card(), metadata={"attempt": "a-12"})

    found = st.v1.payment_intents.search({"query": "metadata['attempt']:'a-12'"})

    assert [intent.status for intent in found.data] == ["succeeded"]


@pytest.mark.parametrize(
    ("kind", "error"), [("429", stripe.RateLimitError), ("409", stripe.APIError), ("503", stripe.APIError)]
)
def test_stripe_refusals_by_status_are_not_kept(
    sim: Sim, st: stripe.StripeClient, saved_card: Make, charge: Make, kind: str, error: type
) -> None:
    card, options = saved_card(), {"idempotency_key": "attempt-13"}
    sim.post("/_sim/faults", {"path": "/v1/payment_intents", "kind": kind})
    with pytest.raises((error, stripe.InvalidRequestError)):
        charge(card, options=dict(options))

    assert charge(card, options=dict(options)).status == "succeeded"


def test_a_key_still_in_use_is_a_conflict(sim: Sim, st: stripe.StripeClient, saved_card: Make, charge: Make) -> None:
    card, options = saved_card(), {"idempotency_key": "attempt-14"}
    sim.post("/_sim/faults", {"path": "/v1/payment_intents", "kind": "slow", "seconds": 0.6})
    first: list[str] = []
    thread = threading.Thread(target=lambda: first.append(charge(card, options=dict(options)).id))
    thread.start()
    time.sleep(0.2)

    with pytest.raises(stripe.APIError) as caught:
        charge(card, options=dict(options))
    thread.join()

    assert (caught.value.http_status, caught.value.json_body["error"]["code"]) == (409, "idempotency_key_in_use")
    assert charge(card, options=dict(options)).id == first[0]


def test_the_sdk_retries_a_conflict_by_itself(sim: Sim, saved_card: Make, stripe_customer: stripe.Customer) -> None:
    client = stripe.StripeClient(STRIPE_KEY, base_addresses={"api": sim.base}, max_network_retries=2)
    sim.post("/_sim/faults", {"path": "/v1/payment_intents", "kind": "409", "count": 1})

    intent = client.v1.payment_intents.create({"amount": 500, "currency": "usd"})

    assert intent.status == "requires_payment_method"
