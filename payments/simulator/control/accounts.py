"""Merchant accounts: register, set up, look at."""

from __future__ import annotations

from typing import Any

from payments.simulator.control.errors import Refused
from payments.simulator.razorpay_api import settlements
from payments.simulator.stripe_api import payouts
from payments.simulator.webhooks import Endpoint
from payments.simulator.world import Account, World, set_options

Json = dict[str, Any]

FIELDS = {"provider", "key_id", "key_secret", "name", "settlement_currency", "webhook_url", "webhook_secret",
          "webhook_events", "options"}  # fmt: skip
KNOBS = {"enabled": bool, "reorder": bool, "duplicate": int, "duplicate_every": int, "lose": int, "tamper": int, "stale": int,
         "twin": int, "delay_ms": int, "workers": int, "quick_retries": int}  # fmt: skip


def account_named(world: World, name: Any) -> Account:
    """By account id or key id; a lone account needs no name."""
    if not name and len(world.accounts) == 1:
        name = next(iter(world.accounts))
    account = world.find_account(str(name))
    if account is None:
        raise Refused(404, f"no account {name!r}: give the id or the key_id of a registered account")
    return account


def open_account(world: World, body: Json) -> Account:
    """Register a merchant account, or change the one with the same ``key_id``."""
    unknown = set(body) - FIELDS
    if unknown:
        raise Refused(400, f"unknown fields {sorted(unknown)}; known: {sorted(FIELDS)}")
    provider = body.get("provider")
    if provider not in {"razorpay", "stripe"}:
        raise Refused(400, "provider is razorpay or stripe")
    key_id = body.get("key_id") or body.get("key_secret")
    if not key_id:
        raise Refused(400, "key_id is required")
    default = "INR" if provider == "razorpay" else "USD"
    fresh = world.find_account(key_id) is None
    account = world.register(
        provider=provider, key_id=key_id, key_secret=body.get("key_secret") or key_id,
        name=body.get("name") or "Merchant", currency=str(body.get("settlement_currency") or default).upper(),
    )  # fmt: skip
    set_endpoint(account.endpoint, {k: body[k] for k in body if k.startswith("webhook_")})
    change_options(account, body.get("options") or {})
    if fresh:
        (settlements if provider == "razorpay" else payouts).schedule(world, account)
    return account


def change_options(account: Account, raw: Json) -> None:
    """Set options by name."""
    try:
        set_options(account.options, raw)
    except (ValueError, TypeError) as error:
        raise Refused(400, str(error)) from error


def set_endpoint(point: Endpoint, raw: Json) -> None:
    """``webhook_url``, ``webhook_secret``, ``webhook_events``."""
    point.url = str(raw.get("webhook_url", point.url) or "")
    point.secret = str(raw.get("webhook_secret", point.secret) or "")
    if "webhook_events" in raw:
        point.events = tuple(raw["webhook_events"] or ())


def set_knobs(point: Endpoint, raw: Json) -> None:
    """How badly events travel; see README."""
    for name, value in raw.items():
        if name not in KNOBS:
            raise Refused(400, f"unknown knob {name!r}; known: {', '.join(sorted(KNOBS))}")
        setattr(point, name, KNOBS[name](value))


def describe(account: Account) -> Json:
    """What the control API shows of an account; the key secret and webhook secret stay inside."""
    point = account.endpoint
    return {
        "id": account.id, "provider": account.provider, "key_id": account.key_id, "name": account.name,
        "settlement_currency": account.currency, "webhook_url": point.url, "webhook_enabled": point.enabled,
        "objects": {kind: len(items) for kind, items in account.store.items() if items},
        "webhooks": account.outbox.counts(),
    }  # fmt: skip
