"""Setup intents: saving a card for later, with the bank's consent where it asks for it."""

from __future__ import annotations

from typing import Any

from payments.simulator.stripe_api.call import Call
from payments.simulator.stripe_api.errors import StripeError, card_error, decline
from payments.simulator.stripe_api.events import tell
from payments.simulator.stripe_api.methods import attach_to
from payments.simulator.world import Account, World

Json = dict[str, Any]

OPEN = frozenset({"requires_payment_method", "requires_confirmation", "requires_action"})
AUTH_FAILED = {
    "type": "invalid_request_error", "code": "setup_intent_authentication_failure",
    "message": "The latest attempt to set up the payment method has failed because authentication failed.",
}  # fmt: skip


def wrong_state(setup: Json, action: str) -> StripeError:
    """The setup intent's status does not allow ``action``."""
    return StripeError(f"You cannot {action} this SetupIntent because it has a status of {setup['status']}.",
                       code="setup_intent_unexpected_state", setup_intent=dict(setup))  # fmt: skip


def confirm(call: Call, setup: Json) -> None:
    """Save the card, or ask for the customer's authentication; raises the card error of a decline."""
    world, account = call.world, call.account
    if setup["payment_method"] is None:
        raise StripeError("You cannot confirm this SetupIntent because it's missing a payment method.",
                          code="setup_intent_unexpected_state", setup_intent=dict(setup))  # fmt: skip
    method = account.of("payment_methods")[setup["payment_method"]]
    instrument = account.instruments[method["id"]]
    if instrument.on_charge != "ok":
        core = decline(instrument.on_charge)
        setup.update(status="requires_payment_method", payment_method=None,
                     last_setup_error={**core, "payment_method": dict(method)})  # fmt: skip
        tell(world, account, "setup_intent.setup_failed", setup)
        raise card_error(core, setup_intent=dict(setup), payment_method=dict(method))
    if instrument.authentication == "none":
        succeed(world, account, setup, method)
        return
    url, back = f"{call.request.base_url}/_sim/pay/{setup['id']}", call.text("return_url")
    action: Json = {"type": "redirect_to_url", "redirect_to_url": {"url": url, "return_url": back}}
    if not back:
        action = {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect", "stripe_js": url}}
    setup.update(status="requires_action", next_action=action)
    tell(world, account, "setup_intent.requires_action", setup)


def succeed(world: World, account: Account, setup: Json, method: Json) -> None:
    """The card is saved, with a mandate for later charges."""
    mandate = {
        "id": world.ids.new("mandate", 24), "object": "mandate", "customer_acceptance": {
            "accepted_at": world.clock.now, "type": "online",
            "online": {"ip_address": None, "user_agent": None}},
        "livemode": False, "multi_use": {}, "payment_method": method["id"],
        "payment_method_details": {"card": {}, "type": "card"}, "status": "active", "type": "multi_use",
    }  # fmt: skip
    account.of("mandates")[mandate["id"]] = mandate
    account.hidden[method["id"]].update(set_up=True, mandate=mandate["id"])
    setup.update(status="succeeded", next_action=None, last_setup_error=None, mandate=mandate["id"])
    if setup["customer"]:
        attach_to(world, account, method, setup["customer"])
    tell(world, account, "setup_intent.succeeded", setup)


def finish_action(world: World, account: Account, setup: Json, *, passed: bool) -> None:
    """The customer came back from the bank's page."""
    if setup["status"] != "requires_action":
        raise wrong_state(setup, "authenticate")
    method = account.of("payment_methods")[setup["payment_method"]]
    if passed:
        succeed(world, account, setup, method)
        return
    setup.update(status="requires_payment_method", next_action=None, payment_method=None,
                 last_setup_error={**AUTH_FAILED, "payment_method": dict(method)})  # fmt: skip
    tell(world, account, "setup_intent.setup_failed", setup)


def revoke(world: World, account: Account, method: Json) -> None:
    """The customer withdrew the consent at the bank: later charges are declined."""
    hidden = account.hidden[method["id"]]
    hidden["revoked"] = True
    mandate = account.of("mandates").get(hidden.get("mandate", ""))
    if mandate is not None:
        mandate["status"] = "inactive"
        tell(world, account, "mandate.updated", mandate)
