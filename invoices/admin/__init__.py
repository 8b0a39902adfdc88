"""Console pages of invoices and what belongs to them."""

from invoices.admin import credit_notes, invoices, letters, on_customers, plans, taxes, texts  # noqa: F401
