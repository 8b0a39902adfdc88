"""What goes wrong between us and a gateway, in our words."""

from billing.errors import DomainError


class GatewayUnavailable(DomainError):
    """The gateway did not take the request: nothing happened there, it may be sent again later."""

    code = "gateway_unavailable"
    is_transient = True
    http_status = 409  # ours is well: the house answers, the state of the world does not allow it now
    message = "The payment gateway cannot be reached at the moment; nothing was charged. Try again in some minutes."


class GatewayOutcomeUnknown(DomainError):
    """The request was sent and the answer was lost: it may have happened. Ask, never repeat blindly."""

    code = "gateway_outcome_unknown"
    http_status = 409
    message = "The payment gateway did not answer; the outcome is being asked for and will be recorded."


class GatewayRejected(DomainError):
    """The gateway refused the request itself (keys, parameters, state): a person has to look."""

    code = "gateway_rejected"
    http_status = 409
    message = "The payment gateway refused the request: {reason}."


SETUP_FAULTS = {
    "gateway_key_missing": "The gateway account has no key here. Enter its keys; what waits for them is tried again at once.",
    "gateway_key_refused": "The gateway refuses the key of the account: wrong, expired, or not allowed to do this. Change its keys.",
    "gateway_modes_mixed": "The payment method was saved in test mode and the key is a live one, or the other way round.",
    "gateway_account_stopped": "Collecting through the gateway account of the customer's payment method is switched off.",
    "gateway_rejected": "The gateway refused the request itself. What it said is in the exception about this payment.",
}
"""Refusals that are our own mistake, never the customer's: what is wrong, in words for those who can mend it. No secret."""


class GatewayMisconfigured(GatewayRejected):
    """The account is not set up as it has to be, so no request can succeed. ``fault``: one of ``SETUP_FAULTS``."""

    code = "gateway_misconfigured"
    message = "{reason}"

    def __init__(self, *, fault: str) -> None:
        self.fault = fault
        super().__init__(reason=SETUP_FAULTS[fault])


class InvalidSignature(DomainError):
    """A message that claims to come from a gateway carries no valid signature, or cannot be read."""

    code = "invalid_signature"
    http_status = 400
    message = "The signature of this message is missing or wrong."
