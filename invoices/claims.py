"""What invoices still claim for the days from some day on: the most that may be credited for them. Reads only.

A line claims by the day; what credit notes took off it counts against the same days. Credit that proration gave says from
which day on it was meant (``unused_from``); credit given by hand is meant for the whole of its line. So what was annulled,
written off, discounted or credited by hand, in full or in part, is not paid back a second time.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from django.db.models import Q
from moneyed import Money

from billing.models import Organisation
from billing.money import exponent, round_money
from invoices.models import CreditNote, Invoice, InvoiceLine

COUNTING = (Invoice.Status.OPEN, Invoice.Status.PARTIALLY_PAID, Invoice.Status.PAID)
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Claim:
    """What is claimed for a component, not rounded, and of how many amounts it is made, each rounded by itself."""

    amount: Decimal = ZERO
    parts: int = 0

    def at_most(self, wanted: Money) -> Money:
        """``wanted``, or what is claimed if that is less by more than roundings explain; never below nothing."""
        tolerance = Decimal(self.parts).scaleb(-exponent(wanted.currency.code))
        if wanted.amount <= self.amount + tolerance and self.amount > 0:
            return wanted
        return round_money(Money(max(self.amount, ZERO), wanted.currency))


def claimed_from(
    *, organisation: Organisation | uuid.UUID, subscription_ref: uuid.UUID, from_on: date
) -> dict[str, Claim]:
    """What the invoices of a subscription claim by component for ``from_on`` and the days after. Two queries."""
    lines = list(
        InvoiceLine.objects.of(organisation).filter(
            Q(subscription_ref=subscription_ref) | Q(subscription_ref=None, invoice__subscription_ref=subscription_ref),
            Q(period_end__gte=from_on) | Q(period_end=None, invoice__period_end__gte=from_on),
            invoice__status__in=COUNTING,
        )
    )
    by_place = {(line.invoice_id, line.position): line for line in lines}
    sums: dict[str, list[Decimal]] = defaultdict(list)
    for line in lines:
        sums[line.code].append(line.amount.amount * _share(line.period_start, line.period_end, from_on))
    for invoice_id, position, amount, since in _credited({line.invoice_id for line in lines}):
        credited = by_place.get((invoice_id, position))
        if credited is not None:
            first_on = max(credited.period_start or since, since) if since else credited.period_start
            sums[credited.code].append(-amount * _share(first_on, credited.period_end, from_on))
    return {code: Claim(sum(amounts, ZERO), len(amounts)) for code, amounts in sums.items()}


def _credited(invoice_ids: Iterable[uuid.UUID]) -> Iterable[tuple[uuid.UUID, int, Decimal, date | None]]:
    for note in CreditNote.objects.filter(invoice_id__in=invoice_ids):
        for row in note.lines:
            since = row.get("unused_from")
            yield note.invoice_id, row["position"], Decimal(row["amount"]), date.fromisoformat(since) if since else None


def _share(first_on: date | None, last_on: date | None, from_on: date) -> Decimal:
    """Which part of the days [first_on, last_on] is ``from_on`` or later; the whole where there are no days."""
    if first_on is None or last_on is None or last_on < first_on:
        return Decimal(1)
    days = (last_on - first_on) + timedelta(days=1)
    left = (last_on - max(first_on, from_on)) + timedelta(days=1)
    return Decimal(max(left.days, 0)) / Decimal(days.days)
