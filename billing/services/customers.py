"""Customers and whom they buy for. A change of what documents print makes a new billing party; old documents keep theirs."""

import uuid
from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction

from billing import clock, money, parties
from billing.context import Actor
from billing.errors import Conflict, InvalidInput, NotFound
from billing.models import Beneficiary, BillingParty, Customer, Organisation
from billing.models.fields import lookup_hash
from billing.services import audit, outbox

SYSTEM = Actor.system()
PARTY_FIELDS = frozenset({"name", "email", "phone", "address", "tax_ids", "tax_treatment"})
OWN_FIELDS = frozenset({"time_zone", "language", "metadata"})
MAX_METADATA = 50


class CustomerExists(Conflict):
    code = "customer_exists"
    message = "There is a customer '{external_id}' already."


class BeneficiaryExists(Conflict):
    code = "beneficiary_exists"
    message = "There is a beneficiary '{external_id}' already."


class StaleVersion(Conflict):
    code = "stale_version"
    message = "It was changed meanwhile: you know version {known}, it is at {current}. Read it again."


@transaction.atomic
def create_customer(
    *,
    organisation: Organisation,
    external_id: str,
    name: str,
    currency: str = "",
    email: str = "",
    phone: str = "",
    address: Mapping[str, str] | None = None,
    tax_ids: Mapping[str, str] | None = None,
    tax_treatment: str = "standard",
    time_zone: str = "",
    language: str = "",
    metadata: Mapping[str, Any] | None = None,
    actor: Actor = SYSTEM,
) -> Customer:
    """Make a customer known. Currency and country default to the organisation's.

    Raises ``InvalidInput`` naming the field, or ``CustomerExists``. Publishes ``customer.created``.
    """
    party = parties.clean_party(
        name=name,
        email=email,
        phone=phone,
        address=address,
        tax_ids=tax_ids,
        country=organisation.country,
        tax_treatment=tax_treatment,
    )
    customer = Customer(
        organisation=organisation,
        external_id=parties.clean_text(external_id, field="external_id", limit=100, required=True),
        currency=money.currency_of(currency or organisation.currency).code,
        created_at=clock.now(organisation),
    )
    _set_contact(customer, party)
    _set_own(customer, {"time_zone": time_zone, "language": language, "metadata": metadata or {}})
    try:
        with transaction.atomic():
            customer.save(force_insert=True)
    except IntegrityError as exc:
        raise CustomerExists(external_id=customer.external_id, field="external_id") from exc
    customer.party = BillingParty.objects.create(organisation=organisation, customer=customer, **vars(party))
    customer.save(update_fields=["party"])
    audit.record(actor=actor, action="customer.created", target=customer, after={"external_id": external_id})
    outbox.publish("customer.created", customer, customer_id=str(customer.pk), external_id=customer.external_id)
    return customer


@transaction.atomic
def update_customer(
    *,
    organisation: Organisation,
    customer_id: uuid.UUID,
    version: int | None = None,
    actor: Actor = SYSTEM,
    **changes: Any,
) -> Customer:
    """Change name, email, phone, address, tax_ids, tax_treatment, time_zone, language or metadata.

    ``version`` is what the caller has read: raises ``StaleVersion`` if it was changed since. What documents print
    makes a new billing party. Publishes ``customer.updated`` with the names of the changed fields.
    """
    unknown = changes.keys() - PARTY_FIELDS - OWN_FIELDS
    if unknown:
        raise InvalidInput("This cannot be changed.", field=min(unknown))
    customer = (
        Customer.objects.of(organisation)
        .select_for_update(of=("self",), no_key=True)
        .select_related("party")
        .filter(pk=customer_id)
    ).first()
    if customer is None:
        raise NotFound
    if version is not None and customer.version != version:
        raise StaleVersion(known=version, current=customer.version, field="version")
    changed = sorted(changes)
    if changes.keys() & PARTY_FIELDS:
        _renew_party(customer, {key: changes[key] for key in changes.keys() & PARTY_FIELDS})
    _set_own(customer, {key: changes[key] for key in changes.keys() & OWN_FIELDS})
    customer.version += 1
    customer.save()
    audit.record(actor=actor, action="customer.updated", target=customer, after={"changed": changed})
    outbox.publish("customer.updated", customer, customer_id=str(customer.pk), changed=changed)
    return customer


@transaction.atomic
def create_beneficiary(
    *,
    organisation: Organisation,
    customer_id: uuid.UUID,
    external_id: str,
    name: str,
    metadata: Mapping[str, Any] | None = None,
    actor: Actor = SYSTEM,
) -> Beneficiary:
    """Make known whom a customer buys for. Raises ``NotFound``, ``InvalidInput`` or ``BeneficiaryExists``."""
    customer = Customer.objects.of(organisation).filter(pk=customer_id).first()
    if customer is None:
        raise NotFound
    beneficiary = Beneficiary(
        organisation=organisation,
        customer=customer,
        external_id=parties.clean_text(external_id, field="external_id", limit=100, required=True),
        name=parties.clean_text(name, field="name", limit=200, required=True),
        metadata=_clean_metadata(metadata or {}),
    )
    try:
        with transaction.atomic():
            beneficiary.save(force_insert=True)
    except IntegrityError as exc:
        raise BeneficiaryExists(external_id=beneficiary.external_id, field="external_id") from exc
    audit.record(actor=actor, action="beneficiary.created", target=beneficiary, after={"external_id": external_id})
    return beneficiary


def _renew_party(customer: Customer, changes: dict[str, Any]) -> None:
    known: Any = customer.party.details if customer.party else {"name": customer.name}
    old = {key: known[key] for key in ("name", "email", "phone", "address", "tax_ids") if key in known}
    treatment = customer.party.tax_treatment if customer.party else "standard"
    party = parties.clean_party(**({"tax_treatment": treatment} | old | changes), country=customer.organisation.country)
    _set_contact(customer, party)
    customer.party = BillingParty.objects.create(
        organisation_id=customer.organisation_id, customer=customer, **vars(party)
    )


def _set_contact(customer: Customer, party: parties.Party) -> None:
    details = party.details
    customer.name, customer.email, customer.phone = details["name"], details["email"], details["phone"]
    customer.email_hash = lookup_hash(customer.email) if customer.email else ""
    customer.phone_hash = lookup_hash(customer.phone) if customer.phone else ""


def _set_own(customer: Customer, values: Mapping[str, Any]) -> None:
    if "time_zone" in values:
        customer.time_zone = parties.clean_time_zone(values["time_zone"]) if values["time_zone"] else ""
    if "language" in values:
        customer.language = parties.clean_language(values["language"]) if values["language"] else ""
    if "metadata" in values:
        customer.metadata = _clean_metadata(values["metadata"])


def _clean_metadata(values: Mapping[str, Any]) -> dict[str, str]:
    """Up to 50 texts by name; the house keeps them and does not read them."""
    if len(values) > MAX_METADATA:
        raise InvalidInput(f"At most {MAX_METADATA} entries.", field="metadata")
    return {
        parties.clean_text(key, field="metadata", limit=40, required=True): parties.clean_text(
            value, field=f"metadata.{key}"[:80], limit=500
        )
        for key, value in values.items()
    }
