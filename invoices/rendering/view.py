"""What a document's template sees: texts, already formatted. Nothing is decided in the template."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from billing.models import Organisation
from billing.places import state_name
from invoices.choices import COLOR, MAX_FOOTER
from invoices.models import CreditNote, Invoice
from invoices.rendering import formats, lines, parties, sums
from invoices.rendering.labels import labels
from invoices.rendering.lines import Line
from invoices.rendering.words import in_words

DEFAULT_COLOR = "#1f4e79"
Pair = tuple[str, str]


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
    seller: parties.Party
    buyer: parties.Party
    lines: list[Line]
    has_codes: bool
    has_quantities: bool
    taxes: list[sums.TaxRow]
    totals: list[Pair]
    highlight: Pair
    words: str
    payment: sums.Payment | None
    notes: list[str]
    footer: str
    label: Mapping[str, str] = field(repr=False, default_factory=dict)

    @property
    def columns(self) -> int:
        """How many columns the table of lines has."""
        return 4 + self.has_codes + 2 * self.has_quantities


def invoice_document(invoice: Invoice) -> Document:
    """The view of an invoice with customer, parties, lines and taxes loaded or loadable."""
    language = language_of(invoice)
    word = labels(language)
    seller = parties.seller_details(invoice.seller or invoice.organisation.party, invoice.organisation)
    state = _watermark(invoice)
    return Document(
        language=language,
        title=word[_title(invoice)],
        number=invoice.number,
        color=brand_color(invoice.organisation),
        watermark=word[state] if state else "",
        watermark_class=state.lower(),
        monogram=parties.monogram(seller["name"]),
        facts=_invoice_facts(invoice, language, word),
        seller=parties.printed(seller, language, word),
        buyer=parties.printed(parties.buyer_details(invoice), language, word),
        lines=[lines.printed(line, invoice.currency, language) for line in invoice.lines.all()],
        has_codes=invoice.organisation.country == "IN" and any(line.tax_code for line in invoice.lines.all()),
        has_quantities=True,
        taxes=[sums.tax_row(row, language, word) for row in invoice.taxes.all()],
        totals=sums.totals(invoice, language, word),
        highlight=(word["due"], formats.amount(sums.payable(invoice), language)),
        words=in_words(invoice.total, language),
        payment=sums.payment(invoice, seller, word),
        notes=_notes(invoice, word),
        footer=parties.footer(seller),
        label=word,
    )


def credit_note_document(note: CreditNote) -> Document:
    """The view of a credit note."""
    invoice = note.invoice
    language = language_of(invoice)
    word = labels(language)
    seller = parties.seller_details(invoice.seller or invoice.organisation.party, invoice.organisation)
    currency = note.currency
    return Document(
        language=language,
        title=word["credit_note"],
        number=note.number,
        color=brand_color(invoice.organisation),
        watermark="",
        watermark_class="",
        monogram=parties.monogram(seller["name"]),
        facts=[
            (word["number"], note.number),
            (word["issued_on"], formats.day(note.issued_on, language, currency)),
            (word["for_invoice"], f"{invoice.number}, {formats.day(invoice.issued_on, language, currency)}"),
            (word["reason"], note.reason),
        ],
        seller=parties.printed(seller, language, word),
        buyer=parties.printed(parties.buyer_details(invoice), language, word),
        lines=[lines.credited(row, currency, language) for row in note.lines],
        has_codes=False,
        has_quantities=False,
        taxes=[sums.credit_tax(row, currency, language, word) for row in note.taxes],
        totals=sums.credit_totals(note, language, word),
        highlight=(word["total"], formats.amount(note.total, language)),
        words=in_words(note.total, language),
        payment=None,
        notes=[word["computer"]] if seller.get("country") == "IN" else [],
        footer=parties.footer(seller),
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


def _invoice_facts(invoice: Invoice, language: str, word: Mapping[str, str]) -> list[Pair]:
    def day(value: Any) -> str:
        return formats.day(value, language, invoice.currency)

    facts = [
        (word["number"], invoice.number),
        (word["issued_on"], day(invoice.issued_on)),
        (word["due_on"], day(invoice.due_on)),
        (word["period"], lines.span(invoice, language, invoice.currency)),
        (word["place_of_supply"], _place(invoice, language)),
    ]
    facts += [(str(key)[:40], str(value)[:80]) for key, value in invoice.custom_fields.items()]
    return [(name, value) for name, value in facts if value]


def _place(invoice: Invoice, language: str) -> str:
    code = invoice.place_of_supply
    if state_name(code):
        return state_name(code)
    return formats.country(code, language) if code and invoice.buyer and code != invoice.organisation.country else ""


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
