"""What an invoice would be, without writing anything."""

from datetime import datetime

from billing import clock
from billing.models import Organisation
from invoices.drafts import InvoiceDraft, PricedInvoice
from invoices.services.drafting import context_for, customer_of, issue_day
from invoices.totals import price_invoice


def price_draft(*, organisation: Organisation, draft: InvoiceDraft, at: datetime | None = None) -> PricedInvoice:
    """Lines, taxes and totals that issuing ``draft`` would write; reads only."""
    customer = customer_of(organisation, draft.customer_id)
    day = issue_day(organisation, draft, at or clock.now(organisation))
    return price_invoice(draft, context_for(organisation, customer.party, day))
