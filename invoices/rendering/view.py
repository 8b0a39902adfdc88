"""What a document's template sees: texts, already formatted. Nothing is decided in the template."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.utils.safestring import SafeString, mark_safe
from moneyed import Money

from billing.models import BillingParty, Organisation
from invoices.choices import COLOR, MAX_FOOTER
from invoices.models import CreditNote, Invoice, InvoiceLine
from invoices.rendering import formats, qr
from invoices.rendering.labels import labels
from invoices.rendering.words import in_words
from invoices.tax import gst

TAX_IDS = {"gstin": "GSTIN", "pan": "PAN", "vat": "VAT", "tax": "Tax ID"}
DEFAULT_COLOR = "#1f4e79"
Pair = tuple[str, str]


@dataclass(frozen=True)
class Party:
    """A seller or buyer as printed."""

    name: str
    lines: list[str]
    ids: list[Pair]


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


@dataclass(frozen=True)
class TaxRow:
    """A row of the tax table."""

    component: str
    rate: str
    base: str
    tax: str
    note: str


@dataclass(frozen=True)
class Payment:
    """How to pay: a code and the bank's details."""

    svg: SafeString
    hint: str
    details: list[Pair]


@dataclass(frozen=True)
class Document:
    """Everything the template prints."""

    language: str
    title: str
    number: str
    color: str
    watermark: str
    watermark_class: str
    monogram: str
    facts: list[Pair]
    seller: Party
    buyer: Party
    lines: list[Line]
    has_codes: bool
    taxes: list[TaxRow]
    totals: list[Pair]
    highlight: Pair
    words: str
    payment: Payment | None
    notes: list[str]
    footer: str
    label: Mapping[str, str] = field(repr=False, default_factory=dict)


def invoice_document(invoice: Invoice) -> Document:
    """The view of an invoice with customer, parties, lines and taxes loaded or loadable."""
    language = language_of(invoice)
    word = labels(language)
    seller = _details(invoice.seller or invoice.organisation.party, invoice.organisation)
    state = _watermark(invoice)
    return Document(
        language=language,
        title=word[_title(invoice)],
        number=invoice.number,
        color=brand_color(invoice.organisation),
        watermark=word[state] if state else "",
        watermark_class=state.lower(),
        monogram=_monogram(seller["name"]),
        facts=_invoice_facts(invoice, language, word),
        seller=_party(seller, language, word),
        buyer=_party(_buyer_details(invoice), language, word),
        lines=[_line(line, invoice.currency, language) for line in invoice.lines.all()],
        has_codes=invoice.organisation.country == "IN" and any(line.tax_code for line in invoice.lines.all()),
        taxes=[_tax_row(row, language, word) for row in invoice.taxes.all()],
        totals=_totals(invoice, language, word),
        highlight=(word["due"], formats.amount(_payable(invoice), language)),
        words=in_words(invoice.total, language),
        payment=_payment(invoice, seller, word),
        notes=_notes(invoice, word),
        footer=_footer(seller),
        label=word,
    )


def credit_note_document(note: CreditNote) -> Document:
    """The view of a credit note."""
    invoice = note.invoice
    language = language_of(invoice)
    word = labels(language)
    seller = _details(invoice.seller or invoice.organisation.party, invoice.organisation)
    currency = note.currency
    return Document(
        language=language,
        title=word["credit_note"],
        number=note.number,
        color=brand_color(invoice.organisation),
        watermark="",
        watermark_class="",
        monogram=_monogram(seller["name"]),
        facts=[
            (word["number"], note.number),
            (word["issued_on"], formats.day(note.issued_on, language, currency)),
            (word["for_invoice"], f"{invoice.number}, {formats.day(invoice.issued_on, language, currency)}"),
            (word["reason"], note.reason),
        ],
        seller=_party(seller, language, word),
        buyer=_party(_buyer_details(invoice), language, word),
        lines=[_credit_line(row, currency, language) for row in note.lines],
        has_codes=False,
        taxes=[_credit_tax(row, currency, language, word) for row in note.taxes],
        totals=_credit_totals(note, language, word),
        highlight=(word["total"], formats.amount(note.total, language)),
        words=in_words(note.total, language),
        payment=None,
        notes=[word["computer"]] if seller.get("country") == "IN" else [],
        footer=_footer(seller),
        label=word,
    )


def language_of(invoice: Invoice) -> str:
    """The customer's language, else the organisation's."""
    return (invoice.customer.language or invoice.organisation.language or "en").split("-")[0].lower()


def brand_color(organisation: Organisation) -> str:
    """The organisation's colour; only a plain ``#rrggbb`` is taken."""
    color = str(organisation.settings.get("brand_color", ""))
    return color if COLOR.fullmatch(color) else DEFAULT_COLOR


def _title(invoice: Invoice) -> str:
    if invoice.status == Invoice.Status.DRAFT:
        return "draft_invoice"
    rows = list(invoice.taxes.all())
    if any(row.component == "GST" for row in rows) and not any(row.rate for row in rows):
        return "bill_of_supply"
    return "tax_invoice" if rows else "invoice"


def _watermark(invoice: Invoice) -> str:
    if invoice.status in (Invoice.Status.DRAFT, Invoice.Status.VOID):
        return invoice.status.upper()
    if invoice.status == Invoice.Status.PAID and invoice.total.amount:
        return "CREDITED" if invoice.credited == invoice.total else "PAID"
    return ""


def _payable(invoice: Invoice) -> Money:
    """What is due now: nothing on a void or written-off invoice."""
    closed = (Invoice.Status.VOID, Invoice.Status.UNCOLLECTIBLE)
    return Money(0, invoice.currency) if invoice.status in closed else invoice.due


def _invoice_facts(invoice: Invoice, language: str, word: Mapping[str, str]) -> list[Pair]:
    def day(value: Any) -> str:
        return formats.day(value, language, invoice.currency)

    facts = [
        (word["number"], invoice.number),
        (word["issued_on"], day(invoice.issued_on)),
        (word["due_on"], day(invoice.due_on)),
        (word["period"], _span(invoice, language, invoice.currency)),
        (word["place_of_supply"], _place(invoice, language)),
    ]
    facts += [(str(key)[:40], str(value)[:80]) for key, value in invoice.custom_fields.items()]
    return [(name, value) for name, value in facts if value]


def _place(invoice: Invoice, language: str) -> str:
    code = invoice.place_of_supply
    if code in gst.STATES:
        return f"{gst.state_name(code)} ({code})"
    return formats.country(code, language) if code and invoice.buyer and code != invoice.organisation.country else ""


def _details(party: BillingParty | None, organisation: Organisation) -> dict[str, Any]:
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


def _buyer_details(invoice: Invoice) -> dict[str, Any]:
    party = invoice.buyer or invoice.customer.party
    if party is None:
        return {"name": invoice.customer.name}
    return {"name": invoice.customer.name, "country": party.country, **_of(party)}


def _party(details: Mapping[str, Any], language: str, word: Mapping[str, str]) -> Party:
    address = details.get("address") or {}
    country = str(address.get("country") or details.get("country") or "")
    region = str(address.get("region") or "")
    city = " ".join(
        str(address.get(key) or "") for key in (("city", "postal_code") if country == "IN" else ("postal_code", "city"))
    )
    if country == "IN" and gst.state_code(region):
        code = gst.state_code(region)
        region = f"{gst.state_name(code)} ({code})"
    lines = [str(address.get("line1") or ""), str(address.get("line2") or ""), city.strip(), region]
    lines += [formats.country(country, language) if country else "", str(details.get("email") or "")]
    if details.get("phone"):
        lines.append(f"{word['phone']} {details['phone']}")
    ids = [
        (TAX_IDS.get(kind, kind.upper()), str(value)) for kind, value in (details.get("tax_ids") or {}).items() if value
    ]
    return Party(name=str(details.get("name") or ""), lines=[line for line in lines if line], ids=ids)


def _span(row: Invoice | InvoiceLine, language: str, currency: str) -> str:
    """The days that are charged; a single one once."""
    if not (row.period_start and row.period_end):
        return ""
    start, end = (formats.day(value, language, currency) for value in (row.period_start, row.period_end))
    return f"{start} – {end}" if start != end else start


def _line(line: InvoiceLine, currency: str, language: str) -> Line:
    span = _span(line, language, currency)
    notes = [span] if span else []
    tiers = _tier_notes(line.details, currency, language)
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


def _tier_notes(details: Any, currency: str, language: str) -> list[str]:
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


def _tax_row(row: Any, language: str, word: Mapping[str, str]) -> TaxRow:
    note = word.get(f"reason_{row.category}", row.reason)
    if row.reverse_charged.amount:
        note = f"{formats.amount(row.reverse_charged, language)} {word['reverse_charge_tax']}"
    return TaxRow(
        component=word.get(row.component, row.component),
        rate=formats.percent(row.rate, language),
        base=formats.number(row.base, language),
        tax=formats.number(row.tax, language),
        note=note,
    )


def _totals(invoice: Invoice, language: str, word: Mapping[str, str]) -> list[Pair]:
    def optional(name: str, value: Money) -> Iterable[Pair]:
        return [(word[name], formats.amount(value, language))] if value.amount else []

    return [
        (word["subtotal"], formats.amount(invoice.net, language)),
        (word["tax"], formats.amount(invoice.tax, language)),
        *optional("rounding", invoice.rounding),
        (word["total"], formats.amount(invoice.total, language)),
        *optional("paid", -invoice.paid),
        *optional("credited", -invoice.credited),
        *(optional("written_off", -invoice.due) if invoice.status == Invoice.Status.UNCOLLECTIBLE else ()),
    ]


def _payment(invoice: Invoice, seller: Mapping[str, Any], word: Mapping[str, str]) -> Payment | None:
    if invoice.status not in (Invoice.Status.OPEN, Invoice.Status.PARTIALLY_PAID):
        return None
    payload = qr.payment_payload(seller=dict(seller), invoice_id=invoice.pk, number=invoice.number, due=invoice.due)
    bank = seller.get("bank") or {}
    details = [
        ("UPI", seller.get("upi_id") if invoice.currency == "INR" else ""),
        (word["bank"], bank.get("name")),
        ("IBAN", _grouped(bank.get("iban"))),
        ("BIC", bank.get("bic")),
        (word["account"], bank.get("account")),
        ("IFSC", bank.get("ifsc")),
        (word["reference"], invoice.number),
    ]
    printed = [(name, str(value)) for name, value in details if value]
    if not payload and len(printed) == 1:
        return None
    hint = word["pay_upi" if payload.startswith("upi:") else "pay_epc"] if payload else ""
    return Payment(svg=mark_safe(qr.svg(payload)), hint=hint, details=printed)  # noqa: S308  our own drawing


def _grouped(iban: Any) -> str:
    text = str(iban or "").replace(" ", "")
    return " ".join(text[i : i + 4] for i in range(0, len(text), 4))


def _notes(invoice: Invoice, word: Mapping[str, str]) -> list[str]:
    custom = str(invoice.organisation.settings.get("invoice_footer", ""))[:MAX_FOOTER]
    india = invoice.organisation.country == "IN"
    notes = [
        word["reverse_charge"] if invoice.reverse_charge else "",
        word["inclusive"] if invoice.prices_include_tax else "",
        invoice.memo,
        custom,
        word["computer"] if india else "",
    ]
    return [note for note in notes if note]


def _footer(seller: Mapping[str, Any]) -> str:
    ids = seller.get("tax_ids") or {}
    parts = [str(seller.get("name") or ""), *(f"{TAX_IDS.get(k, k.upper())} {v}" for k, v in ids.items() if v)]
    return " · ".join([*parts, *(str(seller[key]) for key in ("email",) if seller.get(key))])


def _monogram(name: str) -> str:
    words = [word for word in name.split() if word[0].isalnum()] or [name or "?"]
    return "".join(word[0] for word in words[:2]).upper()


def _credit_line(row: Mapping[str, Any], currency: str, language: str) -> Line:
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


def _credit_tax(row: Mapping[str, Any], currency: str, language: str, word: Mapping[str, str]) -> TaxRow:
    return TaxRow(
        component=word.get(row["component"], row["component"]),
        rate=formats.percent(Decimal(row["rate"]), language),
        base=formats.number(Money(row["base"], currency), language),
        tax=formats.number(Money(row["tax"], currency), language),
        note="",
    )


def _credit_totals(note: CreditNote, language: str, word: Mapping[str, str]) -> list[Pair]:
    pairs = [("subtotal", note.net), ("tax", note.tax), ("rounding", note.rounding), ("total", note.total)]
    pairs += [("reduced_due", note.reduced_due), ("to_credit", note.to_credit)]
    always = ("subtotal", "tax", "total")
    return [(word[name], formats.amount(value, language)) for name, value in pairs if value.amount or name in always]
