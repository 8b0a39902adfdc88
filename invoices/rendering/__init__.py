"""Documents as PDF: ``render_invoice`` and ``render_credit_note``."""

from invoices.rendering.documents import render_credit_note, render_invoice

__all__ = ["render_credit_note", "render_invoice"]
