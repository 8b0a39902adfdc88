"""Customers and payment methods."""

from __future__ import annotations

from typing import Any

from payments.simulator.instruments import STRIPE_ALIASES, TOKEN_ALIASES, InstrumentRefused, stripe_card
from payments.simulator.stripe_api import shapes
from payments.simulator.stripe_api.call import Call
from payments.simulator.stripe_api.errors import StripeError, card_error, decline, missing, no_such, wrong
from payments.simulator.stripe_api.events import tell
from payments.simulator.world import Account, World

Json = dict[str, Any]

PLAIN = ("address", "description", "email", "name", "phone", "preferred_locales", "shipping", "tax_exempt")


def create_customer(call: Call) -> Json:
    """POST /customers."""
    call.only("customer.create")
    entity = shapes.customer(call.world)
    _apply(call, entity)
    call.account.of("customers")[entity["id"]] = entity
    if call.text("payment_method"):
        attach_to(call.world, call.account, usable(call, str(call.text("payment_method"))), entity["id"])
    tell(call.world, call.account, "customer.created", entity)
    return entity


def modify_customer(call: Call) -> Json:
    """POST /customers/{id}."""
    call.only("customer.modify")
    entity = call.find("customers")
    _apply(call, entity)
    tell(call.world, call.account, "customer.updated", entity)
    return entity


def delete_customer(call: Call) -> Json:
    """DELETE /customers/{id}: its cards are detached."""
    call.only("delete")
    entity = call.find("customers")
    methods = call.account.of("payment_methods")
    for name in [method["id"] for method in methods.values() if method["customer"] == entity["id"]]:
        methods[name]["customer"] = None
    gone = {"id": entity["id"], "object": "customer", "deleted": True}
    call.account.of("customers").pop(entity["id"])
    tell(call.world, call.account, "customer.deleted", entity)
    return gone


def _apply(call: Call, entity: Json) -> None:
    for name in PLAIN:
        if name in call.params:
            entity[name] = call.params[name] or None
    if "balance" in call.params:
        entity["balance"] = call.number("balance")
    if "metadata" in call.params:
        entity["metadata"] = {k: v for k, v in {**entity["metadata"], **(call.params["metadata"] or {})}.items() if v}
    settings = call.params.get("invoice_settings") or {}
    if "default_payment_method" in settings:
        method = call.find("payment_methods", settings["default_payment_method"])
        entity["invoice_settings"] = {**entity["invoice_settings"], "default_payment_method": method["id"]}


def usable(call: Call, name: str) -> Json:
    """The payment method of that id; a documented alias such as ``pm_card_visa`` makes a new one."""
    if name in STRIPE_ALIASES:
        return new_card(call.world, call.account, STRIPE_ALIASES[name], {}, {})
    method = call.account.of("payment_methods").get(name)
    if method is None:
        raise no_such("PaymentMethod", name, "payment_method", 400)
    return method


def new_card(world: World, account: Account, number: str, billing: Json, metadata: Json,
             exp_month: int = 12, exp_year: int = 2034) -> Json:  # fmt: skip
    """A card by its number; numbers that no card can have are refused."""
    try:
        instrument = stripe_card(number, exp_month=exp_month, exp_year=exp_year)
    except InstrumentRefused as error:
        raise card_error(decline("incorrect_number")) from error
    if instrument.on_charge == "incorrect_number":
        raise card_error(decline("incorrect_number"))
    entity = shapes.payment_method(world, instrument, billing, metadata)
    account.of("payment_methods")[entity["id"]] = entity
    account.instruments[entity["id"]] = instrument
    account.hidden[entity["id"]] = {"set_up": False, "revoked": False}
    return entity


def card_from(call: Call, data: Json, metadata: Json) -> Json:
    """A card out of ``type``, ``card`` and ``billing_details``."""
    if data.get("type") != "card":
        raise wrong("The only type of payment method here is card.", "type", "parameter_invalid")
    card = data.get("card") or {}
    billing = data.get("billing_details") or {}
    if "token" in card:
        alias = TOKEN_ALIASES.get(card["token"])
        if alias is None:
            raise no_such("token", str(card["token"]), "card[token]", 400)
        return new_card(call.world, call.account, STRIPE_ALIASES[alias], billing, metadata)
    if not card.get("number"):
        raise missing("card[number]")
    month, year = int(card.get("exp_month") or 12), int(card.get("exp_year") or 2034)
    return new_card(call.world, call.account, str(card["number"]), billing, metadata, month, year)


def create_method(call: Call) -> Json:
    """POST /payment_methods."""
    call.only("payment_method.create")
    return card_from(call, call.params, call.metadata())


def modify_method(call: Call) -> Json:
    """POST /payment_methods/{id}: billing details, expiry, metadata."""
    call.only("payment_method.modify")
    method = call.find("payment_methods")
    billing = call.params.get("billing_details") or {}
    method["billing_details"] = {**method["billing_details"], **billing}
    for name in ("exp_month", "exp_year"):
        if name in (call.params.get("card") or {}):
            method["card"] = {**method["card"], name: int(call.params["card"][name])}
    if "metadata" in call.params:
        method["metadata"] = {**method["metadata"], **call.metadata()}
    tell(call.world, call.account, "payment_method.updated", method)
    return method


def attach(call: Call) -> Json:
    """POST /payment_methods/{id}/attach; cards that decline every charge cannot be attached."""
    call.only("payment_method.attach")
    method = usable(call, call.path["id"])
    customer = call.text("customer")
    if customer is None:
        raise missing("customer")
    if customer not in call.account.of("customers"):
        raise no_such("customer", customer, "customer", 400)
    if method["customer"] not in (None, customer):
        raise StripeError("The payment method you provided has already been attached to a customer.",
                          code="payment_method_unexpected_state")  # fmt: skip
    reason = call.account.instruments[method["id"]].on_charge
    if reason != "ok":
        raise card_error(decline(reason))
    attach_to(call.world, call.account, method, customer)
    return method


def attach_to(world: World, account: Account, method: Json, customer: str) -> None:
    """Attach and tell."""
    if method["customer"] != customer:
        method["customer"] = customer
        tell(world, account, "payment_method.attached", method)


def detach(call: Call) -> Json:
    """POST /payment_methods/{id}/detach."""
    call.only("payment_method.detach")
    method = call.find("payment_methods")
    if method["customer"] is None:
        raise StripeError("The payment method you provided is not attached to a customer so detachment is "
                          "impossible.", code="payment_method_unexpected_state")  # fmt: skip
    method["customer"] = None
    tell(call.world, call.account, "payment_method.detached", method)
    return method


def list_methods(call: Call) -> Json:
    """GET /payment_methods?customer=… and GET /customers/{id}/payment_methods."""
    customer = call.path.get("id")
    call.only("customer.payment_methods" if customer else "payment_method.list")
    customer = customer or call.text("customer")
    methods = call.account.of("payment_methods").values()
    return call.listed([m for m in methods if m["customer"] == customer and customer])
