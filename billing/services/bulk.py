"""Entries and events of a billing run: thousands of facts known to be new, written by COPY.

The same rows as ``ledger.post_many`` and ``outbox.publish_many`` write, without asking first what is there already: a known
key is a conflict that fails the caller's transaction.
"""

import json
import uuid
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from billing import clock
from billing.context import correlation_id
from billing.ids import uuid7
from billing.models import Event, JournalEntry, Posting
from billing.services.copying import copy_rows
from billing.services.ledger import CREDIT, DEBIT, UnbalancedEntry
from billing.services.outbox.waking import wake_after_commit

ENTRY = (
    "id", "recorded_at", "organisation_id", "kind", "source_type", "source_id", "occurred_at", "idempotency_key", "description",
)  # fmt: skip
POSTING = ("organisation_id", "entry_id", "account_id", "side", "amount", "currency", "customer_id")
EVENT = (
    "uid", "organisation_id", "type", "aggregate_type", "aggregate_id", "payload", "occurred_at", "correlation_id",
    "recorded_at",
)  # fmt: skip


class Leg(NamedTuple):
    """One side of a fresh entry: a signed amount, debit positive, credit negative, never zero."""

    account_id: uuid.UUID
    amount: Decimal
    customer_id: uuid.UUID | None = None


class FreshEntry(NamedTuple):
    """An entry that nobody has posted, in one currency; its legs add up to zero."""

    source_id: uuid.UUID
    key: str
    currency: str
    legs: Sequence[Leg]
    description: str = ""


class FreshEvent(NamedTuple):
    """An event about the aggregate ``aggregate_id``."""

    type: str
    aggregate_type: str
    aggregate_id: uuid.UUID
    payload: dict[str, Any]


def post_fresh(
    *, organisation_id: uuid.UUID, kind: str, source_type: str, occurred_at: datetime, entries: Sequence[FreshEntry]
) -> None:
    """Post new entries of one kind in two statements. Raises ``UnbalancedEntry`` before anything is written."""
    ids = [uuid7() for _ in entries]
    for entry in entries:
        if difference := sum((leg.amount for leg in entry.legs), Decimal(0)):
            raise UnbalancedEntry(key=entry.key, difference=difference, currency=entry.currency)
    recorded_at = clock.wall_now()
    copy_rows(
        JournalEntry,
        ENTRY,
        (
            (
                pk,
                recorded_at,
                organisation_id,
                kind,
                source_type,
                entry.source_id,
                occurred_at,
                entry.key,
                entry.description,
            )
            for pk, entry in zip(ids, entries, strict=True)
        ),
    )
    copy_rows(
        Posting,
        POSTING,
        (
            (organisation_id, pk, leg.account_id, DEBIT if leg.amount > 0 else CREDIT, abs(leg.amount), entry.currency,
             leg.customer_id)
            for pk, entry in zip(ids, entries, strict=True)
            for leg in entry.legs
        ),
    )  # fmt: skip


def publish_fresh(*, organisation_id: uuid.UUID, events: Sequence[FreshEvent], at: datetime) -> None:
    """Write events in one statement; wake the dispatcher after commit."""
    if not events:
        return
    recorded_at, correlation = clock.wall_now(), correlation_id()
    copy_rows(
        Event,
        EVENT,
        (
            (uuid7(), organisation_id, event.type, event.aggregate_type, event.aggregate_id, json.dumps(event.payload), at,
             correlation, recorded_at)
            for event in events
        ),
    )  # fmt: skip
    wake_after_commit(organisation_id)
