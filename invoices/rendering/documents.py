"""Invoices and credit notes as PDF, drawn from their rows whenever somebody asks; nothing is stored."""

import uuid
from typing import Any

from django.template.loader import render_to_string

from billing.models import Organisation
from invoices import choices
from invoices.models import CreditNote, Invoice
from invoices.rendering import engine
from invoices.rendering.view import Document, credit_note_document, invoice_document


def render_invoice(invoice_id: uuid.UUID) -> bytes:
    """The invoice as it stands now: what is due, and the state as watermark. Raises ``Invoice.DoesNotExist``."""
    invoice = (
        Invoice.objects.select_related("organisation__party", "customer__party", "buyer", "seller")
        .prefetch_related("lines", "taxes")
        .get(pk=invoice_id)
    )
    return _draw(invoice_document(invoice), invoice.organisation)


def render_credit_note(note_id: uuid.UUID) -> bytes:
    """The credit note. Raises ``CreditNote.DoesNotExist``."""
    note = CreditNote.objects.select_related(
        "organisation", "invoice__organisation__party", "invoice__customer__party", "invoice__buyer", "invoice__seller"
    ).get(pk=note_id)
    return _draw(credit_note_document(note), note.organisation)


def invoice_html(invoice: Invoice) -> str:
    """The page before it becomes a PDF."""
    return render_to_string("invoices/document.html", {"doc": invoice_document(invoice)})


def logo_of(organisation: Organisation) -> tuple[str, bytes] | None:
    """The organisation's logo, a PNG or JPEG data URI in its settings; anything else is no logo."""
    return choices.read_logo(str(organisation.settings.get("logo", "")))


def _draw(document: Document, organisation: Organisation) -> bytes:
    logo = logo_of(organisation)
    context: dict[str, Any] = {"doc": document, "has_logo": logo is not None}
    html = render_to_string("invoices/document.html", context)
    return engine.pdf(html, {"logo": logo} if logo else {})
