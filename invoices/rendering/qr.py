"""QR codes that pay: UPI in India, EPC (Girocode) in the euro area. Payloads are pure; the picture is an SVG of one path."""

import uuid
from io import BytesIO
from typing import Any
from urllib.parse import quote

import segno
from moneyed import Money

from billing.money import quantize


def upi_reference(invoice_id: uuid.UUID) -> str:
    """``tr`` of an invoice: 32 letters and digits, its id."""
    return invoice_id.hex


def upi_payload(*, address: str, name: str, reference: str, note: str, due: Money) -> str:
    """A UPI link (NPCI linking specification 1.6); every value percent-encoded, two decimals."""
    values = {
        "pa": address,
        "pn": name,
        "tr": reference,
        "tn": note,
        "am": f"{quantize(due.amount, 'INR'):f}",
        "cu": "INR",
    }
    return "upi://pay?" + "&".join(f"{key}={quote(value, safe='')}" for key, value in values.items())


def epc_payload(*, name: str, iban: str, bic: str, reference: str, due: Money) -> str:
    """A SEPA credit transfer (EPC069-12, version 2, UTF-8)."""
    lines = [
        "BCD",
        "002",
        "1",
        "SCT",
        bic.replace(" ", ""),
        name[:70],
        iban.replace(" ", ""),
        f"EUR{quantize(due.amount, 'EUR'):f}",
        "",
        "",
        reference[:140],
    ]
    return "\n".join(lines)


def payment_payload(*, seller: dict[str, Any], invoice_id: uuid.UUID, number: str, due: Money) -> str:
    """What the QR code of an invoice says: nothing when nothing is due or the seller gave no address to pay to."""
    bank = seller.get("bank") or {}
    name = str(seller.get("name", ""))
    if due.amount <= 0:
        return ""
    if due.currency.code == "INR" and seller.get("upi_id"):
        return upi_payload(
            address=seller["upi_id"], name=name, reference=upi_reference(invoice_id), note=f"Invoice {number}", due=due
        )
    if due.currency.code == "EUR" and bank.get("iban"):
        return epc_payload(name=name, iban=bank["iban"], bic=bank.get("bic", ""), reference=number, due=due)
    return ""


def svg(payload: str) -> str:
    """The code as an inline SVG; empty for an empty payload."""
    if not payload:
        return ""
    out = BytesIO()
    segno.make(payload, error="m", micro=False).save(
        out, kind="svg", xmldecl=False, svgns=True, nl=False, border=0, omitsize=True, dark="#111827"
    )
    return out.getvalue().decode()
