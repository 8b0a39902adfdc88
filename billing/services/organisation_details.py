"""What documents print about the organisation, and how it is called. A change makes a new version: documents keep theirs."""

import uuid
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from billing import parties
from billing.context import Actor
from billing.errors import InvalidInput
from billing.models import BillingParty, Organisation
from billing.services import audit

PARTY_FIELDS = frozenset({"name", "email", "phone", "address", "tax_ids", "upi_id", "bank"})
FIELDS = PARTY_FIELDS | {"language"}


def clean_payee(given: Mapping[str, Any]) -> dict[str, Any]:
    """Where customers pay to by themselves: UPI id and bank account, checked."""
    found = dict(given)
    if found.get("upi_id"):
        found["upi_id"] = parties.clean_upi_id(found["upi_id"])
    if found.get("bank"):
        found["bank"] = parties.clean_bank(found["bank"])
    return found


@transaction.atomic
def update_details(*, organisation_id: uuid.UUID, actor: Actor, reason: str = "", **changes: Any) -> Organisation:
    """Change name, email, phone, address, tax_ids, upi_id, bank or language. Raises ``InvalidInput`` naming the field.

    Currency, country, time zone and financial year stay as they were founded: books and numbers hang on them.
    """
    unknown = sorted(changes.keys() - FIELDS)
    if unknown:
        raise InvalidInput("This cannot be changed.", field=unknown[0])
    row: Organisation = (
        Organisation.objects.select_for_update(of=("self",)).select_related("party").get(pk=organisation_id)
    )
    if "language" in changes:
        row.language = parties.clean_language(changes["language"])
    if changes.keys() & PARTY_FIELDS:
        row.party = _next_version(row, {name: changes[name] for name in changes.keys() & PARTY_FIELDS})
        row.region = row.party.region
    if "name" in changes:
        row.name = row.party.details["name"] if row.party else changes["name"]
    row.save(update_fields=["name", "language", "region", "party"])
    audit.record(
        actor=actor,
        action="organisation.details_changed",
        target=row,
        after={"changed": sorted(changes)},
        reason=reason,
    )
    return row


def _next_version(row: Organisation, changes: dict[str, Any]) -> BillingParty:
    known: dict[str, Any] = dict(row.party.details) if row.party else {"name": row.name}
    wanted = known | changes
    payee = clean_payee(
        {name: wanted[name] for name in wanted.keys() - {"name", "email", "phone", "address", "tax_ids"}}
    )
    party = parties.clean_party(
        name=wanted["name"],
        email=wanted.get("email", ""),
        phone=wanted.get("phone", ""),
        address=wanted.get("address"),
        tax_ids=wanted.get("tax_ids"),
        country=row.country,
        region=row.region,
        more=payee,
    )
    if party.country != row.country:
        raise InvalidInput("An organisation stays in the country it was founded in.", field="address.country")
    return BillingParty.objects.create(organisation=row, **vars(party))
