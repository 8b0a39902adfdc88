"""Drafts: priced, without a number, free to be changed or thrown away."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from django.db import transaction

from billing import clock
from billing.errors import InvalidInput, NotFound
from billing.models import BillingParty, Customer, Organisation
from billing.money import currency_of, zero
from invoices import selectors
from invoices.drafts import InvoiceDraft, LineInput, PricedInvoice, TaxContext
from invoices.errors import InvoiceNotDraft
from invoices.models import Invoice, InvoiceLine, InvoiceTax
from invoices.totals import price_invoice

DEFAULT_NET_DAYS = 14


@transaction.atomic
def create_invoice(
    *,
    organisation: Organisation,
    customer_id: uuid.UUID,
    lines: Sequence[LineInput],
    currency: str,
    origin: str = Invoice.Origin.MANUAL,
    subscription_ref: uuid.UUID | None = None,
    period_start: date | None = None,
    period_end: date | None = None,
    issued_on: date | None = None,
    net_days: int | None = None,
    collect_automatically: bool = True,
    method_ref: uuid.UUID | None = None,
    memo: str = "",
    prices_include_tax: bool = False,
    custom_fields: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> Invoice:
    """Write a draft. Raises ``NotFound`` for another organisation's customer and what pricing refuses."""
    draft = InvoiceDraft(
        customer_id=customer_id,
        currency=currency_of(currency).code,
        lines=lines,
        origin=origin,
        subscription_ref=subscription_ref,
        period_start=period_start,
        period_end=period_end,
        issued_on=issued_on,
        net_days=net_days,
        collect_automatically=collect_automatically,
        method_ref=method_ref,
        memo=memo,
        prices_include_tax=prices_include_tax,
        custom_fields=custom_fields or {},
    )
    return write_draft(organisation=organisation, draft=draft, at=at or clock.now(organisation))


@transaction.atomic
def write_draft(*, organisation: Organisation, draft: InvoiceDraft, at: datetime) -> Invoice:
    """Write ``draft`` as it stands, priced for its day of issue (today where none is given)."""
    customer = customer_of(organisation, draft.customer_id)
    priced = price_invoice(draft, context_for(organisation, customer.party, issue_day(organisation, draft, at)))
    nothing = zero(draft.currency)
    invoice = Invoice(
        organisation=organisation,
        customer=customer,
        origin=draft.origin,
        currency=draft.currency,
        issued_on=draft.issued_on,
        net_days=net_days_of(organisation, draft),
        period_start=draft.period_start,
        period_end=draft.period_end,
        subscription_ref=draft.subscription_ref,
        collect_automatically=draft.collect_automatically,
        method_ref=draft.method_ref,
        memo=draft.memo,
        prices_include_tax=draft.prices_include_tax,
        custom_fields=dict(draft.custom_fields),
        paid=nothing,
        credited=nothing,
        created_at=at,
    )
    apply_prices(invoice, priced)
    invoice.save(force_insert=True)
    write_rows(invoice, priced)
    return invoice


@transaction.atomic
def rewrite_draft(*, invoice: Invoice, lines: Sequence[LineInput], at: datetime) -> None:
    """Give a locked draft other lines, priced for today. Raises what pricing refuses; then nothing has changed."""
    if invoice.status != Invoice.Status.DRAFT:
        raise InvoiceNotDraft(status=invoice.status)
    draft = replace(draft_of(invoice), lines=lines)
    day = issue_day(invoice.organisation, draft, at)
    priced = price_invoice(draft, context_for(invoice.organisation, invoice.customer.party, day))
    InvoiceTax.objects.filter(invoice=invoice).delete()
    InvoiceLine.objects.filter(invoice=invoice).delete()
    write_rows(invoice, priced)
    apply_prices(invoice, priced)
    invoice.version += 1
    invoice.save()


@transaction.atomic
def delete_draft(*, invoice_id: uuid.UUID) -> None:
    """Throw a draft away; a finalised invoice is voided or credited instead."""
    invoice = Invoice.objects.select_for_update().get(pk=invoice_id)
    if invoice.status != Invoice.Status.DRAFT:
        raise InvalidInput("Only a draft can be deleted; void the invoice or issue a credit note.")
    InvoiceTax.objects.filter(invoice=invoice).delete()
    InvoiceLine.objects.filter(invoice=invoice).delete()
    invoice.delete()


def customer_of(organisation: Organisation, customer_id: uuid.UUID) -> Customer:
    """The organisation's customer with its party. Raises ``NotFound``."""
    customer = Customer.objects.of(organisation).select_related("party").filter(pk=customer_id).first()
    if customer is None:
        raise NotFound("No such customer in this organisation.", field="customer")
    return customer


def context_for(organisation: Organisation, party: BillingParty | None, day: date) -> TaxContext:
    """Tax context of one buyer on one day."""
    if party is None:
        return selectors.context_without_party(organisation, day)
    return selectors.tax_contexts(organisation, [party], day)[party.pk]


def issue_day(organisation: Organisation, draft: InvoiceDraft, at: datetime) -> date:
    """The draft's day of issue, else the day it is in the organisation's zone."""
    return draft.issued_on or at.astimezone(clock.zone(organisation)).date()


def net_days_of(organisation: Organisation, draft: InvoiceDraft) -> int:
    """Days to pay: the draft's, else the organisation's, else 14."""
    return int(organisation.settings.get("net_days", DEFAULT_NET_DAYS)) if draft.net_days is None else draft.net_days


def draft_of(invoice: Invoice) -> InvoiceDraft:
    """The draft that ``invoice`` was written from, read back from its rows."""
    return InvoiceDraft(
        customer_id=invoice.customer_id,
        currency=invoice.currency,
        lines=[_line_input(line) for line in invoice.lines.all()],
        origin=invoice.origin,
        issued_on=invoice.issued_on,
        net_days=invoice.net_days,
        prices_include_tax=invoice.prices_include_tax,
    )


def apply_prices(invoice: Invoice, priced: PricedInvoice) -> None:
    """Copy the totals of ``priced`` onto the row of a draft."""
    money = priced.money
    invoice.net, invoice.tax, invoice.rounding = money(priced.net), money(priced.tax), money(priced.rounding)
    invoice.total = invoice.due = money(priced.total)
    invoice.place_of_supply = priced.place_of_supply
    invoice.reverse_charge = priced.reverse_charge


def write_rows(invoice: Invoice, priced: PricedInvoice) -> None:
    """Insert the lines and the tax table of a draft."""
    InvoiceLine.objects.bulk_create(
        [
            InvoiceLine(
                organisation_id=invoice.organisation_id,
                invoice=invoice,
                position=line.position,
                description=line.given.description,
                code=line.given.code,
                quantity=line.given.quantity,
                unit=line.given.unit,
                unit_price=line.given.price,
                given=line.given.amount,
                amount=priced.money(line.amount),
                tax_category=line.given.tax_category,
                tax_code=line.tax_code,
                tax_letter=line.tax_letter,
                tax_rate=line.tax_rate,
                tax=priced.money(line.tax),
                revenue_account=line.revenue_account,
                period_start=line.given.period_start,
                period_end=line.given.period_end,
                details=list(line.given.details),
                subscription_ref=line.given.subscription_ref,
            )
            for line in priced.lines
        ]
    )
    InvoiceTax.objects.bulk_create(
        [
            InvoiceTax(
                organisation_id=invoice.organisation_id,
                invoice=invoice,
                component=row.component,
                category=row.category,
                rate=row.rate,
                base=priced.money(row.base),
                tax=priced.money(row.tax),
                reverse_charged=priced.money(row.reverse_charged),
                reason=row.reason,
            )
            for row in priced.taxes
        ]
    )


def _line_input(line: InvoiceLine) -> LineInput:
    account = "revenue" if line.revenue_account == "deferred_revenue" else line.revenue_account
    return LineInput(
        description=line.description,
        amount=line.given,
        code=line.code,
        quantity=line.quantity,
        unit=line.unit,
        unit_price=line.unit_price,
        tax_category=line.tax_category,
        period_start=line.period_start,
        period_end=line.period_end,
        revenue_account=account,
        details=line.details,
        subscription_ref=line.subscription_ref,
    )
