"""What stands in the books."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Q, Sum

from billing.models import LedgerAccount, Posting

UNBALANCED = """
SELECT DISTINCT entry_id FROM (
    SELECT entry_id FROM billing_posting WHERE organisation_id = %s
    GROUP BY entry_id, currency HAVING sum(CASE side WHEN 'D' THEN amount ELSE -amount END) <> 0
) AS wrong LIMIT %s
"""


@dataclass(frozen=True, kw_only=True)
class AccountBalance:
    """One account's sums. ``balance`` is debit less credit."""

    code: str
    currency: str
    kind: str
    debit: Decimal
    credit: Decimal

    @property
    def balance(self) -> Decimal:
        return self.debit - self.credit


@dataclass(frozen=True, kw_only=True)
class TrialBalance:
    """Every account, and the sums per currency; ``balanced`` when debits equal credits in each."""

    accounts: list[AccountBalance]
    totals: dict[str, tuple[Decimal, Decimal]]

    @property
    def balanced(self) -> bool:
        return all(debit == credit for debit, credit in self.totals.values())


def trial_balance(*, organisation_id: uuid.UUID, at: datetime | None = None) -> TrialBalance:
    """The trial balance of an organisation, up to and including ``at``; one query."""
    postings = Posting.objects.of(organisation_id)
    if at is not None:
        postings = postings.filter(entry__occurred_at__lte=at)
    sums = {
        row["account_id"]: row
        for row in postings.order_by()
        .values("account_id")
        .annotate(debit=Sum("amount", filter=Q(side="D")), credit=Sum("amount", filter=Q(side="C")))
    }
    accounts = [
        AccountBalance(
            code=account.code,
            currency=account.currency,
            kind=account.kind,
            debit=_number(sums.get(account.pk, {}).get("debit")),
            credit=_number(sums.get(account.pk, {}).get("credit")),
        )
        for account in LedgerAccount.objects.of(organisation_id).order_by("code", "currency")
    ]
    totals: dict[str, tuple[Decimal, Decimal]] = {}
    for account in accounts:
        debit, credit = totals.get(account.currency, (Decimal(0), Decimal(0)))
        totals[account.currency] = (debit + account.debit, credit + account.credit)
    return TrialBalance(accounts=accounts, totals=totals)


def account_sums(*, account_id: uuid.UUID) -> tuple[Decimal, Decimal]:
    """Debits and credits of one account."""
    sums = Posting.objects.filter(account_id=account_id).aggregate(
        debit=Sum("amount", filter=Q(side="D")), credit=Sum("amount", filter=Q(side="C"))
    )
    return _number(sums["debit"]), _number(sums["credit"])


def customer_balances(*, organisation_id: uuid.UUID, customer_id: uuid.UUID) -> dict[str, tuple[Decimal, Decimal]]:
    """Per currency what a customer owes (receivable) and has to their credit."""
    rows = (
        Posting.objects.of(organisation_id)
        .filter(customer_id=customer_id, account__code__in=["receivable", "customer_credit"])
        .order_by()
        .values("account__code", "currency")
        .annotate(debit=Sum("amount", filter=Q(side="D")), credit=Sum("amount", filter=Q(side="C")))
    )
    found: dict[str, tuple[Decimal, Decimal]] = {}
    for row in rows:
        owed, held = found.get(row["currency"], (Decimal(0), Decimal(0)))
        change = _number(row["debit"]) - _number(row["credit"])
        is_owed = row["account__code"] == "receivable"
        found[row["currency"]] = (owed + change, held) if is_owed else (owed, held - change)
    return found


def unbalanced_entries(*, organisation_id: uuid.UUID, limit: int = 20) -> list[uuid.UUID]:
    """Entries that do not balance in some currency: always none, unless somebody went behind the database's back."""
    with connection.cursor() as cursor:
        cursor.execute(UNBALANCED, [organisation_id, limit])
        return [entry_id for (entry_id,) in cursor.fetchall()]


def _number(value: Any) -> Decimal:
    return Decimal(0) if value is None else getattr(value, "amount", value)
