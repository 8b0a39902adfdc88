"""Stripe's error bodies and what it says for each decline."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

INVALID = "invalid_request_error"
# declines that are a code of their own; every other decline is card_declined with a decline_code
OWN_CODES = frozenset({"expired_card", "incorrect_cvc", "incorrect_number", "processing_error",
                       "authentication_required"})  # fmt: skip
NEVER_AGAIN = frozenset({"lost_card", "stolen_card", "pickup_card", "revocation_of_authorization",
                         "revocation_of_all_authorizations", "do_not_try_again", "security_violation",
                         "stop_payment_order", "restricted_card", "fraudulent"})  # fmt: skip
CONFIRM_DATA = frozenset({"expired_card", "incorrect_cvc", "incorrect_number", "invalid_account",
                          "invalid_cvc", "invalid_expiry_month", "invalid_expiry_year", "incorrect_zip",
                          "new_account_information_available"})  # fmt: skip
DECLINES = frozenset({
    "approve_with_id", "call_issuer", "card_not_supported", "card_velocity_exceeded", "currency_not_supported",
    "do_not_honor", "do_not_try_again", "duplicate_transaction", "fraudulent", "generic_decline",
    "incorrect_pin", "incorrect_zip", "insufficient_funds", "invalid_account", "invalid_amount",
    "issuer_not_available", "lost_card", "merchant_blacklist", "new_account_information_available",
    "no_action_taken", "not_permitted", "pickup_card", "pin_try_exceeded", "reenter_transaction",
    "restricted_card", "revocation_of_all_authorizations", "revocation_of_authorization", "security_violation",
    "service_not_allowed", "stolen_card", "stop_payment_order", "transaction_not_allowed", "try_again_later",
    "withdrawal_count_limit_exceeded",
})  # fmt: skip
MESSAGES = {
    "insufficient_funds": "Your card has insufficient funds.",
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "incorrect_number": "Your card number is incorrect.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
    "authentication_required": "Your card was declined. This transaction requires authentication.",
}


class StripeError(Exception):
    """A refusal as Stripe tells it."""

    def __init__(self, message: str, *, status: int = 400, kind: str = INVALID, code: str | None = None,
                 param: str | None = None, **extra: Any) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        error: Json = {"message": message, "type": kind, **extra}
        if code:
            error.update(code=code, doc_url=f"https://docs.stripe.com/error-codes#{code.replace('_', '-')}")
        if param:
            error["param"] = param
        self.error = error

    @property
    def body(self) -> Json:
        """The JSON of the answer."""
        return {"error": self.error}


def no_such(kind: str, name: str, param: str = "id", status: int = 404) -> StripeError:
    """No object of that id in this merchant account."""
    return StripeError(f"No such {kind}: '{name}'", status=status, code="resource_missing", param=param)


def missing(param: str) -> StripeError:
    """A mandatory parameter is absent."""
    return StripeError(f"Missing required param: {param}.", code="parameter_missing", param=param)


def wrong(message: str, param: str, code: str = "parameter_invalid_empty") -> StripeError:
    """A parameter has a value that cannot be."""
    return StripeError(message, code=code, param=param)


def decline(reason: str) -> Json:
    """The core of a card error: code, decline_code, advice_code, message."""
    own = reason in OWN_CODES
    advice = ("do_not_try_again" if reason in NEVER_AGAIN else "confirm_card_data" if reason in CONFIRM_DATA
              else None if reason == "authentication_required" else "try_again_later")  # fmt: skip
    error: Json = {
        "type": "card_error",
        "code": reason if own else "card_declined",
        "message": MESSAGES.get(reason, "Your card was declined."),
    }
    if not own or reason == "authentication_required":
        error["decline_code"] = reason
    if advice:
        error["advice_code"] = advice
    error["doc_url"] = f"https://docs.stripe.com/error-codes#{error['code'].replace('_', '-')}"
    return error


def card_error(core: Json, **objects: Any) -> StripeError:
    """402 with the declined objects inside."""
    result = StripeError(core["message"], status=402, kind="card_error")
    result.error = {**core, **objects}
    return result
