"""How a customer is billed: consolidated or not, with how many days of grace. The customer's word, the house's, ours."""

import uuid
from collections.abc import Iterable
from typing import NamedTuple

from django.db import transaction

from billing import clock
from billing.arrays import among
from billing.context import Actor
from billing.errors import InvalidInput, NotFound
from billing.models import Customer, Organisation
from billing.services import audit
from subscriptions.models import BillingTerms
from subscriptions.models.billing import MAX_GRACE_DAYS


class Agreed(NamedTuple):
    """What holds for one customer."""

    consolidate: bool = False
    grace_days: int = 0


class TermsBook:
    """The billing terms of an organisation's customers. Asks for single customers only where some have their own."""

    def __init__(self, organisation: Organisation) -> None:
        self.organisation = organisation
        self._house: Agreed | None = None
        self._some_differ = False
        self._known: dict[uuid.UUID, Agreed] = {}

    def meet(self, customer_ids: Iterable[uuid.UUID]) -> None:
        """Look up the next customers; forgets those met before. No query where no customer has terms of his own."""
        house = self._read_house()
        self._known = {}
        if self._some_differ:
            rows = BillingTerms.objects.of(self.organisation).filter(customer__in=among(set(customer_ids)))
            for customer_id, consolidate, grace_days in rows.values_list("customer_id", "consolidate", "grace_days"):
                self._known[customer_id] = _merged(house, consolidate, grace_days)

    def of(self, customer_id: uuid.UUID) -> Agreed:
        """The terms of a customer that was met."""
        return self._known.get(customer_id) or self._read_house()

    @property
    def may_consolidate(self) -> bool:
        """Whether any customer's invoices may be consolidated."""
        return self._read_house().consolidate or self._some_differ

    def _read_house(self) -> Agreed:
        if self._house is None:
            self._house = Agreed()
            rows = BillingTerms.objects.of(self.organisation)
            own = rows.filter(customer__isnull=True).values_list("consolidate", "grace_days").first()
            if own is not None:
                self._house = _merged(self._house, *own)
            self._some_differ = rows.filter(customer__isnull=False).exists()
        return self._house


def terms_of(*, organisation: Organisation, customer_id: uuid.UUID) -> Agreed:
    """What holds for one customer."""
    book = TermsBook(organisation)
    book.meet([customer_id])
    return book.of(customer_id)


@transaction.atomic
def set_terms(
    *,
    organisation: Organisation,
    actor: Actor,
    customer_id: uuid.UUID | None = None,
    consolidate: bool | None = None,
    grace_days: int | None = None,
) -> BillingTerms:
    """Say how a customer, or without one the whole organisation, is billed from the next run on; None: as before it.

    Raises ``NotFound`` for another organisation's customer and ``InvalidInput`` for a grace that is too long.
    """
    if grace_days is not None and not 0 <= grace_days <= MAX_GRACE_DAYS:
        raise InvalidInput(f"grace_days must be from 0 to {MAX_GRACE_DAYS}.", field="grace_days")
    if customer_id is not None and not Customer.objects.of(organisation).filter(pk=customer_id).exists():
        raise NotFound("No such customer in this organisation.", field="customer")
    Organisation.objects.select_for_update(no_key=True).get(
        pk=organisation.pk
    )  # one row of the house, one of a customer
    rows = BillingTerms.objects.of(organisation)
    rows = rows.filter(customer=customer_id) if customer_id else rows.filter(customer__isnull=True)
    terms = rows.first() or BillingTerms(organisation=organisation, customer_id=customer_id)
    before = {"consolidate": terms.consolidate, "grace_days": terms.grace_days}
    terms.consolidate, terms.grace_days, terms.updated_at = consolidate, grace_days, clock.now(organisation)
    terms.save()
    after = {"consolidate": consolidate, "grace_days": grace_days}
    audit.record(actor=actor, action="billing_terms.set", target=terms, before=before, after=after)
    return terms


def _merged(wider: Agreed, consolidate: bool | None, grace_days: int | None) -> Agreed:  # noqa: FBT001
    return Agreed(
        wider.consolidate if consolidate is None else consolidate,
        wider.grace_days if grace_days is None else grace_days,
    )
