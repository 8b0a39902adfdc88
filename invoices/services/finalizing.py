"""Finalising: price for the day of issue, post, take the number last, tell the house; all of it or nothing."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from django.db import transaction

from billing import clock
from billing.context import Actor
from billing.models import Organisation
from billing.services import audit, ledger, outbox
from invoices import postings
from invoices.drafts import InvoiceDraft, LineInput, PricedInvoice
from invoices.errors import InvoiceNotDraft
from invoices.events import invoice_payload
from invoices.models import Invoice, InvoiceLine, InvoiceTax, NumberSeries
from invoices.services.drafting import apply_prices, context_for, draft_of, issue_day, write_draft, write_rows
from invoices.services.numbering import take_numbers
from invoices.totals import price_invoice

Refresher = Callable[[Invoice, datetime], Sequence[LineInput] | None]
_refreshers: dict[str, Refresher] = {}


def refreshes(origin: str) -> Callable[[Refresher], Refresher]:
    """Let the decorated function of a higher app say what the lines of a draft of ``origin`` are now; None: as they stand."""

    def register(function: Refresher) -> Refresher:
        _refreshers[origin] = function
        return function

    return register


@transaction.atomic
def finalize_invoice(*, invoice_id: uuid.UUID, at: datetime | None = None, actor: Actor | None = None) -> Invoice:
    """Number and freeze a draft. An invoice of nothing is paid at once. Raises ``InvoiceNotDraft``."""
    invoice = (
        Invoice.objects.select_for_update(of=("self",))
        .select_related("organisation", "customer__party", "organisation__party")
        .get(pk=invoice_id)
    )
    if invoice.status != Invoice.Status.DRAFT:
        raise InvoiceNotDraft(status=invoice.status)
    organisation, at = invoice.organisation, at or clock.now(invoice.organisation_id)
    priced = _price_again(invoice, organisation, at)
    _freeze(invoice, organisation, at)
    post_invoice(invoice, priced, at)
    if actor is not None:
        audit.record(actor=actor, action="invoice.finalized", target=invoice, after={"number": invoice.number})
    outbox.publish("invoice.finalized", invoice, at=at, **invoice_payload(invoice))
    if invoice.status == Invoice.Status.PAID:
        outbox.publish("invoice.paid", invoice, at=at, **invoice_payload(invoice))
    return invoice


@transaction.atomic
def issue_invoice(*, organisation: Organisation, draft: InvoiceDraft, at: datetime | None = None) -> Invoice:
    """Write and finalise one invoice in one go."""
    at = at or clock.now(organisation)
    return finalize_invoice(invoice_id=write_draft(organisation=organisation, draft=draft, at=at).pk, at=at)


def post_invoice(invoice: Invoice, priced: PricedInvoice, at: datetime) -> None:
    """Post the journal entry of a finalised invoice; an invoice of nothing but zeros has none."""
    entry = postings.invoice_finalized(
        invoice=invoice,
        revenue=postings.summed((line.revenue_account, line.amount) for line in priced.lines),
        taxes=postings.summed((row.component, row.tax) for row in priced.taxes),
        at=at,
    )
    if any(line.amount.amount for line in entry.lines):
        ledger.post(organisation=invoice.organisation_id, entry=entry)


def _price_again(invoice: Invoice, organisation: Organisation, at: datetime) -> PricedInvoice:
    """The tax of the day of issue counts, and the buyer as he is known then."""
    draft = draft_of(invoice)
    refresh = _refreshers.get(invoice.origin)
    lines = refresh(invoice, at) if refresh else None
    if lines is not None:
        draft = replace(draft, lines=lines)
    invoice.issued_on = issue_day(organisation, draft, at)
    invoice.buyer, invoice.seller = invoice.customer.party, organisation.party
    priced = price_invoice(draft, context_for(organisation, invoice.buyer, invoice.issued_on))
    InvoiceTax.objects.filter(invoice=invoice).delete()
    InvoiceLine.objects.filter(invoice=invoice).delete()
    write_rows(invoice, priced)
    apply_prices(invoice, priced)
    return priced


def _freeze(invoice: Invoice, organisation: Organisation, at: datetime) -> None:
    issued_on = invoice.issued_on
    assert issued_on is not None
    number = take_numbers(organisation=organisation, kind=NumberSeries.Kind.INVOICE, day=issued_on)[0]
    invoice.finalize(number=number, issued_on=issued_on, due_on=issued_on + timedelta(days=invoice.net_days), at=at)
    if not invoice.due.amount:
        invoice.settle(at=at)
    invoice.save()
