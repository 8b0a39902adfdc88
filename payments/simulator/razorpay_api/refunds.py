"""Refunds of captured Razorpay payments."""

from __future__ import annotations

from typing import Any

from payments.simulator import fees
from payments.simulator.clock import job
from payments.simulator.razorpay_api import shapes
from payments.simulator.razorpay_api.errors import RazorpayError, invalid
from payments.simulator.razorpay_api.events import tell
from payments.simulator.razorpay_api.payments import recon_row
from payments.simulator.world import Account, World

Json = dict[str, Any]

SIX_MONTHS = 183 * 86_400


def create(*, world: World, account: Account, payment: Json, body: Json) -> Json:
    """Give back all or part of a captured payment; the fee is not given back."""
    amount = _amount(payment, body)
    if world.clock.now - payment["created_at"] > SIX_MONTHS:
        raise RazorpayError("The payment is older than six months and cannot be refunded")
    if any(account.of("disputes")[d]["status"] in {"open", "under_review", "lost"}
           for d in account.indexed("disputes", payment["id"])):  # fmt: skip
        raise RazorpayError("The payment has a dispute and cannot be refunded")
    entity = shapes.refund(world=world, payment=payment, amount=amount, body=body)
    account.of("refunds")[entity["id"]] = entity
    account.indexed("refunds", payment["id"]).append(entity["id"])
    _move(world, account, payment, entity, amount)
    tell(world, account, "refund.created", refund=entity, payment=shapes.with_card(account, payment))
    if account.options.refund_seconds:
        world.clock.after(account.options.refund_seconds, "razorpay.refund", account.id, entity["id"])
    else:
        process(world, account, entity)
    return entity


def process(world: World, account: Account, refund: Json) -> None:
    """The bank took the refund over."""
    if refund["status"] != "pending":
        return
    refund.update(status="processed", acquirer_data={"arn": world.ids.digits(14)})
    payment = account.of("payments")[refund["payment_id"]]
    tell(world, account, "refund.processed", refund=refund, payment=shapes.with_card(account, payment))


@job("razorpay.refund")
def _process(world: World, account: Account, refund_id: str) -> None:
    process(world, account, account.of("refunds")[refund_id])


def fail(world: World, account: Account, refund: Json) -> None:
    """The bank returned the money, even after ``processed``: the payment has it again."""
    if refund["status"] == "failed":
        raise RazorpayError("The refund has failed already")
    payment = account.of("payments")[refund["payment_id"]]
    if not payment["captured"]:
        raise RazorpayError("The payment was never captured: there is nothing to give back")
    refund["status"] = "failed"
    _move(world, account, payment, refund, -refund["amount"])
    tell(world, account, "refund.failed", refund=refund, payment=shapes.with_card(account, payment))


def _amount(payment: Json, body: Json) -> int:
    if payment["status"] not in {"captured", "refunded"} or not payment["captured"]:
        raise RazorpayError("The payment status should be captured for action to be taken")
    left = payment["amount"] - payment["amount_refunded"]
    if left <= 0:
        raise RazorpayError("The payment has been fully refunded already")
    amount = body.get("amount", left)
    if isinstance(amount, str) and amount.isdigit():
        amount = int(amount)
    if not isinstance(amount, int) or isinstance(amount, bool) or amount < 1:
        raise invalid("The amount must be at least 1.", "amount")
    if amount > left:
        raise RazorpayError("The total refund amount is greater than the refund payment amount", field="amount")
    return amount


def _move(world: World, account: Account, payment: Json, refund: Json, amount: int) -> None:
    """Book ``amount`` (negative: undo) on the payment, in the truth and for the next settlement."""
    refunded = payment["amount_refunded"] + amount
    full = refunded == payment["amount"]
    payment.update(amount_refunded=refunded, refund_status="full" if full else "partial" if refunded else None,
                   status="refunded" if full else "captured")  # fmt: skip
    base = fees.to_inr(abs(amount), payment["currency"]) * (1 if amount > 0 else -1)
    account.truth.refunded(at=world.clock.now, ref=refund["id"], parent=payment["id"], currency="INR", amount=base)
    row = recon_row(account=account, payment=payment, kind="refund" if amount > 0 else "adjustment",
                    entity_id=refund["id"] if amount > 0 else world.ids.new("adj"), at=world.clock.now,
                    amount=abs(base), debit=max(base, 0), credit=max(-base, 0))  # fmt: skip
    if amount < 0:
        row["description"] = f"reversal of {refund['id']}"
    account.owe(parent=payment["id"], net=-base, currency="INR", due=world.clock.now, data=row)
