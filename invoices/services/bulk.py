"""Many invoices at once: priced one by one, written by COPY, numbered together as late as possible.

The rows are those that ``drafting`` and ``finalizing`` write for one invoice. Everything happens in the caller's
transaction; other finalisations of the organisation wait from the taking of numbers until its commit, so lines and taxes
go in before.
"""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

from django.db import connection, transaction

from billing import clock
from billing.arrays import among
from billing.errors import NotFound
from billing.ids import uuid7
from billing.models import BillingParty, Customer, Organisation
from billing.money import quantize
from billing.services.bulk import FreshEntry, FreshEvent, Leg, post_fresh, publish_fresh
from billing.services.copying import Encoded, copy_rows, encoded
from billing.services.ledger import accounts_for
from invoices.drafts import InvoiceDraft, LineInput, PricedInvoice, PricedLine, PricedTax, TaxContext
from invoices.models import Invoice, InvoiceLine, InvoiceTax, NumberSeries
from invoices.postings import INVOICE as SOURCE_TYPE
from invoices.postings import summed, tax_account
from invoices.selectors import context_without_party, tax_contexts
from invoices.services.drafting import net_days_of
from invoices.services.numbering import take_numbers
from invoices.totals import price_invoice

ZERO = Decimal(0)
REMEMBERED = 5000

LINE = (
    "organisation_id", "invoice_id", "position", "description", "code", "quantity", "unit", "unit_price", "given", "amount",
    "currency", "tax_category", "tax_code", "tax_letter", "tax_rate", "tax", "revenue_account", "period_start", "period_end",
    "details", "subscription_ref",
)  # fmt: skip
TAX = (
    "organisation_id", "invoice_id", "component", "category", "rate", "base", "tax", "reverse_charged", "currency", "reason",
)  # fmt: skip
OWN = (
    "id", "number", "status", "issued_on", "due_on", "finalized_at", "paid_at", "customer_id", "buyer_id", "origin", "net_days",
    "period_start", "period_end", "memo", "custom_fields", "subscription_ref", "collect_automatically", "method_ref",
)  # fmt: skip
FIGURES = (
    "net", "tax", "rounding", "total", "paid", "credited", "due", "currency", "prices_include_tax", "place_of_supply",
    "reverse_charge",
)  # fmt: skip
SHARED = ("organisation_id", "seller_id", "recorded_at", "created_at", "version")
INVOICE = OWN + FIGURES + SHARED


@dataclass(frozen=True, slots=True)
class Figures:
    """What equal drafts share: the priced invoice, and its rows as they are copied, without the ids."""

    priced: PricedInvoice
    given: Sequence[LineInput]  # keeps the lines alive, by whose identity the figures are found again
    context: TaxContext
    lines: tuple[Encoded, ...]
    taxes: tuple[Encoded, ...]
    row: Encoded
    credits: tuple[tuple[str, Decimal], ...]
    total_text: str


@dataclass(frozen=True, slots=True)
class PreparedInvoice:
    """A priced invoice that has an id and waits for its number."""

    id: uuid.UUID
    draft: InvoiceDraft
    figures: Figures
    buyer_id: uuid.UUID | None
    issued_on: date
    net_days: int

    @property
    def due_on(self) -> date:
        """The day by which it is to be paid."""
        return self.issued_on + timedelta(days=self.net_days)

    @property
    def total(self) -> Decimal:
        """Total in the draft's currency."""
        return self.figures.priced.total


@dataclass(frozen=True, slots=True)
class IssuedInvoice:
    """A finalised invoice: its id, its number and what it was made of."""

    id: uuid.UUID
    number: str
    draft: InvoiceDraft
    priced: PricedInvoice
    due_on: date


def issue_invoices(*, organisation: Organisation, drafts: Sequence[InvoiceDraft], at: datetime) -> list[IssuedInvoice]:
    """Write and finalise ``drafts`` at once, in the caller's transaction and in their order.

    Raises what pricing refuses (``MissingTaxRate``, ``NegativeInvoice``, …) and ``NotFound`` for a foreign customer; then
    nothing may be kept. To leave out what is refused, use ``Issuer`` and ``prepare`` one by one.
    """
    issuer = Issuer(organisation=organisation, at=at)
    issuer.meet(draft.customer_id for draft in drafts)
    return issuer.issue([issuer.prepare(draft) for draft in drafts])


class Issuer:
    """Prices and issues the invoices of one organisation; keeps what many of them share. One per run and process."""

    def __init__(self, *, organisation: Organisation, at: datetime) -> None:
        self.organisation = organisation
        self.at = at
        self.today = at.astimezone(clock.zone(organisation)).date()
        self._buyers: dict[uuid.UUID, tuple[uuid.UUID | None, Any]] = {}
        self._contexts: dict[tuple[Any, date], TaxContext] = {}
        self._figures: dict[tuple[Any, ...], Figures] = {}
        self._accounts: dict[tuple[str, str], uuid.UUID] = {}

    def meet(self, customer_ids: Iterable[uuid.UUID]) -> None:
        """Look up where the buyers of the next drafts are, in one query; forgets those met before."""
        rows = (
            Customer.objects.of(self.organisation)
            .filter(pk__in=among(set(customer_ids)))
            .values_list(
                "pk", "party_id", "party__country", "party__region", "party__registered", "party__tax_treatment"
            )
        )
        self._buyers = {row[0]: (row[1], row[2:] if row[1] else None) for row in rows}

    def forget(self) -> None:
        """The caller's transaction was rolled back: accounts that it opened are not there."""
        self._accounts.clear()

    def prepare(self, draft: InvoiceDraft) -> PreparedInvoice:
        """Price one draft of a customer that was met. Writes nothing; raises what pricing refuses."""
        buyer = self._buyers.get(draft.customer_id)
        if buyer is None:
            raise NotFound("No such customer in this organisation.", field="customer")
        party_id, place = buyer
        issued_on = draft.issued_on or self.today
        figures = self._figures_of(draft, self._context(party_id, place, issued_on))
        return PreparedInvoice(uuid7(), draft, figures, party_id, issued_on, net_days_of(self.organisation, draft))

    def write_drafts(self, invoices: Sequence[PreparedInvoice]) -> None:
        """Write prepared invoices as drafts, in the caller's transaction: no number, no posting, no event, no day of issue."""
        if not invoices:
            return
        self._write_rows(invoices)
        shared = self._shared()
        copy_rows(Invoice, INVOICE, (_draft_row(one, shared) for one in invoices))

    def issue_drafts(self, invoices: Sequence[PreparedInvoice]) -> list[IssuedInvoice]:
        """Finalise drafts as they are prepared now, under the ids they have; the caller holds their rows locked.

        The draft's rows make place for the finalised ones; foreign keys are looked at when the transaction ends.
        """
        self.delete_drafts([one.id for one in invoices])
        return self.issue(invoices)

    @staticmethod
    def delete_drafts(invoice_ids: Sequence[uuid.UUID]) -> None:
        """Take drafts away; the database refuses it for what is finalised."""
        with connection.cursor() as cursor:
            for table in (InvoiceTax, InvoiceLine):
                name = table._meta.db_table
                cursor.execute(f"DELETE FROM {name} WHERE invoice_id = ANY(%s)", [list(invoice_ids)])  # noqa: S608
            cursor.execute("DELETE FROM invoices_invoice WHERE id = ANY(%s)", [list(invoice_ids)])

    def issue(self, invoices: Sequence[PreparedInvoice]) -> list[IssuedInvoice]:
        """Write prepared invoices, finalised, with their entries and events, in the caller's transaction."""
        if not invoices:
            return []
        if not connection.in_atomic_block:
            raise transaction.TransactionManagementError("Invoices are issued inside a transaction.")
        owner = self.organisation.pk
        self._write_rows(invoices)
        accounts = self._accounts_for(invoices)
        numbers = self._take_numbers(invoices)
        shared = self._shared()
        copy_rows(Invoice, INVOICE, (self._row(one, numbers[one.id], shared) for one in invoices))
        post_fresh(
            organisation_id=owner,
            kind="invoice_finalized",
            source_type=SOURCE_TYPE,
            occurred_at=self.at,
            entries=[entry for one in invoices if (entry := _entry(one, numbers[one.id], accounts)) is not None],
        )
        publish_fresh(organisation_id=owner, events=self._events(invoices, numbers), at=self.at)
        return [IssuedInvoice(one.id, numbers[one.id], one.draft, one.figures.priced, one.due_on) for one in invoices]

    def _write_rows(self, invoices: Sequence[PreparedInvoice]) -> None:
        owner = encoded((self.organisation.pk,))
        copy_rows(InvoiceLine, LINE, ((owner, one.id, row) for one in invoices for row in one.figures.lines))
        copy_rows(InvoiceTax, TAX, ((owner, one.id, row) for one in invoices for row in one.figures.taxes))

    def _context(self, party_id: uuid.UUID | None, place: Any, on: date) -> TaxContext:
        """The tax context of a place on a day, shared by all who buy there."""
        known = self._contexts.get((place, on))
        if known is None:
            if party_id is None:
                known = context_without_party(self.organisation, on)
            else:
                country, region, registered, treatment = place
                party = BillingParty(
                    id=party_id, country=country, region=region, registered=registered, tax_treatment=treatment
                )
                known = tax_contexts(self.organisation, [party], on)[party_id]
            self._contexts[place, on] = known
        return known

    def _figures_of(self, draft: InvoiceDraft, context: TaxContext) -> Figures:
        """Price the draft, once for all drafts made of the very same lines."""
        key = (id(context), draft.currency, draft.prices_include_tax, *map(id, draft.lines))
        known = self._figures.get(key)
        if known is None:
            if len(self._figures) >= REMEMBERED:
                self._figures.clear()
            known = self._figures[key] = _figures(draft, context)
        return known

    def _accounts_for(self, invoices: Sequence[PreparedInvoice]) -> dict[tuple[str, str], uuid.UUID]:
        wanted = {("receivable", one.draft.currency) for one in invoices}
        for figures in {id(one.figures): one.figures for one in invoices}.values():
            wanted |= {(account, figures.priced.currency) for account, _ in figures.credits}
        if missing := wanted - self._accounts.keys():
            self._accounts |= accounts_for(organisation_id=self.organisation.pk, wanted=missing)
        return self._accounts

    def _take_numbers(self, invoices: Sequence[PreparedInvoice]) -> dict[uuid.UUID, str]:
        numbers: dict[uuid.UUID, str] = {}
        by_day = sorted(invoices, key=lambda one: one.issued_on)
        for day, group in groupby(by_day, key=lambda one: one.issued_on):
            ids = [one.id for one in group]
            taken = take_numbers(
                organisation=self.organisation, kind=NumberSeries.Kind.INVOICE, day=day, count=len(ids)
            )
            numbers |= zip(ids, taken, strict=True)
        return numbers

    def _shared(self) -> Encoded:
        return encoded((self.organisation.pk, self.organisation.party_id, clock.wall_now(), self.at, 1))

    def _row(self, one: PreparedInvoice, number: str, shared: Encoded) -> tuple[Any, ...]:
        settled = not one.total
        status = Invoice.Status.PAID if settled else Invoice.Status.OPEN
        paid_at = self.at if settled else None
        return (one.id, number, status, one.issued_on, one.due_on, self.at, paid_at, *_rest_of_row(one, shared))

    def _events(self, invoices: Sequence[PreparedInvoice], numbers: dict[uuid.UUID, str]) -> list[FreshEvent]:
        events = []
        for one in invoices:
            payload = _payload(one, numbers[one.id])
            events.append(FreshEvent("invoice.finalized", SOURCE_TYPE, one.id, payload))
            if not one.total:
                events.append(FreshEvent("invoice.paid", SOURCE_TYPE, one.id, payload))
        return events


def _draft_row(one: PreparedInvoice, shared: Encoded) -> tuple[Any, ...]:
    """The row of a draft: what the finalised one has, but for what finalising gives it."""
    return (one.id, "", Invoice.Status.DRAFT, None, None, None, None, *_rest_of_row(one, shared))


def _rest_of_row(one: PreparedInvoice, shared: Encoded) -> tuple[Any, ...]:
    draft = one.draft
    return (
        draft.customer_id, one.buyer_id, draft.origin, one.net_days, draft.period_start, draft.period_end, draft.memo,
        json.dumps(dict(draft.custom_fields)) if draft.custom_fields else "{}", draft.subscription_ref,
        draft.collect_automatically, draft.method_ref, one.figures.row, shared,
    )  # fmt: skip


def _entry(one: PreparedInvoice, number: str, accounts: Mapping[tuple[str, str], uuid.UUID]) -> FreshEntry | None:
    """The journal entry of ``postings.invoice_finalized``; None for an invoice of nothing but zeros."""
    figures, currency = one.figures, one.draft.currency
    legs = [Leg(accounts[account, currency], -amount) for account, amount in figures.credits]
    if figures.priced.total:
        legs.insert(0, Leg(accounts["receivable", currency], figures.priced.total, one.draft.customer_id))
    return FreshEntry(one.id, f"invoice_finalized:{one.id}", currency, legs, number) if legs else None


def _payload(one: PreparedInvoice, number: str) -> dict[str, Any]:
    """What ``invoices.events.invoice_payload`` says of the row."""
    draft = one.draft
    return {
        "invoice_id": str(one.id),
        "customer_id": str(draft.customer_id),
        "number": number,
        "total": one.figures.total_text,
        "due": one.figures.total_text,
        "currency": draft.currency,
        "due_on": one.due_on.isoformat(),
        "subscription_ref": str(draft.subscription_ref) if draft.subscription_ref else None,
        "collect_automatically": draft.collect_automatically,
        "method_ref": str(draft.method_ref) if draft.method_ref else None,
    }


def _figures(draft: InvoiceDraft, context: TaxContext) -> Figures:
    priced = price_invoice(draft, context)
    revenue = summed((line.revenue_account, line.amount) for line in priced.lines)
    taxes = summed((tax_account(row.component), row.tax) for row in priced.taxes)
    credits = [*revenue.items(), *taxes.items(), ("rounding", priced.rounding)]
    return Figures(
        priced=priced,
        given=draft.lines,
        context=context,
        lines=tuple(encoded(_line_row(line, draft.currency)) for line in priced.lines),
        taxes=tuple(encoded(_tax_row(row, draft.currency)) for row in priced.taxes),
        row=encoded(
            (
                priced.net,
                priced.tax,
                priced.rounding,
                priced.total,
                ZERO,
                ZERO,
                priced.total,
                draft.currency,
                draft.prices_include_tax,
                priced.place_of_supply,
                priced.reverse_charge,
            )
        ),
        credits=tuple((account, amount) for account, amount in credits if amount),
        total_text=f"{quantize(priced.total, draft.currency):f}",
    )


def _line_row(line: PricedLine, currency: str) -> tuple[Any, ...]:
    given = line.given
    return (
        line.position, given.description, given.code, given.quantity, given.unit, given.price, given.amount.amount, line.amount,
        currency, given.tax_category, line.tax_code, line.tax_letter, line.tax_rate, line.tax, line.revenue_account,
        given.period_start, given.period_end, json.dumps(list(given.details)) if given.details else "[]", given.subscription_ref,
    )  # fmt: skip


def _tax_row(row: PricedTax, currency: str) -> tuple[Any, ...]:
    return (
        row.component, row.category, row.rate, row.base, row.tax, row.reverse_charged, currency, row.reason,
    )  # fmt: skip
