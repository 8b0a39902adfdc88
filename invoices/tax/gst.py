"""India's goods and services tax: which tax, where, how much. Pure; rates come as data.

IGST Act sections 7, 8, 12, 13 and 16; CGST Act section 9.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from invoices.tax.rates import TaxRule

if TYPE_CHECKING:
    from invoices.drafts import TaxContext

ABROAD = "96"
UNION_TERRITORIES = frozenset({"04", "26", "31", "35", "38", "97"})  # without a legislature: UTGST instead of SGST

# code: (ISO 3166-2, name). 25 and 28 are no longer given.
STATES: dict[str, tuple[str, str]] = {
    "01": ("JK", "Jammu and Kashmir"), "02": ("HP", "Himachal Pradesh"), "03": ("PB", "Punjab"),
    "04": ("CH", "Chandigarh"), "05": ("UT", "Uttarakhand"), "06": ("HR", "Haryana"), "07": ("DL", "Delhi"),
    "08": ("RJ", "Rajasthan"), "09": ("UP", "Uttar Pradesh"), "10": ("BR", "Bihar"), "11": ("SK", "Sikkim"),
    "12": ("AR", "Arunachal Pradesh"), "13": ("NL", "Nagaland"), "14": ("MN", "Manipur"), "15": ("MZ", "Mizoram"),
    "16": ("TR", "Tripura"), "17": ("ML", "Meghalaya"), "18": ("AS", "Assam"), "19": ("WB", "West Bengal"),
    "20": ("JH", "Jharkhand"), "21": ("OD", "Odisha"), "22": ("CG", "Chhattisgarh"), "23": ("MP", "Madhya Pradesh"),
    "24": ("GJ", "Gujarat"), "26": ("DH", "Dadra and Nagar Haveli and Daman and Diu"), "27": ("MH", "Maharashtra"),
    "29": ("KA", "Karnataka"), "30": ("GA", "Goa"), "31": ("LD", "Lakshadweep"), "32": ("KL", "Kerala"),
    "33": ("TN", "Tamil Nadu"), "34": ("PY", "Puducherry"), "35": ("AN", "Andaman and Nicobar Islands"),
    "36": ("TS", "Telangana"), "37": ("AP", "Andhra Pradesh"), "38": ("LA", "Ladakh"), "97": ("OT", "Other Territory"),
    "96": ("XX", "Other Country"),
}  # fmt: skip
_BY_ISO = {iso: code for code, (iso, _) in STATES.items()} | {"OR": "21", "CT": "22", "TG": "36", "UK": "05"}


def state_code(region: str) -> str:
    """The two digits of a state given by them or by its ISO code; empty when it is neither."""
    region = region.strip().upper().removeprefix("IN-")
    return region if region in STATES else _BY_ISO.get(region, "")


def state_name(code: str) -> str:
    """Name of the state with the two digits ``code``."""
    return STATES[code][1] if code in STATES else ""


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
