"""The life of a payment intent."""

from __future__ import annotations

from typing import Any

from payments.simulator.clock import job
from payments.simulator.stripe_api import charges, disputes, shapes
from payments.simulator.stripe_api.call import Call
from payments.simulator.stripe_api.errors import DECLINES, OWN_CODES, StripeError, card_error, decline
from payments.simulator.stripe_api.events import tell
from payments.simulator.stripe_api.methods import attach_to
from payments.simulator.world import Account, World

Json = dict[str, Any]

OPEN = frozenset({"requires_payment_method", "requires_confirmation", "requires_action"})
AUTHORISED_FOR = 7 * 86_400
AUTH_FAILED = {
    "type": "invalid_request_error", "code": "payment_intent_authentication_failure",
    "message": "The provided PaymentMethod has failed authentication. You can provide payment_method_data or a "
               "new PaymentMethod to attempt to fulfill this PaymentIntent again.",
    "doc_url": "https://docs.stripe.com/error-codes#payment-intent-authentication-failure",
}  # fmt: skip
OUTCOMES = DECLINES | OWN_CODES | {"ok"}


def wrong_state(intent: Json, action: str) -> StripeError:
    """The intent's status does not allow ``action``."""
    return StripeError(f"You cannot {action} this PaymentIntent because it has a status of {intent['status']}.",
                       code="payment_intent_unexpected_state", payment_intent=dict(intent))  # fmt: skip


def decide(account: Account, method: Json, *, off_session: bool) -> str:
    """What a charge of this card does now: ``ok``, a decline, or ``authentication_required``.

    A bank that asked for authentication off session asks again when the customer is there.
    """
    hidden, instrument = account.hidden[method["id"]], account.instruments[method["id"]]
    if hidden["revoked"]:
        return "revocation_of_authorization"
    if not off_session and hidden.pop("challenge", False):
        return "authentication_required"
    programmed = account.next_behaviour(method["id"])
    if programmed != "ok":
        hidden["challenge"] = off_session and programmed == "authentication_required"
        return programmed
    if instrument.on_charge != "ok":
        return instrument.on_charge
    if method["customer"] and instrument.saved_charge:
        return instrument.saved_charge
    if instrument.authentication == "always" or (instrument.authentication == "unless_set_up" and not hidden["set_up"]):
        return "authentication_required"
    return "ok"


def confirm(call: Call, intent: Json, *, off_session: bool) -> None:
    """Try to pay; raises the card error of a decline."""
    world, account = call.world, call.account
    if intent["status"] not in OPEN:
        raise wrong_state(intent, "confirm")
    if intent["payment_method"] is None:
        raise StripeError("You cannot confirm this PaymentIntent because it's missing a payment method.",
                          code="payment_intent_unexpected_state", payment_intent=dict(intent))  # fmt: skip
    method = account.of("payment_methods")[intent["payment_method"]]
    if method["customer"] not in (None, intent["customer"]):
        raise StripeError("The provided PaymentMethod is attached to another customer than this PaymentIntent.",
                          code="payment_method_unexpected_state", param="payment_method")  # fmt: skip
    if off_session and method["customer"] is None:
        raise StripeError("An off-session payment needs a PaymentMethod that is attached to its customer.",
                          code="payment_method_unexpected_state", param="payment_method")  # fmt: skip
    outcome = decide(account, method, off_session=off_session)
    if outcome == "authentication_required" and not off_session:
        if call.flag("error_on_requires_action"):
            raise card_error(_failed(world, account, intent, method, outcome), payment_intent=dict(intent))
        _require_action(call, intent)
    elif outcome == "ok":
        succeed(world, account, intent, method, authenticated=False)
    else:
        core = _failed(world, account, intent, method, outcome)
        raise card_error(core, charge=intent["latest_charge"], payment_intent=dict(intent),
                         payment_method=dict(method))  # fmt: skip


def _require_action(call: Call, intent: Json) -> None:
    url = f"{call.request.base_url}/_sim/pay/{intent['id']}"
    back = call.text("return_url")
    if back:
        action: Json = {"type": "redirect_to_url", "redirect_to_url": {"url": url, "return_url": back}}
    else:
        action = {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect", "stripe_js": url}}
    intent.update(status="requires_action", next_action=action)
    tell(call.world, call.account, "payment_intent.requires_action", intent)


def _failed(world: World, account: Account, intent: Json, method: Json, reason: str) -> Json:
    core = decline(reason)
    charge = shapes.charge(world, intent, method, core, authenticated=False)
    _file(account, charge, intent)
    core = {**core, "charge": charge["id"]}
    intent.update(status="requires_payment_method", next_action=None, payment_method=None,
                  last_payment_error={**core, "payment_method": dict(method)})  # fmt: skip
    tell(world, account, "charge.failed", charge)
    tell(world, account, "payment_intent.payment_failed", intent)
    return core


def succeed(world: World, account: Account, intent: Json, method: Json, *, authenticated: bool) -> None:
    """The bank said yes: capture, or hold when capture is manual."""
    charge = shapes.charge(world, intent, method, None, authenticated=authenticated)
    _file(account, charge, intent)
    intent.update(next_action=None, last_payment_error=None)
    if intent["setup_future_usage"] and intent["customer"]:
        attach_to(world, account, method, intent["customer"])
        account.hidden[method["id"]]["set_up"] = True
    if intent["capture_method"] == "manual":
        intent.update(status="requires_capture", amount_capturable=intent["amount"])
        tell(world, account, "charge.succeeded", charge)
        tell(world, account, "payment_intent.amount_capturable_updated", intent)
        world.clock.after(AUTHORISED_FOR, "stripe.hold", account.id, intent["id"])
        return
    charges.collect(world, account, charge, intent["amount"])
    intent.update(status="succeeded", amount_received=intent["amount"])
    tell(world, account, "charge.succeeded", charge)
    tell(world, account, "payment_intent.succeeded", intent)
    if account.instruments[method["id"]].then == "dispute":
        disputes.open_dispute(world=world, account=account, charge=charge, amount=None, reason="fraudulent")


def _file(account: Account, charge: Json, intent: Json) -> None:
    account.of("charges")[charge["id"]] = charge
    account.indexed("charges", intent["id"]).append(charge["id"])
    intent["latest_charge"] = charge["id"]


def finish_action(world: World, account: Account, intent: Json, *, passed: bool) -> None:
    """The customer came back from the bank's page."""
    if intent["status"] != "requires_action":
        raise wrong_state(intent, "authenticate")
    method = account.of("payment_methods")[intent["payment_method"]]
    if passed:
        succeed(world, account, intent, method, authenticated=True)
        return
    intent.update(status="requires_payment_method", next_action=None, payment_method=None,
                  last_payment_error={**AUTH_FAILED, "payment_method": dict(method)})  # fmt: skip
    tell(world, account, "payment_intent.payment_failed", intent)


def capture(world: World, account: Account, intent: Json, amount: int | None) -> None:
    """Take held funds, all or part; the rest is released."""
    if intent["status"] != "requires_capture":
        raise wrong_state(intent, "capture")
    amount = intent["amount_capturable"] if amount is None else amount
    if amount > intent["amount_capturable"]:
        raise StripeError("The amount to capture is greater than the amount that can be captured.",
                          code="amount_too_large", param="amount_to_capture")  # fmt: skip
    charge = account.of("charges")[intent["latest_charge"]]
    charges.collect(world, account, charge, amount)
    intent.update(status="succeeded", amount_received=amount, amount_capturable=0)
    tell(world, account, "charge.captured", charge)
    tell(world, account, "payment_intent.succeeded", intent)


def cancel(world: World, account: Account, intent: Json, reason: str | None) -> None:
    """Give up; a hold is released."""
    if intent["status"] not in OPEN | {"requires_capture"}:
        raise wrong_state(intent, "cancel")
    if intent["status"] == "requires_capture":
        charge = account.of("charges")[intent["latest_charge"]]
        charge.update(refunded=True, amount_refunded=charge["amount"])
        tell(world, account, "charge.refunded", charge)
    intent.update(status="canceled", canceled_at=world.clock.now, cancellation_reason=reason,
                  amount_capturable=0, next_action=None)  # fmt: skip
    tell(world, account, "payment_intent.canceled", intent)


@job("stripe.hold")
def _expire(world: World, account: Account, intent_id: str) -> None:
    intent = account.of("payment_intents")[intent_id]
    if intent["status"] == "requires_capture":
        cancel(world, account, intent, "automatic")
