"""What an invoice would be, without writing anything."""

from collections.abc import Iterable
from datetime import datetime

from billing import clock
from billing.models import Organisation
from invoices.credits import Treatment
from invoices.drafts import InvoiceDraft, PricedInvoice
from invoices.services.drafting import context_for, customer_of, issue_day
from invoices.totals import price_invoice, rule_for


def price_draft(*, organisation: Organisation, draft: InvoiceDraft, at: datetime | None = None) -> PricedInvoice:
    """Lines, taxes and totals that issuing ``draft`` would write; reads only."""
    customer = customer_of(organisation, draft.customer_id)
    day = issue_day(organisation, draft, at or clock.now(organisation))
    return price_invoice(draft, context_for(organisation, customer.party, day))


def treatments(
    *, organisation: Organisation, draft: InvoiceDraft, categories: Iterable[str], at: datetime | None = None
) -> dict[str, Treatment]:
    """How ``draft`` would tax each of the categories. Raises ``MissingTaxRate``."""
    customer = customer_of(organisation, draft.customer_id)
    day = issue_day(organisation, draft, at or clock.now(organisation))
    context = context_for(organisation, customer.party, day)
    return {category: Treatment.by(rule_for(context, category)) for category in categories}
