"""What only time brings: late authorisation, expiry, slow debits, mandates."""

from collections.abc import Callable
from typing import Any

import pytest
import razorpay

from tests.simulator.conftest import KEY_ID, START, Sim

Make = Callable[..., Any]


def test_the_clock_goes_forward_only(at_start: Sim) -> None:
    assert at_start.get("/_sim/clock")["now"] == START
    assert at_start.post("/_sim/clock", {"now": "2025-04-02T00:00:00+05:30"})["now"] == "2025-04-01T18:30:00Z"
    assert "only goes forward" in at_start.post("/_sim/clock", {"now": START}, status=400)["error"]


def test_a_failed_payment_is_authorised_nine_hours_later(sim: Sim, rzp: razorpay.Client, order: Make) -> None:
    made = order()
    result = sim.post("/_sim/checkout", {"account": KEY_ID, "order_id": made["id"], "method": "upi", "late": 540})
    assert result["status"] == "failed"
    assert rzp.payment.fetch(result["razorpay_payment_id"])["error_reason"] == "payment_timed_out"

    sim.advance(hours=9)

    late = rzp.payment.fetch(result["razorpay_payment_id"])
    assert (late["status"], late["error_reason"], rzp.order.fetch(made["id"])["status"]) == ("captured", None, "paid")


def test_a_late_payment_of_a_paid_order_is_not_captured_and_goes_back(
    sim: Sim, rzp: razorpay.Client, order: Make
) -> None:
    made = order()
    body = {"account": KEY_ID, "order_id": made["id"], "method": "upi"}
    late = sim.post("/_sim/checkout", {**body, "late": 60})["razorpay_payment_id"]
    paid = sim.post("/_sim/checkout", body)["razorpay_payment_id"]
    sim.advance(hours=2)
    assert rzp.payment.fetch(late)["status"] == "authorized"
    with pytest.raises(razorpay.errors.BadRequestError, match="already done"):
        rzp.payment.capture(late, 50_000, {"currency": "INR"})

    sim.advance(days=3)

    assert [p["status"] for p in (rzp.payment.fetch(late), rzp.payment.fetch(paid))] == ["refunded", "captured"]
    assert sim.truth(KEY_ID)["totals"]["INR"]["captured"] == 50_000


def test_an_authorisation_missed_for_three_days_goes_back(sim: Sim, rzp: razorpay.Client, order: Make) -> None:
    made = order(payment_capture=False)
    payment = sim.post("/_sim/checkout", {"account": KEY_ID, "order_id": made["id"]})["razorpay_payment_id"]

    sim.advance(days=3)

    after = rzp.payment.fetch(payment)
    assert (after["status"], after["captured"], after["amount_refunded"]) == ("refunded", False, 50_000)
    assert sim.truth(KEY_ID)["objects"] == {}
    with pytest.raises(razorpay.errors.BadRequestError):
        rzp.payment.capture(payment, 50_000, {"currency": "INR"})


def test_an_abandoned_checkout_fails_after_ten_minutes(sim: Sim, rzp: razorpay.Client, order: Make) -> None:
    body = {"account": KEY_ID, "order_id": order()["id"], "3ds": "abandon"}
    payment = sim.post("/_sim/checkout", body)["razorpay_payment_id"]
    assert rzp.payment.fetch(payment)["status"] == "created"

    sim.advance(minutes=10)

    assert rzp.payment.fetch(payment)["error_reason"] == "payment_timed_out"


def test_a_bank_debit_answers_a_day_later(
    sim: Sim, rzp: razorpay.Client, customer: Any, order: Make, debit: Make
) -> None:
    sim.post(f"/_sim/accounts/{KEY_ID}/options", {"debit_seconds": {"emandate": 86_400}})
    mandate = sim.post("/_sim/tokens", {"account": KEY_ID, "customer_id": customer["id"], "method": "emandate",
                                        "bank": "HDFC"})["id"]  # fmt: skip
    sim.post(f"/_sim/tokens/{mandate}", {"behaviour": ["insufficient_funds"]})
    made = order(2_000_000)
    first = debit(mandate, into=made)
    assert first["status"] == "created"
    with pytest.raises(razorpay.errors.BadRequestError, match="still being processed"):
        debit(mandate, into=made)

    sim.advance(days=1)
    assert rzp.payment.fetch(first["id"])["error_reason"] == "insufficient_funds"
    second = debit(mandate, into=made)
    sim.advance(days=1)

    assert rzp.payment.fetch(second["id"])["status"] == "captured"


def test_a_mandate_waits_for_the_bank(sim: Sim, rzp: razorpay.Client, customer: Any, debit: Make) -> None:
    sim.post(f"/_sim/accounts/{KEY_ID}/options", {"mandate_seconds": 86_400})
    body = {"account": KEY_ID, "customer_id": customer["id"], "method": "emandate"}
    mandate = sim.post("/_sim/tokens", body)["id"]
    with pytest.raises(razorpay.errors.BadRequestError, match="not yet active"):
        debit(mandate)

    sim.advance(days=1)

    assert rzp.token.fetch(customer["id"], mandate)["recurring_details"]["status"] == "confirmed"
    assert debit(mandate)["status"] == "captured"


def test_a_pending_refund_is_processed_later(sim: Sim, rzp: razorpay.Client, token: str, debit: Make) -> None:
    sim.post(f"/_sim/accounts/{KEY_ID}/options", {"refund_seconds": 5 * 86_400})
    refund = rzp.payment.refund(debit(token)["id"], {"amount": 100})
    assert refund["status"] == "pending"

    sim.advance(days=5)

    assert rzp.refund.fetch(refund["id"])["status"] == "processed"


def test_six_months_are_too_late_for_a_refund(sim: Sim, rzp: razorpay.Client, token: str, debit: Make) -> None:
    payment = debit(token)["id"]
    sim.advance(days=184)

    with pytest.raises(razorpay.errors.BadRequestError, match="six months"):
        rzp.payment.refund(payment, {"amount": 100})


def test_a_link_expires(sim: Sim, rzp: razorpay.Client) -> None:
    now = sim.get("/_sim/clock")["unix"]
    link = rzp.payment_link.create({"amount": 1_000, "currency": "INR", "expire_by": now + 3_600})

    sim.advance(hours=1)

    assert rzp.payment_link.fetch(link["id"])["status"] == "expired"
    sim.post("/_sim/pay", {"id": link["id"]}, status=409)


def test_a_year_of_days_passes_quickly_and_the_same_seed_gives_the_same_ids(sim: Sim, rzp: razorpay.Client) -> None:
    first = rzp.order.create({"amount": 1_000, "currency": "INR"})["id"]
    sim.advance(days=365)
    sim.post("/_sim/reset", {"seed": 7, "now": START})
    sim.post("/_sim/accounts", {"provider": "razorpay", "key_id": KEY_ID, "key_secret": rzp.auth[1]})

    assert rzp.order.create({"amount": 1_000, "currency": "INR"})["id"] == first
