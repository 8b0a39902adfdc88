"""Console pages of invoices and what belongs to them."""

from invoices.admin import choices, credit_notes, invoices, letters, on_customers, plans, taxes, texts  # noqa: F401
