"""Disputes: amount and fee leave at once; a won dispute brings the amount back, not the fee."""

from __future__ import annotations

from typing import Any

from payments.simulator import fees
from payments.simulator.stripe_api import charges, shapes
from payments.simulator.stripe_api.call import Call
from payments.simulator.stripe_api.errors import StripeError
from payments.simulator.stripe_api.events import tell
from payments.simulator.world import Account, World

Json = dict[str, Any]

UNDECIDED = frozenset({"needs_response", "under_review"})


def open_dispute(*, world: World, account: Account, charge: Json, amount: int | None, reason: str) -> Json:
    """The cardholder's bank takes ``amount`` back (all that is left when None)."""
    left = charge["amount_captured"] - charge["amount_refunded"]
    if charge["disputed"] or left <= 0:
        raise StripeError("Only a captured charge that is neither disputed nor refunded can be disputed.")
    amount = left if amount is None else amount
    if not 0 < amount <= left:
        raise StripeError("The disputed amount is larger than what is left of the charge.", param="amount")
    entity = shapes.dispute(world, charge, amount, reason)
    account.of("disputes")[entity["id"]] = entity
    account.indexed("disputes", charge["id"]).append(entity["id"])
    charge["disputed"] = True
    fee = account.options.dispute_fee
    fee = fees.stripe_dispute_fee(charge["currency"]) if fee is None else fee
    _move(world, account, charge, entity, amount, fee)
    tell(world, account, "charge.dispute.created", entity)
    tell(world, account, "charge.dispute.funds_withdrawn", entity)
    return entity


def _move(world: World, account: Account, charge: Json, dispute: Json, amount: int, fee: int) -> None:
    category = "dispute" if amount > 0 else "dispute_reversal"
    txn = charges.move(world, account, parent=charge["id"], amount=-amount, fee=fee, currency=charge["currency"],
                       type="adjustment", reporting_category=category, source=dispute["id"],
                       description=f"Chargeback {'withdrawal' if amount > 0 else 'reversal'} for {charge['id']}")  # fmt: skip
    dispute["balance_transactions"] = [*dispute["balance_transactions"], txn]
    account.truth.disputed(at=world.clock.now, ref=dispute["id"], parent=charge["id"],
                           currency=charge["currency"].upper(), amount=amount, fee=fee)  # fmt: skip


def close(*, world: World, account: Account, dispute: Json, outcome: str) -> None:
    """The bank decided: ``won`` or ``lost``."""
    if dispute["status"] not in UNDECIDED or outcome not in {"won", "lost"}:
        raise StripeError(f"a dispute that is {dispute['status']} cannot become {outcome!r}")
    dispute["status"] = outcome
    charge = account.of("charges")[dispute["charge"]]
    if outcome == "won":
        _move(world, account, charge, dispute, -dispute["amount"], 0)
        tell(world, account, "charge.dispute.funds_reinstated", dispute)
    tell(world, account, "charge.dispute.closed", dispute)


def modify(call: Call) -> Json:
    """POST /disputes/{id}: evidence, and with ``submit`` (the default) to the bank."""
    call.only("dispute.modify")
    dispute = call.find("disputes")
    if dispute["status"] not in UNDECIDED:
        raise StripeError("This dispute is already closed.", code="dispute_already_closed")
    evidence = call.params.get("evidence") or {}
    dispute["evidence"] = {**dispute["evidence"], **evidence}
    if evidence and str(call.params.get("submit", "true")) == "true":
        details = dispute["evidence_details"]
        dispute["evidence_details"] = {**details, "has_evidence": True,
                                       "submission_count": details["submission_count"] + 1}  # fmt: skip
        dispute["status"] = "under_review"
    tell(call.world, call.account, "charge.dispute.updated", dispute)
    return dispute


def close_call(call: Call) -> Json:
    """POST /disputes/{id}/close: the merchant gives in."""
    call.only("dispute.close")
    dispute = call.find("disputes")
    close(world=call.world, account=call.account, dispute=dispute, outcome="lost")
    return dispute
