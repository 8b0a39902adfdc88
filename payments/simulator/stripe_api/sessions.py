"""Checkout sessions: a hosted page that makes a payment intent or a setup intent when the customer acts."""

from __future__ import annotations

from typing import Any

from payments.simulator.clock import job
from payments.simulator.stripe_api import shapes
from payments.simulator.stripe_api.call import Call
from payments.simulator.stripe_api.errors import StripeError, missing, no_such, wrong
from payments.simulator.stripe_api.events import tell
from payments.simulator.world import Account, World

Json = dict[str, Any]

OPEN_FOR = 86_400


def create(call: Call) -> Json:
    """POST /checkout/sessions in mode payment (line items with price_data) or setup."""
    call.only("checkout_session.create")
    mode = call.text("mode")
    if mode not in {"payment", "setup"}:
        raise wrong("mode must be payment or setup.", "mode", "parameter_invalid")
    customer = call.text("customer")
    if customer and customer not in call.account.of("customers"):
        raise no_such("customer", customer, "customer", 400)
    if call.text("success_url") is None:
        raise missing("success_url")
    amount, currency = _total(call) if mode == "payment" else (None, call.text("currency"))
    name = call.world.ids.new("cs_test", 40)
    session = shapes.checkout_session(
        call.world, name, mode=mode, amount=amount, currency=currency, customer=customer,
        metadata=call.metadata(), url=f"{call.request.base_url}/_sim/pay/{name}",
        success_url=call.text("success_url"), cancel_url=call.text("cancel_url"),
        client_reference_id=call.text("client_reference_id"), customer_email=call.text("customer_email"),
        expires_at=call.number("expires_at") or call.world.clock.now + OPEN_FOR,
    )  # fmt: skip
    call.account.of("sessions")[name] = session
    data = call.params.get(f"{mode if mode == 'setup' else 'payment'}_intent_data") or {}
    call.account.hidden[name] = {"data": data, "line": _line_name(call)}
    call.world.clock.at(session["expires_at"], "stripe.session", call.account.id, name)
    return session


def _total(call: Call) -> tuple[int, str]:
    items = call.params.get("line_items")
    if not isinstance(items, list) or not items:
        raise missing("line_items")
    total, currencies = 0, set()
    for number, item in enumerate(items):
        price = item.get("price_data") or {}
        param = f"line_items[{number}][price_data]"
        unit, quantity = str(price.get("unit_amount", "")), str(item.get("quantity", "1"))
        if not price.get("currency") or not unit.isdigit() or not quantity.isdigit():
            raise missing(param)
        total += int(unit) * int(quantity)
        currencies.add(price["currency"].lower())
    if len(currencies) > 1 or total < 1:
        raise wrong("All line items have one currency and a positive sum.", "line_items", "parameter_invalid")
    return total, currencies.pop()


def _line_name(call: Call) -> str:
    items = call.params.get("line_items") or [{}]
    return str(((items[0].get("price_data") or {}).get("product_data") or {}).get("name") or "")


def intent_of(world: World, account: Account, session: Json) -> Json:
    """The intent behind an open session, made when the customer first acts."""
    if session["status"] != "open":
        raise StripeError(f"This Checkout Session is {session['status']}.")
    hidden = account.hidden[session["id"]]
    if "intent" in hidden:
        intent: Json = account.of(hidden["kind"])[hidden["intent"]]
        return intent
    data = hidden["data"]
    given: Json = {"customer": session["customer"], "metadata": dict(data.get("metadata") or {}),
                   "description": data.get("description")}  # fmt: skip
    if session["mode"] == "setup":
        kind, intent = "setup_intents", shapes.setup_intent(world, **given)
        event = "setup_intent.created"
    else:
        kind, event = "payment_intents", "payment_intent.created"
        intent = shapes.payment_intent(
            world, amount=session["amount_total"], currency=session["currency"],
            setup_future_usage=data.get("setup_future_usage"),
            capture_method=data.get("capture_method") or "automatic_async", **given)  # fmt: skip
    account.of(kind)[intent["id"]] = intent
    hidden.update(kind=kind, intent=intent["id"])
    tell(world, account, event, intent)
    return intent


def follow(world: World, account: Account, session: Json, intent: Json) -> None:
    """After the customer acted: complete the session when its intent has succeeded."""
    if intent["status"] not in {"succeeded", "requires_capture"} or session["status"] != "open":
        return
    setup = session["mode"] == "setup"
    session.update(status="complete", url=None, payment_status="no_payment_required" if setup else "paid")
    session["setup_intent" if setup else "payment_intent"] = intent["id"]
    tell(world, account, "checkout.session.completed", session)


def return_address(session: Json) -> str:
    """Where the page sends the customer, with the documented placeholder filled in."""
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", session["id"])


def expire(call: Call) -> Json:
    """POST /checkout/sessions/{id}/expire."""
    call.only("checkout_session.expire")
    session = call.find("sessions")
    if session["status"] != "open":
        raise StripeError("Only Checkout Sessions with a status in [\"open\"] can be expired. "
                          f"This Checkout Session has a status of {session['status']}.")  # fmt: skip
    _expire(call.world, call.account, session["id"])
    return session


@job("stripe.session")
def _expire(world: World, account: Account, session_id: str) -> None:
    session = account.of("sessions")[session_id]
    if session["status"] == "open":
        session.update(status="expired", url=None)
        tell(world, account, "checkout.session.expired", session)
