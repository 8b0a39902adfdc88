"""What an invoice is made of before it has a number, and what pricing makes of it. Values only; no database.

Amounts inside ``Priced…`` are decimals in the invoice's one ``currency``, like the columns of its row.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from moneyed import Money

from invoices.tax.rates import RateTable

ONE = Decimal(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineInput:
    """One line to be: ``amount`` is what quantity and price came to, rounded once, discounts taken off.

    With ``InvoiceDraft.prices_include_tax`` the amount contains the tax. An empty ``tax_category`` is outside of tax.
    ``subscription_ref`` says whose line it is on an invoice of several subscriptions.
    """

    description: str
    amount: Money
    code: str = ""
    quantity: Decimal = ONE
    unit: str = ""
    unit_price: Decimal | None = None
    tax_category: str = ""
    tax_code: str = ""
    period_start: date | None = None
    period_end: date | None = None
    revenue_account: str = "revenue"
    details: Sequence[Any] = ()
    subscription_ref: uuid.UUID | None = None

    @property
    def price(self) -> Decimal:
        """Price of one unit; without one, the whole amount."""
        return self.amount.amount if self.unit_price is None else self.unit_price


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceDraft:
    """One invoice to be. ``period_end`` is the last day; ``issued_on`` empty means today in the organisation's zone."""

    customer_id: uuid.UUID
    currency: str
    lines: Sequence[LineInput]
    origin: str = "manual"
    subscription_ref: uuid.UUID | None = None
    period_start: date | None = None
    period_end: date | None = None
    issued_on: date | None = None
    net_days: int | None = None
    collect_automatically: bool = True
    method_ref: uuid.UUID | None = None
    memo: str = ""
    prices_include_tax: bool = False
    custom_fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Place:
    """What tax rules need to know of a seller or buyer."""

    country: str
    region: str = ""
    registered: bool = False
    treatment: str = "standard"


@dataclass(frozen=True, kw_only=True)
class TaxContext:
    """Who sells to whom on which day, under which rates. Contexts of equal buyers are shared within one run."""

    seller: Place
    buyer: Place
    on: date
    rates: RateTable
    export_with_tax: bool = False
    seller_party_id: uuid.UUID | None = None
    rules: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class PricedLine:
    """A line with its tax: ``amount`` is without tax, ``parts`` the tax by component.

    ``revenue_account`` is ``deferred_revenue`` when the line is billed for more than a month.
    """

    position: int
    given: LineInput
    amount: Decimal
    tax: Decimal
    tax_rate: Decimal
    tax_code: str
    parts: tuple[tuple[str, Decimal], ...]
    revenue_account: str
    tax_letter: str


@dataclass(frozen=True, slots=True)
class PricedTax:
    """A row of the tax table. ``reverse_charged`` is the tax that the buyer owes instead of paying it here."""

    component: str
    category: str
    rate: Decimal
    base: Decimal
    tax: Decimal
    reverse_charged: Decimal
    reason: str


@dataclass(frozen=True, slots=True)
class PricedInvoice:
    """Totals by EN 16931: net = sum of lines, total = net + tax + rounding."""

    currency: str
    lines: tuple[PricedLine, ...]
    taxes: tuple[PricedTax, ...]
    net: Decimal
    tax: Decimal
    rounding: Decimal
    total: Decimal
    place_of_supply: str
    reverse_charge: bool
    prices_include_tax: bool

    def money(self, value: Decimal) -> Money:
        """``value`` as money of this invoice."""
        return Money(value, self.currency)
