"""Chargebacks: the money leaves when the dispute opens and comes back when it is won."""

from __future__ import annotations

from typing import Any

from payments.simulator import fees
from payments.simulator.razorpay_api import shapes
from payments.simulator.razorpay_api.errors import RazorpayError
from payments.simulator.razorpay_api.events import tell
from payments.simulator.razorpay_api.payments import recon_row
from payments.simulator.world import Account, World

Json = dict[str, Any]


def open_dispute(*, world: World, account: Account, payment: Json, amount: int | None, reason: str,
                 phase: str = "chargeback") -> Json:  # fmt: skip
    """The payer's bank takes ``amount`` back (all that is left when None)."""
    left = payment["amount"] - payment["amount_refunded"]
    if not payment["captured"] or left <= 0:
        raise RazorpayError("Only a captured payment that is not fully refunded can be disputed")
    if any(account.of("disputes")[d]["status"] in {"open", "under_review", "lost"}
           for d in account.indexed("disputes", payment["id"])):  # fmt: skip
        raise RazorpayError("The payment has a dispute already")
    amount = left if amount is None else amount
    if not 0 < amount <= left:
        raise RazorpayError("The disputed amount is larger than what is left of the payment")
    entity = shapes.dispute(world=world, payment=payment, amount=amount, reason=reason, phase=phase)
    entity["amount_deducted"] = amount
    account.of("disputes")[entity["id"]] = entity
    account.indexed("disputes", payment["id"]).append(entity["id"])
    _move(world, account, payment, entity, amount, account.options.dispute_fee or 0)
    _tell(world, account, "created", payment, entity)
    return entity


def submit(world: World, account: Account, dispute: Json) -> None:
    """The merchant's evidence went to the bank."""
    if dispute["status"] != "open":
        raise RazorpayError("The dispute is not open")
    dispute["status"] = "under_review"
    dispute["evidence"]["submitted_at"] = world.clock.now
    _tell(world, account, "under_review", account.of("payments")[dispute["payment_id"]], dispute)


def close(*, world: World, account: Account, dispute: Json, outcome: str) -> None:
    """``won`` gives the money back, ``lost`` leaves it with the payer."""
    if dispute["status"] not in {"open", "under_review"} or outcome not in {"won", "lost"}:
        raise RazorpayError(f"a dispute that is {dispute['status']} cannot become {outcome!r}")
    payment = account.of("payments")[dispute["payment_id"]]
    dispute["status"] = outcome
    if outcome == "won":
        dispute["amount_deducted"] = 0
        _move(world, account, payment, dispute, -dispute["amount"], 0)
    _tell(world, account, outcome, payment, dispute)


def _tell(world: World, account: Account, what: str, payment: Json, dispute: Json) -> None:
    tell(world, account, f"payment.dispute.{what}", payment=shapes.with_card(account, payment), dispute=dispute)


def _move(world: World, account: Account, payment: Json, dispute: Json, amount: int, fee: int) -> None:
    base = fees.to_inr(abs(amount), payment["currency"]) * (1 if amount > 0 else -1)
    account.truth.disputed(at=world.clock.now, ref=dispute["id"], parent=payment["id"], currency="INR",
                           amount=base, fee=fee)  # fmt: skip
    row = recon_row(account=account, payment=payment, kind="adjustment", entity_id=world.ids.new("adj"),
                    at=world.clock.now, amount=abs(base), debit=max(base, 0) + fee, credit=max(-base, 0),
                    fee=fee)  # fmt: skip
    row.update(dispute_id=dispute["id"], description=f"dispute {dispute['id']}")
    account.owe(parent=payment["id"], net=-base - fee, currency="INR", due=world.clock.now, data=row)
