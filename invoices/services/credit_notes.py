"""Credit notes: the only way to change what a finalised invoice claims."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction
from moneyed import Money

from billing import clock
from billing.context import Actor
from billing.errors import InvalidInput, PermissionRefused
from billing.money import exponent, quantize, same_currency
from billing.services import audit, ledger, outbox
from invoices import postings
from invoices.credits import Creditable, CreditableTax, CreditedTax, Meant, PricedCredit, Standing
from invoices.errors import InvoiceNotOpen
from invoices.events import credit_note_payload
from invoices.models import CreditNote, Invoice, NumberSeries
from invoices.services import recognition, refunding, settling
from invoices.services.numbering import take_numbers

CREDITABLE = (Invoice.Status.OPEN, Invoice.Status.PARTIALLY_PAID, Invoice.Status.PAID)
ZERO = Decimal(0)


@transaction.atomic
def issue_credit_note(
    *,
    invoice_id: uuid.UUID,
    amounts: Mapping[int, Money] | None,
    reason: str,
    actor: Actor,
    at: datetime | None = None,
    meant: Meant | None = None,
    refund: bool = False,
) -> CreditNote:
    """Credit an invoice: all that is left, or net ``amounts`` by line position; tax follows the invoice's rates.

    First it reduces what is due; the rest becomes the customer's credit, to be refunded or applied to other invoices.
    ``meant``: the unused days it pays back (proration), and for what; otherwise it is meant for the whole of each line.
    ``refund``: what becomes credit goes back where it came from: reserved here, so that nobody spends it meanwhile, and sent
    once this is committed (``credit_note.refund_due``).
    Raises ``InvoiceNotOpen``, ``CreditExceedsInvoice``, ``NothingToCredit``; with ``refund`` also ``PermissionRefused``
    (it needs ``refund.issue``) and ``NothingToRefund``.
    """
    if refund and not actor.may(refunding.PERMISSION):
        raise PermissionRefused(permission=refunding.PERMISSION)
    invoice = settling.lock_invoice(invoice_id)
    if invoice.status not in CREDITABLE:
        raise InvoiceNotOpen(status=invoice.status, operation="a credit note", expected="open or paid")
    if not reason.strip():
        raise InvalidInput("Say why the credit is given; it is printed on the credit note.", field="reason")
    at = at or clock.now(invoice.organisation_id)
    priced = price(invoice, amounts)
    note = _write(invoice, priced, reason, at, meant or Meant())
    _post(note, invoice, priced, at)
    if note.reduced_due.amount:
        invoice.credited += note.reduced_due
        settling.settle_state(invoice, at)
    audit.record(
        actor=actor,
        action="credit_note.issued",
        target=note,
        reason=reason,
        after={"invoice": invoice.number, "total": str(note.total)} | ({"refund": True} if refund else {}),
    )
    outbox.publish("credit_note.issued", note, at=at, **credit_note_payload(note, invoice))
    if refund:
        refunding.require_refundable(note)
        refunding.reserve(note=note, actor=actor)
        outbox.publish("credit_note.refund_due", note, at=at, **credit_note_payload(note, invoice))
    return note


def price(invoice: Invoice, amounts: Mapping[int, Money] | None) -> PricedCredit:
    """What a credit note over ``amounts`` would say; reads only."""
    standing = standing_now(invoice)
    asked = None if amounts is None else {position: amount.amount for position, amount in amounts.items()}
    if amounts:
        same_currency(invoice.total, *amounts.values(), field="amounts")
        unknown = sorted(set(amounts) - {line.position for line in standing.lines})
        if unknown:
            raise InvalidInput(f"The invoice has no line {unknown[0]}.", field="amounts")
    return standing.price(asked)


def standing_now(invoice: Invoice) -> Standing:
    """The invoice as its credit notes left it; reads only."""
    notes = list(invoice.credit_notes.all())
    return Standing(
        lines=tuple(_creditable_lines(invoice, notes)),
        taxes=tuple(_creditable_taxes(invoice, notes)),
        left_rounding=invoice.rounding.amount - sum((note.rounding.amount for note in notes), ZERO),
        left_total=invoice.total.amount - sum((note.total.amount for note in notes), ZERO),
        quantum=Decimal(1).scaleb(-exponent(invoice.currency)),
    )


def creditable_lines(invoice: Invoice) -> list[Creditable]:
    """The invoice's lines with what is left of each; reads only."""
    return _creditable_lines(invoice, list(invoice.credit_notes.all()))


def _creditable_lines(invoice: Invoice, notes: list[CreditNote]) -> list[Creditable]:
    used: dict[int, Decimal] = {}
    for note in notes:
        for line in note.lines:
            used[line["position"]] = used.get(line["position"], ZERO) + Decimal(line["amount"])
    return [
        Creditable(
            position=line.position,
            description=line.description,
            amount=line.amount.amount,
            left=line.amount.amount - used.get(line.position, ZERO),
            letter=line.tax_letter,
            rate=line.tax_rate,
            revenue_account=line.revenue_account,
        )
        for line in invoice.lines.all()
    ]


def _creditable_taxes(invoice: Invoice, notes: list[CreditNote]) -> list[CreditableTax]:
    used: dict[tuple[str, str, Decimal], tuple[Decimal, Decimal]] = {}
    for note in notes:
        for row in note.taxes:
            key = (row["component"], row["category"], Decimal(row["rate"]))
            base, tax = used.get(key, (ZERO, ZERO))
            used[key] = (base + Decimal(row["base"]), tax + Decimal(row["tax"]))
    rows = []
    for row in invoice.taxes.all():
        base, tax = used.get((row.component, row.category, row.rate), (ZERO, ZERO))
        rows.append(
            CreditableTax(
                component=row.component,
                category=row.category,
                rate=row.rate,
                left_base=row.base.amount - base,
                left_tax=row.tax.amount - tax,
                reverse_charged=invoice.reverse_charge and row.category == "AE",
            )
        )
    return rows


def _write(invoice: Invoice, priced: PricedCredit, reason: str, at: datetime, meant: Meant) -> CreditNote:
    organisation = invoice.organisation
    issued_on = at.astimezone(clock.zone(organisation)).date()
    total = Money(priced.total, invoice.currency)
    reduced_due = min(total, invoice.due)
    return CreditNote.objects.create(
        organisation=organisation,
        invoice=invoice,
        number=take_numbers(organisation=organisation, kind=NumberSeries.Kind.CREDIT_NOTE, day=issued_on)[0],
        issued_on=issued_on,
        reason=reason.strip()[:300],
        net=Money(priced.net, invoice.currency),
        tax=Money(priced.tax, invoice.currency),
        rounding=Money(priced.rounding, invoice.currency),
        total=total,
        taxes=[_tax_row(row, invoice.currency) for row in priced.taxes],
        lines=[_line_row(line, net, tax, invoice.currency, meant) for line, net, tax in priced.lines],
        reduced_due=reduced_due,
        to_credit=total - reduced_due,
        created_at=at,
    )


def _post(note: CreditNote, invoice: Invoice, priced: PricedCredit, at: datetime) -> None:
    """Deferred revenue that was not earned yet is taken back first, what was earned comes off revenue."""
    revenue: list[tuple[str, Decimal]] = []
    for line, net, _ in priced.lines:
        revenue += recognition.take_back(
            invoice=invoice, position=line.position, account=line.revenue_account, amount=net
        )
    entry = postings.credited(
        note=note,
        invoice=invoice,
        revenue=postings.summed(revenue),
        taxes=postings.summed((row.component, row.tax) for row in priced.taxes),
        at=at,
    )
    ledger.post(organisation=invoice.organisation_id, entry=entry)


def _tax_row(row: CreditedTax, currency: str) -> dict[str, str]:
    return {
        "component": row.component,
        "category": row.category,
        "rate": f"{row.rate:f}",
        "base": f"{quantize(row.base, currency):f}",
        "tax": f"{quantize(row.tax, currency):f}",
    }


def _line_row(line: Creditable, net: Decimal, tax: Decimal, currency: str, meant: Meant) -> dict[str, Any]:
    row: dict[str, Any] = {
        "position": line.position,
        "description": line.description,
        "amount": f"{quantize(net, currency):f}",
        "tax": f"{quantize(tax, currency):f}",
        "tax_rate": f"{line.rate:f}",
    }
    if meant.unused_from:
        row["unused_from"] = meant.unused_from.isoformat()
    if meant.unused_to:
        row["unused_to"] = meant.unused_to.isoformat()
    if others := meant.instead_of.get(line.position):
        row["instead_of"] = {code: f"{quantize(amount, currency):f}" for code, amount in others.items()}
    return row
