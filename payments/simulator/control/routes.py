"""The control API's route table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from payments.simulator.clock import ClockWentBack, iso, parse_iso
from payments.simulator.control import bank, pages
from payments.simulator.control.accounts import (
    account_named,
    change_options,
    describe,
    open_account,
    set_endpoint,
    set_knobs,
)
from payments.simulator.control.checkout import checkout, instrument_of
from payments.simulator.control.errors import Refused
from payments.simulator.faults import BadRule
from payments.simulator.razorpay_api import disputes as razorpay_disputes
from payments.simulator.razorpay_api import refunds as razorpay_refunds
from payments.simulator.razorpay_api import settlements, tokens
from payments.simulator.razorpay_api.errors import ALIASES, REASONS, RazorpayError
from payments.simulator.stripe_api import charges, intents, payouts, setups
from payments.simulator.stripe_api import disputes as stripe_disputes
from payments.simulator.stripe_api.errors import StripeError
from payments.simulator.wire import Request, Response, Router, json_response
from payments.simulator.world import Account, World

Json = dict[str, Any]
Handler = Callable[[World, Request, Json, dict[str, str]], Any]


def _accounts(world: World, request: Request, body: Json, path: dict[str, str]) -> Json:
    return {"accounts": [describe(account) for account in world.accounts.values()]}


def _open(world: World, request: Request, body: Json, path: dict[str, str]) -> Json:
    return describe(open_account(world, body))


def _options(world: World, request: Request, body: Json, path: dict[str, str]) -> Json:
    account = account_named(world, path["account"])
    change_options(account, body)
    return {"options": {key: str(value) for key, value in account.options.__dict__.items()}}


def _clock(world: World, request: Request, body: Json, path: dict[str, str]) -> Json:
    ran = 0
    if request.method == "POST":
        try:
            target = parse_iso(body["now"]) if "now" in body else world.clock.now + int(body["advance_seconds"])
            ran = world.clock.advance_to(target)
        except KeyError as error:
            raise Refused(400, "give now (ISO 8601) or advance_seconds") from error
        except (ClockWentBack, ValueError) as error:
            raise Refused(400, str(error)) from error
    due = world.clock.next_due
    return {"now": iso(world.clock.now), "unix": world.clock.now, "ran": ran, "next_due": iso(due) if due else None}


def _checkout(world: World, request: Request, body: Json, path: dict[str, str]) -> Json:
    return checkout(world, account_named(world, body.get("account")), request, body)


def _owner(world: World, kinds: tuple[str, ...], name: str) -> tuple[Account, str, Json]:
    for account in world.accounts.values():
        for kind in kinds:
            if name in account.of(kind):
                return account, kind, account.of(kind)[name]
    raise Refused(404, f"no {' or '.join(kinds)} {name!r}")


def _new_token(world: World, request: Request, body: Json, path: dict[str, str]) -> Json:
    account = account_named(world, body.get("account"))
    if account.provider != "razorpay" or body.get("customer_id") not in account.of("customers"):
        raise Refused(400, "give a Razorpay account and the customer_id of one of its customers")
    return tokens.create(world=world, account=account, customer_id=body["customer_id"],
                         instrument=instrument_of(body), max_amount=body.get("max_amount"),
                         expire_at=body.get("expire_at"))  # fmt: skip


def _program(world: World, request: Request, body: Json, path: dict[str, str]) -> Json:
    account, kind, entity = _owner(world, ("tokens", "payment_methods"), path["id"])
    if "status" in body:
        if kind == "tokens":
            status = "cancelled" if body["status"] == "revoked" else body["status"]
            tokens.set_status(world=world, account=account, token=entity, status=status)
        elif body["status"] in {"revoked", "cancelled"}:
            setups.revoke(world, account, entity)
        else:
            raise Refused(400, "a payment method can be revoked")
    if "behaviour" in body:
        wanted = [ALIASES.get(str(item), str(item)) for item in body["behaviour"]]
        for item in wanted:
            _check_behaviour(account, item)
        account.behaviours[path["id"]] = wanted
    return {"id": path["id"], "behaviour": list(account.behaviours.get(path["id"], ()))}


def _check_behaviour(account: Account, item: str) -> None:
    word, _, rest = item.partition(":")
    if account.provider == "stripe":
        if item not in intents.OUTCOMES:
            raise Refused(400, f"unknown behaviour {item!r}; known: {', '.join(sorted(intents.OUTCOMES))}")
        return
    if word == "pending" and rest.split(":")[0].isdigit() and (rest.partition(":")[2] or "ok") in {"ok", *REASONS}:
        return
    if (word == "late" and rest.isdigit()) or item in {"ok", "abandoned", *REASONS}:
        return
    raise Refused(400, f"unknown behaviour {item!r}; known: ok, abandoned, pending:SECONDS[:outcome], late:MINUTES, "
                       f"{', '.join(sorted(REASONS))}")  # fmt: skip


def _ledger(world: World, request: Request, body: Json, path: dict[str, str]) -> Json:
    wanted = request.query.get("account") or path.get("account")
    accounts = [account_named(world, wanted)] if wanted else list(world.accounts.values())
    return {"accounts": {account.id: {
        "key_id": account.key_id, "totals": account.truth.totals(),
        "objects": {ref: totals.as_json() for ref, totals in account.truth.objects.items()},
        "entries": len(account.truth.entries),
    } for account in accounts}}  # fmt: skip


def _bank(world: World, request: Request, body: Json, path: dict[str, str]) -> Response:
    account = account_named(world, path["account"])
    content, content_type = bank.render(account, request.query, world.clock.now)
    return Response(200, content, content_type)


def _webhooks(world: World, request: Request, body: Json, path: dict[str, str]) -> Json:
    account = account_named(world, body.pop("account", None))
    set_endpoint(account.endpoint, {key: body.pop(key) for key in list(body) if key.startswith("webhook_")})
    set_knobs(account.endpoint, body)
    return describe(account)


def _pending(world: World, request: Request, body: Json, path: dict[str, str]) -> Json:
    """How many deliveries are queued or under way; once there are none, also the events by state."""
    pending = sum(account.outbox.pending() for account in world.accounts.values())
    if pending:
        return {"pending": pending}
    counts = dict[str, int]()
    for account in world.accounts.values():
        for state, number in account.outbox.counts().items():
            counts[state] = counts.get(state, 0) + number
    return {"pending": 0, "events": counts}


def _events(world: World, request: Request, body: Json, path: dict[str, str]) -> Json:
    account = account_named(world, request.query.get("account"))
    state = request.query.get("state")
    return {"events": [e.as_json() for e in account.outbox.events.values() if state in (None, e.state)]}


def _replay(world: World, request: Request, body: Json, path: dict[str, str]) -> Json:
    """One event by id, or all that were lost, given up or not sent (of one account, or of all)."""
    wanted, named = body.get("event_id"), body.get("account")
    accounts = [account_named(world, named)] if named else list(world.accounts.values())
    replayed = []
    for account in accounts:
        for event in list(account.outbox.events.values()):
            if event.id == wanted or (wanted is None and event.state in {"lost", "given_up", "waiting"}):
                world.replay(account, event)
                replayed.append(event.id)
    if wanted and not replayed:
        raise Refused(404, f"no event {wanted!r}")
    return {"replayed": replayed}


def _rotate(world: World, request: Request, body: Json, path: dict[str, str]) -> Json:
    account = account_named(world, body.get("account"))
    point = account.endpoint
    point.old_secret, point.secret = point.secret, str(body["secret"])
    point.old_secret_until = world.clock.now + int(body.get("keep_old_seconds", 86_400))
    return describe(account)


def _faults(world: World, request: Request, body: Json, path: dict[str, str]) -> Json:
    if request.method == "POST":
        return world.faults.add(body).as_json()
    if request.method == "DELETE":
        world.faults.rules.clear()
    return {"faults": [rule.as_json() for rule in world.faults.rules]}


def _open_dispute(world: World, request: Request, body: Json, path: dict[str, str]) -> Json:
    name = str(body.get("payment") or body.get("charge") or body.get("payment_intent") or body.get("id"))
    account, kind, entity = _owner(world, ("payments", "charges", "payment_intents"), name)
    if kind == "payment_intents":
        entity = account.of("charges").get(str(entity["latest_charge"])) or entity
        if entity["object"] != "charge":
            raise Refused(409, "the payment intent has no charge to dispute")
    reason, amount = str(body.get("reason") or "fraudulent"), body.get("amount")
    if kind == "payments":
        return razorpay_disputes.open_dispute(world=world, account=account, payment=entity, amount=amount,
                                              reason=reason, phase=body.get("phase", "chargeback"))  # fmt: skip
    return stripe_disputes.open_dispute(world=world, account=account, charge=entity, amount=amount, reason=reason)


def _close_dispute(world: World, request: Request, body: Json, path: dict[str, str]) -> Json:
    account, _, entity = _owner(world, ("disputes",), path["id"])
    close = razorpay_disputes.close if account.provider == "razorpay" else stripe_disputes.close
    close(world=world, account=account, dispute=entity, outcome=str(body.get("outcome")))
    return entity


def _fail_refund(world: World, request: Request, body: Json, path: dict[str, str]) -> Json:
    account, _, entity = _owner(world, ("refunds",), path["id"])
    fail = razorpay_refunds.fail if account.provider == "razorpay" else charges.fail_refund
    fail(world, account, entity)
    return entity


def _fail_payout(world: World, request: Request, body: Json, path: dict[str, str]) -> Json:
    account, _, entity = _owner(world, ("payouts",), path["id"])
    payouts.fail(world, account, entity)
    return entity


def _settle(world: World, request: Request, body: Json, path: dict[str, str]) -> Json:
    """Run the daily settlement now for what is due (the clock does it by itself every day)."""
    account = account_named(world, body.get("account"))
    made = settlements.run(world, account) if account.provider == "razorpay" else payouts.run(world, account)
    return {"settled": made if isinstance(made, list) else [made] if made else []}


def _reset(world: World, request: Request, body: Json, path: dict[str, str]) -> Json:
    now = parse_iso(body["now"]) if body.get("now") else None
    world.reset(seed=int(body["seed"]) if "seed" in body else None, now=now)
    return {"now": iso(world.clock.now), "seed": world.seed}


def _pay(world: World, request: Request, body: Json, path: dict[str, str]) -> Json:
    """The hosted page without a browser: ``id`` of what is shown, ``outcome`` ok, fail or abandon."""
    account, kind, _ = pages.find_target(world, str(body.get("id")))
    wanted = {key: value for key, value in body.items() if key not in {"id", "outcome", "account"}}
    wanted.update({pages.FIELD[kind]: body["id"], "3ds": body.get("outcome", "ok")})
    return checkout(world, account, request, wanted)


def _show_page(world: World, request: Request, body: Json, path: dict[str, str]) -> Response:
    return (pages.submit if request.method == "POST" else pages.show)(world, request, path["id"])


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/_sim/accounts", _accounts),
    ("POST", "/_sim/accounts", _open),
    ("POST", "/_sim/accounts/{account}/options", _options),
    ("GET", "/_sim/clock", _clock),
    ("POST", "/_sim/clock", _clock),
    ("POST", "/_sim/checkout", _checkout),
    ("POST", "/_sim/pay", _pay),
    ("GET", "/_sim/pay/{id}", _show_page),
    ("POST", "/_sim/pay/{id}", _show_page),
    ("POST", "/_sim/tokens", _new_token),
    ("POST", "/_sim/tokens/{id}", _program),
    ("GET", "/_sim/ledger", _ledger),
    ("GET", "/_sim/ledger/{account}", _ledger),
    ("GET", "/_sim/bank/{account}", _bank),
    ("POST", "/_sim/settle", _settle),
    ("POST", "/_sim/webhooks", _webhooks),
    ("GET", "/_sim/webhooks", _events),
    ("GET", "/_sim/webhooks/pending", _pending),
    ("POST", "/_sim/webhooks/replay", _replay),
    ("POST", "/_sim/webhooks/rotate", _rotate),
    ("GET", "/_sim/faults", _faults),
    ("POST", "/_sim/faults", _faults),
    ("DELETE", "/_sim/faults", _faults),
    ("POST", "/_sim/disputes", _open_dispute),
    ("POST", "/_sim/disputes/{id}/close", _close_dispute),
    ("POST", "/_sim/refunds/{id}/fail", _fail_refund),
    ("POST", "/_sim/payouts/{id}/fail", _fail_payout),
    ("POST", "/_sim/reset", _reset),
)

TABLE = Router()
for _method, _pattern, _handler in ROUTES:
    TABLE.add(_method, _pattern, _handler)


def handle_control(world: World, request: Request) -> Response:
    """Answer a /_sim/ request; refusals are ``{"error": message}``."""
    found = TABLE.find(request.method, request.path)
    if found is None:
        return json_response({"error": f"no {request.method} {request.path} in the control API"}, 404)
    handler, path = found
    try:
        is_form = request.path.startswith("/_sim/pay/")
        body = request.json() if request.method == "POST" and not is_form else {}
        with world.lock:
            answer = handler(world, request, body, path)
            return answer if isinstance(answer, Response) else json_response(answer)
    except Refused as error:
        return json_response({"error": error.message}, error.status)
    except (RazorpayError, StripeError) as error:
        return json_response({"error": str(error)}, error.status)
    except (BadRule, KeyError, ValueError) as error:
        return json_response({"error": f"{type(error).__name__}: {error}"}, 400)
