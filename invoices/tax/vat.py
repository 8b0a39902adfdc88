"""Value added tax of the EU by EN 16931's categories, and plain sales tax elsewhere. Pure; rates come as data.

Services between businesses are taxed where the buyer is (directive 2006/112, article 44): reverse charge across a border.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from invoices.tax.rates import Rate, TaxRule

if TYPE_CHECKING:
    from invoices.drafts import TaxContext

EU = frozenset(
    [
        "AT",
        "BE",
        "BG",
        "CY",
        "CZ",
        "DE",
        "DK",
        "EE",
        "ES",
        "FI",
        "FR",
        "GR",
        "HR",
        "HU",
        "IE",
        "IT",
        "LT",
        "LU",
        "LV",
        "MT",
        "NL",
        "PL",
        "PT",
        "RO",
        "SE",
        "SI",
        "SK",
    ]
)
VAT_COUNTRIES = EU | {"GB", "CH", "NO", "IS", "LI", "AE", "SA", "ZA"}


def place_of_supply(context: TaxContext) -> str:
    """The country the supply is made in: the buyer's, else the seller's when the buyer's is not on record."""
    return context.buyer.country or context.seller.country


def rule(context: TaxContext, category: str) -> TaxRule:
    """What is levied on ``category``. Raises ``MissingTaxRate``."""
    component = "VAT" if context.seller.country in VAT_COUNTRIES else "TAX"
    letter, reason = _treatment(context)
    rate = _rate(context, category)
    if letter != "S":
        return _nothing(letter, component, rate.code, reason)
    if rate.rate == 0:
        letter = "E" if rate.exemption_reason else "Z"
        return _nothing(letter, component, rate.code, rate.exemption_reason)
    return TaxRule(category="S", components=((component, rate.rate),), rate=rate.rate, code=rate.code)


def _treatment(context: TaxContext) -> tuple[str, str]:
    """Letter and reason by who buys from whom, before the rate is looked at."""
    seller, buyer = context.seller, context.buyer
    across = bool(buyer.country) and buyer.country != seller.country
    if buyer.treatment == "exempt":
        return "E", "Exempt from tax"
    if buyer.treatment == "reverse_charge" or (across and {seller.country, buyer.country} <= EU and buyer.registered):
        return "AE", "Reverse charge: VAT is payable by the recipient"
    if buyer.treatment == "export" or (across and not {seller.country, buyer.country} <= EU):
        return "G", "Supply outside of the seller's tax territory"
    return "S", ""


def _rate(context: TaxContext, category: str) -> Rate:
    """A consumer in another member state pays that state's rate where the seller keeps one (one-stop shop)."""
    rates, seller, buyer = context.rates, context.seller, context.buyer
    abroad = rates.find(category=category, country=buyer.country, region=buyer.region, on=context.on)
    if abroad is not None:
        return abroad
    region = buyer.region if buyer.country == seller.country else seller.region
    return rates.get(category=category, country=seller.country, region=region, on=context.on)


def _nothing(letter: str, component: str, code: str, reason: str) -> TaxRule:
    return TaxRule(
        category=letter,
        components=((component, Decimal(0)),),
        rate=Decimal(0),
        code=code,
        reason=reason,
        reverse_charge=letter == "AE",
    )
