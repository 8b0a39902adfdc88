"""Charges, the Stripe balance, and refunds."""

from __future__ import annotations

from typing import Any

from payments.simulator import fees, workdays
from payments.simulator.clock import job
from payments.simulator.stripe_api import shapes
from payments.simulator.stripe_api.call import Call
from payments.simulator.stripe_api.errors import StripeError, missing
from payments.simulator.stripe_api.events import tell
from payments.simulator.world import Account, World

Json = dict[str, Any]


def move(world: World, account: Account, *, parent: str, due: int | None = None, **given: Any) -> Json:
    """A balance transaction that the next payouts will carry from ``due`` on (at once when None)."""
    due = world.clock.now if due is None else due
    status = "available" if due <= world.clock.now else "pending"
    entity = shapes.balance_transaction(world, available_on=due, status=status, **given)
    account.of("balance_transactions")[entity["id"]] = entity
    if given["type"] not in {"payout", "payout_failure"}:
        account.owe(parent=parent, net=entity["net"], currency=entity["currency"], due=due, data=entity)
    return entity


def collect(world: World, account: Account, charge: Json, amount: int) -> None:
    """Capture ``amount`` of an authorised charge; what is left of the authorisation goes back."""
    on = workdays.local_date(world.clock.now, 0)
    due_on = workdays.add_workdays(on, account.options.settlement_days, account.is_workday)
    due = workdays.start_of(due_on, 0)
    fee = fees.stripe_fee(amount=amount, currency=charge["currency"])
    txn = move(world, account, parent=charge["id"], due=due, amount=charge["amount"], fee=fee.total,
               currency=charge["currency"], type="charge", reporting_category="charge", source=charge["id"],
               description=charge["description"])  # fmt: skip
    if amount < charge["amount"]:
        move(world, account, parent=charge["id"], due=due, amount=amount - charge["amount"],
             currency=charge["currency"], type="refund", reporting_category="partial_capture_reversal",
             source=charge["id"])  # fmt: skip
    charge.update(captured=True, amount_captured=amount, balance_transaction=txn["id"])
    account.truth.captured(at=world.clock.now, ref=charge["id"], currency=charge["currency"].upper(),
                           amount=amount, fee=fee.total, tax=0)  # fmt: skip


def create_refund(call: Call) -> Json:
    """POST /refunds for a charge or a payment intent."""
    call.only("refund.create")
    account, world = call.account, call.world
    charge = _charge_of(call)
    if charge["disputed"]:
        raise StripeError("Charge has been charged back; cannot issue a refund.", code="charge_disputed")
    left = charge["amount_captured"] - charge["amount_refunded"]
    if charge["captured"] and left <= 0:
        raise StripeError(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    if not charge["captured"]:
        raise StripeError("This charge has not been captured: cancel its PaymentIntent instead.",
                          code="charge_not_refundable")  # fmt: skip
    amount = call.number("amount", least=1) or left
    if amount > left:
        raise StripeError(f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})",
                          param="amount")  # fmt: skip
    entity = shapes.refund(world, charge, amount, call.text("reason"), call.metadata())
    account.of("refunds")[entity["id"]] = entity
    account.indexed("refunds", charge["id"]).append(entity["id"])
    txn = move(world, account, parent=charge["id"], amount=-amount, currency=charge["currency"], type="refund",
               reporting_category="refund", source=entity["id"])  # fmt: skip
    entity["balance_transaction"] = txn["id"]
    _count(world, account, charge, entity, amount)
    if not account.options.refund_seconds:
        entity["status"] = "succeeded"
    tell(world, account, "refund.created", entity)
    tell(world, account, "charge.refunded", charge)
    if account.options.refund_seconds:
        world.clock.after(account.options.refund_seconds, "stripe.refund", account.id, entity["id"])
    return entity


def _charge_of(call: Call) -> Json:
    if call.text("charge"):
        return call.find("charges", call.text("charge"))
    if not call.text("payment_intent"):
        raise missing("payment_intent")
    intent = call.find("payment_intents", call.text("payment_intent"))
    if intent["status"] != "succeeded":
        raise StripeError(f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.",
                          code="payment_intent_unexpected_state" if intent["latest_charge"] else "resource_missing",
                          param="payment_intent")  # fmt: skip
    return call.find("charges", intent["latest_charge"])


def _count(world: World, account: Account, charge: Json, refund: Json, amount: int) -> None:
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]
    account.truth.refunded(at=world.clock.now, ref=refund["id"], parent=charge["id"],
                           currency=charge["currency"].upper(), amount=amount)  # fmt: skip


@job("stripe.refund")
def _succeed(world: World, account: Account, refund_id: str) -> None:
    refund = account.of("refunds")[refund_id]
    if refund["status"] == "pending":
        refund["status"] = "succeeded"
        tell(world, account, "refund.updated", refund)


def fail_refund(world: World, account: Account, refund: Json) -> None:
    """The bank returned the refund; the balance has the money again."""
    if refund["status"] == "failed":
        raise StripeError("The refund has failed already.")
    charge = account.of("charges")[refund["charge"]]
    txn = move(world, account, parent=charge["id"], amount=refund["amount"], currency=refund["currency"],
               type="refund_failure", reporting_category="refund_failure", source=refund["id"])  # fmt: skip
    refund.update(status="failed", failure_reason="expired_or_canceled_card",
                  failure_balance_transaction=txn["id"])  # fmt: skip
    _count(world, account, charge, refund, -refund["amount"])
    tell(world, account, "refund.failed", refund)
    tell(world, account, "charge.refund.updated", refund)
