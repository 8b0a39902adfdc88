"""Parameters that each call understands; anything else is refused like at the real API.

All of them exist in the pinned SDK (a test compares). Parameters that the SDK has and this simulator does
not act on are left out on purpose: a silent no-op would make a test believe them.
"""

from __future__ import annotations

_COMMON = {"expand"}
_LIST = {"expand", "limit", "starting_after", "ending_before"}
_PERSON = {"address", "balance", "description", "email", "invoice_settings", "metadata", "name", "phone",
           "preferred_locales", "shipping", "tax_exempt"}  # fmt: skip
_CONFIRM = {"payment_method", "payment_method_data", "payment_method_options", "return_url", "mandate_data",
            "use_stripe_sdk"}  # fmt: skip
_PAY = _CONFIRM | {"off_session", "error_on_requires_action", "capture_method", "receipt_email",
                   "setup_future_usage", "shipping"}  # fmt: skip

ALLOWED: dict[str, frozenset[str]] = {
    name: frozenset(names)
    for name, names in {
        "retrieve": _COMMON,
        "delete": set[str](),
        "customer.create": _COMMON | _PERSON | {"payment_method"},
        "customer.modify": _COMMON | _PERSON,
        "customer.list": _LIST | {"email", "created"},
        "payment_method.create": _COMMON | {"type", "card", "billing_details", "metadata", "allow_redisplay"},
        "payment_method.modify": _COMMON | {"card", "billing_details", "metadata", "allow_redisplay"},
        "payment_method.attach": _COMMON | {"customer"},
        "payment_method.detach": _COMMON,
        "payment_method.list": _LIST | {"customer", "type"},
        "customer.payment_methods": _LIST | {"type"},
        "setup_intent.create": _COMMON | _CONFIRM | {"automatic_payment_methods", "confirm", "customer",
                                                     "description", "metadata", "usage"},
        "setup_intent.confirm": _COMMON | _CONFIRM,
        "setup_intent.cancel": _COMMON | {"cancellation_reason"},
        "setup_intent.list": _LIST | {"customer", "created", "payment_method"},
        "payment_intent.create": _COMMON | _PAY | {
            "amount", "currency", "automatic_payment_methods", "confirm", "confirmation_method", "customer",
            "description", "metadata", "statement_descriptor", "statement_descriptor_suffix"},
        "payment_intent.modify": _COMMON | {"amount", "currency", "customer", "description", "metadata",
                                            "payment_method", "receipt_email", "setup_future_usage"},
        "payment_intent.confirm": _COMMON | _PAY,
        "payment_intent.capture": _COMMON | {"amount_to_capture", "metadata"},
        "payment_intent.cancel": _COMMON | {"cancellation_reason"},
        "payment_intent.list": _LIST | {"customer", "created"},
        "payment_intent.search": {"expand", "query", "limit", "page"},
        "checkout_session.create": _COMMON | {
            "mode", "line_items", "currency", "customer", "customer_email", "client_reference_id", "metadata",
            "payment_intent_data", "setup_intent_data", "success_url", "cancel_url", "expires_at"},
        "checkout_session.list": _LIST | {"customer", "created", "payment_intent", "status"},
        "checkout_session.expire": _COMMON,
        "charge.list": _LIST | {"customer", "created", "payment_intent"},
        "refund.create": _COMMON | {"amount", "charge", "payment_intent", "reason", "metadata", "currency"},
        "refund.list": _LIST | {"charge", "payment_intent", "created"},
        "balance_transaction.list": _LIST | {"created", "currency", "payout", "source", "type"},
        "payout.list": _LIST | {"arrival_date", "created", "status"},
        "dispute.list": _LIST | {"charge", "payment_intent", "created"},
        "dispute.modify": _COMMON | {"evidence", "metadata", "submit"},
        "dispute.close": _COMMON,
        "event.list": _LIST | {"created", "type", "types", "delivery_success"},
    }.items()
}  # fmt: skip
