"""Handlers: payment intents and setup intents."""

from __future__ import annotations

from typing import Any

from payments.simulator import fees
from payments.simulator.stripe_api import intents, search, setups, shapes
from payments.simulator.stripe_api.call import Call
from payments.simulator.stripe_api.errors import StripeError, missing, no_such, wrong
from payments.simulator.stripe_api.events import tell
from payments.simulator.stripe_api.methods import card_from, usable

Json = dict[str, Any]

CURRENCIES = frozenset(fees.INR_PER_UNIT) | {"INR", "CHF", "SEK", "NOK", "DKK", "NZD", "PLN", "BRL", "MXN", "HKD",
                                             "JOD", "TND", "KRW", "VND", "CLP"}  # fmt: skip


def _take_method(call: Call, intent: Json) -> None:
    """Put the payment method of the request, if any, on the intent."""
    data = call.params.get("payment_method_data")
    if data:
        intent["payment_method"] = card_from(call, data, {})["id"]
    elif call.text("payment_method"):
        intent["payment_method"] = usable(call, str(call.text("payment_method")))["id"]
    if intent["payment_method"] and intent["status"] == "requires_payment_method":
        intent["status"] = "requires_confirmation"


def _customer(call: Call) -> str | None:
    name = call.text("customer")
    if name and name not in call.account.of("customers"):
        raise no_such("customer", name, "customer", 400)
    return name


def create(call: Call) -> Json:
    """POST /payment_intents."""
    call.only("payment_intent.create")
    amount = call.number("amount", required=True, least=1)
    currency = (call.text("currency") or "").lower()
    if not currency:
        raise missing("currency")
    if currency.upper() not in CURRENCIES:
        raise wrong(f"Invalid currency: {currency}.", "currency", "parameter_invalid")
    confirming, off_session = call.flag("confirm"), call.flag("off_session")
    if off_session and not confirming:
        raise wrong("off_session can only be used when confirm is true.", "off_session", "parameter_invalid")
    intent = shapes.payment_intent(
        call.world, amount=amount, currency=currency, customer=_customer(call),
        capture_method=call.text("capture_method") or "automatic_async",
        confirmation_method=call.text("confirmation_method") or "automatic",
        description=call.text("description"), metadata=call.metadata(), receipt_email=call.text("receipt_email"),
        setup_future_usage=call.text("setup_future_usage"), shipping=call.params.get("shipping") or None,
        statement_descriptor=call.text("statement_descriptor"),
        statement_descriptor_suffix=call.text("statement_descriptor_suffix"),
        automatic_payment_methods=_automatic(call),
    )  # fmt: skip
    _take_method(call, intent)
    call.account.of("payment_intents")[intent["id"]] = intent
    tell(call.world, call.account, "payment_intent.created", intent)
    if confirming:
        intents.confirm(call, intent, off_session=off_session)
    return intent


def _automatic(call: Call) -> Json | None:
    given = call.params.get("automatic_payment_methods")
    if not given:
        return {"allow_redirects": "always", "enabled": True}
    return {"allow_redirects": given.get("allow_redirects", "always"),
            "enabled": str(given.get("enabled", "true")).lower() == "true"}  # fmt: skip


def modify(call: Call) -> Json:
    """POST /payment_intents/{id}."""
    call.only("payment_intent.modify")
    intent = call.find("payment_intents")
    if intent["status"] not in intents.OPEN and set(call.params) - {"metadata", "description", "expand"}:
        raise intents.wrong_state(intent, "update")
    for name in ("description", "receipt_email", "setup_future_usage"):
        if name in call.params:
            intent[name] = call.text(name)
    if "amount" in call.params:
        intent["amount"] = call.number("amount", required=True, least=1)
    if "currency" in call.params:
        intent["currency"] = str(call.text("currency")).lower()
    if "customer" in call.params:
        intent["customer"] = _customer(call)
    if "metadata" in call.params:
        merged = {**intent["metadata"], **(call.params["metadata"] or {})}
        intent["metadata"] = {key: value for key, value in merged.items() if value != ""}
    _take_method(call, intent)
    return intent


def confirm(call: Call) -> Json:
    """POST /payment_intents/{id}/confirm."""
    call.only("payment_intent.confirm")
    intent = call.find("payment_intents")
    if intent["status"] not in intents.OPEN:
        raise intents.wrong_state(intent, "confirm")
    _take_method(call, intent)
    for name in ("setup_future_usage", "receipt_email", "capture_method"):
        if call.text(name):
            intent[name] = call.text(name)
    intents.confirm(call, intent, off_session=call.flag("off_session"))
    return intent


def capture(call: Call) -> Json:
    """POST /payment_intents/{id}/capture."""
    call.only("payment_intent.capture")
    intent = call.find("payment_intents")
    intents.capture(call.world, call.account, intent, call.number("amount_to_capture", least=1))
    if "metadata" in call.params:
        intent["metadata"] = {**intent["metadata"], **call.metadata()}
    return intent


def cancel(call: Call) -> Json:
    """POST /payment_intents/{id}/cancel."""
    call.only("payment_intent.cancel")
    intent = call.find("payment_intents")
    intents.cancel(call.world, call.account, intent, call.text("cancellation_reason"))
    return intent


def search_intents(call: Call) -> Json:
    """GET /payment_intents/search?query=metadata['order']:'7' AND status:'succeeded'."""
    call.only("payment_intent.search")
    query = call.text("query")
    if query is None:
        raise missing("query")
    hits = search.matching(list(call.account.of("payment_intents").values())[::-1], query)
    limit = call.number("limit", least=1) or 10
    start = call.number("page", least=0) or 0
    more = len(hits) > start + limit
    return call.expanded({"object": "search_result", "url": "/v1/payment_intents/search", "has_more": more,
                          "next_page": str(start + limit) if more else None,
                          "data": hits[start : start + limit]})  # fmt: skip


def create_setup(call: Call) -> Json:
    """POST /setup_intents."""
    call.only("setup_intent.create")
    setup = shapes.setup_intent(call.world, customer=_customer(call), description=call.text("description"),
                                metadata=call.metadata(), usage=call.text("usage") or "off_session",
                                automatic_payment_methods=_automatic(call))  # fmt: skip
    _take_method(call, setup)
    call.account.of("setup_intents")[setup["id"]] = setup
    tell(call.world, call.account, "setup_intent.created", setup)
    if call.flag("confirm"):
        setups.confirm(call, setup)
    return setup


def confirm_setup(call: Call) -> Json:
    """POST /setup_intents/{id}/confirm."""
    call.only("setup_intent.confirm")
    setup = call.find("setup_intents")
    if setup["status"] not in setups.OPEN:
        raise setups.wrong_state(setup, "confirm")
    _take_method(call, setup)
    setups.confirm(call, setup)
    return setup


def cancel_setup(call: Call) -> Json:
    """POST /setup_intents/{id}/cancel."""
    call.only("setup_intent.cancel")
    setup = call.find("setup_intents")
    if setup["status"] not in setups.OPEN:
        raise setups.wrong_state(setup, "cancel")
    if call.text("cancellation_reason") == "fraudulent":
        raise StripeError("Invalid cancellation_reason", param="cancellation_reason")
    setup.update(status="canceled", cancellation_reason=call.text("cancellation_reason"), next_action=None)
    tell(call.world, call.account, "setup_intent.canceled", setup)
    return setup
