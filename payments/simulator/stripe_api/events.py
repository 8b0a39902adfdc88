"""Stripe events: kept, listed, and sent."""

from __future__ import annotations

from typing import Any

from payments.simulator.world import Account, World

Json = dict[str, Any]

API_VERSION = "2026-10-28.endive"


def tell(world: World, account: Account, kind: str, entity: Json, request_key: str | None = None) -> None:
    """Emit ``kind`` with a snapshot of ``entity``; a twin repeats the fact under another event id."""
    every = account.endpoint.twin
    twins = 2 if every and (account.endpoint.made + 1) % every == 0 else 1
    for _ in range(twins):
        name = world.ids.new("evt", 24)
        body = {
            "id": name, "object": "event", "api_version": API_VERSION,
            "created": world.clock.now, "data": {"object": entity}, "livemode": False,
            "pending_webhooks": 1 if account.endpoint.url else 0,
            "request": {"id": None, "idempotency_key": request_key}, "type": kind,
        }  # fmt: skip
        world.emit(account, kind=kind, body=body, event_id=name)
