"""From lines on the wire to what pricing takes, and back for previews."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from moneyed import Money

from billing.errors import InvalidAmount
from billing.money import MAX_AMOUNT, currency_of, quantize
from invoices.drafts import InvoiceDraft, LineInput, PricedInvoice


def line_inputs(rows: Sequence[Mapping[str, Any]], currency: str) -> list[LineInput]:
    """Lines with quantity × unit price rounded once, half up, to the currency's minor unit."""
    code = currency_of(currency).code
    return [_line_input(row, code) for row in rows]


def _line_input(row: Mapping[str, Any], code: str) -> LineInput:
    exact = Decimal(row["quantity"]) * row["unit_price"]
    if abs(exact) > MAX_AMOUNT:
        raise InvalidAmount("Quantity × unit price is larger than an amount can be.", field="lines")
    return LineInput(
        description=row["description"],
        amount=Money(quantize(exact, code), code),
        quantity=Decimal(row["quantity"]),
        unit=row["unit"],
        unit_price=row["unit_price"],
        tax_category=row["tax_category"],
        period_start=row["period_start"],
        period_end=row["period_end"],
    )


def draft_from(given: Mapping[str, Any]) -> InvoiceDraft:
    """The draft that an ``InvoiceInput`` describes."""
    code = currency_of(given["currency"]).code
    return InvoiceDraft(
        customer_id=given["customer"],
        currency=code,
        lines=line_inputs(given["lines"], code),
        issued_on=given["issued_on"],
        net_days=given["net_days"],
        collect_automatically=given["collect_automatically"],
        memo=given["memo"],
        prices_include_tax=given["prices_include_tax"],
        custom_fields=given["custom_fields"],
    )


def preview_of(priced: PricedInvoice) -> dict[str, Any]:
    """A priced invoice as ``PreviewSerializer`` shows it."""
    money = priced.money
    return {
        "currency": priced.currency,
        "lines": [
            {
                "position": line.position,
                "description": line.given.description,
                "code": line.given.code,
                "quantity": line.given.quantity,
                "unit": line.given.unit,
                "unit_price": line.given.price,
                "amount": money(line.amount),
                "tax_category": line.given.tax_category,
                "tax_code": line.tax_code,
                "tax_rate": line.tax_rate,
                "tax": money(line.tax),
                "period_start": line.given.period_start,
                "period_end": line.given.period_end,
                "details": list(line.given.details),
            }
            for line in priced.lines
        ],
        "taxes": [
            {
                "component": row.component,
                "category": row.category,
                "rate": row.rate,
                "base": money(row.base),
                "tax": money(row.tax),
                "reason": row.reason,
            }
            for row in priced.taxes
        ],
        "net": money(priced.net),
        "tax": money(priced.tax),
        "rounding": money(priced.rounding),
        "total": money(priced.total),
        "place_of_supply": priced.place_of_supply,
        "reverse_charge": priced.reverse_charge,
    }
