"""Reads of the invoices app."""

import uuid
from collections.abc import Iterable
from datetime import date
from typing import Any

from django.db.models import Case, DecimalField, Exists, F, OuterRef, Q, QuerySet, Sum, When
from moneyed import Money

from billing.models import BillingParty, Organisation, Posting
from billing.money import zero
from billing.services import ledger
from invoices.drafts import Place, TaxContext
from invoices.events import reference
from invoices.models import Installment, Invoice, PaymentAllocation, RecognitionEntry, TaxRate
from invoices.tax.rates import Rate, RateTable
from payments.models import Payment, Refund

UNDER_WAY = (Refund.Status.REQUESTED, Refund.Status.PROCESSING, Refund.Status.UNKNOWN)


def rate_table(organisation: Organisation) -> RateTable:
    """All tax rates of the organisation, in one query."""
    rows = TaxRate.objects.of(organisation).values(
        "category", "country", "region", "rate", "code", "exemption_reason", "valid_from", "valid_until"
    )
    return RateTable.of(Rate(**row) for row in rows)


def seller_place(organisation: Organisation) -> Place:
    """Where the organisation sells from: its party's place, else the organisation's own."""
    party = organisation.party
    if party is None:
        return Place(country=organisation.country, region=organisation.region, registered=True)
    return Place(
        country=party.country or organisation.country,
        region=party.region or organisation.region,
        registered=party.registered,
    )


def tax_contexts(organisation: Organisation, parties: Iterable[BillingParty], on: date) -> dict[uuid.UUID, TaxContext]:
    """A tax context per buyer's party id. Rates are read once; buyers who look alike to the tax share one context."""
    rates, seller = rate_table(organisation), seller_place(organisation)
    export_with_tax = organisation.settings.get("gst_export", "lut") == "igst"
    shared: dict[Place, TaxContext] = {}
    contexts = {}
    for party in parties:
        buyer = Place(
            country=party.country, region=party.region, registered=party.registered, treatment=party.tax_treatment
        )
        if buyer not in shared:
            shared[buyer] = TaxContext(
                seller=seller,
                buyer=buyer,
                on=on,
                rates=rates,
                export_with_tax=export_with_tax,
                seller_party_id=organisation.party_id,
            )
        contexts[party.pk] = shared[buyer]
    return contexts


def context_without_party(organisation: Organisation, on: date) -> TaxContext:
    """The tax context of a customer of whom no party is on record: bought at the seller's place."""
    seller = seller_place(organisation)
    return TaxContext(
        seller=seller,
        buyer=Place(country=seller.country, region=seller.region),
        on=on,
        rates=rate_table(organisation),
        export_with_tax=False,
        seller_party_id=organisation.party_id,
    )


def invoice_id_of(reference: str) -> uuid.UUID | None:
    """The invoice a payment's reference names (``invoice:<uuid>``, later requests ``invoice:<uuid>:2``)."""
    kind, _, rest = reference.partition(":")
    if kind != "invoice":
        return None
    try:
        return uuid.UUID(rest.partition(":")[0])
    except ValueError:
        return None


def invoice_of(*, organisation: Organisation | uuid.UUID, reference: str) -> Invoice | None:
    """The organisation's invoice that a payment's reference names, if there is one."""
    invoice_id = invoice_id_of(reference)
    return Invoice.objects.of(organisation).filter(pk=invoice_id).first() if invoice_id else None


def payments_of(*, organisation: Organisation | uuid.UUID, invoice_id: uuid.UUID) -> QuerySet[Payment]:
    """Every payment an invoice was asked for with: the first, and those over what was left later; oldest first."""
    name = reference(invoice_id)
    mine = Q(reference=name) | Q(reference__startswith=f"{name}:")
    return Payment.objects.of(organisation).filter(mine).order_by("pk")


def refunded(payment: Payment) -> Money:
    """What went back to the payer."""
    done = Refund.objects.filter(payment=payment, status=Refund.Status.SUCCEEDED).aggregate(sum=Sum("amount"))["sum"]
    return _money(done, payment.amount.currency.code)


def allocated(payment: Payment) -> Money:
    """What of a payment pays invoices."""
    return _money(
        PaymentAllocation.objects.filter(payment=payment).aggregate(sum=Sum("amount"))["sum"],
        payment.amount.currency.code,
    )


def free_credit(*, organisation: Organisation | uuid.UUID, customer_id: uuid.UUID, currency: str) -> Money:
    """Credit of a customer that no captured payment is about to use; negative when more was given back than there was.

    The ledger is read first: a payment captured in between is then counted as pending, never as free. Callers who
    spend it hold the customer's lock.
    """
    balance = ledger.balance(
        organisation=organisation, account="customer_credit", currency=currency, customer_id=customer_id
    )
    pending = _about_to_be_used(organisation=organisation, customer_id=customer_id, currency=currency)
    coming = pending.aggregate(sum=Sum("amount"))["sum"]
    gone = Refund.objects.filter(payment__in=pending, status=Refund.Status.SUCCEEDED).aggregate(sum=Sum("amount"))[
        "sum"
    ]
    return -balance - _money(coming, currency) + _money(gone, currency)


def spendable_credit(*, organisation: Organisation | uuid.UUID, customer_id: uuid.UUID, currency: str) -> Money:
    """Free credit that no refund on its way is about to take: what may be spent now, on an invoice or on another refund.

    The refunds are read before the ledger: one that succeeds in between counts twice, never not at all.
    """
    mine = Refund.objects.of(organisation).filter(payment__customer_id=customer_id, payment__currency=currency)
    under_way = mine.filter(status__in=UNDER_WAY).aggregate(sum=Sum("amount"))["sum"]
    free = free_credit(organisation=organisation, customer_id=customer_id, currency=currency)
    return max(free - _money(under_way, currency), zero(currency))


def bearers(invoice: Invoice) -> QuerySet[Payment]:
    """Captured payments of an invoice that its customer made in its currency, newest first: they can bear a refund of it."""
    paid = payments_of(organisation=invoice.organisation_id, invoice_id=invoice.pk)
    mine = paid.filter(status=Payment.Status.SUCCEEDED, customer_id=invoice.customer_id, currency=invoice.currency)
    return mine.order_by("-pk")


def _about_to_be_used(
    *, organisation: Organisation | uuid.UUID, customer_id: uuid.UUID, currency: str
) -> QuerySet[Payment]:
    """Captured payments that name an invoice of ours and are not allocated yet."""
    handled = PaymentAllocation.objects.filter(payment=OuterRef("pk"))
    waiting = (
        Payment.objects.of(organisation)
        .filter(customer_id=customer_id, currency=currency, status=Payment.Status.SUCCEEDED)
        .filter(reference__startswith="invoice:")
        .exclude(Exists(handled))
        .values_list("pk", "reference")
    )
    named = {pk: invoice_id_of(name) for pk, name in waiting}
    wanted = [invoice_id for invoice_id in named.values() if invoice_id is not None]
    known = set(Invoice.objects.of(organisation).filter(pk__in=wanted).values_list("pk", flat=True))
    return Payment.objects.filter(pk__in=[pk for pk, invoice_id in named.items() if invoice_id in known])


def customers_with_credit(
    *, organisation: Organisation, customer_ids: Iterable[uuid.UUID]
) -> set[tuple[uuid.UUID, str]]:
    """Customers and currencies with a credit in the books, in one query; how much of it is free says ``free_credit``."""
    signed = Case(When(side=Posting.Side.CREDIT, then=F("amount")), default=-F("amount"), output_field=DecimalField())
    rows = (
        Posting.objects.of(organisation)
        .filter(account__code="customer_credit", customer_id__in=set(customer_ids))
        .values("customer_id", "currency")
        .annotate(credit=Sum(signed))
        .filter(credit__gt=0)
    )
    return {(row["customer_id"], row["currency"]) for row in rows}


def entries_of(invoice: Invoice) -> Q:
    """Journal entries that promise revenue for an invoice: its own and what was earned of it."""
    earned = RecognitionEntry.objects.filter(line__invoice=invoice).values("pk")
    return Q(source_id=invoice.pk, kind="invoice_finalized") | Q(source_id__in=earned, kind="revenue_earned")


def _money(value: Any, currency: str) -> Money:
    return zero(currency) if value is None else Money(getattr(value, "amount", value), currency)


def installment_invoices(invoice_ids: Iterable[uuid.UUID]) -> set[uuid.UUID]:
    """Which of these invoices are part of an installment plan."""
    return set(Installment.objects.filter(invoice_id__in=invoice_ids).order_by().values_list("invoice_id", flat=True))
