"""Random operations, seeded: whatever happens, the simulator's money adds up."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import razorpay
import requests
import stripe
from razorpay.errors import BadRequestError, GatewayError, ServerError

from tests.simulator.conftest import KEY_ID, KEY_SECRET, STRIPE_KEY, Sim

REFUSED = (BadRequestError, GatewayError, ServerError, stripe.StripeError, requests.exceptions.RequestException)
STEPS = 160


class RazorpayFuzz:
    """One random merchant at Razorpay."""

    def __init__(self, sim: Sim, rzp: razorpay.Client, dice: random.Random) -> None:
        self.sim, self.rzp, self.dice = sim, rzp, dice
        self.customer = rzp.customer.create({"name": "F", "email": "f@example.in", "contact": "+91"})["id"]
        self.token = sim.post("/_sim/tokens", {"account": KEY_ID, "customer_id": self.customer, "method": "upi"})["id"]
        self.orders: list[Any] = []
        self.keys: dict[str, tuple[int, str]] = {}

    def order(self) -> None:
        receipt = f"r{self.dice.randrange(40)}"
        amount = 10_000 + int(receipt[1:]) * 100
        made = self.rzp.order.create({"amount": amount, "currency": "INR", "receipt": receipt, "unique_receipt": True,
                                      "payment_capture": self.dice.random() < 0.8})  # fmt: skip
        if made["id"] not in [o["id"] for o in self.orders]:
            self.orders.append(made)

    def debit(self) -> None:
        if self.dice.random() < 0.4:
            word = self.dice.choice(
                ["insufficient_funds", "pending:3600", "late:90", "abandoned", "bank_technical_error"]
            )
            self.sim.post(f"/_sim/tokens/{self.token}", {"behaviour": [word]})
        order = self.dice.choice(self.orders)
        self.rzp.payment.createRecurring({"email": "f@example.in", "contact": "+91", "amount": order["amount"],
                                          "currency": "INR", "order_id": order["id"], "customer_id": self.customer,
                                          "token": self.token})  # fmt: skip

    def checkout(self) -> None:
        body = {"account": KEY_ID, "order_id": self.dice.choice(self.orders)["id"], "method": self.dice.choice(["card", "upi"]),
                **self.dice.choice([{}, {"late": 30}, {"3ds": "fail"}, {"3ds": "abandon"}])}  # fmt: skip
        self.sim.call("POST", "/_sim/checkout", body)

    def refund(self) -> None:
        payment = self.dice.choice(self.rzp.payment.all({"count": 100})["items"])
        key = f"refund-key-{self.dice.randrange(30)}"
        made = self.rzp.payment.refund(payment["id"], {"amount": self.dice.choice([100, 5_000, 20_000])},
                                       headers={"X-Refund-Idempotency": key})  # fmt: skip
        same_object(self, key, made["id"])

    def capture(self) -> None:
        payment = self.dice.choice(self.rzp.payment.all({"count": 100})["items"])
        self.rzp.payment.capture(payment["id"], payment["amount"], {"currency": "INR"})

    def dispute(self) -> None:
        payment = self.dice.choice(self.rzp.payment.all({"count": 100})["items"])
        self.sim.call("POST", "/_sim/disputes", {"payment": payment["id"]})
        for dispute in self.rzp.dispute.all()["items"]:
            self.sim.call(
                "POST", f"/_sim/disputes/{dispute['id']}/close", {"outcome": self.dice.choice(["won", "lost"])}
            )

    def fail_refund(self) -> None:
        refund = self.dice.choice(self.rzp.refund.all()["items"])
        self.sim.call("POST", f"/_sim/refunds/{refund['id']}/fail")

    def fault(self) -> None:
        kind = self.dice.choice(["timeout_after", "drop", "500", "truncated"])
        self.sim.post("/_sim/faults", {"method": "POST", "path": "/v1/", "kind": kind, "effect": True})

    def wait(self) -> None:
        self.sim.advance(hours=self.dice.randrange(1, 40))


def same_object(fuzz: Any, key: str, made: str) -> None:
    """Within a day the same key is the same object; after it, keys are forgotten."""
    now = fuzz.sim.get("/_sim/clock")["unix"]
    since, first = fuzz.keys.setdefault(key, (now, made))
    if now - since < 86_400:
        assert first == made
    elif first != made:
        fuzz.keys[key] = (now, made)


def run(fuzz: Any, dice: random.Random, weights: dict[str, int]) -> None:
    for _ in range(STEPS):
        step = dice.choices(list(weights), list(weights.values()))[0]
        try:
            getattr(fuzz, step)()
        except (*REFUSED, IndexError):
            continue


def every(fetch: Callable[[dict[str, int]], Any]) -> list[Any]:
    items: list[Any] = []
    while len(page := fetch({"count": 100, "skip": len(items)})["items"]) == 100:
        items += page
    return items + page


@pytest.mark.parametrize("seed", range(4))
def test_razorpay_money_adds_up_whatever_happens(sim: Sim, rzp: razorpay.Client, seed: int) -> None:
    dice = random.Random(seed)
    weights = {"order": 16, "debit": 24, "checkout": 12, "refund": 12, "capture": 5, "dispute": 3, "fail_refund": 2,
               "fault": 4, "wait": 8}  # fmt: skip
    run(RazorpayFuzz(sim, rzp, dice), dice, weights)
    sim.call("DELETE", "/_sim/faults")
    sim.advance(days=12)

    payments, truth = every(rzp.payment.all), sim.truth(KEY_ID)
    totals = truth["totals"]["INR"]
    captured = [p for p in payments if p["captured"]]
    assert len(captured) > 5
    assert sum(p["amount"] - p["amount_refunded"] for p in captured) == totals["captured"] - totals["refunded"]
    assert len({p["order_id"] for p in captured}) == len(captured)  # one captured payment per order
    for payment in captured:
        mine = truth["objects"][payment["id"]]
        kept = sum(r["amount"] for r in every(lambda q, p=payment: rzp.payment.fetch_multiple_refund(p["id"], q))
                   if r["status"] != "failed")  # fmt: skip
        assert (mine["captured"], mine["refunded"], mine["fees"]) == (payment["amount"], kept, payment["fee"])
    settlements = every(rzp.settlement.all)
    rows = [row for month in (4, 5, 6, 7, 8)
            for row in rzp.settlement.report({"year": 2025, "month": month, "count": 1000})["items"]]  # fmt: skip
    for settlement in settlements:
        assert settlement["amount"] == sum(
            r["credit"] - r["debit"] for r in rows if r["settlement_id"] == settlement["id"]
        )
    assert sum(s["amount"] for s in settlements) == totals["settled"] == totals["balances"].get("bank", 0)
    assert sum(totals["balances"].values()) == 0


class StripeFuzz:
    """One random merchant at Stripe."""

    def __init__(self, sim: Sim, st: stripe.StripeClient, customer: str, card: str, dice: random.Random) -> None:
        self.sim, self.st, self.customer, self.card, self.dice = sim, st, customer, card, dice
        self.keys: dict[str, tuple[int, str]] = {}

    def charge(self) -> None:
        number = self.dice.randrange(60)
        if self.dice.random() < 0.3:
            word = self.dice.choice(["insufficient_funds", "lost_card", "authentication_required"])
            self.sim.post(f"/_sim/tokens/{self.card}", {"behaviour": [word]})
        intent = self.st.v1.payment_intents.create(
            {"amount": 1_000 + number, "currency": "usd" if number % 3 else "eur", "customer": self.customer, "confirm": True,
             "payment_method": self.card, "off_session": True, "capture_method": "manual" if number % 4 == 0 else "automatic"},
            {"idempotency_key": f"key-{number}"},
        )  # fmt: skip
        same_object(self, f"key-{number}", intent.id)

    def some_intent(self) -> stripe.PaymentIntent:
        return self.dice.choice(self.st.v1.payment_intents.list({"limit": 100}).data)

    def capture(self) -> None:
        intent = self.some_intent()
        self.st.v1.payment_intents.capture(intent.id, {"amount_to_capture": max(1, intent.amount_capturable // 2)})

    def cancel(self) -> None:
        self.st.v1.payment_intents.cancel(self.some_intent().id)

    def refund(self) -> None:
        self.st.v1.refunds.create({"payment_intent": self.some_intent().id, "amount": self.dice.choice([1, 200, 900])},
                                  {"idempotency_key": f"refund-{self.dice.randrange(40)}"})  # fmt: skip

    def dispute(self) -> None:
        self.sim.call("POST", "/_sim/disputes", {"payment_intent": self.some_intent().id})
        for dispute in self.st.v1.disputes.list().data:
            self.sim.call("POST", f"/_sim/disputes/{dispute.id}/close", {"outcome": self.dice.choice(["won", "lost"])})

    def fail_payout(self) -> None:
        self.sim.call("POST", f"/_sim/payouts/{self.dice.choice(self.st.v1.payouts.list().data).id}/fail")

    fault = RazorpayFuzz.fault
    wait = RazorpayFuzz.wait


@pytest.mark.parametrize("seed", range(4))
def test_stripe_money_adds_up_whatever_happens(
    sim: Sim, st: stripe.StripeClient, stripe_customer: stripe.Customer, saved_card: Callable[[], str], seed: int
) -> None:
    dice = random.Random(seed)
    weights = {
        "charge": 30,
        "capture": 6,
        "cancel": 3,
        "refund": 12,
        "dispute": 3,
        "fail_payout": 1,
        "fault": 4,
        "wait": 8,
    }
    run(StripeFuzz(sim, st, stripe_customer.id, saved_card(), dice), dice, weights)
    sim.call("DELETE", "/_sim/faults")
    sim.advance(days=12)

    truth = sim.truth("pk_test")
    charges = [c for c in st.v1.charges.list({"limit": 100}).auto_paging_iter() if c.captured]
    assert len(charges) > 5
    for paid in charges:
        mine = truth["objects"][paid.id]
        assert (mine["captured"], mine["refunded"]) == (paid.amount_captured, paid.amount_refunded)
    assert set(truth["objects"]) == {c.id for c in charges}
    assert len({c.payment_intent for c in charges}) == len(charges)
    payouts = list(st.v1.payouts.list({"limit": 100}).auto_paging_iter())
    for payout in payouts:
        rows = list(st.v1.balance_transactions.list({"payout": payout.id, "limit": 100}).auto_paging_iter())
        if payout.status != "failed":
            assert sum(row.net for row in rows if row.type != "payout") == payout.amount
    for currency, totals in truth["totals"].items():
        paid_out = sum(p.amount for p in payouts if p.currency.upper() == currency and p.status != "failed")
        assert paid_out == totals["settled"] == totals["balances"].get("bank", 0)
        assert sum(totals["balances"].values()) == 0
    assert (KEY_SECRET, STRIPE_KEY) != ("", "")
