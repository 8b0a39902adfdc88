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

from billing import money
from invoices.claims import COUNTING, Claim, Stake, claimed_from
from invoices.credits import Meant, PricedCredit, Standing, Treatment, standing_of
from invoices.drafts import PricedInvoice
from invoices.models import Invoice, InvoiceLine
from invoices.services import credit_notes
from subscriptions.late_usage import KIND as CORRECTION
from subscriptions.models import Subscription
from subscriptions.progressive import KIND as INTERIM
from subscriptions.proration import SECONDS
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
    seconds: int | None = None
    """How many seconds of the days it charges; None where it charges them whole."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a note took off a line (net), the unused days it was meant for, and which other component it stands for, if any."""

    position: int
    net: Decimal
    unused_from: date | None = None
    unused_to: date | None = None
    instead_of: str = ""


@dataclass(slots=True)
class Claimed:
    """An invoice with what credit notes left of it; ``invoice`` is None for one that only a preview has issued."""

    id: uuid.UUID
    invoice: Invoice | None
    currency: str
    lines: tuple[ClaimedLine, ...]
    standing: Standing
    taken: list[Taken] = field(default_factory=list)

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
            yield Stake(line.code, line.given, line.first_on, line.last_on, line.seconds)
        for taken in self.taken:
            if taken.position in by_position:
                yield self._taken_off(by_position[taken.position], taken)

    def _taken_off(self, line: ClaimedLine, taken: Taken) -> Stake:
        code, amount = taken.instead_of or line.code, -self._given_for(line, taken.net)
        since = taken.unused_from
        if since is None:
            return Stake(code, amount, line.first_on, line.last_on)
        if taken.unused_to is not None:
            return Stake(code, amount, since, taken.unused_to)
        first_on = max(line.first_on or since, since)
        is_beyond = line.last_on is not None and first_on > line.last_on
        return Stake(code, amount, first_on, None if is_beyond else line.last_on)

    def credit(self, priced: PricedCredit, meant: Meant) -> None:
        """Note in memory that a credit note was issued."""
        self.standing = self.standing.after(priced)
        for line, net, _ in priced.lines:
            self.taken += _taken(line.position, net, meant)

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
            _seconds(row.details),
        )
        for row in invoice.lines.all()
        if (row.subscription_ref or invoice.subscription_ref) == subscription_id
    ]
    taken = [one for note in invoice.credit_notes.all() for row in note.lines for one in _taken_by(row)]
    standing = credit_notes.standing_now(invoice)
    return Claimed(invoice.pk, invoice, invoice.currency, tuple(lines), standing, taken)


def stakes_billed(
    *, subscription_ids: Iterable[uuid.UUID], codes: Iterable[str], from_on: date
) -> dict[tuple[uuid.UUID, str], list[Stake]]:
    """What invoices with lines that reach to ``from_on`` claim for components, corrections and what notes took off among it.

    By subscription and component. A few queries.
    """
    own, wanted = set(subscription_ids), set(codes)
    invoices = Invoice.objects.filter(
        Q(lines__subscription_ref__in=own) | Q(lines__subscription_ref=None, subscription_ref__in=own),
        Q(lines__period_end=None) | Q(lines__period_end__gte=from_on), lines__code__in=wanted, status__in=COUNTING,
    ).distinct().prefetch_related("lines", "taxes", "credit_notes")  # fmt: skip
    found: dict[tuple[uuid.UUID, str], list[Stake]] = defaultdict(list)
    for invoice in invoices:
        for owner in own & {line.subscription_ref or invoice.subscription_ref for line in invoice.lines.all()}:
            for stake in _claimed(owner, invoice).stakes():
                if stake.code in wanted:
                    found[owner, stake.code].append(stake)
    return found


def billed_lines(
    *, subscription_ids: Iterable[uuid.UUID], codes: Iterable[str]
) -> dict[tuple[uuid.UUID, str], list[ClaimedLine]]:
    """What issued invoices have charged for components, by subscription and component, corrections left out. One query.

    Those that were annulled or written off among them: they tell at what price a coupon left the component.
    """
    own = list(subscription_ids)
    rows = InvoiceLine.objects.filter(
        Q(subscription_ref__in=own) | Q(subscription_ref=None, invoice__subscription_ref__in=own), code__in=list(codes),
    ).exclude(invoice__status=Invoice.Status.DRAFT).select_related("invoice")  # fmt: skip
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


def _seconds(details: Iterable[Any]) -> int | None:
    """How many seconds a line charges that is counted by them (``lines.part_line``)."""
    parts = (part for part in details if isinstance(part, Mapping) and part.get("unit") == SECONDS)
    return next((part["days"] for part in parts), None)


def _taken(position: int, net: Decimal, meant: Meant) -> list[Taken]:
    """What a note took off one line: for the line itself, and for each component that it stands for."""
    others = meant.instead_of.get(position, {})
    shares = [("", net - sum(others.values(), _NOTHING)), *others.items()]
    return [Taken(position, share, meant.unused_from, meant.unused_to, code) for code, share in shares if share]


def _taken_by(row: Mapping[str, Any]) -> list[Taken]:
    """The same for a line of a note that was issued."""
    others = {code: Decimal(amount) for code, amount in row.get("instead_of", {}).items()}
    days = {"unused_from": _day(row.get("unused_from")), "unused_to": _day(row.get("unused_to"))}
    return _taken(row["position"], Decimal(row["amount"]), Meant(**days, instead_of={row["position"]: others}))


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def claim_of(
    *,
    invoice_id: uuid.UUID,
    priced: PricedInvoice,
    invoice: Invoice | None = None,
    subscription_id: uuid.UUID | None = None,
) -> Claimed:
    """What an invoice will claim once it is issued: of one subscription, where several share it. ``invoice``: its draft."""
    lines = [
        ClaimedLine(
            row.position,
            row.given.code,
            row.given.amount.amount,
            row.given.period_start,
            row.given.period_end,
            discount_in(row.given.details),
            _nets(row.given.amount.amount, row.given.details),
            _seconds(row.given.details),
        )
        for row in priced.lines
        if subscription_id is None or row.given.subscription_ref in (None, subscription_id)
    ]
    quantum = Decimal(1).scaleb(-money.exponent(priced.currency))
    return Claimed(invoice_id, invoice, priced.currency, tuple(lines), standing_of(priced, quantum=quantum))


def left_by_component(claims: Iterable[Claimed], from_on: date) -> dict[str, Claim]:
    """What may still be given back of each component for ``from_on`` and the days after."""
    return claimed_from((stake for claim in claims for stake in claim.stakes() if _counts(stake, from_on)), from_on)


def _counts(stake: Stake, from_on: date) -> bool:
    return stake.last_on is None or stake.last_on >= from_on


def treatments_billed(claims: Iterable[Claimed]) -> dict[str, set[Treatment]]:
    """How each component was taxed in the lines that still claim something."""
    found: dict[str, set[Treatment]] = defaultdict(set)
    for claim in claims:
        for line in claim.lines:
            if line.given > 0 and claim.left(line) > 0:
                found[line.code].add(claim.standing.treatment(line.position))
    return found


def paid_shares(claims: Iterable[Claimed], from_on: date) -> dict[str, Decimal]:
    """Which part of the price list was charged for components with a discount, in lines that reach to ``from_on``."""
    charged: dict[str, Decimal] = defaultdict(Decimal)
    listed: dict[str, Decimal] = defaultdict(Decimal)
    for line in (line for claim in claims for line in claim.lines if line.given > 0 or line.discount):
        if line.last_on is None or line.last_on >= from_on:
            charged[line.code] += line.given
            listed[line.code] += line.given + line.discount
    return {code: charged[code] / listed[code] for code in listed if listed[code] > charged[code]}
