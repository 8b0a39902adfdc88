"""What is charged afterwards: usage, components paid in arrears, and what is missing to a minimum. Pure.

Looking back
------------
At a billing moment, at a change of plan and at an end, the time since ``usage_from`` is charged. It lies in one period: the
last one billed. Where a price list *looks back* (components in arrears, a minimum) the days of that period count, by the terms
in force on each: quantities that changed on the way are kept as ``Subscription.earlier_terms``, oldest first.

* Usage: a line for each component, filter and group; each is priced by itself (tiers begin anew for every group).
* A minimum of a component is the least its usage comes to; a further line makes up for what is missing.
* A component in arrears costs its days by the quantity of each day. One that is not prorated costs the whole price, once a
  period, by the terms at the end of the first time that is charged in it.
* A minimum of the version is the least that everything comes to: usage, arrears, and the same days' share of what was paid
  in advance. One-off charges, taxes and discounts do not count. What is missing is one more line.

Parts are counted in days also where changes are counted by the second; where nothing is prorated, the whole period counts, once.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from moneyed import Money

from billing import money
from billing.metering import Used
from invoices.drafts import LineInput
from subscriptions import periods
from subscriptions.lines import Component, PriceBook, line_of, part_line, tier_details
from subscriptions.metering import UsageByComponent
from subscriptions.pricing import PricedComponent
from subscriptions.pricing.commitments import committed, true_up
from subscriptions.proration import NONE, Part, part_of, share

MINIMUM = "minimum-commitment"
_ONE_DAY = timedelta(days=1)
_TICK = timedelta(microseconds=1)


class Row(Protocol):
    """The columns of a subscription that looking back needs."""

    @property
    def anchor_on(self) -> date: ...

    @property
    def period_number(self) -> int: ...

    @property
    def period_start(self) -> datetime | None: ...

    @property
    def period_end(self) -> datetime | None: ...

    @property
    def usage_from(self) -> datetime | None: ...

    @property
    def plan_version_id(self) -> uuid.UUID: ...

    @property
    def proration(self) -> str: ...

    @property
    def quantity(self) -> int: ...

    @property
    def add_ons(self) -> Mapping[str, int]: ...

    @property
    def earlier_terms(self) -> Sequence[Mapping[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the period, and the terms in force in it."""

    part: Part
    book: PriceBook
    quantity: int


@dataclass(frozen=True, slots=True)
class Elapsed:
    """The local days [first_on, last_on] that are charged afterwards; ``stretches`` only where the book looks back.

    ``begins``: nothing of this period was charged afterwards before. ``whole``: parts cost what the period costs, once.
    """

    first_on: date
    last_on: date
    stretches: tuple[Stretch, ...] = ()
    begins: bool = True
    whole: bool = False

    @property
    def part(self) -> Part | None:
        """All stretches together, as a minimum counts them; None where none of it is due."""
        if not self.stretches:
            return None
        first, last = self.stretches[0].part, self.stretches[-1].part
        if self.whole:
            return Part(0, first.total, first.total) if self.begins else None
        return Part(first.first, last.last, first.total)

    def prorates(self, component: Component) -> bool:
        """Whether a part of the period costs the component's days."""
        return component.prorated and not self.whole


def elapsed(
    *,
    row: Row,
    book: PriceBook,
    book_with: Callable[[uuid.UUID, Mapping[str, int]], PriceBook],
    until: datetime,
    zone: ZoneInfo,
    next_on: date | None = None,
) -> Elapsed:
    """The time from the row's ``usage_from`` to ``until``. ``book`` prices it; ``book_with`` gives that of earlier terms.

    ``next_on`` is the first day that is not counted any more (default: the day of ``until``).
    """
    assert row.usage_from is not None
    first_on = periods.local_date(row.usage_from, zone)
    last_on = max(periods.local_date(until - _TICK, zone), first_on)
    if not book.looks_back:
        return Elapsed(first_on, last_on)
    stretches = [
        Stretch(_part(noted), book_with(uuid.UUID(noted["version"]), noted["add_ons"]), noted["quantity"])
        for noted in row.earlier_terms
    ]
    last = _present_part(row, book, stretches, first_on, next_on or periods.local_date(until, zone), zone)
    if last is not None and last.days:
        stretches.append(Stretch(last, book, row.quantity))
    begins = row.period_start is None or first_on <= periods.local_date(row.period_start, zone)
    begins = begins and not (stretches and not stretches[0].part.days)  # see ``charged_today``
    return Elapsed(first_on, last_on, tuple(stretches), begins, whole=row.proration == NONE)


def noted_terms(*, row: Row, book: PriceBook, next_on: date, zone: ZoneInfo) -> list[dict[str, Any]]:
    """``earlier_terms`` after the row's present terms were in force up to ``next_on``; what does not look back notes nothing."""
    noted = [dict(one) for one in row.earlier_terms]
    if row.usage_from is None or not book.looks_back:
        return noted
    first_on = periods.local_date(row.usage_from, zone)
    part = _present_part(row, book, [Stretch(_part(one), book, 0) for one in noted], first_on, next_on, zone)
    if part is not None and part.days:
        noted.append(
            {"first": part.first, "last": part.last, "total": part.total, "version": str(row.plan_version_id),
             "quantity": row.quantity, "add_ons": dict(row.add_ons)}
        )  # fmt: skip
    return noted


def charged_today(*, row: Row, book: PriceBook, today: date, zone: ZoneInfo) -> list[dict[str, Any]]:
    """``earlier_terms`` of a row that goes on within the day of its end: that day was charged afterwards by the end.

    An empty stretch says so, from which the present terms count.
    """
    if not book.looks_back:
        return []
    period = periods.period(
        anchor=row.anchor_on, interval=book.interval, count=book.interval_count, n=row.period_number, zone=zone
    )
    charged = part_of(period, first_on=today, next_on=today + _ONE_DAY)
    return [
        {"first": charged.last, "last": charged.last, "total": charged.total, "version": str(row.plan_version_id),
         "quantity": row.quantity, "add_ons": dict(row.add_ons)}
    ]  # fmt: skip


def _part(noted: Mapping[str, Any]) -> Part:
    return Part(noted["first"], noted["last"], noted["total"])


def _present_part(
    row: Row, book: PriceBook, earlier: Sequence[Stretch], first_on: date, next_on: date, zone: ZoneInfo
) -> Part | None:
    """The days of the period from ``first_on`` (or the end of the earlier terms) to ``next_on``; none after the period."""
    if earlier and earlier[-1].part.last == earlier[-1].part.total:
        return None
    period = periods.period(
        anchor=row.anchor_on, interval=book.interval, count=book.interval_count, n=row.period_number, zone=zone
    )
    if row.period_end is not None:
        next_on = min(next_on, periods.end_day(row.period_end, zone))
    part = part_of(period, first_on=first_on, next_on=next_on)
    if earlier:
        part = Part(min(earlier[-1].part.last, part.last), part.last, part.total)
    return part


def arrears_lines(*, elapsed: Elapsed, book: PriceBook, used: UsageByComponent) -> list[LineInput]:
    """The lines of what is charged afterwards. Raises what pricing raises."""
    lines = [line for component in book.metered for line in _usage_of(component, used.get(component.code, ()), elapsed)]
    lines += _licensed(elapsed)
    if book.min_commitment is not None and elapsed.part is not None and elapsed.part.days:
        charged = sum((line.amount for line in lines), start=_paid_in_advance(elapsed, book.currency))
        missing = true_up(minimum=book.min_commitment, part=elapsed.part, charged=charged)
        if missing.amount:
            lines.append(_minimum_line(book, missing, charged, elapsed))
    return lines


def least_of(*, elapsed: Elapsed, book: PriceBook) -> dict[str, dict[str, str]]:
    """What minimums hold the usage of each component against, so that they can be worked out anew when it changes.

    ``own`` is what the component comes to at least, ``all`` what the version does, ``beside`` what was charged for the same days
    that is no usage. Empty where there are no minimums.
    """
    part = elapsed.part
    if part is None or not part.days:
        return {}
    shared = {}
    if book.min_commitment is not None and book.metered:
        beside = sum((line.amount for line in _licensed(elapsed)), start=_paid_in_advance(elapsed, book.currency))
        least = committed(book.min_commitment, part, book.currency)
        shared = {"all": f"{least.amount:f}", "beside": f"{beside.amount:f}"}
    found = {}
    for component in book.metered:
        own = {}
        if component.min_commitment is not None:
            own = {"own": f"{committed(component.min_commitment, part, component.currency).amount:f}"}
        if own or shared:
            found[component.code] = own | shared
    return found


def minimum_category(book: PriceBook) -> str:
    """As what the line that makes up for a version's minimum is taxed."""
    return next((one.tax_category for one in book.components if one.tax_category), "")


def _usage_of(component: Component, used: Sequence[Used], elapsed: Elapsed) -> list[LineInput]:
    """A line for each filter and group that was used, and one for what is missing to the component's minimum."""
    lines = []
    for one in used:
        if one.quantity or one.events:
            priced = component.price_used(one)
            if priced.quantity or priced.amount.amount:
                lines.append(_usage_line(component, one, priced, elapsed))
    if component.min_commitment is not None and elapsed.part is not None and elapsed.part.days:
        charged = sum((line.amount for line in lines), start=money.zero(component.currency))
        missing = true_up(minimum=component.min_commitment, part=elapsed.part, charged=charged)
        if missing.amount:
            lines.append(
                _true_up_line(
                    component.name, component.tax_category, missing, component.min_commitment, charged, elapsed,
                    code=component.code,
                )
            )  # fmt: skip
    return lines


def _usage_line(component: Component, used: Used, priced: PricedComponent, elapsed: Elapsed) -> LineInput:
    name, details = component.name_of(used), list(tier_details(priced))
    if used.segment:
        details.append({"kind": "filter", "key": used.segment})
    if used.group:
        details.append({"kind": "group", "values": dict(zip(component.group_by, used.group, strict=True))})
    return line_of(component, priced, elapsed.first_on, elapsed.last_on, name=name, details=tuple(details))


def _licensed(elapsed: Elapsed) -> list[LineInput]:
    """Components in arrears, by the terms of each stretch."""
    lines = []
    for position, stretch in enumerate(elapsed.stretches, start=1):
        is_last = position == len(elapsed.stretches)
        for component in stretch.book.arrears:
            part = stretch.part
            if not elapsed.prorates(component):
                if not is_last or not elapsed.begins:
                    continue
                part = Part(0, part.total, part.total)
            lines.append(_arrears_line(component, stretch, part, elapsed))
    return [line for line in lines if line.amount.amount]


def _arrears_line(component: Component, stretch: Stretch, part: Part, elapsed: Elapsed) -> LineInput:
    priced = component.price(stretch.quantity)
    if part.is_whole:
        return line_of(component, priced, elapsed.first_on, elapsed.last_on)
    first_on = elapsed.first_on + _ONE_DAY * (part.first - elapsed.stretches[0].part.first)
    return part_line(
        component, priced, share(priced.amount, part), part, f"{component.name} ({part.days} of {part.total} days)",
        first_on, first_on + _ONE_DAY * (part.days - 1),
    )  # fmt: skip


def _paid_in_advance(elapsed: Elapsed, currency: str) -> Money:
    """What the days of the stretches cost of what was paid when the period began."""
    total = money.zero(currency)
    for position, stretch in enumerate(elapsed.stretches, start=1):
        for component in stretch.book.licensed:
            amount = component.price(stretch.quantity).amount
            if elapsed.prorates(component):
                total += share(amount, stretch.part)
            elif elapsed.begins and position == len(elapsed.stretches):
                total += amount
    return total


def _minimum_line(book: PriceBook, missing: Money, charged: Money, elapsed: Elapsed) -> LineInput:
    assert book.min_commitment is not None
    return _true_up_line("Plan", minimum_category(book), missing, book.min_commitment, charged, elapsed, code=MINIMUM)


def _true_up_line(
    name: str,
    tax_category: str,
    missing: Money,
    minimum: Decimal,
    charged: Money,
    elapsed: Elapsed,
    code: str,
) -> LineInput:
    part = elapsed.part
    assert part is not None
    days = "" if part.is_whole else f" ({part.days} of {part.total} days)"
    return LineInput(
        description=f"{name}: up to the minimum{days}",
        code=code,
        amount=missing,
        tax_category=tax_category,
        period_start=elapsed.first_on,
        period_end=elapsed.last_on,
        details=(
            {"kind": "minimum", "minimum": f"{minimum:f}", "charged": f"{charged.amount:f}", "days": part.days,
             "of": part.total},
        ),
    )  # fmt: skip
