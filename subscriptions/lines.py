"""From a subscription to the lines of an invoice, for one billing moment. Pure: the billing run and the preview share it.

How a subscription is billed
----------------------------
* ``next_billing_at`` is the next *billing moment*. Then the period of the anchor that contains it is charged **in advance**
  (every component without a meter), and the usage since ``usage_from`` is charged **in arrears** (components with a meter),
  less what interim invoices billed of it: of components in advance, and where thresholds were passed (``services.interim``).
* A moment in the middle of a period (billing taken up again after a pause) charges the rest of the period, by the day or the
  second; an agreement that ends within the period (``ends_at``) is charged up to its end. Where nothing is prorated (the
  subscription's ``proration``, or the component's), a period begun is charged whole, and only once (``Moment.again``).
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
from billing.metering import Used
from invoices.drafts import InvoiceDraft, LineInput
from subscriptions import periods, pricing
from subscriptions import proration as prorating
from subscriptions.periods import Period
from subscriptions.proration import Part, share, span_of

RECURRING, ADD_ON, ONE_OFF = "recurring", "add_on", "one_off"


class MissingPrice(Conflict):
    """The plan version has no price in the subscription's currency."""

    code = "missing_price"
    message = "The plan has no price in {currency}; add a version that has one."


@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """A price as rules see it; ``meter_id`` set means metered. Compared by identity, so that lines can be cached.

    ``taken`` is the quantity of an add-on that somebody took: it is charged by that, not by the subscription's quantity.
    ``pay_in_advance`` of a metered one: its usage is invoiced soon after it happens, up to the highest level of the period.
    """

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
    taken: int | None = None

    def price(self, quantity: Decimal | int) -> pricing.PricedComponent:
        """What ``quantity`` units cost (of an add-on, those taken); raises what ``pricing.price_component`` raises."""
        if self.taken is not None:
            quantity = self.taken
        return pricing.price_component(
            model=self.model, quantity=quantity, currency=self.currency, unit_price=self.unit_price, tiers=self.tiers,
            parameters=self.parameters,
        )  # fmt: skip

    def price_used(self, used: Used) -> pricing.PricedComponent:
        """What one part of the usage costs, by the price of its filter; raises what ``pricing.price_component`` raises."""
        rule = next((one.rule for one in self.filters if one.key == used.segment), None)
        return pricing.price_component(
            model=self.model,
            quantity=used.quantity,
            currency=self.currency,
            unit_price=rule.unit_price if rule else self.unit_price,
            tiers=rule.tiers if rule else self.tiers,
            parameters=rule.parameters if rule else self.parameters,
            usage=pricing.Usage(used.quantity, used.events, used.amount, used.values),
        )

    def name_of(self, used: Used) -> str:
        """The component's name, or its filter's, with the values of the group: as the invoice line says it."""
        name = next((one.name for one in self.filters if one.key == used.segment), self.name)
        values = ", ".join(value for value in used.group if value)
        return f"{name} ({values})"[:300] if values else name


@dataclass(frozen=True, slots=True)
class PriceBook:
    """The components of one plan version in one currency, and the interval they are charged by."""

    plan_code: str
    interval: str
    interval_count: int
    currency: str
    licensed: tuple[Component, ...] = ()  # paid in advance, period by period
    metered: tuple[Component, ...] = ()
    arrears: tuple[Component, ...] = ()  # without a meter, paid when the period is over
    one_off: tuple[Component, ...] = ()
    min_commitment: Decimal | None = None
    inclusive: bool = False  # prices contain the tax

    @property
    def meter_ids(self) -> tuple[uuid.UUID, ...]:
        """Meters whose usage has to be known to bill."""
        return tuple(component.meter_id for component in self.metered if component.meter_id)

    @property
    def codes_as_used(self) -> frozenset[str]:
        """Metered components that are charged in advance: soon after the usage, not when the period is over."""
        return frozenset(component.code for component in self.metered if component.pay_in_advance)

    @property
    def recurring(self) -> tuple[Component, ...]:
        """What is charged in every period whatever is used."""
        return self.licensed + self.arrears

    @property
    def components(self) -> tuple[Component, ...]:
        """Everything that can be charged."""
        return self.licensed + self.arrears + self.metered + self.one_off

    @property
    def looks_back(self) -> bool:
        """Whether the terms of the days that have passed matter when they are charged."""
        return bool(
            self.arrears
            or self.min_commitment is not None
            or any(component.min_commitment is not None for component in self.metered)
        )

    def require(self) -> None:
        """Raise ``MissingPrice`` when there is nothing to charge by."""
        if not self.components:
            raise MissingPrice(currency=self.currency, field="currency")


@dataclass(frozen=True, slots=True)
class Moment:
    """What one billing moment charges: days [first_on, next_on) of ``period``, and usage in [usage_start, usage_end).

    ``again``: an earlier moment charged a part of the same period.
    """

    at: datetime
    period: Period
    part: Part
    first_on: date
    next_on: date
    start: datetime
    end: datetime
    usage_start: datetime | None = None
    usage_end: datetime | None = None
    again: bool = False

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

    def part_for(self, component: Component) -> Part:
        """The part that a component is charged for: one that is not prorated whole, or not at all when charged before."""
        if component.prorated:
            return self.part
        return _whole_or_nothing(self.part, again=self.again)


def _whole_or_nothing(part: Part, *, again: bool) -> Part:
    return Part(0, 0 if again or not part.days else part.total, part.total, part.unit)


def billing_moment(
    *,
    anchor_on: date,
    interval: str,
    interval_count: int,
    zone: ZoneInfo,
    next_billing_at: datetime,
    period_number: int = 0,
    period_start: datetime | None = None,
    usage_from: datetime | None = None,
    ends_at: datetime | None = None,
    proration: str = prorating.DAY,
    exact_start: bool = False,
) -> Moment:
    """What is charged at ``next_billing_at``. ``period_number`` is the subscription's present one: only a hint, for speed.

    ``period_start`` is where its last charge began: in the same period, so that what is whole is not charged twice.
    ``exact_start``: by the second even the first day of the period is charged from ``next_billing_at`` only.
    """
    found = periods.period(anchor=anchor_on, interval=interval, count=interval_count, n=period_number + 1, zone=zone)
    if not found.start <= next_billing_at < found.end:
        found = periods.period_containing(
            anchor=anchor_on, interval=interval, count=interval_count, at=next_billing_at, zone=zone
        )
    again = period_start is not None and period_start >= found.start
    start = next_billing_at
    if not again and not exact_start and periods.local_date(start, zone) == found.first_on:
        start = found.start
    end = found.end if ends_at is None else min(found.end, ends_at)
    span = span_of(found, start=start, end=end, proration=proration, zone=zone)
    part = _whole_or_nothing(span.part, again=again) if proration == prorating.NONE else span.part
    used = usage_from is not None and usage_from < next_billing_at
    return Moment(
        at=next_billing_at,
        period=found,
        part=part,
        first_on=span.first_on,
        next_on=span.next_on,
        start=span.start,
        end=span.end,
        again=again,
        usage_start=usage_from if used else None,
        usage_end=next_billing_at if used else None,
    )


def lines_in_advance(*, moment: Moment, book: PriceBook, quantity: int, is_first: bool = False) -> list[LineInput]:
    """What a billing moment charges ahead: components in advance, and with the first bill the one-off charges.

    Raises ``MissingPrice`` and what pricing raises.
    """
    book.require()
    lines = [_licensed_line(component, quantity, moment.first_on, moment.last_on, part)
             for component in book.licensed if (part := moment.part_for(component)).days]  # fmt: skip
    if is_first:
        lines += [line_of(component, component.price(quantity), moment.first_on, moment.first_on)
                  for component in book.one_off]  # fmt: skip
    return lines


@lru_cache(maxsize=4096)
def _licensed_line(component: Component, quantity: int, first_on: date, last_on: date, part: Part) -> LineInput:
    priced = component.price(quantity)
    if part.is_whole:
        return line_of(component, priced, first_on, last_on)
    amount = share(priced.amount, part)
    return part_line(component, priced, amount, part, f"{component.name} ({part})", first_on, last_on)


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
                "unit": part.unit,
                "days": part.days,
                "of": part.total,
                "quantity": f"{priced.quantity:f}",
                "unit_price": f"{priced.unit_price:f}",
                "whole": f"{priced.amount.amount:f}",
            },
        ),
    )


def line_of(
    component: Component,
    priced: pricing.PricedComponent,
    first_on: date,
    last_on: date,
    *,
    name: str = "",
    details: tuple[dict[str, Any], ...] | None = None,
) -> LineInput:
    """A line for a priced quantity, under the component's name unless there is another."""
    return LineInput(
        description=name or component.name,
        code=component.code,
        quantity=priced.quantity,
        unit=component.unit,
        unit_price=priced.unit_price,
        amount=priced.amount,
        tax_category=component.tax_category,
        period_start=first_on,
        period_end=last_on,
        details=tier_details(priced) if details is None else details,
    )


def tier_details(priced: pricing.PricedComponent) -> tuple[dict[str, Any], ...]:
    """Where the amount of a line comes from: its tiers, or the labelled parts of it."""
    return tuple(
        {
            **({"kind": "share_of_price", "label": tier.label} if tier.label else {"kind": "tier"}),
            "up_to": None if tier.up_to is None else f"{tier.up_to:f}",
            "quantity": f"{tier.quantity:f}",
            "unit_price": f"{tier.unit_price:f}",
            "flat_fee": f"{tier.flat_fee:f}",
            "amount": f"{tier.amount:f}",
            **({} if tier.rate is None else {"rate": f"{tier.rate:f}"}),
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
    *,
    payer: Payer,
    lines: Sequence[LineInput],
    period_start: date,
    period_end: date,
    issued_on: date,
    memo: str = "",
    inclusive: bool = False,
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
        prices_include_tax=inclusive,
        custom_fields=payer.custom_fields,
    )
