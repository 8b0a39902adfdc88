"""Handlers: customers, orders, tokens, payment links."""

from __future__ import annotations

from typing import Any

from payments.simulator.clock import job
from payments.simulator.razorpay_api import shapes, tokens
from payments.simulator.razorpay_api.call import Call, check_amount, check_currency, check_notes
from payments.simulator.razorpay_api.errors import RazorpayError, invalid, not_found
from payments.simulator.razorpay_api.events import tell
from payments.simulator.world import Account, World

Json = dict[str, Any]

ORDER_FIELDS = ("amount", "currency", "receipt", "unique_receipt", "notes", "partial_payment",
                "first_payment_min_amount", "payment_capture", "payment", "customer_id", "method", "token",
                "notification")  # fmt: skip
CUSTOMER_FIELDS = ("name", "email", "contact", "fail_existing", "gstin", "notes")
LINK_FIELDS = ("amount", "currency", "accept_partial", "description", "customer", "notify", "reminder_enable",
               "notes", "callback_url", "callback_method", "reference_id", "expire_by", "upi_link", "options",
               "first_min_partial_amount")  # fmt: skip


def create_customer(call: Call) -> Json:
    """POST /customers; ``fail_existing`` 0 answers with the present one."""
    call.only(CUSTOMER_FIELDS)
    check_notes(call.body)
    who = f"{call.body.get('email') or ''}|{call.body.get('contact') or ''}"
    known = call.account.indexed("customer", who) if who != "|" else []
    if known:
        if str(call.body.get("fail_existing", "1")).lower() in {"0", "false"}:
            return call.account.of("customers")[known[0]]
        raise RazorpayError("Customer already exists for the merchant", source="business",
                            step="payment_initiation", reason="input_validation_failed", metadata={})  # fmt: skip
    entity = shapes.customer(world=call.world, body=call.body)
    call.account.of("customers")[entity["id"]] = entity
    known.append(entity["id"])
    return entity


def edit_customer(call: Call) -> Json:
    """PUT /customers/{id}."""
    call.only(CUSTOMER_FIELDS)
    entity = call.find("customers")
    entity.update({name: call.body[name] for name in ("name", "email", "contact", "notes") if name in call.body})
    return entity


def create_order(call: Call) -> Json:
    """POST /orders; with ``unique_receipt`` the same receipt answers with the same order."""
    call.only(ORDER_FIELDS)
    body, account = call.body, call.account
    check_currency(body)
    check_amount(body, minimum=0 if body.get("method") == "emandate" else 100)
    check_notes(body)
    receipt = body.get("receipt")
    if receipt is not None and len(str(receipt)) > 40:
        raise invalid("The receipt may not be greater than 40 characters.", "receipt")
    customer_id = body.get("customer_id")
    if customer_id and customer_id not in account.of("customers"):
        raise not_found()
    same = account.indexed("receipt", str(receipt)) if receipt else []
    if same and body.get("unique_receipt"):
        present = account.of("orders")[same[0]]
        if (present["amount"], present["currency"]) != (body["amount"], body["currency"]):
            raise invalid("Order with this receipt exists with another amount or currency.", "receipt")
        return present
    entity = shapes.order(world=call.world, body=body, receipt=str(receipt) if receipt else None)
    if body.get("notification"):
        entity["notification"] = {**body["notification"], "id": call.world.ids.new("notification")}
    account.of("orders")[entity["id"]] = entity
    same.append(entity["id"])
    account.hidden[entity["id"]] = {"auto_capture": _auto_capture(call), "customer_id": customer_id,
                                    "token": body.get("token") or {}, "method": body.get("method")}  # fmt: skip
    return entity


def _auto_capture(call: Call) -> bool:
    choice = call.body.get("payment_capture")
    if choice is None and isinstance(call.body.get("payment"), dict):
        choice = call.body["payment"].get("capture") != "manual"
    return call.account.options.auto_capture if choice is None else str(choice).lower() not in {"0", "false"}


def list_orders(call: Call) -> Json:
    """GET /orders, also by ``receipt``; ``expand[]=payments``."""
    query, account = call.request.query, call.account
    if "receipt" in query:
        orders = [account.of("orders")[name] for name in account.indexed("receipt", query["receipt"])]
    else:
        orders = list(account.of("orders").values())
    if query.get("authorized") == "1":
        orders = [o for o in orders if any(p["status"] == "authorized" for p in payments_of(call, o["id"]))]
    page = call.page(orders)
    if query.get("expand[]") == "payments":
        page["items"] = [{**o, "payments": shapes.collection(payments_of(call, o["id"]))} for o in page["items"]]
    return page


def payments_of(call: Call, order_id: str) -> list[Json]:
    """Payments of an order, newest first."""
    ids = call.account.indexed("payments", order_id)
    return [call.account.of("payments")[name] for name in reversed(ids)]


def order_payments(call: Call) -> Json:
    """GET /orders/{id}/payments."""
    items = payments_of(call, call.find("orders")["id"])
    if call.request.query.get("expand[]") == "card":
        items = [shapes.with_card(call.account, item) for item in items]
    return shapes.collection(items)


def edit_order(call: Call) -> Json:
    """PATCH /orders/{id}: notes only."""
    call.only(("notes",))
    check_notes(call.body)
    order = call.find("orders")
    order["notes"] = shapes.notes_of(call.body)
    return order


def list_tokens(call: Call) -> Json:
    """GET /customers/{id}/tokens."""
    customer = call.find("customers")
    ids = call.account.indexed("tokens", customer["id"])
    return shapes.collection([call.account.of("tokens")[name] for name in ids])


def fetch_token(call: Call) -> Json:
    """GET /customers/{id}/tokens/{token_id}."""
    return tokens.find(call.account, call.path["token_id"], call.find("customers")["id"])


def delete_token(call: Call) -> Json:
    """DELETE /customers/{id}/tokens/{token_id}."""
    tokens.delete(call.account, fetch_token(call))
    return {"deleted": True}


def cancel_token(call: Call) -> Json:
    """PUT /customers/{id}/tokens/{token_id}/cancel."""
    tokens.set_status(world=call.world, account=call.account, token=fetch_token(call), status="cancelled")
    return {"status": "cancelled"}


def create_link(call: Call) -> Json:
    """POST /payment_links; ``reference_id`` is unique."""
    call.only(LINK_FIELDS)
    body, account = call.body, call.account
    check_currency(body, default="INR")
    check_amount(body, minimum=100)
    check_notes(body)
    reference = str(body.get("reference_id") or "")
    if len(reference) > 40:
        raise invalid("The reference id may not be greater than 40 characters.", "reference_id")
    if reference and account.indexed("link", reference):
        raise invalid(f"payment link with given reference_id ({reference}) already exists. "
                      "Please provide a different reference_id", "reference_id")  # fmt: skip
    if body.get("callback_url") and body.get("callback_method") != "get":
        raise invalid("The callback method must be get.", "callback_method")
    entity = shapes.link(world=call.world, body=body, base_url=call.request.base_url)
    account.of("links")[entity["id"]] = entity
    if reference:
        account.indexed("link", reference).append(entity["id"])
    if entity["expire_by"]:
        call.world.clock.at(int(entity["expire_by"]), "razorpay.link", account.id, entity["id"])
    return entity


@job("razorpay.link")
def _expire_link(world: World, account: Account, link_id: str) -> None:
    _end_link(world, account, account.of("links")[link_id], "expired")


def _end_link(world: World, account: Account, link: Json, status: str) -> None:
    if link["status"] == "created":
        link.update({"status": status, f"{status}_at": world.clock.now, "updated_at": world.clock.now})
        tell(world, account, f"payment_link.{status}", payment_link=link)


def list_links(call: Call) -> Json:
    """GET /payment_links, also by ``reference_id``."""
    reference = call.request.query.get("reference_id")
    links = [link for link in call.account.of("links").values() if reference in (None, link["reference_id"])]
    return {"payment_links": call.page(links)["items"]}


def cancel_link(call: Call) -> Json:
    """POST /payment_links/{id}/cancel."""
    link = call.find("links")
    if link["status"] != "created":
        raise RazorpayError(f"Payment Link cannot be cancelled in {link['status']} state")
    _end_link(call.world, call.account, link, "cancelled")
    return link
