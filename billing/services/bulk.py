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
from billing.services.copying import copy_rows, encoded
from billing.services.ledger import CREDIT, DEBIT, UnbalancedEntry
from billing.services.outbox.waking import wake_after_commit

ENTRY = (
    "id", "source_id", "idempotency_key", "description", "recorded_at", "organisation_id", "kind", "source_type", "occurred_at",
)  # fmt: skip
POSTING = ("organisation_id", "entry_id", "account_id", "side", "amount", "currency", "customer_id")
EVENT = (
    "uid", "type", "aggregate_type", "aggregate_id", "payload", "organisation_id", "occurred_at", "correlation_id", "recorded_at",
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
    owner = encoded((organisation_id,))
    shared = encoded((clock.wall_now(), organisation_id, kind, source_type, occurred_at))
    numbered = list(zip(ids, entries, strict=True))
    copy_rows(
        JournalEntry, ENTRY, ((pk, entry.source_id, entry.key, entry.description, shared) for pk, entry in numbered)
    )
    copy_rows(
        Posting,
        POSTING,
        (
            (
                owner,
                pk,
                leg.account_id,
                DEBIT if leg.amount > 0 else CREDIT,
                abs(leg.amount),
                entry.currency,
                leg.customer_id,
            )
            for pk, entry in numbered
            for leg in entry.legs
        ),
    )


def publish_fresh(*, organisation_id: uuid.UUID, events: Sequence[FreshEvent], at: datetime) -> None:
    """Write events in one statement; wake the dispatcher after commit."""
    if not events:
        return
    shared = encoded((organisation_id, at, correlation_id(), clock.wall_now()))
    copy_rows(
        Event,
        EVENT,
        (
            (uuid7(), event.type, event.aggregate_type, event.aggregate_id, json.dumps(event.payload), shared)
            for event in events
        ),
    )
    wake_after_commit(organisation_id)
