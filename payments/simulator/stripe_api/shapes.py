"""Stripe objects as they travel. Links between objects are ids; ``expand`` fills them in."""

from __future__ import annotations

from typing import Any

from payments.simulator.instruments import Instrument
from payments.simulator.world import World

Json = dict[str, Any]

ADDRESS = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))
CHECKS = {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"}
BRANDS = {"American Express": "amex", "Diners Club": "diners", "MasterCard": "mastercard", "RuPay": "rupay"}


def customer(world: World) -> Json:
    """A new customer without details."""
    return {
        "id": world.ids.new("cus"), "object": "customer", "address": None, "balance": 0,
        "created": world.clock.now, "currency": None, "customer_account": None, "default_source": None,
        "delinquent": False, "description": None, "discount": None, "email": None,
        "invoice_prefix": world.ids.letters(8).upper(),
        "invoice_settings": {"custom_fields": None, "default_payment_method": None, "footer": None,
                             "rendering_options": None},
        "livemode": False, "metadata": {}, "name": None, "next_invoice_sequence": 1, "phone": None,
        "preferred_locales": [], "shipping": None, "tax_exempt": "none", "test_clock": None,
    }  # fmt: skip


def payment_method(world: World, instrument: Instrument, billing: Json, metadata: Json) -> Json:
    """A new card, attached to nobody."""
    card = instrument.card
    assert card is not None
    brand = BRANDS.get(card.network, card.network.lower())
    return {
        "id": world.ids.new("pm", 24), "object": "payment_method", "allow_redisplay": "unspecified",
        "billing_details": {"address": {**ADDRESS, **(billing.get("address") or {})},
                            "email": billing.get("email"), "name": billing.get("name"),
                            "phone": billing.get("phone"), "tax_id": None},
        "card": {
            "brand": brand, "checks": CHECKS, "country": "US", "display_brand": brand,
            "exp_month": card.exp_month, "exp_year": card.exp_year, "fingerprint": f"{card.iin}{card.last4}",
            "funding": card.funding, "generated_from": None, "last4": card.last4,
            "networks": {"available": [brand], "preferred": None}, "regulated_status": "unregulated",
            "three_d_secure_usage": {"supported": True}, "wallet": None,
        },
        "created": world.clock.now, "customer": None, "customer_account": None, "livemode": False,
        "metadata": metadata, "type": "card",
    }  # fmt: skip


def setup_intent(world: World, **given: Any) -> Json:
    """A new setup intent; ``given`` overrides the empty fields."""
    name = world.ids.new("seti", 24)
    return {
        "id": name, "object": "setup_intent", "application": None, "automatic_payment_methods": None,
        "cancellation_reason": None, "client_secret": f"{name}_secret_{world.ids.letters(25)}",
        "created": world.clock.now, "customer": None, "customer_account": None, "description": None,
        "excluded_payment_method_types": None, "flow_directions": None, "last_setup_error": None,
        "latest_attempt": None, "livemode": False, "mandate": None, "metadata": {}, "next_action": None,
        "on_behalf_of": None, "payment_method": None, "payment_method_configuration_details": None,
        "payment_method_options": {"card": {"mandate_options": None, "network": None,
                                            "request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"], "single_use_mandate": None, "status": "requires_payment_method",
        "usage": "off_session", **given,
    }  # fmt: skip


def payment_intent(world: World, **given: Any) -> Json:
    """A new payment intent; ``given`` overrides the empty fields."""
    name = world.ids.new("pi", 24)
    return {
        "id": name, "object": "payment_intent", "amount": 0, "amount_capturable": 0,
        "amount_details": {"tip": {}}, "amount_received": 0, "application": None,
        "application_fee_amount": None, "automatic_payment_methods": None, "canceled_at": None,
        "cancellation_reason": None, "capture_method": "automatic_async",
        "client_secret": f"{name}_secret_{world.ids.letters(25)}", "confirmation_method": "automatic",
        "created": world.clock.now, "currency": "usd", "customer": None, "customer_account": None,
        "description": None, "excluded_payment_method_types": None, "last_payment_error": None,
        "latest_charge": None, "livemode": False, "managed_payments": {"enabled": False}, "metadata": {},
        "next_action": None, "on_behalf_of": None, "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {"card": {"installments": None, "mandate_options": None, "network": None,
                                            "request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"], "processing": None, "receipt_email": None, "review": None,
        "setup_future_usage": None, "shipping": None, "source": None, "statement_descriptor": None,
        "statement_descriptor_suffix": None, "status": "requires_payment_method", "transfer_data": None,
        "transfer_group": None, **given,
    }  # fmt: skip


def checkout_session(world: World, name: str, *, amount: int | None, currency: str | None, customer: str | None,
                     **given: Any) -> Json:  # fmt: skip
    """A new open session; ``given`` has mode, metadata, url and the merchant's addresses."""
    return {
        "id": name, "object": "checkout.session", "adaptive_pricing": None, "after_expiration": None,
        "allow_promotion_codes": None, "amount_subtotal": amount, "amount_total": amount,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "billing_address_collection": None, "cancel_url": None, "client_reference_id": None,
        "client_secret": None, "collected_information": None, "consent": None, "consent_collection": None,
        "created": world.clock.now, "currency": currency, "currency_conversion": None, "custom_fields": [],
        "custom_text": {"after_submit": None, "shipping_address": None, "submit": None,
                        "terms_of_service_acceptance": None},
        "customer": customer, "customer_account": None, "customer_creation": None, "customer_details": None,
        "customer_email": None, "discounts": [], "integration_identifier": None, "invoice": None,
        "invoice_creation": None, "livemode": False, "locale": None, "managed_payments": {"enabled": False},
        "metadata": {}, "origin_context": None, "payment_intent": None, "payment_link": None,
        "payment_method_collection": "if_required", "payment_method_configuration_details": None,
        "payment_method_options": {}, "payment_method_types": ["card"], "payment_status": "unpaid",
        "permissions": None, "phone_number_collection": {"enabled": False}, "recovered_from": None,
        "saved_payment_method_options": None, "setup_intent": None, "shipping_address_collection": None,
        "shipping_cost": None, "shipping_options": [], "status": "open", "submit_type": None,
        "subscription": None, "total_details": None, "ui_mode": "hosted_page", "wallet_options": None, **given,
    }  # fmt: skip


def charge(world: World, intent: Json, method: Json, error: Json | None, *, authenticated: bool) -> Json:
    """A new charge: authorised, or failed with ``error``."""
    name = world.ids.new("ch", 24)
    return {
        "id": name, "object": "charge", "amount": intent["amount"], "amount_captured": 0, "amount_refunded": 0,
        "application": None, "application_fee": None, "application_fee_amount": None,
        "authorization_code": None if error else world.ids.digits(6), "balance_transaction": None,
        "billing_details": method["billing_details"], "calculated_statement_descriptor": "MERCHANT",
        "captured": False, "created": world.clock.now, "currency": intent["currency"],
        "customer": intent["customer"], "description": intent["description"], "disputed": False,
        "failure_balance_transaction": None, "failure_code": error["code"] if error else None,
        "failure_message": error["message"] if error else None, "fraud_details": {}, "livemode": False,
        "metadata": intent["metadata"], "on_behalf_of": None, "outcome": _outcome(error), "paid": error is None,
        "payment_intent": intent["id"], "payment_method": method["id"],
        "payment_method_details": {"type": "card", "card": _charged_card(intent, method, authenticated=authenticated)},
        "receipt_email": intent["receipt_email"], "receipt_number": None, "receipt_url": None,
        "refunded": False, "review": None, "shipping": intent["shipping"], "source": None,
        "source_transfer": None, "statement_descriptor": intent["statement_descriptor"],
        "statement_descriptor_suffix": intent["statement_descriptor_suffix"],
        "status": "failed" if error else "succeeded", "transfer_data": None, "transfer_group": None,
    }  # fmt: skip


def _outcome(error: Json | None) -> Json:
    if error is None:
        return {"advice_code": None, "network_advice_code": None, "network_decline_code": None,
                "network_status": "approved_by_network", "reason": None, "risk_level": "normal",
                "risk_score": 12, "seller_message": "Payment complete.", "type": "authorized"}  # fmt: skip
    return {"advice_code": error.get("advice_code"), "network_advice_code": None, "network_decline_code": "05",
            "network_status": "declined_by_network", "reason": error.get("decline_code", error["code"]),
            "risk_level": "normal", "risk_score": 12,
            "seller_message": "The bank declined the payment.", "type": "issuer_declined"}  # fmt: skip


def _charged_card(intent: Json, method: Json, *, authenticated: bool) -> Json:
    card = method["card"]
    secure = {"authentication_flow": "challenge", "electronic_commerce_indicator": "05",
              "exemption_indicator": None, "result": "authenticated", "result_reason": None,
              "transaction_id": None, "version": "2.2.0"}  # fmt: skip
    return {
        "amount_authorized": intent["amount"], "authorization_code": None, "brand": card["brand"],
        "checks": card["checks"], "country": card["country"], "exp_month": card["exp_month"],
        "exp_year": card["exp_year"], "extended_authorization": {"status": "disabled"},
        "fingerprint": card["fingerprint"], "funding": card["funding"],
        "incremental_authorization": {"status": "unavailable"}, "installments": None, "last4": card["last4"],
        "mandate": None, "multicapture": {"status": "unavailable"}, "network": card["brand"],
        "network_token": {"used": False}, "network_transaction_id": None,
        "overcapture": {"maximum_amount_capturable": intent["amount"], "status": "unavailable"},
        "regulated_status": "unregulated", "three_d_secure": secure if authenticated else None, "wallet": None,
    }  # fmt: skip


def refund(world: World, charge: Json, amount: int, reason: str | None, metadata: Json) -> Json:
    """A new refund, pending until the flow says more."""
    return {
        "id": world.ids.new("re", 24), "object": "refund", "amount": amount, "balance_transaction": None,
        "charge": charge["id"], "created": world.clock.now, "currency": charge["currency"],
        "customer": charge["customer"], "customer_account": None,
        "destination_details": {"card": {"reference_status": "pending", "reference_type": "acquirer_reference_number",
                                         "type": "refund"}, "type": "card"},
        "metadata": metadata, "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"], "reason": reason, "receipt_number": None,
        "source_transfer_reversal": None, "status": "pending", "transfer_reversal": None,
    }  # fmt: skip


def balance_transaction(world: World, **given: Any) -> Json:
    """A movement on the Stripe balance; ``given`` has amount, fee, currency, type, category, source."""
    fee = given.get("fee", 0)
    entity = {
        "id": world.ids.new("txn", 24), "object": "balance_transaction", "available_on": world.clock.now,
        "balance_type": "payments", "created": world.clock.now, "description": None, "exchange_rate": None,
        "fee": 0, "fee_details": [], "status": "available", **given,
    }  # fmt: skip
    entity["net"] = entity["amount"] - fee
    if fee:
        entity["fee_details"] = [{"amount": fee, "application": None, "currency": entity["currency"],
                                  "description": "Stripe processing fees", "type": "stripe_fee"}]  # fmt: skip
    return entity


def payout(world: World, *, amount: int, currency: str, arrival: int) -> Json:
    """A new automatic payout on its way."""
    return {
        "id": world.ids.new("po", 24), "object": "payout", "amount": amount, "application_fee": None,
        "application_fee_amount": None, "arrival_date": arrival, "automatic": True, "balance_transaction": None,
        "created": world.clock.now, "currency": currency, "description": "STRIPE PAYOUT",
        "destination": world.ids.new("ba", 24), "failure_balance_transaction": None, "failure_code": None,
        "failure_message": None, "livemode": False, "metadata": {}, "method": "standard",
        "original_payout": None, "payout_method": None, "reconciliation_status": "in_progress",
        "reversed_by": None, "source_type": "card", "statement_descriptor": None, "status": "in_transit",
        "trace_id": {"status": "pending", "value": None}, "type": "bank_account",
    }  # fmt: skip


EVIDENCE = (
    "access_activity_log", "billing_address", "cancellation_policy", "cancellation_policy_disclosure",
    "cancellation_rebuttal", "customer_communication", "customer_email_address", "customer_name",
    "customer_purchase_ip", "customer_signature", "duplicate_charge_documentation",
    "duplicate_charge_explanation", "duplicate_charge_id", "product_description", "receipt", "refund_policy",
    "refund_policy_disclosure", "refund_refusal_explanation", "service_date", "service_documentation",
    "shipping_address", "shipping_carrier", "shipping_date", "shipping_documentation",
    "shipping_tracking_number", "uncategorized_file", "uncategorized_text",
)  # fmt: skip


def dispute(world: World, charge: Json, amount: int, reason: str) -> Json:
    """A new dispute that waits for evidence."""
    card = charge["payment_method_details"]["card"]
    return {
        "id": world.ids.new("dp", 24), "object": "dispute", "amount": amount, "balance_transactions": [],
        "charge": charge["id"], "created": world.clock.now, "currency": charge["currency"],
        "enhanced_eligibility_types": [], "evidence": {**dict.fromkeys(EVIDENCE), "enhanced_evidence": {}},
        "evidence_details": {"due_by": world.clock.now + 9 * 86_400, "enhanced_eligibility": {},
                             "has_evidence": False, "past_due": False, "submission_count": 0},
        "is_charge_refundable": False, "livemode": False, "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {"card": {"brand": card["brand"], "case_type": "chargeback",
                                            "network_reason_code": "10.4"}, "type": "card"},
        "reason": reason, "status": "needs_response",
    }  # fmt: skip
