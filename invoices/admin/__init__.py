"""Console pages of invoices and what belongs to them."""

from invoices.admin import credit_notes, invoices, letters, plans, taxes  # noqa: F401
