"""What the invoices of a subscription still claim, line by line: what may be given back, and where.

Credits are asked for in the terms of the price list: with the tax where prices include it. Notes are written without.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.db.models import Q, QuerySet
from moneyed import Money

from billing import money
from invoices.claims import COUNTING, Claim, Stake, claimed_from
from invoices.credits import PricedCredit, Standing, standing_of
from invoices.drafts import PricedInvoice
from invoices.models import Invoice, InvoiceLine
from invoices.services import credit_notes
from subscriptions.late_usage import KIND as CORRECTION
from subscriptions.models import Subscription
from subscriptions.progressive import KIND as INTERIM
from subscriptions.selectors import invoices_billing
from subscriptions.services.coupon_book import discount_in

_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class ClaimedLine:
    """A line of the subscription as it was billed: ``given`` by the price list less ``discount``, for [first_on, last_on]."""

    position: int
    code: str
    given: Decimal
    first_on: date | None
    last_on: date | None
    discount: Decimal = _NOTHING
    nets: bool = False
    """It takes off unused days that another invoice billed."""


@dataclass(slots=True)
class Claimed:
    """An invoice with what credit notes left of it; ``invoice`` is None for one that only a preview has issued.

    ``taken``: what notes took off its lines, as (position, net amount, first day it was meant for).
    """

    id: uuid.UUID
    invoice: Invoice | None
    currency: str
    lines: tuple[ClaimedLine, ...]
    standing: Standing
    taken: list[tuple[int, Decimal, date | None]] = field(default_factory=list)

    def left(self, line: ClaimedLine) -> Decimal:
        """What is left of a line, by the price list."""
        net = self.standing.lines[line.position - 1]
        return net.left if net.amount == line.given else self._given_for(line, net.left)

    def net_of(self, line: ClaimedLine, given: Decimal) -> Decimal:
        """The net part of a line that ``given`` by the price list stands for; all that is left for all that is left."""
        net = self.standing.lines[line.position - 1]
        if given == self.left(line) or not line.given:
            return net.left
        return min(money.quantize(net.amount * given / line.given, self.currency), net.left)

    def stakes(self) -> Iterator[Stake]:
        """What it claims, and what notes took off again."""
        by_position = {line.position: line for line in self.lines}
        for line in self.lines:
            yield Stake(line.code, line.given, line.first_on, line.last_on)
        for position, net, since in self.taken:
            if position in by_position:
                credited = by_position[position]
                first_on = max(credited.first_on or since, since) if since else credited.first_on
                is_beyond = first_on is not None and credited.last_on is not None and first_on > credited.last_on
                last_on = None if is_beyond else credited.last_on  # it gave back what a later invoice netted
                yield Stake(credited.code, -self._given_for(credited, net), first_on, last_on)

    def credit(self, priced: PricedCredit, since: date | None) -> None:
        """Note in memory that a credit note was issued."""
        self.standing = self.standing.after(priced)
        self.taken += [(line.position, net, since) for line, net, _ in priced.lines]

    def _given_for(self, line: ClaimedLine, net: Decimal) -> Decimal:
        """An amount without tax as the price list has it."""
        whole = self.standing.lines[line.position - 1].amount
        return net if not whole or whole == line.given else money.quantize(line.given * net / whole, self.currency)


def claims_of(subscription: Subscription, from_on: date, *, drafts: bool = False) -> list[Claimed]:
    """The invoices that count and reach to ``from_on``, newest first. A few queries, however many there are.

    With those whose unused days one of them took off: it bears only the difference, the rest was paid on them. With ``drafts``
    as if those of the billing run were issued.
    """
    statuses = (*COUNTING, Invoice.Status.DRAFT) if drafts else COUNTING
    while True:
        rows = _counting(subscription, from_on, statuses).prefetch_related("lines", "taxes", "credit_notes")
        found = [_claimed(subscription.pk, invoice) for invoice in rows.order_by("-id")]
        since = netted_from(found, from_on)
        if since == from_on:
            return found
        from_on = since


def netted_from(claims: Iterable[Claimed], from_on: date) -> date:
    """The first of the unused days that the invoices took off; ``from_on`` where that is earlier."""
    return min([from_on, *(line.first_on for claim in claims for line in claim.lines if line.nets and line.first_on)])


def interim_claims(*, subscription_id: uuid.UUID, usage_from: datetime) -> list[Claimed]:
    """The interim invoices of a usage window that can be credited, newest first."""
    found = Invoice.objects.filter(
        interim__subscription=subscription_id, interim__usage_from=usage_from, status__in=credit_notes.CREDITABLE
    ).prefetch_related("lines", "taxes", "credit_notes").order_by("-interim__number")  # fmt: skip
    return [_claimed(subscription_id, invoice) for invoice in found]


def _counting(subscription: Subscription, from_on: date, statuses: Sequence[str]) -> QuerySet[Invoice]:
    return invoices_billing(subscription).filter(status__in=statuses, period_end__gte=from_on)


def _claimed(subscription_id: uuid.UUID, invoice: Invoice) -> Claimed:
    lines = [
        ClaimedLine(
            row.position,
            row.code,
            row.given.amount,
            row.period_start,
            row.period_end,
            discount_in(row.details),
            _nets(row.given.amount, row.details),
        )
        for row in invoice.lines.all()
        if (row.subscription_ref or invoice.subscription_ref) == subscription_id
    ]
    taken = [
        (row["position"], Decimal(row["amount"]), _day(row.get("unused_from")))
        for note in invoice.credit_notes.all()
        for row in note.lines
    ]
    standing = credit_notes.standing_now(invoice)
    return Claimed(invoice.pk, invoice, invoice.currency, tuple(lines), standing, taken)


def billed_lines(
    *, subscription_ids: Iterable[uuid.UUID], codes: Iterable[str]
) -> dict[tuple[uuid.UUID, str], list[ClaimedLine]]:
    """What invoices that count have charged for components, by subscription and component, corrections left out. One query."""
    own = list(subscription_ids)
    rows = InvoiceLine.objects.filter(
        Q(subscription_ref__in=own) | Q(subscription_ref=None, invoice__subscription_ref__in=own), code__in=list(codes),
        invoice__status__in=COUNTING,
    ).select_related("invoice")  # fmt: skip
    found: dict[tuple[uuid.UUID, str], list[ClaimedLine]] = defaultdict(list)
    for row in rows:
        if not any(part.get("kind") == CORRECTION for part in row.details):
            line = ClaimedLine(
                row.position, row.code, row.given.amount, row.period_start, row.period_end, discount_in(row.details)
            )
            owner = row.subscription_ref or row.invoice.subscription_ref
            if owner is not None:
                found[owner, row.code].append(line)
    return found


def _nets(given: Decimal, details: Iterable[Any]) -> bool:
    """Whether a line is a credit for unused days: not what an interim invoice billed, nor a correction of usage."""
    return given < 0 and not any(
        isinstance(part, Mapping) and part.get("kind") in (INTERIM, CORRECTION) for part in details
    )


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def claim_of(*, invoice_id: uuid.UUID, priced: PricedInvoice) -> Claimed:
    """What an invoice will claim once it is issued."""
    lines = [
        ClaimedLine(
            row.position,
            row.given.code,
            row.given.amount.amount,
            row.given.period_start,
            row.given.period_end,
            discount_in(row.given.details),
            _nets(row.given.amount.amount, row.given.details),
        )
        for row in priced.lines
    ]
    quantum = Decimal(1).scaleb(-money.exponent(priced.currency))
    return Claimed(invoice_id, None, priced.currency, tuple(lines), standing_of(priced, quantum=quantum))


def left_by_component(claims: Iterable[Claimed], from_on: date) -> dict[str, Claim]:
    """What may still be given back of each component for ``from_on`` and the days after."""
    return claimed_from((stake for claim in claims for stake in claim.stakes() if _counts(stake, from_on)), from_on)


def _counts(stake: Stake, from_on: date) -> bool:
    return stake.last_on is None or stake.last_on >= from_on


def paid_shares(claims: Iterable[Claimed], from_on: date) -> dict[str, Decimal]:
    """Which part of the price list was charged for components with a discount, in lines that reach to ``from_on``."""
    charged: dict[str, Decimal] = defaultdict(Decimal)
    listed: dict[str, Decimal] = defaultdict(Decimal)
    for line in (line for claim in claims for line in claim.lines if line.given > 0 or line.discount):
        if line.last_on is None or line.last_on >= from_on:
            charged[line.code] += line.given
            listed[line.code] += line.given + line.discount
    return {code: charged[code] / listed[code] for code in listed if listed[code] > charged[code]}


def spread(claims: Sequence[Claimed], wanted: dict[str, Money]) -> tuple[tuple[Claimed, dict[int, Money]], ...]:
    """Spread credits by component over the lines that billed them, newest invoice first, never more than is left."""
    found = []
    left = dict(wanted)
    for claim in claims:
        amounts = _take(claim, left)
        if amounts:
            found.append((claim, amounts))
    return tuple(found)


def _take(claim: Claimed, left: dict[str, Money]) -> dict[int, Money]:
    """Take from one invoice what it can still bear, line by line and in all; lowers ``left`` by it."""
    room = sum((line.left for line in claim.standing.lines), _NOTHING)
    rest = {code: wanted.amount for code, wanted in left.items()}
    asked: dict[int, tuple[ClaimedLine, Decimal, Decimal]] = {}
    nets: dict[int, Decimal] = {}
    for line in claim.lines:
        given = min(rest.get(line.code, _NOTHING), claim.left(line)) if line.given > 0 else _NOTHING
        if given <= 0 or room <= 0:
            continue
        whole = claim.net_of(line, given)
        asked[line.position], nets[line.position] = (line, given, whole), min(whole, room)
        rest[line.code] -= given
        room -= nets[line.position]
    amounts: dict[int, Money] = {}
    for position, net in claim.standing.within(nets).items():
        line, given, whole = asked[position]
        if net < whole:
            given = money.quantize(given * net / whole, claim.currency)
        currency = left[line.code].currency
        amounts[position] = Money(money.quantize(net, claim.currency), currency)
        left[line.code] -= Money(given, currency)
    return amounts
