"""Razorpay's route table, authentication and the X-Refund-Idempotency header."""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections.abc import Callable
from typing import Any

from payments.simulator.idempotency import KeyInUse, KeyMismatch
from payments.simulator.razorpay_api import money, objects
from payments.simulator.razorpay_api.call import Call
from payments.simulator.razorpay_api.errors import GATEWAY, RazorpayError, invalid
from payments.simulator.wire import Request, Response, Router, json_response
from payments.simulator.world import Account, World

Json = dict[str, Any]
Handler = Callable[[Call], Json]


def _fetch(kind: str) -> Handler:
    return lambda call: call.find(kind)


def _list(kind: str) -> Handler:
    return lambda call: call.page(list(call.account.of(kind).values()))


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/v1/customers", objects.create_customer),
    ("GET", "/v1/customers", _list("customers")),
    ("GET", "/v1/customers/{id}", _fetch("customers")),
    ("PUT", "/v1/customers/{id}", objects.edit_customer),
    ("GET", "/v1/customers/{id}/tokens", objects.list_tokens),
    ("GET", "/v1/customers/{id}/tokens/{token_id}", objects.fetch_token),
    ("DELETE", "/v1/customers/{id}/tokens/{token_id}", objects.delete_token),
    ("PUT", "/v1/customers/{id}/tokens/{token_id}/cancel", objects.cancel_token),
    ("POST", "/v1/orders", objects.create_order),
    ("GET", "/v1/orders", objects.list_orders),
    ("GET", "/v1/orders/{id}", _fetch("orders")),
    ("PATCH", "/v1/orders/{id}", objects.edit_order),
    ("GET", "/v1/orders/{id}/payments", objects.order_payments),
    ("POST", "/v1/payments/create/recurring", money.create_recurring),
    ("GET", "/v1/payments", _list("payments")),
    ("GET", "/v1/payments/{id}", money.fetch_payment),
    ("PATCH", "/v1/payments/{id}", money.edit_payment),
    ("POST", "/v1/payments/{id}/capture", money.capture_payment),
    ("POST", "/v1/payments/{id}/refund", money.refund_payment),
    ("GET", "/v1/payments/{id}/refunds", money.payment_refunds),
    ("GET", "/v1/payments/{id}/refunds/{refund_id}", money.payment_refund),
    ("POST", "/v1/refunds", money.create_refund),
    ("GET", "/v1/refunds", _list("refunds")),
    ("GET", "/v1/refunds/{id}", _fetch("refunds")),
    ("POST", "/v1/payment_links", objects.create_link),
    ("GET", "/v1/payment_links", objects.list_links),
    ("GET", "/v1/payment_links/{id}", _fetch("links")),
    ("POST", "/v1/payment_links/{id}/cancel", objects.cancel_link),
    ("GET", "/v1/settlements/recon/combined", money.recon_combined),
    ("GET", "/v1/settlements", _list("settlements")),
    ("GET", "/v1/settlements/{id}", _fetch("settlements")),
    ("GET", "/v1/disputes", _list("disputes")),
    ("GET", "/v1/disputes/{id}", _fetch("disputes")),
    ("POST", "/v1/disputes/{id}/accept", money.accept_dispute),
    ("PATCH", "/v1/disputes/{id}/contest", money.contest_dispute),
)


def router() -> Router:
    """The routes, ready to search."""
    table = Router()
    for method, pattern, handler in ROUTES:
        table.add(method, pattern, handler)
    return table


TABLE = router()


def failure(status: int) -> RazorpayError:
    """The body of a failure on command."""
    if status == 429:
        return RazorpayError("Request failed. Please retry after some time", status=429)
    if status == 409:
        return RazorpayError("Another request is in progress for this resource", status=409)
    return RazorpayError("We are facing some trouble completing your request at the moment. "
                         "Please try again shortly.", status=status,
                         code="SERVER_ERROR" if status == 500 else GATEWAY)  # fmt: skip


def handle(world: World, request: Request, wait: float = 0.0) -> Response:
    """Authenticate, run, answer. ``wait`` seconds pass with the idempotency key claimed."""
    try:
        with world.lock:
            account = _authenticate(world, request)
            key, replay = _claim(world, account, request)
        if replay is not None:
            return replay
        if wait:
            time.sleep(wait)
        with world.lock:
            try:
                response = _run(world, account, request)
            except BaseException:
                account.keys.release(key)
                raise
            if key:
                account.keys.finish(key=key, response=response)
        return response
    except RazorpayError as error:
        return json_response(error.body, error.status)


def _run(world: World, account: Account, request: Request) -> Response:
    found = TABLE.find(request.method, request.path)
    try:
        if found is None:
            raise RazorpayError("The requested URL was not found on the server.", status=404)
        handler, path = found
        try:
            body = request.json() if request.method in {"POST", "PUT", "PATCH"} else {}
        except ValueError as error:
            raise invalid("The request body is not valid JSON.", "body") from error
        return json_response(handler(Call(world, account, request, path, body)))
    except RazorpayError as error:
        return json_response(error.body, error.status)


def _authenticate(world: World, request: Request) -> Account:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        key_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        key_id = secret = ""
    account = world.by_key.get(key_id)
    if scheme.lower() != "basic" or account is None or account.provider != "razorpay":
        raise RazorpayError("The api key/secret provided is invalid", status=401)
    if account.key_secret != secret:
        raise RazorpayError("Authentication failed", status=401)
    return account


def _claim(world: World, account: Account, request: Request) -> tuple[str, Response | None]:
    key = request.headers.get("x-refund-idempotency", "")
    if not key or request.method != "POST" or not request.path.endswith(("/refund", "/refunds")):
        return "", None
    if len(key) < 10:
        raise invalid("The X-Refund-Idempotency header must have at least 10 characters.", "X-Refund-Idempotency")
    mark = hashlib.sha256(request.path.encode() + b"\0" + request.body).hexdigest()
    try:
        return key, account.keys.begin(key=key, fingerprint=mark, now=world.clock.now)
    except KeyMismatch as error:
        raise RazorpayError("Different request body sent for the same idempotency header") from error
    except KeyInUse as error:
        raise RazorpayError("Another refund with the same idempotency header is in progress", status=409) from error
