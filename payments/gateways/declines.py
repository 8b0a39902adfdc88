"""Declines of both providers in our words: code → class and what to do. Compiled from the providers' documentation.

An unknown code is soft with few retries: the money was refused, the reason was not told.
"""

from payments.gateways.base import Decline, DeclineClass, Recovery
from payments.gateways.faults import SETUP_FAULTS

C = DeclineClass

RECOVERY: dict[DeclineClass, Recovery] = {
    C.SOFT: Recovery.RETRY_LATER,
    C.HARD: Recovery.NEW_METHOD,
    C.AUTHENTICATION: Recovery.ASK_CUSTOMER,
    C.CUSTOMER_ACTION: Recovery.ASK_CUSTOMER,
    C.TECHNICAL: Recovery.RETRY_SOON,
    C.AMBIGUOUS: Recovery.VERIFY_FIRST,
    C.FRAUD: Recovery.NEW_METHOD,
    C.CONFIG: Recovery.FIX_SETUP,
}

# Spellings that differ inside the providers' own pages.
ALIASES = {
    "insufficient_fund": "insufficient_funds",
    "invalid_otp": "incorrect_otp",
    "mobile_number_invalid": "invalid_mobile_number",
    "insufficient_balance": "insufficient_funds",
}

RAZORPAY: dict[DeclineClass, str] = {
    C.SOFT: """
        authorisation_declined_by_psp card_declined credit_limit_exceeded debit_declined funds_blocked_by_mandate
        insufficient_funds payment_declined payment_failed transaction_daily_count_exceeded
        transaction_daily_limit_exceeded transaction_frequency_limit_exceeded bank_account_validation_failed
        """,
    C.HARD: """
        already_declined bank_account_invalid card_expired card_type_invalid credit_limit_expired
        credit_limit_inactive credit_limit_not_approved credit_not_permitted debit_instrument_blocked
        debit_instrument_inactive incorrect_ifsc international_transaction_not_allowed joint_account_not_allowed
        mandate_not_active transaction_on_vpa_restricted upi_autopay_not_supported_on_psp user_not_eligible
        """,
    C.AUTHENTICATION: "authentication_failed transaction_limit_exceeded",
    C.CUSTOMER_ACTION: """
        card_disabled_for_online_payments card_not_enrolled card_number_invalid incorrect_atm_pin
        incorrect_card_details incorrect_card_expiry_date incorrect_cardholder_name incorrect_cvv incorrect_otp
        incorrect_pin invalid_device invalid_user_details invalid_vpa mandate_creation_declined
        mandate_creation_expired otp_attempts_exceeded otp_expired payment_cancelled
        payment_collect_request_expired payment_session_expired pin_attempts_exceeded pin_not_set
        psp_not_registered user_not_registered_for_netbanking
        """,
    C.TECHNICAL: """
        bank_cutoff_in_progress bank_not_available bank_technical_error gateway_technical_error
        issuer_technical_error mandate_creation_failed payment_declined_due_to_high_traffic
        payment_mandate_not_active psp_app_not_available psp_not_available reqauth_mandate_not_acknowledged
        upi_app_technical_error vpa_resolution_failed
        """,
    C.AMBIGUOUS: """
        beneficiary_account_does_not_exist beneficiary_account_dormant capture_failed credit_failed
        deemed_transaction duplicate_refund_id duplicate_request duplicate_rrn_found
        invalid_response_from_gateway mandate_creation_timeout order_already_paid payment_pending
        payment_pending_approval collect_request_pending payment_timed_out request_timed_out server_error
        verification_failed
        """,
    C.FRAUD: "compliance_violation payment_amount_tampered payment_risk_check_failed",
    C.CONFIG: """
        amount_less_than_minimum_amount bank_not_enabled card_network_not_enabled collect_on_mcc_blocked
        emi_greater_than_max_amount emi_plan_unavailable input_validation_failed invalid_amount invalid_currency
        invalid_email invalid_mobile_number invalid_order_id invalid_request live_mode_not_enabled
        mcc_amount_limit_exceeded merchant_not_activated mismatch_in_transaction_details order_amount_mismatch
        order_payment_method_mismatch payment_method_not_enabled psp_app_not_supported record_not_found
        recurring_payment_not_enabled refund_limit_crossed upi_collect_not_enabled upi_intent_not_enabled
        """,
}

STRIPE: dict[DeclineClass, str] = {
    C.SOFT: """
        approve_with_id call_issuer card_declined card_velocity_exceeded do_not_honor generic_decline
        insufficient_funds no_action_taken security_violation service_not_allowed try_again_later
        transaction_not_allowed withdrawal_count_limit_exceeded
        """,
    C.HARD: """
        card_not_supported card_decline_rate_limit_exceeded currency_not_supported debit_not_authorized
        do_not_try_again expired_card invalid_account lost_card new_account_information_available not_permitted
        payment_intent_mandate_invalid pickup_card pin_try_exceeded restricted_card
        revocation_of_all_authorizations revocation_of_authorization stolen_card stop_payment_order
        """,
    C.AUTHENTICATION: """
        authentication_required payment_intent_authentication_failure setup_intent_authentication_failure
        """,
    C.CUSTOMER_ACTION: """
        confirm_card_data incorrect_cvc incorrect_number incorrect_pin incorrect_zip invalid_cvc
        invalid_expiry_month invalid_expiry_year invalid_number invalid_pin offline_pin_required
        online_or_offline_pin_required
        """,
    C.TECHNICAL: "issuer_not_available lock_timeout processing_error rate_limit reenter_transaction",
    C.AMBIGUOUS: """
        charge_already_captured duplicate_transaction idempotency_key_in_use intent_invalid_state
        payment_intent_unexpected_state
        """,
    C.FRAUD: "fraudulent highest_risk_level merchant_blacklist",
    C.CONFIG: """
        amount_too_large amount_too_small api_key_expired balance_insufficient customer_max_payment_methods
        invalid_amount parameter_missing parameter_unknown resource_missing testmode_decline
        """,
}

# Never told to the customer: reasons that help a thief.
_GENERIC = frozenset(
    {"fraudulent", "lost_card", "merchant_blacklist", "pickup_card", "stolen_card", "highest_risk_level"}
)

MESSAGES: dict[DeclineClass, str] = {
    C.SOFT: "The bank declined the payment; it will be tried again.",
    C.HARD: "This payment method cannot be used; please add another one.",
    C.AUTHENTICATION: "The bank wants you to confirm this payment.",
    C.CUSTOMER_ACTION: "Please check your payment details and pay again.",
    C.TECHNICAL: "A technical fault on the way to the bank; it will be tried again.",
    C.AMBIGUOUS: "The bank has not answered yet.",
    C.FRAUD: "The bank declined the payment; please use another payment method.",
    C.CONFIG: "The payment could not be made for a reason on our side.",
}


def _flat(table: dict[DeclineClass, str]) -> dict[str, DeclineClass]:
    return {code: decline_class for decline_class, codes in table.items() for code in codes.split()}


_TABLES = {"razorpay": _flat(RAZORPAY), "stripe": _flat(STRIPE)}


def normalise(code: str) -> str:
    """One spelling per reason: lower case, underscores, known aliases."""
    code = (code or "").strip().lower().replace("-", "_").replace(" ", "_")
    return ALIASES.get(code, code)[:60]


def known_codes(provider: str) -> dict[str, DeclineClass]:
    """All documented codes of ``provider`` with their class."""
    return dict(_TABLES[provider])


def explain(decline_class: str, code: str) -> str:
    """A recorded refusal in a sentence for those who look after payments; nothing where nothing was refused."""
    if code in SETUP_FAULTS:
        return SETUP_FAULTS[code]
    return MESSAGES[DeclineClass(decline_class)] if decline_class else ""


def classify(provider: str, code: str, *, advice: str = "") -> Decline:
    """A decline in our words. ``advice`` is Stripe's advice_code, which overrules a soft class."""
    code = normalise(code) or "unspecified"
    decline_class = _TABLES[provider].get(code, C.SOFT)
    if advice == "do_not_try_again" and decline_class in (C.SOFT, C.TECHNICAL):
        decline_class = C.HARD
    elif advice == "confirm_card_data" and decline_class is C.SOFT:
        decline_class = C.CUSTOMER_ACTION
    shown = C.FRAUD if code in _GENERIC else decline_class
    return Decline(decline_class=decline_class, code=code, recovery=RECOVERY[decline_class], message=MESSAGES[shown])
