"""Tokens: saved instruments with a mandate, and charging them."""

from __future__ import annotations

from typing import Any

from payments.simulator.clock import job
from payments.simulator.instruments import Instrument
from payments.simulator.razorpay_api import payments, shapes
from payments.simulator.razorpay_api.errors import REASONS, RazorpayError, missing, not_found, refused
from payments.simulator.razorpay_api.events import tell
from payments.simulator.world import Account, World

Json = dict[str, Any]

DEFAULT_MAX = {"emandate": 1_000_000_000, "card": 10_000_000, "upi": 10_000_000}  # paise
NEXT = {
    "confirmed": {"initiated", "paused"},
    "rejected": {"initiated"},
    "cancelled": {"initiated", "confirmed", "paused"},
    "paused": {"confirmed"},
}


def create(*, world: World, account: Account, customer_id: str, instrument: Instrument,
           max_amount: int | None = None, expire_at: int | None = None, status: str = "confirmed") -> Json:  # fmt: skip
    """Save an instrument for a customer; the mandate becomes ``status`` at once or after the account's delay."""
    limit = max_amount or DEFAULT_MAX.get(instrument.method, 10_000_000)
    entity = shapes.token(world=world, instrument=instrument, max_amount=limit, expired_at=expire_at)
    account.of("tokens")[entity["id"]] = entity
    account.indexed("tokens", customer_id).append(entity["id"])
    account.hidden[entity["id"]] = {"customer_id": customer_id}
    account.instruments[entity["id"]] = instrument
    wait = account.options.mandate_seconds
    if status == "initiated":
        return entity
    if wait:
        world.clock.after(wait, "razorpay.mandate", account.id, entity["id"], status)
    else:
        set_status(world=world, account=account, token=entity, status=status)
    return entity


def set_status(*, world: World, account: Account, token: Json, status: str) -> None:
    """Move the mandate: confirmed, rejected, cancelled (revoked by the customer) or paused; tells token.*."""
    details = token["recurring_details"]
    if status not in NEXT or details["status"] not in NEXT[status]:
        raise RazorpayError(f"a token that is {details['status']} cannot become {status}")
    reason = "mandate_creation_declined" if status == "rejected" else None
    token["recurring_details"] = {"status": status, "failure_reason": reason}
    tell(world, account, f"token.{status}", token=token)


@job("razorpay.mandate")
def _set_if_initiated(world: World, account: Account, token_id: str, status: str) -> None:
    token = account.of("tokens").get(token_id)
    if token is not None and token["recurring_details"]["status"] == "initiated":
        set_status(world=world, account=account, token=token, status=status)


def find(account: Account, token_id: str, customer_id: str | None = None) -> Json:
    """A token that was not deleted, optionally of one customer."""
    token = account.of("tokens").get(token_id)
    if token is None or customer_id not in (None, account.hidden[token_id]["customer_id"]):
        raise not_found()
    return token


def delete(account: Account, token: Json) -> None:
    """Forget the token."""
    owner = account.hidden[token["id"]]["customer_id"]
    account.indexed("tokens", owner).remove(token["id"])
    del account.of("tokens")[token["id"]]


def charge(*, world: World, account: Account, body: Json) -> Json:
    """POST /payments/create/recurring: debit a confirmed mandate for an order, once."""
    for name in ("amount", "currency", "order_id", "customer_id", "token", "email", "contact"):
        if body.get(name) in (None, ""):
            raise missing(name)
    order = account.of("orders").get(str(body["order_id"]))
    if order is None:
        raise not_found()
    token = find(account, str(body["token"]), str(body["customer_id"]))
    _check(world, account, order, token, body)
    instrument = account.instruments[token["id"]]
    payer = {name: body.get(name) for name in ("email", "contact", "customer_id", "notes", "description")}
    payment = payments.start(world=world, account=account, order=order, instrument=instrument, payer=payer,
                             token_id=token["id"])  # fmt: skip
    token["used_at"] = world.clock.now
    payments.resolve(world=world, account=account, payment=payment,
                     outcome=_outcome(account, token, instrument, order["amount"]))  # fmt: skip
    if payment["status"] == "failed":
        raise refused(payment["error_reason"], payment_id=payment["id"], order_id=order["id"])
    return {"razorpay_payment_id": payment["id"], "razorpay_order_id": order["id"],
            "razorpay_signature": payments.signature(account, payment)}  # fmt: skip


def _check(world: World, account: Account, order: Json, token: Json, body: Json) -> None:
    if order["status"] == "paid":
        raise refused("order_already_paid", order_id=order["id"])
    if body["amount"] != order["amount"] or body["currency"] != order["currency"]:
        raise refused("order_amount_mismatch", order_id=order["id"])
    expired = token["expired_at"] is not None and token["expired_at"] <= world.clock.now
    status = token["recurring_details"]["status"]
    if status != "confirmed" or expired:
        waiting = status == "initiated" and not expired
        raise refused("payment_mandate_not_active" if waiting else "mandate_not_active", order_id=order["id"])
    if order["amount"] > token["max_amount"]:
        raise RazorpayError("Amount exceeds maximum amount allowed", source="business", metadata={},
                            step="payment_initiation", reason="input_validation_failed")  # fmt: skip
    states = (account.of("payments")[p]["status"] for p in account.indexed("payments", order["id"]))
    if any(state in {"created", "authorized"} for state in states):
        raise refused("payment_pending", order_id=order["id"])


def _outcome(account: Account, token: Json, instrument: Instrument, amount: int) -> str:
    limit = account.options.afa_limit
    if limit is not None and instrument.method in {"card", "upi"} and amount > limit:
        return "transaction_limit_exceeded"
    outcome = account.next_behaviour(token["id"])
    if outcome == "ok":
        outcome = instrument.saved_charge or instrument.on_charge
    seconds = account.options.debit_seconds.get(instrument.method, 0)
    return f"pending:{seconds}:{outcome}" if seconds and outcome in {"ok", *REASONS} else outcome
