"""The customer: pays an order or an intent, saves an instrument, passes or fails the bank's page."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from payments.simulator import instruments
from payments.simulator.control.errors import Refused
from payments.simulator.instruments import Instrument
from payments.simulator.razorpay_api import payments, shapes, tokens
from payments.simulator.razorpay_api.errors import refused
from payments.simulator.stripe_api import intents, methods, sessions, setups
from payments.simulator.stripe_api.call import Call
from payments.simulator.stripe_api.errors import StripeError
from payments.simulator.wire import Request
from payments.simulator.world import Account, World

Json = dict[str, Any]

FIELDS = {"account", "order_id", "payment_link", "payment_intent", "setup_intent", "checkout_session",
          "method", "card", "vpa",
          "bank", "save", "3ds", "late", "customer_id", "email", "contact", "max_amount", "mandate",
          "expire_at", "return_url"}  # fmt: skip


def checkout(world: World, account: Account, request: Request, body: Json) -> Json:
    """POST /_sim/checkout."""
    unknown = set(body) - FIELDS
    if unknown:
        raise Refused(400, f"unknown fields {sorted(unknown)}; known: {sorted(FIELDS)}")
    if body.get("3ds") not in {None, "ok", "fail", "abandon"}:
        raise Refused(400, "3ds is ok, fail or abandon")
    if account.provider == "stripe":
        return _stripe(world, account, request, body)
    return _razorpay(world, account, body)


def card_details(body: Json) -> tuple[str, Json]:
    """Number and expiry of ``card``: a number, or an object with number, exp_month and exp_year."""
    card = body.get("card") or ""
    if not isinstance(card, dict):
        return str(card), {}
    dates = {name: int(card[name]) for name in ("exp_month", "exp_year") if card.get(name)}
    return str(card.get("number") or ""), dates


def instrument_of(body: Json) -> Instrument:
    """``method`` card, upi, emandate or netbanking with its detail; or just a card number or UPI id."""
    method = str(body.get("method") or "")
    if method.replace(" ", "").isdigit():
        return instruments.razorpay_card(method)
    if "@" in method:
        return instruments.upi(method)
    try:
        if method in {"", "card"}:
            number, details = card_details(body)
            found = instruments.razorpay_card(number or "4100280000001007")
            return replace(found, card=replace(found.card, **details)) if found.card else found
    except instruments.InstrumentRefused as error:
        raise Refused(400, str(error)) from error
    if method == "upi":
        return instruments.upi(str(body.get("vpa") or "success@razorpay"))
    if method in {"emandate", "netbanking"}:
        return instruments.bank_account(method, str(body.get("bank") or "HDFC"))
    raise Refused(400, "method is card, upi, emandate or netbanking")


def order_for_link(world: World, account: Account, link: Json) -> Json:
    """The order behind a payment link, made when the customer first pays."""
    known = account.indexed("link_order", link["id"])
    if known:
        return account.of("orders")[known[0]]
    notes = link["notes"] or []
    order = shapes.order(world=world, body={"amount": link["amount"], "currency": link["currency"],
                                            "notes": notes}, receipt=link["reference_id"] or None)  # fmt: skip
    account.of("orders")[order["id"]] = order
    account.hidden[order["id"]] = {"auto_capture": True, "customer_id": None, "token": {}, "method": None,
                                   "link": link["id"]}  # fmt: skip
    known.append(order["id"])
    return order


def _razorpay(world: World, account: Account, body: Json) -> Json:
    order = _order(world, account, body)
    if order["status"] == "paid":
        raise refused("order_already_paid", order_id=order["id"])
    instrument = instrument_of(body)
    hidden = account.hidden[order["id"]]
    customer_id = body.get("customer_id") or hidden["customer_id"]
    customer = account.of("customers").get(str(customer_id)) or {}
    if customer_id and not customer:
        raise Refused(404, f"no customer {customer_id!r}")
    payer = {"customer_id": customer_id, "email": body.get("email") or customer.get("email"),
             "contact": body.get("contact") or customer.get("contact")}  # fmt: skip
    token = None
    if body.get("save") and instrument.on_charge == "ok" and body.get("3ds") in {None, "ok"} and not body.get("late"):
        token = _save(world, account, order, instrument, payer, body)
    payment = payments.start(world=world, account=account, order=order, instrument=instrument, payer=payer,
                             token_id=token["id"] if token else None)  # fmt: skip
    payments.resolve(world=world, account=account, payment=payment, outcome=_outcome(instrument, body))
    answer: Json = {"razorpay_payment_id": payment["id"], "razorpay_order_id": order["id"],
                    "status": payment["status"], "error_reason": payment["error_reason"],
                    "token_id": payment["token_id"], "token": payment["token_id"],
                    "customer_id": payer["customer_id"]}  # fmt: skip
    if payment["status"] in {"authorized", "captured"}:
        answer["razorpay_signature"] = payments.signature(account, payment)
    return answer


def _outcome(instrument: Instrument, body: Json) -> str:
    if instrument.on_charge != "ok":
        return instrument.on_charge
    if body.get("3ds") == "fail":
        return "authentication_failed" if instrument.method == "card" else "payment_cancelled"
    if body.get("3ds") == "abandon":
        return "abandoned"
    return f"late:{int(body['late'])}" if body.get("late") else "ok"


def _order(world: World, account: Account, body: Json) -> Json:
    link = account.of("links").get(str(body.get("payment_link")))
    if link is not None:
        if link["status"] != "created":
            raise Refused(409, f"the payment link is {link['status']}")
        return order_for_link(world, account, link)
    order = account.of("orders").get(str(body.get("order_id")))
    if order is None:
        raise Refused(404, "give the order_id or payment_link of this account")
    return order


def _save(world: World, account: Account, order: Json, instrument: Instrument, payer: Json, body: Json) -> Json:
    if not payer["customer_id"]:
        customer = shapes.customer(world=world, body=payer)
        account.of("customers")[customer["id"]] = customer
        payer["customer_id"] = customer["id"]
    wanted = account.hidden[order["id"]]["token"]
    status = {"reject": "rejected", "pending": "initiated"}.get(str(body.get("mandate")), "confirmed")
    return tokens.create(
        world=world, account=account, customer_id=payer["customer_id"], instrument=instrument, status=status,
        max_amount=body.get("max_amount") or wanted.get("max_amount"),
        expire_at=body.get("expire_at") or wanted.get("expire_at"),
    )  # fmt: skip


def _stripe(world: World, account: Account, request: Request, body: Json) -> Json:
    session = account.of("sessions").get(str(body.get("checkout_session")))
    if session is not None:
        return _session(world, account, request, session, body)
    kind = "setup_intents" if body.get("setup_intent") else "payment_intents"
    intent = account.of(kind).get(str(body.get("setup_intent") or body.get("payment_intent")))
    if intent is None:
        raise Refused(404, "give the payment_intent, setup_intent or checkout_session of this account")
    if intent["status"] != "requires_action":
        _confirm_in_browser(world, account, request, intent, body)
    if intent["status"] == "requires_action" and body.get("3ds") != "abandon":
        finish = setups.finish_action if kind == "setup_intents" else intents.finish_action
        finish(world, account, intent, passed=body.get("3ds") != "fail")
    failed = intent.get("last_payment_error") or intent.get("last_setup_error")
    return {"id": intent["id"], "status": intent["status"], "payment_method": intent["payment_method"],
            "customer": intent["customer"], "latest_charge": intent.get("latest_charge"),
            "error": failed["code"] if failed else None}  # fmt: skip


def _session(world: World, account: Account, request: Request, session: Json, body: Json) -> Json:
    """Pay or save on the page of a checkout session; who leaves has done nothing."""
    intent = sessions.intent_of(world, account, session)
    result: Json = {"id": intent["id"], "status": intent["status"], "error": None}
    if body.get("3ds") != "abandon":
        plain = {key: value for key, value in body.items() if key != "checkout_session"}
        result = _stripe(world, account, request, {**plain, intent["object"]: intent["id"]})
        sessions.follow(world, account, session, intent)
    return {**result, "checkout_session": session["id"], "session_status": session["status"]}


def _confirm_in_browser(world: World, account: Account, request: Request, intent: Json, body: Json) -> None:
    """What Stripe's script does in the page: make the card, confirm on session; a decline is a result."""
    number, details = card_details(body)
    number = number or (str(body["method"]) if body.get("method") not in {None, "card"} else "4242424242424242")
    call = Call(world, account, request, {}, {"return_url": body.get("return_url")})
    if number in instruments.STRIPE_ALIASES:
        number = instruments.STRIPE_ALIASES[number]
    if body.get("save") and "setup_future_usage" in intent:
        intent["setup_future_usage"] = intent["setup_future_usage"] or "off_session"
    try:
        intent["payment_method"] = methods.new_card(world, account, number, {}, {}, **details)["id"]
        if intent["object"] == "setup_intent":
            if intent["status"] not in setups.OPEN:
                raise setups.wrong_state(intent, "confirm")
            setups.confirm(call, intent)
        else:
            intents.confirm(call, intent, off_session=False)
    except StripeError as error:
        if error.status != 402:
            raise
