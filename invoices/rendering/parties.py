"""Who sells and who buys, as documents print them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from billing.models import BillingParty, Organisation
from billing.places import INDIA, region_name
from invoices.models import Invoice
from invoices.rendering import formats

TAX_IDS = {"gstin": "GSTIN", "pan": "PAN", "vat": "VAT", "tax": "Tax ID"}
Pair = tuple[str, str]


@dataclass(frozen=True)
class Party:
    """A seller or buyer as printed."""

    name: str
    lines: list[str]
    ids: list[Pair]


def seller_details(party: BillingParty | None, organisation: Organisation) -> dict[str, Any]:
    if party is None:
        return {
            "name": organisation.name,
            "country": organisation.country,
            "address": {"country": organisation.country},
        }
    return {"name": organisation.name, "country": party.country, **_of(party)}


def _of(party: BillingParty) -> dict[str, Any]:
    details: Any = party.details
    return details or {}


def buyer_details(invoice: Invoice) -> dict[str, Any]:
    party = invoice.buyer or invoice.customer.party
    if party is None:
        return {"name": invoice.customer.name}
    return {"name": invoice.customer.name, "country": party.country, **_of(party)}


def printed(details: Mapping[str, Any], language: str, word: Mapping[str, str]) -> Party:
    address = details.get("address") or {}
    country = str(address.get("country") or details.get("country") or "")
    region = region_name(country, str(address.get("region") or ""))
    city = " ".join(
        str(address.get(key) or "")
        for key in (("city", "postal_code") if country == INDIA else ("postal_code", "city"))
    )
    lines = [str(address.get("line1") or ""), str(address.get("line2") or ""), city.strip(), region]
    lines += [formats.country(country, language) if country else "", str(details.get("email") or "")]
    if details.get("phone"):
        lines.append(f"{word['phone']} {details['phone']}")
    ids = [
        (TAX_IDS.get(kind, kind.upper()), str(value)) for kind, value in (details.get("tax_ids") or {}).items() if value
    ]
    return Party(name=str(details.get("name") or ""), lines=[line for line in lines if line], ids=ids)


def footer(seller: Mapping[str, Any]) -> str:
    ids = seller.get("tax_ids") or {}
    parts = [str(seller.get("name") or ""), *(f"{TAX_IDS.get(k, k.upper())} {v}" for k, v in ids.items() if v)]
    return " · ".join([*parts, *(str(seller[key]) for key in ("email",) if seller.get(key))])


def monogram(name: str) -> str:
    words = [word for word in name.split() if word[0].isalnum()] or [name or "?"]
    return "".join(word[0] for word in words[:2]).upper()
