"""Refusals of the payments app."""

from billing.errors import Conflict, InvalidInput


class PaymentNotCollectable(Conflict):
    """The payment's state allows no new attempt."""

    code = "payment_not_collectable"
    message = "The payment is {status}: only one that is pending, failed or waiting for the customer can be tried."


class PaymentNotCancellable(Conflict):
    """Money has come, so there is nothing to cancel."""

    code = "payment_not_cancellable"
    message = "The payment is {status} and cannot be cancelled; refund it instead."


class AttemptUnderWay(Conflict):
    """The gateway has not said yet what became of the last attempt."""

    code = "attempt_under_way"
    message = "An attempt is under way; its outcome is being asked for. Wait until it is known."


class NoGateway(Conflict):
    """The organisation has no active account at a gateway that could do it."""

    code = "no_gateway"
    message = "No active gateway account can do this; add one or choose another."


class MethodUnusable(Conflict):
    """The payment method is expired, revoked, detached or another customer's."""

    code = "payment_method_unusable"
    message = "The payment method is {status}; choose an active one of this customer."


class NotRefundable(Conflict):
    """Only captured money can be given back."""

    code = "not_refundable"
    message = "The payment is {status}; only a succeeded one can be refunded."


class RefundExceedsCaptured(InvalidInput):
    """More would go back than came and is not already on its way back."""

    code = "refund_exceeds_captured"
    message = "At most {left} of this payment can still be refunded."


class ReferencePaid(Conflict):
    """Other money has paid what the reference names; a second one needs a name of its own."""

    code = "reference_paid"
    message = "This reference was paid {how} already; record the money under another one, so that it is not lost."


class SetupFailed(InvalidInput):
    """The browser brought back nothing that proves a saved payment method."""

    code = "setup_failed"
    message = "The payment method was not saved: {reason}"


class UnknownSender(Conflict):
    """A webhook for an account that does not exist."""

    code = "not_found"
    http_status = 404
    message = "No such gateway account."
