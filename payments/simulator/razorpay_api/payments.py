"""The life of a Razorpay payment: created, authorized, captured, failed, and late."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from payments.simulator import fees, workdays
from payments.simulator.clock import job
from payments.simulator.instruments import Instrument
from payments.simulator.razorpay_api import shapes
from payments.simulator.razorpay_api.errors import REASONS, RazorpayError, refused
from payments.simulator.razorpay_api.events import tell
from payments.simulator.world import Account, World

Json = dict[str, Any]

AUTHORISED_FOR = 3 * workdays.DAY
BANK_ANSWERS_WITHIN = 600


def start(*, world: World, account: Account, order: Json, instrument: Instrument, payer: Json,
          token_id: str | None = None) -> Json:  # fmt: skip
    """A payment in state created, filed under its order."""
    entity = shapes.payment(world=world, order=order, instrument=instrument, payer=payer, token_id=token_id)
    account.of("payments")[entity["id"]] = entity
    account.indexed("payments", order["id"]).append(entity["id"])
    if instrument.card:
        card = shapes.card_entity(entity["card_id"], instrument.card)
        account.hidden[entity["id"]] = {"card": card}
    order["attempts"] += 1
    if order["status"] == "created":
        order["status"] = "attempted"
    return entity


def resolve(*, world: World, account: Account, payment: Json, outcome: str) -> None:
    """Apply an outcome: ``ok``, a reason, ``pending:SECONDS[:outcome]``, ``late:MINUTES`` or ``abandoned``."""
    word, _, rest = outcome.partition(":")
    if word == "ok":
        authorize(world=world, account=account, payment=payment)
    elif word == "pending":
        seconds, _, then = rest.partition(":")
        world.clock.after(int(seconds), "razorpay.payment", account.id, payment["id"], then or "ok")
    elif word == "late":
        fail(world=world, account=account, payment=payment, reason="payment_timed_out")
        world.clock.after(60 * int(rest), "razorpay.payment", account.id, payment["id"], "ok")
    elif word == "abandoned":
        world.clock.after(BANK_ANSWERS_WITHIN, "razorpay.payment", account.id, payment["id"], "payment_timed_out")
    else:
        fail(world=world, account=account, payment=payment, reason=word)


@job("razorpay.payment")
def _finish(world: World, account: Account, payment_id: str, outcome: str) -> None:
    payment = account.of("payments")[payment_id]
    if payment["status"] in {"created", "failed"}:
        resolve(world=world, account=account, payment=payment, outcome=outcome)


def authorize(*, world: World, account: Account, payment: Json) -> None:
    """The bank said yes (perhaps late); captured at once when the order asks for it and is not paid."""
    payment.update(status="authorized", error_code=None, error_description=None, error_source=None,
                   error_step=None, error_reason=None,
                   acquirer_data=shapes.acquirer_data(world, payment["method"]))  # fmt: skip
    tell(world, account, "payment.authorized", payment=shapes.with_card(account, payment))
    order = account.of("orders")[payment["order_id"]]
    if account.hidden[order["id"]]["auto_capture"] and order["status"] != "paid":
        capture(world=world, account=account, payment=payment)
    else:
        expires = max(payment["created_at"] + AUTHORISED_FOR, world.clock.now)
        world.clock.at(expires, "razorpay.release", account.id, payment["id"])


def capture(*, world: World, account: Account, payment: Json) -> None:
    """Take the authorised money; the order is paid, the fee is known, the settlement clock starts."""
    order = account.of("orders")[payment["order_id"]]
    base = fees.to_inr(payment["amount"], payment["currency"])
    fee = fees.razorpay_fee(base_amount=base, method=payment["method"], international=payment["international"])
    payment.update(status="captured", captured=True, fee=fee.total, tax=fee.tax)
    if payment["currency"] != "INR":
        payment.update(base_amount=base, base_currency="INR")
    order.update(status="paid", amount_paid=order["amount"], amount_due=0)
    if base:
        account.truth.captured(at=world.clock.now, ref=payment["id"], currency="INR", amount=base,
                               fee=fee.total, tax=fee.tax)  # fmt: skip
        _owe(world, account, payment, order, base)
    told = shapes.with_card(account, payment)
    tell(world, account, "payment.captured", payment=told)
    tell(world, account, "order.paid", payment=told, order=order)
    link = account.of("links").get(account.hidden[order["id"]].get("link", ""))
    if link is not None:
        _link_paid(world, account, link, order, payment)


def fail(*, world: World, account: Account, payment: Json, reason: str) -> None:
    """The payment failed for a documented reason; failed is not final (see late authorisation)."""
    code, source, step, description = REASONS[reason]
    payment.update(status="failed", error_code=code, error_description=description, error_source=source,
                   error_step=step, error_reason=reason)  # fmt: skip
    tell(world, account, "payment.failed", payment=shapes.with_card(account, payment))


def capture_by_hand(*, world: World, account: Account, payment: Json, amount: Any, currency: Any) -> Json:
    """POST /payments/{id}/capture."""
    if payment["status"] in {"captured", "refunded"}:
        raise RazorpayError("This payment has already been captured", source="business",
                            step="payment_capture", reason="input_validation_failed", metadata={})  # fmt: skip
    if payment["status"] != "authorized":
        raise RazorpayError("Only payments which have been authorized and not yet captured can be captured")
    if account.of("orders")[payment["order_id"]]["status"] == "paid":
        raise refused("order_already_paid", payment_id=payment["id"], order_id=payment["order_id"])
    if amount != payment["amount"]:
        raise RazorpayError("Capture amount must be equal to the amount authorized", field="amount")
    if currency is not None and currency != payment["currency"]:
        raise RazorpayError("Payment currency is different from the capture currency", field="currency")
    capture(world=world, account=account, payment=payment)
    return payment


def signature(account: Account, payment: Json) -> str:
    """What checkout gives the merchant's page: HMAC of order and payment with the key secret."""
    message = f"{payment['order_id']}|{payment['id']}".encode()
    return hmac.new(account.key_secret.encode(), message, hashlib.sha256).hexdigest()


@job("razorpay.release")
def _release(world: World, account: Account, payment_id: str) -> None:
    """Three days and not captured: the money goes back by itself and was never ours."""
    payment = account.of("payments")[payment_id]
    if payment["status"] != "authorized" or payment["amount"] == 0:
        return
    payment.update(status="refunded", amount_refunded=payment["amount"], refund_status="full")
    entity = shapes.refund(world=world, payment=payment, amount=payment["amount"], body={})
    entity["status"] = "processed"
    account.of("refunds")[entity["id"]] = entity
    account.indexed("refunds", payment["id"]).append(entity["id"])
    tell(world, account, "refund.processed", refund=entity, payment=shapes.with_card(account, payment))


def _owe(world: World, account: Account, payment: Json, order: Json, base: int) -> None:
    days = 7 if payment["international"] else account.options.settlement_days
    captured_on = workdays.local_date(world.clock.now, account.zone)
    due_on = workdays.add_workdays(captured_on, days, account.is_workday)
    data = recon_row(account=account, payment=payment, kind="payment", entity_id=payment["id"],
                     at=payment["created_at"], amount=base, credit=base - payment["fee"],
                     fee=payment["fee"], tax=payment["tax"])  # fmt: skip
    data.update(payment_id=None, description=payment["description"], order_receipt=order["receipt"])
    due = workdays.start_of(due_on, account.zone)
    account.owe(parent=payment["id"], net=base - payment["fee"], currency="INR", due=due, data=data)


def recon_row(*, account: Account, payment: Json, kind: str, entity_id: str, at: int, amount: int,
              credit: int = 0, debit: int = 0, fee: int = 0, tax: int = 0) -> Json:  # fmt: skip
    """A line of settlements/recon/combined, not yet settled. Amounts in paise."""
    card = account.hidden.get(payment["id"], {}).get("card") or {}
    order = account.of("orders")[payment["order_id"]]
    return {
        "entity_id": entity_id, "type": kind, "debit": debit, "credit": credit, "amount": amount,
        "currency": "INR", "fee": fee, "tax": tax, "on_hold": account.options.settlement_on_hold,
        "settled": False, "created_at": at, "settled_at": None, "settlement_id": None, "posted_at": None,
        "credit_type": "default", "description": None, "notes": payment["notes"], "payment_id": payment["id"],
        "settlement_utr": None, "order_id": payment["order_id"], "order_receipt": order["receipt"],
        "method": payment["method"], "card_network": card.get("network"), "card_issuer": card.get("issuer"),
        "card_type": card.get("type"), "dispute_id": None,
    }  # fmt: skip


def _link_paid(world: World, account: Account, link: Json, order: Json, payment: Json) -> None:
    link.update(status="paid", amount_paid=link["amount"], updated_at=world.clock.now, payments=[{
        "amount": payment["amount"], "created_at": payment["created_at"], "method": payment["method"],
        "payment_id": payment["id"], "plink_id": link["id"], "status": "captured",
        "updated_at": world.clock.now,
    }])  # fmt: skip
    tell(world, account, "payment_link.paid", payment_link=link, order=order,
         payment=shapes.with_card(account, payment))  # fmt: skip
