"""A plan version that is being written: priced as it would be billed, before it is saved. Writes nothing."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from billing.models import Organisation
from subscriptions.lines import PriceBook
from subscriptions.selectors import FILTER_COLUMNS, PRICE_COLUMNS, PriceBooks
from subscriptions.services.catalog_prices import PriceInput, checked_prices
from subscriptions.services.quoting import Measured, Quote, quote_book

STEPS = (Decimal("0.5"), Decimal(1), Decimal(2), Decimal(5), Decimal(10), Decimal(100))


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the draft is priced for: a quantity, add-ons and usage by component."""

    quantity: int = 1
    add_ons: Mapping[str, int]
    usage: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftQuote:
    """What the draft costs in one currency for the sample, and for multiples of its usage and quantity."""

    quote: Quote
    steps: tuple[tuple[Decimal, Quote], ...]


def quote_draft(
    *,
    organisation: Organisation,
    interval: str,
    interval_count: int,
    prices: Sequence[PriceInput],
    min_commitment: Mapping[str, Any] | None,
    sample: Sample,
    plan_code: str = "draft",
) -> list[DraftQuote]:
    """Price a draft in each of its currencies. Raises what saving it would raise."""
    checked = checked_prices(organisation_id=organisation.pk, prices=prices, min_commitment=min_commitment)
    version_id = uuid.uuid4()
    books = PriceBooks(
        [{"id": version_id, "min_commitment": checked.min_commitment, "plan__code": plan_code, "plan__interval": interval,
          "plan__interval_count": interval_count, "plan__prices_include_tax": False}],
        [{**{name: getattr(price, name) for name in PRICE_COLUMNS if name != "version_id"}, "version_id": version_id}
         for price in checked.prices],
        [{name: getattr(one, name) for name in FILTER_COLUMNS} for one in checked.filters],
    )  # fmt: skip
    taken = {code: quantity for code, quantity in sample.add_ons.items() if quantity}
    found = []
    for currency in dict.fromkeys(price.currency for price in checked.prices):
        book = books.get(version_id, currency, taken)
        steps = tuple((step, _at(book, sample, step)) for step in STEPS if sample.quantity * step >= 1)
        found.append(DraftQuote(quote=_at(book, sample, Decimal(1)), steps=steps))
    return found


def _at(book: PriceBook, sample: Sample, step: Decimal) -> Quote:
    """The draft's price for a multiple of the sample; quantities are whole."""
    usage = [
        Measured(
            component=component.code,
            quantity=(quantity := sample.usage.get(component.code, Decimal(0)) * step),
            events=1 if quantity else 0,
            amount=quantity,
        )
        for component in book.metered
    ]
    return quote_book(book=book, quantity=max(int(sample.quantity * step), 1), usage=usage)
