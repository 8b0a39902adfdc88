"""India's goods and services tax: which tax, where, how much. Pure; rates come as data.

IGST Act sections 7, 8, 12, 13 and 16; CGST Act section 9.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from billing.places import ABROAD, state_code
from invoices.tax.rates import TaxRule

if TYPE_CHECKING:
    from invoices.drafts import TaxContext

UNION_TERRITORIES = frozenset({"04", "26", "31", "35", "38", "97"})  # without a legislature: UTGST instead of SGST


def place_of_supply(context: TaxContext) -> str:
    """Two digits: 96 abroad, the buyer's state at home, the supplier's when the buyer's is not on record."""
    if context.buyer.country != "IN":
        return ABROAD
    return state_code(context.buyer.region) or state_code(context.seller.region)


def between_states(context: TaxContext) -> bool:
    """Whether the supply counts as inter-state: other state, other country, or a special economic zone."""
    return context.buyer.treatment == "sez" or place_of_supply(context) != state_code(context.seller.region)


def rule(context: TaxContext, category: str) -> TaxRule:
    """What is levied on ``category``. Raises ``MissingTaxRate``."""
    rate = context.rates.get(category=category, country="IN", region="", on=context.on)
    if context.buyer.treatment == "exempt":
        return _untaxed("GST", "E", rate.code, "Supply exempt from GST")
    if rate.rate == 0:
        letter = "E" if rate.exemption_reason else "Z"
        return _untaxed("GST", letter, rate.code, rate.exemption_reason or "Nil rated supply")
    zero_rated = context.buyer.treatment in ("sez", "export") or place_of_supply(context) == ABROAD
    if zero_rated and not context.export_with_tax:
        return _untaxed("IGST", "G", rate.code, "Supply under letter of undertaking without payment of IGST")
    reverse = context.buyer.treatment == "reverse_charge"
    return TaxRule(
        category="AE" if reverse else "S",
        components=_components(context, rate.rate),
        rate=rate.rate,
        code=rate.code,
        reason="Tax payable on reverse charge" if reverse else "",
        reverse_charge=reverse,
    )


def _components(context: TaxContext, rate: Decimal) -> tuple[tuple[str, Decimal], ...]:
    if between_states(context):
        return (("IGST", rate),)
    local = "UTGST" if state_code(context.seller.region) in UNION_TERRITORIES else "SGST"
    return (("CGST", rate / 2), (local, rate / 2))


def _untaxed(component: str, letter: str, code: str, reason: str) -> TaxRule:
    return TaxRule(category=letter, components=((component, Decimal(0)),), rate=Decimal(0), code=code, reason=reason)
