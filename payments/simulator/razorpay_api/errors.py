"""Razorpay's error body, and what it says for each reason."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

BAD_REQUEST = "BAD_REQUEST_ERROR"
GATEWAY = "GATEWAY_ERROR"

# Per reason: error code, source, step and description.
REASONS: dict[str, tuple[str, str, str, str]] = {
    "insufficient_funds": (BAD_REQUEST, "customer", "payment_authorization",
                           "Your payment could not be completed due to insufficient account balance."),
    "payment_timed_out": (BAD_REQUEST, "customer", "payment_authentication",
                          "Payment was unsuccessful as you could not complete it in time."),
    "payment_cancelled": (BAD_REQUEST, "customer", "payment_authentication",
                          "Payment was cancelled by the customer."),
    "payment_failed": (BAD_REQUEST, "issuer_bank", "payment_authorization", "Payment failed"),
    "card_declined": (BAD_REQUEST, "issuer_bank", "payment_authorization",
                      "Your payment was declined by the card issuing bank."),
    "card_expired": (BAD_REQUEST, "customer", "payment_authorization", "The card has expired."),
    "card_number_invalid": (BAD_REQUEST, "customer", "payment_initiation",
                            "Your card number is incorrect."),
    "card_disabled_for_online_payments": (BAD_REQUEST, "issuer_bank", "payment_authorization",
                                          "The card is not enabled for online payments."),
    "authentication_failed": (GATEWAY, "customer", "payment_authentication",
                              "The customer could not be authenticated."),
    "incorrect_otp": (BAD_REQUEST, "customer", "payment_authentication", "The OTP entered was incorrect."),
    "incorrect_cvv": (BAD_REQUEST, "customer", "payment_authentication", "The CVV entered was incorrect."),
    "gateway_technical_error": (GATEWAY, "gateway", "payment_authorization",
                                "The payment failed because of a temporary fault at the gateway."),
    "bank_technical_error": (GATEWAY, "issuer_bank", "payment_authorization",
                             "The payment failed because of a temporary fault at the bank."),
    "issuer_technical_error": (GATEWAY, "issuer_bank", "payment_authorization",
                               "The payment failed because of a temporary fault at the card issuer."),
    "server_error": (GATEWAY, "internal", "payment_initiation", "The payment failed because of a server fault."),
    "bank_not_available": (GATEWAY, "issuer_bank", "payment_authorization", "The bank is not available."),
    "debit_declined": (GATEWAY, "issuer_bank", "payment_debit_response", "The debit was declined by the bank."),
    "payment_declined": (GATEWAY, "issuer_bank", "payment_debit_response",
                         "The payment was declined by the bank."),
    "debit_instrument_blocked": (GATEWAY, "issuer_bank", "payment_authorization",
                                 "The card or account is blocked."),
    "debit_instrument_inactive": (GATEWAY, "issuer_bank", "payment_authorization",
                                  "The card or account is inactive or frozen."),
    "bank_account_invalid": (BAD_REQUEST, "issuer_bank", "payment_authorization",
                             "The bank account is closed or invalid."),
    "transaction_limit_exceeded": (BAD_REQUEST, "issuer_bank", "payment_authorization",
                                   "The amount is above the limit allowed without the customer's consent."),
    "transaction_daily_limit_exceeded": (BAD_REQUEST, "issuer_bank", "payment_authorization",
                                         "The daily limit of the account is exhausted."),
    "payment_risk_check_failed": (BAD_REQUEST, "internal", "payment_authorization",
                                  "The payment was stopped by the risk check."),
    "international_transaction_not_allowed": (BAD_REQUEST, "issuer_bank", "payment_authorization",
                                              "The card is not allowed for international payments."),
    "invalid_vpa": (BAD_REQUEST, "customer", "payment_initiation", "The UPI ID is invalid."),
    "payment_mandate_not_active": (BAD_REQUEST, "issuer_bank", "payment_authorization",
                                   "The mandate of this token is not yet active."),
    "mandate_not_active": (BAD_REQUEST, "issuer_bank", "payment_authorization",
                           "The mandate of this token was cancelled by the customer or the bank."),
    "order_already_paid": (BAD_REQUEST, "business", "payment_initiation",
                           "Payment already done for this order."),
    "order_amount_mismatch": (BAD_REQUEST, "business", "payment_initiation",
                              "Payment amount is different from your order amount."),
    "payment_pending": (BAD_REQUEST, "business", "payment_initiation",
                        "A payment of this order is still being processed."),
    "input_validation_failed": (BAD_REQUEST, "business", "payment_initiation", "The request is invalid."),
}  # fmt: skip
_MORE = {  # documented reasons that are only told by their name
    (BAD_REQUEST, "customer", "payment_authentication"): """
        incorrect_pin incorrect_atm_pin incorrect_card_details incorrect_card_expiry_date incorrect_cardholder_name
        otp_attempts_exceeded otp_expired payment_session_expired pin_attempts_exceeded pin_not_set""",
    (BAD_REQUEST, "issuer_bank", "payment_authorization"): """
        bank_account_validation_failed card_not_enrolled card_type_invalid transaction_daily_count_exceeded
        transaction_frequency_limit_exceeded user_not_eligible compliance_violation""",
    (GATEWAY, "issuer_bank", "payment_debit_response"): """
        already_declined bank_cutoff_in_progress credit_limit_exceeded deemed_transaction funds_blocked_by_mandate
        incorrect_ifsc invalid_response_from_gateway joint_account_not_allowed payment_declined_due_to_high_traffic
        request_timed_out upi_app_technical_error""",
    (GATEWAY, "customer_psp", "payment_authentication"): """
        authorisation_declined_by_psp payment_collect_request_expired psp_app_not_available psp_not_available
        psp_not_registered vpa_resolution_failed""",
}
for (_code, _source, _step), _names in _MORE.items():
    for _name in _names.split():
        REASONS[_name] = (_code, _source, _step, _name.replace("_", " ").capitalize() + ".")
ALIASES = {"insufficient_fund": "insufficient_funds", "invalid_otp": "incorrect_otp",
           "card_lost_or_stolen": "debit_instrument_blocked"}  # fmt: skip


class RazorpayError(Exception):
    """A refusal as Razorpay tells it."""

    def __init__(self, description: str, *, status: int = 400, code: str = BAD_REQUEST, **extra: Any) -> None:
        super().__init__(description)
        self.status = status
        self.body: Json = {"error": {"code": code, "description": description, **extra}}


def invalid(description: str, field: str) -> RazorpayError:
    """A request field is missing or wrong."""
    return RazorpayError(description, field=field, source="business", step="payment_initiation",
                         reason="input_validation_failed", metadata={})  # fmt: skip


def missing(field: str) -> RazorpayError:
    """A mandatory field is absent."""
    return invalid(f"The {field.replace('_', ' ')} field is required.", field)


def not_found() -> RazorpayError:
    """No such object in this merchant account."""
    return RazorpayError("The id provided does not exist", source="business", step="payment_initiation",
                         reason="input_validation_failed", metadata={})  # fmt: skip


def refused(reason: str, **metadata: str) -> RazorpayError:
    """A refusal or failure with one of the documented reasons."""
    code, source, step, description = REASONS[reason]
    return RazorpayError(description, code=code, source=source, step=step, reason=reason, metadata=metadata)
