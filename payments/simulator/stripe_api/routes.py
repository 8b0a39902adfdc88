"""Stripe's route table, authentication, versions and idempotency keys."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from payments.simulator.idempotency import KeyInUse, KeyMismatch
from payments.simulator.stripe_api import charges, disputes, intent_calls, methods, sessions
from payments.simulator.stripe_api.call import Call
from payments.simulator.stripe_api.errors import StripeError, no_such
from payments.simulator.stripe_api.events import API_VERSION
from payments.simulator.wire import Request, Response, Router, json_response, nested
from payments.simulator.world import Account, World

Json = dict[str, Any]
Handler = Callable[[Call], Json]

_VERSION = re.compile(r"\d{4}-\d\d-\d\d(\.[a-z]+)?")


def _retrieve(kind: str) -> Handler:
    def handler(call: Call) -> Json:
        call.only("retrieve")
        return call.find(kind)

    return handler


def _list(kind: str, name: str, *filters: str) -> Handler:
    def handler(call: Call) -> Json:
        call.only(f"{name}.list")
        wanted = {key: call.text(key) for key in filters if call.text(key)}
        items = call.account.of(kind).values()
        return call.listed([i for i in items if all(i[key] == value for key, value in wanted.items())])

    return handler


def list_transactions(call: Call) -> Json:
    """GET /balance_transactions; with ``payout`` the payout itself and all it carried."""
    call.only("balance_transaction.list")
    payout = call.text("payout")
    if payout:
        rows = [row.data for row in call.account.settled.get(payout, ())]
        entity = call.account.of("payouts").get(payout)
        if entity is None:
            raise no_such("payout", payout, "payout", 400)
        items = [*rows, call.find("balance_transactions", entity["balance_transaction"])]
    else:
        items = list(call.account.of("balance_transactions").values())
    for key in ("type", "source", "currency"):
        if call.text(key):
            items = [item for item in items if item[key] == call.text(key)]
    return call.listed(items)


def get_event(call: Call) -> Json:
    """GET /events/{id}."""
    call.only("retrieve")
    event = call.account.outbox.events.get(call.path["id"])
    if event is None:
        raise no_such("event", call.path["id"])
    return _told(event.body)


def list_events(call: Call) -> Json:
    """GET /events of the last 30 days, by ``type`` or ``types``."""
    call.only("event.list")
    wanted = call.params.get("types") or ([call.text("type")] if call.text("type") else [])
    events = list(call.account.outbox.events.values())
    if wanted:
        events = [e for e in events if any(_kind_matches(e.kind, str(want)) for want in wanted)]
    if call.text("delivery_success"):
        events = [e for e in events if (e.state == "delivered") == call.flag("delivery_success")]
    return call.listed([_told(event.body) for event in events])


def _kind_matches(kind: str, want: str) -> bool:
    return kind == want or (want.endswith("*") and kind.startswith(want[:-1]))


def _told(body: bytes) -> Json:
    result: Json = json.loads(body)
    return result


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/v1/customers", methods.create_customer),
    ("GET", "/v1/customers", _list("customers", "customer", "email")),
    ("GET", "/v1/customers/{id}", _retrieve("customers")),
    ("POST", "/v1/customers/{id}", methods.modify_customer),
    ("DELETE", "/v1/customers/{id}", methods.delete_customer),
    ("GET", "/v1/customers/{id}/payment_methods", methods.list_methods),
    ("POST", "/v1/payment_methods", methods.create_method),
    ("GET", "/v1/payment_methods", methods.list_methods),
    ("GET", "/v1/payment_methods/{id}", _retrieve("payment_methods")),
    ("POST", "/v1/payment_methods/{id}", methods.modify_method),
    ("POST", "/v1/payment_methods/{id}/attach", methods.attach),
    ("POST", "/v1/payment_methods/{id}/detach", methods.detach),
    ("POST", "/v1/setup_intents", intent_calls.create_setup),
    ("GET", "/v1/setup_intents", _list("setup_intents", "setup_intent", "customer", "payment_method")),
    ("GET", "/v1/setup_intents/{id}", _retrieve("setup_intents")),
    ("POST", "/v1/setup_intents/{id}/confirm", intent_calls.confirm_setup),
    ("POST", "/v1/setup_intents/{id}/cancel", intent_calls.cancel_setup),
    ("POST", "/v1/payment_intents", intent_calls.create),
    ("GET", "/v1/payment_intents/search", intent_calls.search_intents),
    ("GET", "/v1/payment_intents", _list("payment_intents", "payment_intent", "customer")),
    ("GET", "/v1/payment_intents/{id}", _retrieve("payment_intents")),
    ("POST", "/v1/payment_intents/{id}", intent_calls.modify),
    ("POST", "/v1/payment_intents/{id}/confirm", intent_calls.confirm),
    ("POST", "/v1/payment_intents/{id}/capture", intent_calls.capture),
    ("POST", "/v1/payment_intents/{id}/cancel", intent_calls.cancel),
    ("POST", "/v1/checkout/sessions", sessions.create),
    ("GET", "/v1/checkout/sessions", _list("sessions", "checkout_session", "customer", "payment_intent", "status")),
    ("GET", "/v1/checkout/sessions/{id}", _retrieve("sessions")),
    ("POST", "/v1/checkout/sessions/{id}/expire", sessions.expire),
    ("GET", "/v1/charges", _list("charges", "charge", "customer", "payment_intent")),
    ("GET", "/v1/charges/{id}", _retrieve("charges")),
    ("POST", "/v1/refunds", charges.create_refund),
    ("GET", "/v1/refunds", _list("refunds", "refund", "charge", "payment_intent")),
    ("GET", "/v1/refunds/{id}", _retrieve("refunds")),
    ("GET", "/v1/balance_transactions", list_transactions),
    ("GET", "/v1/balance_transactions/{id}", _retrieve("balance_transactions")),
    ("GET", "/v1/payouts", _list("payouts", "payout", "status")),
    ("GET", "/v1/payouts/{id}", _retrieve("payouts")),
    ("GET", "/v1/disputes", _list("disputes", "dispute", "charge", "payment_intent")),
    ("GET", "/v1/disputes/{id}", _retrieve("disputes")),
    ("POST", "/v1/disputes/{id}", disputes.modify),
    ("POST", "/v1/disputes/{id}/close", disputes.close_call),
    ("GET", "/v1/events", list_events),
    ("GET", "/v1/events/{id}", get_event),
    ("GET", "/v1/mandates/{id}", _retrieve("mandates")),
)

TABLE = Router()
for _method, _pattern, _handler in ROUTES:
    TABLE.add(_method, _pattern, _handler)


def failure(status: int) -> Response:
    """The answer of a failure on command."""
    if status == 429:
        error = StripeError("Request rate limit exceeded.", status=429, code="rate_limit")
    elif status == 409:
        error = StripeError("This object cannot be accessed right now because another API request is accessing "
                            "it.", status=409, code="lock_timeout")  # fmt: skip
    else:
        error = StripeError("An unknown error occurred", status=status, kind="api_error")
    return json_response(error.body, status)


def handle(world: World, request: Request, wait: float = 0.0, forced: Response | None = None) -> Response:
    """Authenticate, claim the key, run, keep the answer. ``forced`` replaces the work (and is kept)."""
    key = request.headers.get("idempotency-key", "") if request.method == "POST" else ""
    try:
        with world.lock:
            account = _authenticate(world, request)
            replay = _claim(world, account, request, key)
        if replay is not None:
            headers = {**replay.headers, "Idempotent-Replayed": "true"}
            return replace(replay, headers=headers)
        if wait:
            time.sleep(wait)
        with world.lock:
            try:
                response = forced or _run(world, account, request)
            except BaseException:
                account.keys.release(key)
                raise
            response.headers.update(_headers(world, request, key))
            if key:
                account.keys.finish(key=key, response=response)
        return response
    except StripeError as error:
        return json_response(error.body, error.status, **_headers(world, request, key))


def _headers(world: World, request: Request, key: str) -> dict[str, str]:
    with world.lock:
        headers = {"Request-Id": world.ids.new("req")}
    headers["Stripe-Version"] = request.headers.get("stripe-version", API_VERSION)
    if key:
        headers["Idempotency-Key"] = key
    return headers


def _run(world: World, account: Account, request: Request) -> Response:
    try:
        found = TABLE.find(request.method, request.path)
        if found is None:
            raise StripeError(f"Unrecognized request URL ({request.method}: {request.path}).", status=404)
        handler, path = found
        raw = request.body.decode() if request.method == "POST" else request.query_string
        params = nested(parse_qsl(raw, keep_blank_values=True))
        call = Call(world, account, request, path, params)
        answer = handler(call)
        if answer.get("object") not in {"list", "search_result"}:
            answer = call.expanded(answer)
        return json_response(answer)
    except StripeError as error:
        return json_response(error.body, error.status)


def _authenticate(world: World, request: Request) -> Account:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            value = base64.b64decode(value, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            value = ""
    account = world.by_key.get(value)
    if account is None or account.provider != "stripe" or account.key_secret != value:
        shown = f"{value[:8]}***{value[-4:]}" if len(value) > 16 else "***"
        raise StripeError(f"Invalid API Key provided: {shown}", status=401)
    version = request.headers.get("stripe-version")
    if version is not None and not _VERSION.fullmatch(version):
        raise StripeError(f"Invalid Stripe API version: {version}")
    return account


def _claim(world: World, account: Account, request: Request, key: str) -> Response | None:
    if not key:
        return None
    if len(key) > 255:
        raise StripeError("Idempotency keys may be at most 255 characters.", kind="idempotency_error")
    mark = hashlib.sha256(request.path.encode() + b"\0" + request.body).hexdigest()
    try:
        return account.keys.begin(key=key, fingerprint=mark, now=world.clock.now)
    except KeyMismatch as error:
        raise StripeError("Keys for idempotent requests can only be used with the same parameters they were first "
                          f"used with. Try using a key other than '{key}' if you meant to execute a different "
                          "request.", kind="idempotency_error") from error  # fmt: skip
    except KeyInUse as error:
        raise StripeError("There is currently another in-progress request using this idempotency key.", status=409,
                          kind="idempotency_error", code="idempotency_key_in_use") from error  # fmt: skip
