"""The table of lines: what was sold, with the days, tiers and coupons that explain an amount."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from moneyed import Money

from billing.dates import span_in_words
from invoices.models import Invoice, InvoiceLine
from invoices.rendering import formats
from invoices.rendering.labels import labels


@dataclass(frozen=True)
class Line:
    """A row of the table of lines."""

    position: int
    description: str
    notes: list[str]
    code: str
    quantity: str
    unit_price: str
    tax_rate: str
    amount: str


def span(row: Invoice | InvoiceLine, language: str, currency: str) -> str:
    """The days that are charged; a single one once."""
    if not (row.period_start and row.period_end):
        return ""
    start, end = (formats.day(value, language, currency) for value in (row.period_start, row.period_end))
    return f"{start} – {end}" if start != end else start


def _names_its_days(line: InvoiceLine) -> bool:
    """Whether its words say the days already, as those of late usage do: they are said once."""
    if not (line.period_start and line.period_end):
        return False
    return span_in_words(line.period_start, line.period_end) in line.description


def printed(line: InvoiceLine, currency: str, language: str) -> Line:
    days = "" if _names_its_days(line) else span(line, language, currency)
    notes = [days] if days else []
    tiers = tier_notes(line.details, currency, language)
    quantity = formats.quantity(line.quantity, language, currency)
    return Line(
        position=line.position,
        description=line.description,
        notes=notes + tiers + _discount_notes(line.details, currency, language),
        code=line.tax_code,
        quantity=f"{quantity} {line.unit}".strip(),
        unit_price=""
        if tiers
        else formats.unit_price(line.unit_price, currency, language),  # several; the notes say which
        tax_rate=formats.percent(line.tax_rate, language) if line.tax_letter != "O" else "–",
        amount=formats.number(line.amount, language),
    )


def tier_notes(details: Any, currency: str, language: str) -> list[str]:
    """One line per tier or other part of the price that was used; other details are for programs."""
    shown = [
        item
        for item in (details if isinstance(details, list) else [])
        if isinstance(item, dict)
        and item.get("kind") in ("tier", "share_of_price")
        and Decimal(item.get("quantity") or 0)
    ]
    if len(shown) < 2 and not any(item["kind"] == "share_of_price" for item in shown):
        return []
    return [_tier_note(item, currency, language) for item in shown]


def _tier_note(item: Mapping[str, Any], currency: str, language: str) -> str:
    """``1,500 × 0.02 + 5 = 35.00``, ``5,000 × 2.5 % = 125.00``, ``10,000 free``, ``3 packages × 4.00 = 12.00``.

    What limits per event added or took off is their name and an amount.
    """
    word, label = labels(language), item.get("label")
    amount = formats.number(Money(item["amount"], currency), language)
    if label == "limits":
        return f"{word['limits']}: {amount}"
    count = formats.quantity(Decimal(item["quantity"]), language, currency)
    if not Decimal(item["amount"]) and not Decimal(item.get("flat_fee") or 0):
        return f"{count} {word['free']}"
    rate = item.get("rate")
    price = formats.unit_price(Decimal(item["unit_price"]), currency, language)
    packages = word["package" if Decimal(item["quantity"]) == 1 else "packages"]
    text = f"{count} {packages} × " if label == "package" else f"{count} × "
    text += formats.percent(Decimal(rate), language) if rate else price
    if Decimal(item.get("flat_fee") or 0):
        text += f" + {formats.unit_price(Decimal(item['flat_fee']), currency, language)}"
    return f"{text} = {amount}"


def _discount_notes(details: Any, currency: str, language: str) -> list[str]:
    """One line per coupon: its name and what it took off."""
    found = [item for item in details or () if isinstance(item, dict) and item.get("kind") == "discount"]
    return [f"{item['name']}: {formats.number(Money('-' + item['amount'], currency), language)}" for item in found]


def credited(row: Mapping[str, Any], currency: str, language: str) -> Line:
    amount = Money(row["amount"], currency)
    return Line(
        position=row["position"],
        description=row["description"],
        notes=[],
        code="",
        quantity="",
        unit_price="",
        tax_rate=formats.percent(Decimal(row["tax_rate"]), language),
        amount=formats.number(amount, language),
    )
