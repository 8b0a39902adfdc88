"""Reads of the invoices app."""

import uuid
from collections.abc import Iterable
from datetime import date

from billing.models import BillingParty, Organisation
from invoices.drafts import Place, TaxContext
from invoices.models import TaxRate
from invoices.tax.rates import Rate, RateTable


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
