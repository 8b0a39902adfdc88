"""Posting to the ledger. One entry is one fact; the same idempotency key posts once."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Q, Sum
from moneyed import Money

from billing import chart
from billing.errors import Conflict
from billing.ids import uuid7
from billing.models import JournalEntry, LedgerAccount, Organisation, Posting
from billing.money import currency_of

DEBIT, CREDIT = Posting.Side.DEBIT, Posting.Side.CREDIT


class UnbalancedEntry(Conflict):
    code = "unbalanced_entry"
    message = "Debits and credits of '{key}' differ by {difference} {currency}."


@dataclass(frozen=True, kw_only=True)
class Line:
    """One side of an entry to be: an account code, debit or credit, a positive amount."""

    account: str
    side: str
    amount: Money
    customer_id: uuid.UUID | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry to be. Lines of amount zero are left out when it is posted."""

    kind: str
    source_type: str
    source_id: uuid.UUID
    occurred_at: datetime
    key: str
    lines: Sequence[Line]
    description: str = ""
    reverses_id: uuid.UUID | None = None
    id: uuid.UUID = field(default_factory=uuid7)


def debit(account: str, amount: Money, *, customer_id: uuid.UUID | None = None) -> Line:
    """A debit line; a negative amount becomes the credit it means."""
    side = DEBIT if amount.amount >= 0 else CREDIT
    return Line(account=account, side=side, amount=abs(amount), customer_id=customer_id)


def credit(account: str, amount: Money, *, customer_id: uuid.UUID | None = None) -> Line:
    """A credit line; a negative amount becomes the debit it means."""
    side = CREDIT if amount.amount >= 0 else DEBIT
    return Line(account=account, side=side, amount=abs(amount), customer_id=customer_id)


def post(*, organisation: Organisation | uuid.UUID, entry: Entry) -> JournalEntry | None:
    """Post one entry, or return the one already posted under its key; None where nothing moved (all lines zero).

    Raises ``UnbalancedEntry``.
    """
    return post_many(organisation=organisation, entries=[entry])[0]


@transaction.atomic
def post_many(*, organisation: Organisation | uuid.UUID, entries: Sequence[Entry]) -> list[JournalEntry | None]:
    """Post many entries in three statements; returns one result per entry.

    Entries whose key is known are returned as they stand; an entry of zero lines moves nothing and gives None.
    """
    organisation_id: Any = getattr(organisation, "pk", organisation)
    for entry in entries:
        _must_balance(entry)
    moving = [entry for entry in entries if any(line.amount.amount for line in entry.lines)]
    if not moving:
        return [None] * len(entries)
    rows = [_row(organisation_id, entry) for entry in moving]
    JournalEntry.objects.bulk_create(rows, ignore_conflicts=True, batch_size=2000)
    stored = {
        row.idempotency_key: row
        for row in JournalEntry.objects.filter(
            organisation_id=organisation_id, idempotency_key__in=[entry.key for entry in moving]
        )
    }
    fresh = [entry for entry in moving if stored[entry.key].pk == entry.id]
    accounts = accounts_for(
        organisation_id=organisation_id,
        wanted={(line.account, line.amount.currency.code) for entry in fresh for line in entry.lines},
    )
    Posting.objects.bulk_create(
        [
            _posting(organisation_id, entry, line, accounts)
            for entry in fresh
            for line in entry.lines
            if line.amount.amount
        ],
        batch_size=5000,
    )
    return [stored.get(entry.key) for entry in entries]


def accounts_for(*, organisation_id: uuid.UUID, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], uuid.UUID]:
    """Ids of the accounts named by (code, currency); missing ones are opened. Safe under concurrency."""
    wanted = set(wanted)
    found = _find_accounts(organisation_id, wanted)
    missing = wanted - found.keys()
    if missing:
        LedgerAccount.objects.bulk_create(
            [
                LedgerAccount(
                    organisation_id=organisation_id,
                    code=code,
                    currency=currency_of(currency).code,
                    kind=chart.kind_of(code),
                )
                for code, currency in sorted(missing)
            ],
            ignore_conflicts=True,
        )
        found |= _find_accounts(organisation_id, missing)
    return found


@transaction.atomic
def reverse(*, entry: JournalEntry, key: str, occurred_at: datetime, description: str = "") -> JournalEntry | None:
    """Undo ``entry`` by its mirror image; a second reversal returns the first."""
    lines = [
        Line(
            account=posting.account.code,
            side=CREDIT if posting.side == DEBIT else DEBIT,
            amount=posting.amount,
            customer_id=posting.customer_id,
        )
        for posting in entry.postings.select_related("account")
    ]
    mirror = Entry(
        kind=f"{entry.kind}_reversed",
        source_type=entry.source_type,
        source_id=entry.source_id,
        occurred_at=occurred_at,
        key=key,
        lines=lines,
        description=description,
        reverses_id=entry.pk,
    )
    return post(organisation=entry.organisation_id, entry=mirror)


def balance(
    *,
    organisation: Organisation | uuid.UUID,
    account: str,
    currency: str,
    at: datetime | None = None,
    customer_id: Any = None,
) -> Money:
    """Debits less credits of an account (negative for a credit balance), up to and including ``at``."""
    postings = Posting.objects.of(organisation).filter(account__code=account, account__currency=currency)
    if at is not None:
        postings = postings.filter(entry__occurred_at__lte=at)
    if customer_id is not None:
        postings = postings.filter(customer_id=customer_id)
    sums = postings.aggregate(debit=Sum("amount", filter=Q(side=DEBIT)), credit=Sum("amount", filter=Q(side=CREDIT)))
    return Money(_number(sums["debit"]) - _number(sums["credit"]), currency)


def _number(value: Any) -> Decimal:
    return Decimal(0) if value is None else getattr(value, "amount", value)


def _must_balance(entry: Entry) -> None:
    sums: dict[str, Decimal] = {}
    for line in entry.lines:
        sign = 1 if line.side == DEBIT else -1
        code = line.amount.currency.code
        sums[code] = sums.get(code, Decimal(0)) + sign * line.amount.amount
    for code, difference in sums.items():
        if difference:
            raise UnbalancedEntry(key=entry.key, difference=difference, currency=code)


def _row(organisation_id: uuid.UUID, entry: Entry) -> JournalEntry:
    return JournalEntry(
        id=entry.id,
        organisation_id=organisation_id,
        kind=entry.kind,
        source_type=entry.source_type,
        source_id=entry.source_id,
        occurred_at=entry.occurred_at,
        idempotency_key=entry.key,
        description=entry.description[:200],
        reverses_id=entry.reverses_id,
    )


def _posting(
    organisation_id: uuid.UUID, entry: Entry, line: Line, accounts: dict[tuple[str, str], uuid.UUID]
) -> Posting:
    return Posting(
        organisation_id=organisation_id,
        entry_id=entry.id,
        account_id=accounts[line.account, line.amount.currency.code],
        side=line.side,
        amount=line.amount,
        customer_id=line.customer_id,
    )


def _find_accounts(organisation_id: uuid.UUID, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], uuid.UUID]:
    if not wanted:
        return {}
    rows = LedgerAccount.objects.filter(
        organisation_id=organisation_id, code__in={code for code, _ in wanted}
    ).values_list("code", "currency", "id")
    return {(code, currency): pk for code, currency, pk in rows if (code, currency) in wanted}
