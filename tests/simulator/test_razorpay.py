"""The unmodified Razorpay SDK against the simulator."""

import json
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import razorpay
from razorpay.errors import BadRequestError, GatewayError

from tests.simulator.conftest import KEY_ID, KEY_SECRET, Sim

Make = Callable[..., Any]


def raw_error(sim: Sim, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    """The whole error body, which the SDK throws away."""
    basic = b64encode(f"{KEY_ID}:{KEY_SECRET}".encode()).decode()
    status, answer = sim.call("POST", path, body, {"Authorization": f"Basic {basic}", **headers})
    return status, json.loads(answer)["error"]


def test_the_same_receipt_is_the_same_order(rzp: razorpay.Client, order: Make) -> None:
    first = order(50_000, receipt="inv-1")

    again = order(50_000, receipt="inv-1")

    assert again == first
    assert rzp.order.all({"receipt": "inv-1"})["count"] == 1
    with pytest.raises(BadRequestError, match="another amount"):
        order(60_000, receipt="inv-1")


def test_checkout_pays_an_order_and_saves_a_mandate(sim: Sim, rzp: razorpay.Client, order: Make, customer: Any) -> None:
    made = order(50_000, customer_id=customer["id"], token={"max_amount": 700_000})

    result = sim.post("/_sim/checkout", {"account": KEY_ID, "order_id": made["id"], "method": "card", "save": True})

    assert rzp.utility.verify_payment_signature(result)
    payment = rzp.payment.fetch(result["razorpay_payment_id"])
    assert (payment["status"], payment["amount"], payment["fee"], payment["tax"]) == ("captured", 50_000, 1_180, 180)
    assert rzp.order.fetch(made["id"])["status"] == "paid"
    saved = rzp.token.fetch(customer["id"], result["token_id"])
    assert (saved["recurring_details"]["status"], saved["max_amount"]) == ("confirmed", 700_000)


def test_a_token_is_charged_for_an_order_once(rzp: razorpay.Client, order: Make, token: str, debit: Make) -> None:
    made = order(70_000)

    payment = debit(token, into=made)

    assert payment["status"] == "captured"
    with pytest.raises(BadRequestError, match="already done"):
        debit(token, into=made)
    assert [p["id"] for p in rzp.order.payments(made["id"])["items"]] == [payment["id"]]


def test_fifty_parallel_debits_of_one_order_take_the_money_once(
    sim: Sim, rzp: razorpay.Client, order: Make, token: str, debit: Make
) -> None:
    made = order(70_000)

    def attempt(_: int) -> str:
        try:
            return str(debit(token, into=made)["status"])
        except BadRequestError:
            return "refused"

    with ThreadPoolExecutor(10) as pool:
        results = list(pool.map(attempt, range(50)))

    assert (results.count("captured"), results.count("refused")) == (1, 49)
    assert sim.truth(KEY_ID)["totals"]["INR"]["captured"] == 70_000


def test_a_programmed_decline_tells_reason_and_payment_then_the_retry_works(
    sim: Sim, rzp: razorpay.Client, order: Make, token: str, customer: Any, debit: Make
) -> None:
    sim.post(f"/_sim/tokens/{token}", {"behaviour": ["insufficient_fund", "ok"]})
    made = order(70_000)

    status, error = raw_error(sim, "/v1/payments/create/recurring", {
        "email": "a@b.in", "contact": "+91", "amount": 70_000, "currency": "INR", "order_id": made["id"],
        "customer_id": customer["id"], "token": token})  # fmt: skip

    assert (status, error["code"], error["reason"]) == (400, "BAD_REQUEST_ERROR", "insufficient_funds")
    assert (error["source"], error["step"]) == ("customer", "payment_authorization")
    failed = rzp.payment.fetch(error["metadata"]["payment_id"])
    assert (failed["status"], failed["order_id"], failed["error_reason"]) == (
        "failed",
        made["id"],
        "insufficient_funds",
    )
    assert rzp.order.fetch(made["id"])["status"] == "attempted"
    assert debit(token, into=made)["status"] == "captured"


def test_gateway_faults_come_as_gateway_errors(sim: Sim, token: str, debit: Make) -> None:
    sim.post(f"/_sim/tokens/{token}", {"behaviour": ["gateway_technical_error"]})

    with pytest.raises(GatewayError):
        debit(token)


def test_an_unknown_behaviour_is_refused(sim: Sim, token: str) -> None:
    answer = sim.post(f"/_sim/tokens/{token}", {"behaviour": ["no_such_reason"]}, status=400)

    assert "insufficient_funds" in answer["error"]


@pytest.mark.parametrize(
    ("number", "reason"),
    [("4100280000080001", "insufficient_funds"), ("5305620000030003", "card_declined"),
     ("4100280000020007", "gateway_technical_error"), ("4100280000000009", "authentication_failed"),
     ("5305620000060000", "payment_timed_out"), ("failure@razorpay", "payment_failed"), ("nobody", None)],
)  # fmt: skip
def test_the_documented_test_instruments_do_what_is_documented(sim: Sim, order: Make, number: str, reason: str) -> None:
    body = {"account": KEY_ID, "order_id": order()["id"], "method": number}
    if reason is None:
        sim.post("/_sim/checkout", body, status=400)
        return

    result = sim.post("/_sim/checkout", body)

    assert (result["status"], result["error_reason"]) == ("failed", reason)
    assert "razorpay_signature" not in result


def test_a_mandate_that_is_not_confirmed_cannot_be_debited(sim: Sim, token: str, debit: Make) -> None:
    sim.post(f"/_sim/tokens/{token}", {"status": "paused"})
    with pytest.raises(BadRequestError, match="cancelled by the customer"):
        debit(token)

    sim.post(f"/_sim/tokens/{token}", {"status": "confirmed"})
    assert debit(token)["status"] == "captured"
    sim.post(f"/_sim/tokens/{token}", {"status": "revoked"})
    with pytest.raises(BadRequestError, match="cancelled by the customer"):
        debit(token)


def test_debits_above_the_limit_need_the_customer(sim: Sim, token: str, debit: Make) -> None:
    with pytest.raises(BadRequestError, match="without the customer's consent"):
        debit(token, 1_500_001)
    assert debit(token, 1_500_000)["status"] == "captured"
    with pytest.raises(BadRequestError, match="exceeds maximum amount"):
        debit(token, 10_000_100)

    sim.post(f"/_sim/accounts/{KEY_ID}/options", {"afa_limit": None})
    assert debit(token, 1_500_001)["status"] == "captured"


def test_deleting_a_token_ends_it(rzp: razorpay.Client, customer: Any, token: str, debit: Make) -> None:
    assert rzp.token.delete(customer["id"], token) == {"deleted": True}

    assert rzp.token.all(customer["id"])["items"] == []
    with pytest.raises(BadRequestError, match="does not exist"):
        debit(token)


def test_manual_capture_takes_exactly_the_authorised_amount(sim: Sim, rzp: razorpay.Client, order: Make) -> None:
    made = order(50_000, payment_capture=False)
    pay = sim.post("/_sim/checkout", {"account": KEY_ID, "order_id": made["id"]})["razorpay_payment_id"]
    assert rzp.payment.fetch(pay)["status"] == "authorized"
    with pytest.raises(BadRequestError, match="equal to the amount authorized"):
        rzp.payment.capture(pay, 40_000, {"currency": "INR"})

    captured = rzp.payment.capture(pay, 50_000, {"currency": "INR"})

    assert (captured["status"], captured["captured"]) == ("captured", True)
    with pytest.raises(BadRequestError, match="already been captured"):
        rzp.payment.capture(pay, 50_000, {"currency": "INR"})


def test_refunds_repeat_under_their_key_and_never_exceed_the_payment(
    sim: Sim, rzp: razorpay.Client, token: str, debit: Make
) -> None:
    pay = debit(token)["id"]
    key = {"X-Refund-Idempotency": "refund-0001"}
    first = rzp.payment.refund(pay, {"amount": 20_000}, headers=dict(key))

    again = rzp.payment.refund(pay, {"amount": 20_000}, headers=dict(key))

    assert again["id"] == first["id"]
    with pytest.raises(BadRequestError, match="Different request body"):
        rzp.payment.refund(pay, {"amount": 10_000}, headers=dict(key))
    with pytest.raises(BadRequestError, match="greater than the refund payment amount"):
        rzp.payment.refund(pay, {"amount": 30_001})
    assert rzp.payment.refund(pay, {})["amount"] == 30_000
    with pytest.raises(BadRequestError, match="fully refunded already"):
        rzp.payment.refund(pay, {"amount": 1})
    payment = rzp.payment.fetch(pay)
    assert (payment["status"], payment["amount_refunded"], payment["refund_status"]) == ("refunded", 50_000, "full")
    assert rzp.refund.fetch(first["id"])["status"] == "processed"
    assert sim.truth(KEY_ID)["objects"][pay]["refunded"] == 50_000


def test_a_short_idempotency_key_is_refused(rzp: razorpay.Client, token: str, debit: Make) -> None:
    with pytest.raises(BadRequestError, match="at least 10 characters"):
        rzp.payment.refund(debit(token)["id"], {"amount": 1}, headers={"X-Refund-Idempotency": "short"})


def test_an_existing_customer_is_returned_or_refused(rzp: razorpay.Client, customer: Any) -> None:
    who = {"name": "Asha", "email": "asha@example.in", "contact": "+919876543210"}

    assert rzp.customer.create({**who, "fail_existing": "0"}) == customer
    with pytest.raises(BadRequestError, match="already exists"):
        rzp.customer.create(who)


def test_unknown_fields_wrong_keys_and_foreign_ids_are_refused(sim: Sim, rzp: razorpay.Client, order: Make) -> None:
    with pytest.raises(BadRequestError, match="colour is/are not required"):
        order(colour="blue")
    with pytest.raises(BadRequestError, match="Authentication failed"):
        razorpay.Client(auth=(KEY_ID, "wrong"), base_url=sim.base).order.all()
    sim.post("/_sim/accounts", {"provider": "razorpay", "key_id": "rzp_other", "key_secret": "x"})
    with pytest.raises(BadRequestError, match="does not exist"):
        razorpay.Client(auth=("rzp_other", "x"), base_url=sim.base).order.fetch(order()["id"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"amount": 99}, "minimum"), ({"amount": "x"}, "integer"), ({"currency": "XXX"}, "not supported"),
     ({"receipt": "r" * 41}, "40 characters"), ({"amount": 1_001, "currency": "KWD"}, "must be 0"),
     ({"notes": {f"k{n}": "v" for n in range(16)}}, "at most 15"), ({"customer_id": "cust_none"}, "does not exist")],
)  # fmt: skip
def test_orders_are_checked(order: Make, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequestError, match=message):
        order(**fields)


def test_a_payment_link_is_paid_on_its_page(sim: Sim, rzp: razorpay.Client) -> None:
    body = {"amount": 25_000, "currency": "INR", "reference_id": "att-1", "callback_url": "http://shop.example/back",
            "callback_method": "get", "notes": {"attempt": "1"}}  # fmt: skip
    link = rzp.payment_link.create(body)
    assert link["short_url"] == f"{sim.base}/_sim/pay/{link['id']}"
    assert rzp.payment_link.all({"reference_id": "att-1"})["payment_links"] == [link]
    with pytest.raises(BadRequestError, match="already exists"):
        rzp.payment_link.create(body)

    sim.post("/_sim/pay", {"id": link["id"], "outcome": "ok", "method": "upi"})

    paid = rzp.payment_link.fetch(link["id"])
    assert (paid["status"], paid["amount_paid"], paid["payments"][0]["method"]) == ("paid", 25_000, "upi")
    payment = rzp.payment.fetch(paid["payments"][0]["payment_id"])
    assert (payment["status"], payment["notes"]) == ("captured", {"attempt": "1"})
    with pytest.raises(BadRequestError, match="cannot be cancelled"):
        rzp.payment_link.cancel(link["id"])


def test_lists_are_paged_newest_first(rzp: razorpay.Client, order: Make) -> None:
    ids = [order()["id"] for _ in range(5)]

    page = rzp.order.all({"count": 2, "skip": 1})

    assert [o["id"] for o in page["items"]] == [ids[3], ids[2]]
    with pytest.raises(BadRequestError, match="between 1 and 100"):
        rzp.order.all({"count": 101})
