"""Reading what a gateway lists, each item for itself: one that cannot be read does not take the others along."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from billing.errors import DomainError
from payments.gateways.base import SettlementRecord, UnreadableSettlement

UNREADABLE = (KeyError, ValueError, TypeError, AttributeError, ArithmeticError, DomainError)
"""What goes wrong where an answer has not the shape that was agreed."""


def why_unreadable(exc: Exception) -> str:
    """One of ``UNREADABLE`` in a sentence."""
    return f"{exc} is missing" if isinstance(exc, KeyError) else f"{exc or type(exc).__name__}"[:200]


def read_settlements(
    entities: Iterable[Any], read: Callable[[Any], SettlementRecord], *, created: str
) -> Iterator[SettlementRecord | UnreadableSettlement]:
    """Read each of them for itself, oldest first; what cannot be read comes last, with what can be said of it.

    ``created`` names the field with the moment (Unix seconds) of an entity.
    """
    good: list[SettlementRecord] = []
    bad: list[UnreadableSettlement] = []
    for entity in entities:
        try:
            good.append(read(entity))
        except UNREADABLE as exc:
            told = entity if isinstance(entity, Mapping) else {}
            seconds = told.get(created)
            at = datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, int) and 0 < seconds < 2**32 else None
            bad.append(UnreadableSettlement(gateway_ref=str(told.get("id") or "unnamed")[:80], reason=why_unreadable(exc),
                                            created_at=at))  # fmt: skip
    yield from sorted(good, key=lambda record: record.created_at)
    yield from bad
