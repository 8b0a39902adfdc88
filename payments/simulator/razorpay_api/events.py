"""Razorpay events: a snapshot of the entities at the moment of the event."""

from __future__ import annotations

from typing import Any

from payments.simulator.world import Account, World

Json = dict[str, Any]


def tell(world: World, account: Account, kind: str, **entities: Json) -> None:
    """Emit ``kind`` with the given entities, in the order given."""
    body = {
        "entity": "event",
        "account_id": account.id,
        "event": kind,
        "contains": list(entities),
        "payload": {name: {"entity": entity} for name, entity in entities.items()},
        "created_at": world.clock.now,
    }
    world.emit(account, kind=kind, body=body, event_id=world.ids.letters(14))
