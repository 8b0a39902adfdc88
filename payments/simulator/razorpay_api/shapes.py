"""Razorpay entities as they travel."""

from __future__ import annotations

from typing import Any

from payments.simulator.instruments import Card, Instrument
from payments.simulator.world import Account, World

Json = dict[str, Any]


def notes_of(body: Json) -> Any:
    """Notes as given; an empty list when there are none, like the real API."""
    return body.get("notes") or []


def order(*, world: World, body: Json, receipt: str | None) -> Json:
    """A new order."""
    return {
        "id": world.ids.new("order"), "entity": "order", "amount": body["amount"], "amount_paid": 0,
        "amount_due": body["amount"], "currency": body["currency"], "receipt": receipt, "offer_id": None,
        "status": "created", "attempts": 0, "notes": notes_of(body), "created_at": world.clock.now,
    }  # fmt: skip


def customer(*, world: World, body: Json) -> Json:
    """A new customer."""
    return {
        "id": world.ids.new("cust"), "entity": "customer", "name": body.get("name"), "email": body.get("email"),
        "contact": body.get("contact"), "gstin": body.get("gstin"), "notes": notes_of(body),
        "created_at": world.clock.now,
    }  # fmt: skip


def card_entity(card_id: str, card: Card, name: str | None = None) -> Json:
    """The card inside a payment."""
    return {
        "id": card_id, "entity": "card", "name": name or "", "last4": card.last4, "network": card.network,
        "type": card.funding, "issuer": card.issuer, "international": card.international, "emi": False,
        "sub_type": "consumer", "iin": card.iin,
    }  # fmt: skip


def payment(*, world: World, order: Json, instrument: Instrument, payer: Json, token_id: str | None) -> Json:
    """A new payment in state created."""
    international = order["currency"] != "INR" or bool(instrument.card and instrument.card.international)
    return {
        "id": world.ids.new("pay"), "entity": "payment", "amount": order["amount"], "currency": order["currency"],
        "status": "created", "order_id": order["id"], "invoice_id": None, "international": international,
        "method": instrument.method, "amount_refunded": 0, "refund_status": None, "captured": False,
        "description": payer.get("description"),
        "card_id": world.ids.new("card") if instrument.card else None,
        "bank": instrument.bank, "wallet": None, "vpa": instrument.vpa,
        "email": payer.get("email"), "contact": payer.get("contact"), "customer_id": payer.get("customer_id"),
        "token_id": token_id, "notes": payer.get("notes") or order["notes"], "fee": None, "tax": None,
        "error_code": None, "error_description": None, "error_source": None, "error_step": None,
        "error_reason": None, "acquirer_data": {}, "created_at": world.clock.now,
    }  # fmt: skip


def acquirer_data(world: World, method: str) -> Json:
    """The bank's references of an authorised payment."""
    if method == "card":
        return {"auth_code": world.ids.digits(6)}
    if method == "upi":
        return {"rrn": world.ids.digits(12), "upi_transaction_id": world.ids.letters(16).upper()}
    return {"bank_transaction_id": world.ids.digits(10)} if method == "netbanking" else {}


def refund(*, world: World, payment: Json, amount: int, body: Json) -> Json:
    """A new refund; ``status`` is set by the caller's flow."""
    return {
        "id": world.ids.new("rfnd"), "entity": "refund", "amount": amount, "currency": payment["currency"],
        "payment_id": payment["id"], "notes": notes_of(body), "receipt": body.get("receipt"),
        "acquirer_data": {"arn": None}, "created_at": world.clock.now, "batch_id": None, "status": "pending",
        "speed_processed": "normal", "speed_requested": body.get("speed", "normal"),
    }  # fmt: skip


def token(*, world: World, instrument: Instrument, max_amount: int, expired_at: int | None) -> Json:
    """A new token with a mandate in state initiated."""
    entity: Json = {
        "id": world.ids.new("token"), "entity": "token", "token": world.ids.letters(14),
        "bank": instrument.bank, "wallet": None, "method": instrument.method,
        "vpa": None, "recurring": True,
        "recurring_details": {"status": "initiated", "failure_reason": None},
        "auth_type": {"card": "3ds", "emandate": "netbanking"}.get(instrument.method), "mrn": None,
        "used_at": world.clock.now, "created_at": world.clock.now, "max_amount": max_amount,
        "expired_at": expired_at, "dcc_enabled": False,
    }  # fmt: skip
    if instrument.vpa:
        user, _, handle = instrument.vpa.partition("@")
        entity["vpa"] = {"username": user, "handle": handle, "name": None}
        entity["start_time"] = world.clock.now
    if instrument.card:
        card = instrument.card
        entity["card"] = {
            "entity": "card", "name": "", "last4": card.last4, "network": card.network, "type": card.funding,
            "issuer": card.issuer, "international": card.international, "emi": False, "sub_type": "consumer",
            "expiry_month": card.exp_month, "expiry_year": card.exp_year,
            "flows": {"otp": True, "recurring": True},
        }  # fmt: skip
    if instrument.method == "emandate":
        entity["bank_details"] = {
            "beneficiary_name": None, "account_number": "XXXXXXXX" + world.ids.digits(4),
            "ifsc": f"{instrument.bank}0000001", "account_type": "savings",
        }  # fmt: skip
    return entity


def settlement(*, world: World, amount: int, fees: int, tax: int, utr: str) -> Json:
    """A new settlement, already handed to the bank."""
    return {
        "id": world.ids.new("setl"), "entity": "settlement", "amount": amount, "status": "processed",
        "fees": fees, "tax": tax, "utr": utr, "created_at": world.clock.now,
    }  # fmt: skip


EVIDENCE = (
    "amount", "summary", "shipping_proof", "billing_proof", "cancellation_proof", "customer_communication",
    "proof_of_service", "explanation_letter", "refund_confirmation", "access_activity_log",
    "refund_cancellation_policy", "term_and_conditions", "others", "submitted_at",
)  # fmt: skip


def dispute(*, world: World, payment: Json, amount: int, reason: str, phase: str) -> Json:
    """A new open dispute."""
    return {
        "id": world.ids.new("disp"), "entity": "dispute", "payment_id": payment["id"], "amount": amount,
        "currency": payment["currency"], "amount_deducted": 0, "reason_code": reason,
        "respond_by": world.clock.now + 7 * 86_400, "status": "open", "phase": phase,
        "created_at": world.clock.now, "evidence": {**dict.fromkeys(EVIDENCE), "amount": amount},
    }  # fmt: skip


def link(*, world: World, body: Json, base_url: str) -> Json:
    """A new payment link."""
    link_id = world.ids.new("plink")
    person = body.get("customer") or {}
    return {
        "accept_partial": False, "amount": body["amount"], "amount_paid": 0,
        "callback_method": body.get("callback_method", ""), "callback_url": body.get("callback_url", ""),
        "cancelled_at": 0, "created_at": world.clock.now, "currency": body.get("currency", "INR"),
        "customer": {name: person.get(name, "") for name in ("contact", "email", "name")},
        "description": body.get("description", ""), "expire_by": body.get("expire_by", 0), "expired_at": 0,
        "first_min_partial_amount": 0, "id": link_id, "notes": body.get("notes") or None,
        "notify": body.get("notify") or {"email": False, "sms": False}, "payments": None,
        "reference_id": body.get("reference_id", ""), "reminder_enable": body.get("reminder_enable", False),
        "reminders": [], "short_url": f"{base_url}/_sim/pay/{link_id}", "status": "created",
        "updated_at": world.clock.now, "upi_link": body.get("upi_link", False), "user_id": "",
        "whatsapp_link": False,
    }  # fmt: skip


def with_card(account: Account, entity: Json) -> Json:
    """A payment with its card, as events and ``expand[]=card`` tell it."""
    card = account.hidden.get(entity["id"], {}).get("card")
    return {**entity, "card": card} if card else entity


def collection(items: list[Json]) -> Json:
    """Razorpay's list."""
    return {"entity": "collection", "count": len(items), "items": items}
