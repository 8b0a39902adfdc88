"""From a subscription to the lines of an invoice, for one billing moment. Pure: the billing run and the preview share it.

How a subscription is billed
----------------------------
* ``next_billing_at`` is the next *billing moment*. Then the period of the anchor that contains it is charged **in advance**
  (every component without a meter), and the usage since ``usage_from`` is charged **in arrears** (components with a meter).
* A moment in the middle of a period (billing taken up again after a pause) charges the rest of the period by the day; an
  agreement that ends within the period (``ends_at``) is charged up to its last day. A day begun counts as a whole.
* Usage is priced by ``usage_version`` where one is set (the plan changed at this very moment), else by ``plan_version``.
* ``next_change_at`` is when the next planned thing happens (trial ends, change, cancellation, resume, expiry). A moment is
  billed only while ``next_change_at`` is empty or later; on a tie the change comes first. So the run claims

      next_billing_at <= due AND (next_change_at IS NULL OR next_change_at > next_billing_at)

  and ``services.changes.apply_due`` takes exactly the rest; calling the two in turn until neither finds anything walks the
  time line of each subscription in order, however late a run comes.
* Afterwards the row says: ``period_number, period_start, period_end = moment.number, moment.start, moment.end``,
  ``next_billing_at = moment.next_billing_at``, ``usage_from = moment.at``, ``usage_version = None``.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from moneyed import Money

from billing.errors import Conflict
from invoices.drafts import InvoiceDraft, LineInput
from subscriptions import periods, pricing
from subscriptions.periods import Period
from subscriptions.proration import Part, part_of, share

RECURRING, ADD_ON, ONE_OFF = "recurring", "add_on", "one_off"
_ZERO = Decimal(0)
_TICK = timedelta(microseconds=1)


class MissingPrice(Conflict):
    """The plan version has no price in the subscription's currency."""

    code = "missing_price"
    message = "The plan has no price in {currency}; add a version that has one."


@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """A price as rules see it; ``meter_id`` set means metered. Compared by identity, so that lines can be cached."""

    code: str
    name: str
    currency: str
    model: str
    unit_price: Decimal | None = None
    tiers: tuple[pricing.Tier, ...] = ()
    meter_id: uuid.UUID | None = None
    unit: str = ""
    tax_category: str = ""
    parameters: pricing.Parameters = pricing.NO_PARAMETERS
    kind: str = RECURRING
    pay_in_advance: bool = True
    prorated: bool = True
    min_commitment: Decimal | None = None
    filters: tuple[pricing.Filter, ...] = ()
    group_by: tuple[str, ...] = ()

    def price(self, quantity: Decimal | int) -> pricing.PricedComponent:
        """What ``quantity`` units cost; raises what ``pricing.price_component`` raises."""
        return pricing.price_component(
            model=self.model, quantity=quantity, currency=self.currency, unit_price=self.unit_price, tiers=self.tiers,
            parameters=self.parameters,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class PriceBook:
    """The components of one plan version in one currency, and the interval they are charged by."""

    plan_code: str
    interval: str
    interval_count: int
    currency: str
    licensed: tuple[Component, ...] = ()
    metered: tuple[Component, ...] = ()

    @property
    def meter_ids(self) -> tuple[uuid.UUID, ...]:
        """Meters whose usage has to be known to bill."""
        return tuple(component.meter_id for component in self.metered if component.meter_id)

    def require(self) -> None:
        """Raise ``MissingPrice`` when there is nothing to charge by."""
        if not self.licensed and not self.metered:
            raise MissingPrice(currency=self.currency)


@dataclass(frozen=True, slots=True)
class Moment:
    """What one billing moment charges: days [first_on, next_on) of ``period``, and usage in [usage_start, usage_end)."""

    at: datetime
    period: Period
    part: Part
    first_on: date
    next_on: date
    start: datetime
    end: datetime
    usage_start: datetime | None = None
    usage_end: datetime | None = None

    @property
    def number(self) -> int:
        """Number of the period from the anchor."""
        return self.period.number

    @property
    def last_on(self) -> date:
        """Last charged day."""
        return self.next_on - timedelta(days=1)

    @property
    def next_billing_at(self) -> datetime:
        """The moment after this one."""
        return self.end


def billing_moment(
    *,
    anchor_on: date,
    interval: str,
    interval_count: int,
    zone: ZoneInfo,
    next_billing_at: datetime,
    period_number: int = 0,
    usage_from: datetime | None = None,
    ends_at: datetime | None = None,
) -> Moment:
    """What is charged at ``next_billing_at``. ``period_number`` is the subscription's present one: only a hint, for speed."""
    found = periods.period(anchor=anchor_on, interval=interval, count=interval_count, n=period_number + 1, zone=zone)
    if not found.start <= next_billing_at < found.end:
        found = periods.period_containing(
            anchor=anchor_on, interval=interval, count=interval_count, at=next_billing_at, zone=zone
        )
    first_on, next_on, start, end = found.first_on, found.next_on, found.start, found.end
    if next_billing_at != start:
        first_on = periods.local_date(next_billing_at, zone)
        start = periods.start_of_day(first_on, zone)
    if ends_at is not None and ends_at < end:
        next_on = max(periods.end_day(ends_at, zone), first_on)
        end = periods.start_of_day(next_on, zone)
    used = usage_from is not None and usage_from < next_billing_at
    return Moment(
        at=next_billing_at,
        period=found,
        part=part_of(found, first_on=first_on, next_on=next_on),
        first_on=first_on,
        next_on=next_on,
        start=start,
        end=end,
        usage_start=usage_from if used else None,
        usage_end=next_billing_at if used else None,
    )


def lines_for_cycle(
    *,
    moment: Moment,
    book: PriceBook,
    quantity: int,
    zone: ZoneInfo,
    usage: Mapping[uuid.UUID, Decimal] | None = None,
    usage_book: PriceBook | None = None,
) -> list[LineInput]:
    """The lines of one billing moment: components in advance, then usage in arrears.

    ``usage`` maps a meter to what was counted in the moment's usage window; ``usage_book`` prices it (default ``book``).
    A metered component without usage makes no line. Raises ``MissingPrice`` and what pricing raises.
    """
    book.require()
    lines = [_licensed_line(component, quantity, moment.first_on, moment.last_on, moment.part)
             for component in book.licensed]  # fmt: skip
    if moment.usage_start is not None and moment.usage_end is not None:
        lines += usage_lines(
            book=usage_book or book, usage=usage or {}, start=moment.usage_start, end=moment.usage_end, zone=zone
        )
    return lines


def usage_lines(
    *, book: PriceBook, usage: Mapping[uuid.UUID, Decimal], start: datetime, end: datetime, zone: ZoneInfo
) -> list[LineInput]:
    """Lines for what was used in [start, end), one per metered component that has usage."""
    first_on = periods.local_date(start, zone)
    last_on = max(periods.local_date(end - _TICK, zone), first_on)
    lines = []
    for component in book.metered:
        used = usage.get(component.meter_id, _ZERO) if component.meter_id else _ZERO
        if used:
            priced = component.price(used)
            lines.append(_line(component, priced, first_on, last_on))
    return lines


@lru_cache(maxsize=4096)
def _licensed_line(component: Component, quantity: int, first_on: date, last_on: date, part: Part) -> LineInput:
    priced = component.price(quantity)
    if part.is_whole:
        return _line(component, priced, first_on, last_on)
    amount = share(priced.amount, part)
    return part_line(
        component, priced, amount, part, f"{component.name} ({part.days} of {part.total} days)", first_on, last_on,
    )  # fmt: skip


def part_line(
    component: Component,
    priced: pricing.PricedComponent,
    amount: Money,
    part: Part,
    description: str,
    first_on: date,
    last_on: date,
) -> LineInput:
    """A line for a part of a period: one unit at the part's amount; the details say what the whole costs."""
    return LineInput(
        description=description[:300],
        code=component.code,
        amount=amount,
        tax_category=component.tax_category,
        period_start=first_on,
        period_end=max(last_on, first_on),
        details=(
            {
                "kind": "part",
                "days": part.days,
                "of": part.total,
                "quantity": f"{priced.quantity:f}",
                "unit_price": f"{priced.unit_price:f}",
                "whole": f"{priced.amount.amount:f}",
            },
        ),
    )


def _line(
    component: Component,
    priced: pricing.PricedComponent,
    first_on: date,
    last_on: date,
) -> LineInput:
    return LineInput(
        description=component.name,
        code=component.code,
        quantity=priced.quantity,
        unit=component.unit,
        unit_price=priced.unit_price,
        amount=priced.amount,
        tax_category=component.tax_category,
        period_start=first_on,
        period_end=last_on,
        details=_tier_details(priced),
    )


def _tier_details(priced: pricing.PricedComponent) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "kind": "tier",
            "up_to": None if tier.up_to is None else f"{tier.up_to:f}",
            "quantity": f"{tier.quantity:f}",
            "unit_price": f"{tier.unit_price:f}",
            "flat_fee": f"{tier.flat_fee:f}",
            "amount": f"{tier.amount:f}",
        }
        for tier in priced.tiers
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Payer:
    """What a draft takes from the subscription's row."""

    subscription_id: uuid.UUID
    customer_id: uuid.UUID
    currency: str
    net_days: int = 0
    collect_automatically: bool = True
    method_ref: uuid.UUID | None = None
    custom_fields: Mapping[str, Any] = field(default_factory=dict)


def draft_of(
    *, payer: Payer, lines: Sequence[LineInput], period_start: date, period_end: date, issued_on: date, memo: str = ""
) -> InvoiceDraft:
    """The invoice that a subscription's lines make. ``period_end`` is the last day."""
    return InvoiceDraft(
        customer_id=payer.customer_id,
        currency=payer.currency,
        lines=lines,
        origin="subscription",
        subscription_ref=payer.subscription_id,
        period_start=period_start,
        period_end=period_end,
        issued_on=issued_on,
        net_days=payer.net_days,
        collect_automatically=payer.collect_automatically,
        method_ref=payer.method_ref,
        memo=memo,
        custom_fields=payer.custom_fields,
    )
