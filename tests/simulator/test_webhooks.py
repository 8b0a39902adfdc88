"""Events: signed, ordered, lost, doubled, repeated."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import razorpay
import stripe

from tests.simulator.conftest import KEY_ID, Received, Sim

Make = Callable[..., Any]
Endpoint = tuple[str, Received]
PAID = ["payment.authorized", "payment.captured", "order.paid"]


@pytest.fixture
def hook(sim: Sim, rzp: razorpay.Client, endpoint: Endpoint, token: str) -> Received:
    """A Razorpay endpoint, after the fixtures' own events."""
    sim.post("/_sim/webhooks", {"account": KEY_ID, "webhook_url": endpoint[0], "webhook_secret": "whsec-1"})
    return endpoint[1]


@pytest.fixture
def stripe_hook(sim: Sim, st: stripe.StripeClient, endpoint: Endpoint) -> Received:
    sim.post("/_sim/webhooks", {"account": "pk_test", "webhook_url": endpoint[0], "webhook_secret": "whsec-s"})
    return endpoint[1]


def knobs(sim: Sim, **values: Any) -> None:
    sim.post("/_sim/webhooks", {"account": KEY_ID, **values})


def test_razorpay_events_are_signed_snapshots_with_an_id(
    sim: Sim, rzp: razorpay.Client, hook: Received, token: str, debit: Make
) -> None:
    debit(token)

    assert sim.settle_events()["delivered"] == 3
    assert hook.kinds == PAID
    for headers, body in hook.requests:
        assert rzp.utility.verify_webhook_signature(body.decode(), headers["x-razorpay-signature"], "whsec-1")
    assert len({headers["x-razorpay-event-id"] for headers, _ in hook.requests}) == 3
    states = [json.loads(body)["payload"]["payment"]["entity"]["status"] for _, body in hook.requests]
    assert states == ["authorized", "captured", "captured"]


def test_stripe_events_carry_real_time_and_can_be_fetched(
    sim: Sim, st: stripe.StripeClient, stripe_hook: Received, saved_card: Make, charge: Make
) -> None:
    intent = charge(saved_card())

    sim.settle_events()

    assert stripe_hook.kinds[-3:] == ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]
    headers, body = stripe_hook.requests[-1]
    event = st.construct_event(body, headers["stripe-signature"], "whsec-s")
    assert event.data.object["id"] == intent.id
    assert st.v1.events.retrieve(event.id).to_dict() == json.loads(body)
    assert [e.type for e in st.v1.events.list({"type": "payment_intent.*"}).data] == [
        "payment_intent.succeeded", "payment_intent.created"
    ]  # fmt: skip


def test_lost_events_are_counted_and_replayed(sim: Sim, hook: Received, token: str, debit: Make) -> None:
    knobs(sim, lose=2)
    debit(token)
    assert sim.settle_events()["lost"] == 1
    assert hook.kinds == ["payment.authorized", "order.paid"]

    assert len(sim.post("/_sim/webhooks/replay")["replayed"]) == 1
    sim.settle_events()

    assert hook.kinds == ["payment.authorized", "order.paid", "payment.captured"]


def test_every_event_can_be_sent_several_times(sim: Sim, hook: Received, token: str, debit: Make) -> None:
    knobs(sim, duplicate=5, workers=5)
    debit(token)
    sim.settle_events()

    ids = [headers["x-razorpay-event-id"] for headers, _ in hook.requests]
    assert (len(ids), len(set(ids))) == (15, 3)


def test_every_third_event_can_be_sent_twice(sim: Sim, hook: Received, token: str, debit: Make) -> None:
    knobs(sim, duplicate=2, duplicate_every=3)
    debit(token)
    debit(token)
    sim.settle_events()

    assert sorted(hook.kinds) == sorted([*PAID * 2, PAID[2], PAID[2]])


def test_order_can_be_lost(sim: Sim, hook: Received, token: str, debit: Make) -> None:
    knobs(sim, reorder=True)
    for _ in range(4):
        debit(token)
    sim.settle_events()

    assert sorted(hook.kinds) == sorted(PAID * 4)
    assert hook.kinds != PAID * 4


def test_a_tampered_body_does_not_verify_and_is_repeated_clean(
    sim: Sim, rzp: razorpay.Client, hook: Received, token: str, debit: Make
) -> None:
    def check(number: int) -> int:
        headers, body = hook.requests[number - 1]
        try:
            rzp.utility.verify_webhook_signature(body.decode(), headers["x-razorpay-signature"], "whsec-1")
        except razorpay.errors.SignatureVerificationError:
            return 400
        return 200

    hook.answer = check
    knobs(sim, tamper=3)
    debit(token)

    assert sim.settle_events()["delivered"] == 3
    assert [check(n) for n in range(1, 5)] == [200, 200, 400, 200]


def test_failures_are_retried_quickly_then_by_the_clock(sim: Sim, hook: Received, token: str, debit: Make) -> None:
    knobs(sim, quick_retries=0, webhook_events=["order.paid"])
    hook.answer = lambda number: 500 if number < 4 else 200
    debit(token)
    assert sim.settle_events()["waiting"] == 1

    for minutes in (2, 4):
        sim.advance(minutes=minutes)
        assert sim.settle_events()["waiting"] == 1
    sim.advance(minutes=8)

    assert sim.settle_events().get("waiting") is None
    assert len(hook.requests) == 4


def test_a_day_of_failures_switches_a_razorpay_endpoint_off(sim: Sim, hook: Received, token: str, debit: Make) -> None:
    knobs(sim, quick_retries=0, webhook_events=["order.paid"])
    hook.answer = lambda number: 500
    debit(token)
    for _ in range(9):
        sim.settle_events()
        sim.advance(hours=6)
    sim.settle_events()
    assert sim.get("/_sim/accounts")["accounts"][0]["webhook_enabled"] is False
    seen = len(hook.requests)
    debit(token)
    assert sim.settle_events()["given_up"] == 1
    assert len(hook.requests) == seen

    hook.answer = lambda number: 200
    knobs(sim, enabled=True)
    sim.post("/_sim/webhooks/replay")
    sim.settle_events()

    assert len(hook.requests) == seen + 1


def test_a_slow_endpoint_does_not_hold_up_the_payment(sim: Sim, hook: Received, token: str, debit: Make) -> None:
    hook.pause = 0.3
    started = time.monotonic()
    debit(token)
    assert time.monotonic() - started < 0.3  # the payment does not wait for the merchant's endpoint
    assert sim.settle_events()["delivered"] == 3


def test_rotation_keeps_the_old_secret_for_a_day(
    sim: Sim, st: stripe.StripeClient, stripe_hook: Received, saved_card: Make
) -> None:
    sim.post("/_sim/webhooks/rotate", {"account": "pk_test", "secret": "whsec-new"})
    saved_card()
    sim.settle_events()
    headers, body = stripe_hook.requests[-1]
    for secret in ("whsec-s", "whsec-new"):
        assert st.construct_event(body, headers["stripe-signature"], secret).type == "payment_method.attached"

    sim.advance(hours=25)
    saved_card()
    sim.settle_events()

    headers, body = stripe_hook.requests[-1]
    with pytest.raises(stripe.SignatureVerificationError):
        st.construct_event(body, headers["stripe-signature"], "whsec-s")


def test_rotation_at_razorpay_signs_old_events_with_the_old_secret_and_replays_with_the_new(
    sim: Sim, rzp: razorpay.Client, hook: Received, token: str, debit: Make
) -> None:
    knobs(sim, quick_retries=0, webhook_events=["order.paid"])
    hook.answer = lambda number: 500 if number == 1 else 200
    debit(token)
    sim.settle_events()
    sim.post("/_sim/webhooks/rotate", {"account": KEY_ID, "secret": "whsec-2"})
    sim.advance(minutes=2)
    sim.settle_events()
    event = hook.requests[0][0]["x-razorpay-event-id"]
    sim.post("/_sim/webhooks/replay", {"event_id": event})
    sim.settle_events()

    secrets = ["whsec-1", "whsec-1", "whsec-2"]
    for (headers, body), secret in zip(hook.requests, secrets, strict=True):
        assert rzp.utility.verify_webhook_signature(body.decode(), headers["x-razorpay-signature"], secret)


def test_an_old_timestamp_and_a_twin_event_at_stripe(
    sim: Sim, st: stripe.StripeClient, stripe_hook: Received, saved_card: Make
) -> None:
    sim.post("/_sim/webhooks", {"account": "pk_test", "stale": 1, "twin": 1})
    stripe_hook.answer = lambda number: 400 if number <= 2 else 200
    saved_card()
    sim.settle_events()

    attached = [(h, b) for h, b in stripe_hook.requests if b'"payment_method.attached"' in b]
    assert len({json.loads(body)["id"] for _, body in attached}) == 2
    headers, body = attached[0]
    with pytest.raises(stripe.SignatureVerificationError, match="Timestamp outside"):
        st.construct_event(body, headers["stripe-signature"], "whsec-s")


@pytest.mark.parametrize("what", ["settlement", "refund", "dispute", "token", "link"])
def test_other_facts_are_told_too(
    sim: Sim, rzp: razorpay.Client, hook: Received, token: str, debit: Make, what: str
) -> None:
    payment = debit(token)["id"]
    if what == "settlement":
        sim.advance(days=3)
    elif what == "refund":
        sim.post(f"/_sim/refunds/{rzp.payment.refund(payment, {'amount': 5})['id']}/fail")
    elif what == "dispute":
        dispute = sim.post("/_sim/disputes", {"payment": payment})
        sim.post(f"/_sim/disputes/{dispute['id']}/close", {"outcome": "lost"})
    elif what == "token":
        sim.post(f"/_sim/tokens/{token}", {"status": "revoked"})
    else:
        sim.post("/_sim/pay", {"id": rzp.payment_link.create({"amount": 100, "currency": "INR"})["id"]})
    sim.settle_events()

    assert hook.kinds[3:] == {
        "settlement": ["settlement.processed"], "refund": ["refund.created", "refund.processed", "refund.failed"],
        "dispute": ["payment.dispute.created", "payment.dispute.lost"], "token": ["token.cancelled"],
        "link": [*PAID, "payment_link.paid"],
    }[what]  # fmt: skip
