"""What interim invoices billed beyond what the usage costs in the end goes back by credit note."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from moneyed import Money

from billing.context import Actor
from billing.models import Customer
from invoices.credits import Meant
from invoices.services import credit_notes
from subscriptions.services.billing_run_rows import Due
from subscriptions.services.claims import Claimed, interim_claims
from subscriptions.services.crediting import CreditOn, spread

ACTOR = Actor.system("subscriptions")
REASON = "Less was used than the interim invoice billed"


def lock(customer_ids: Iterable[uuid.UUID]) -> None:
    """Lock the customers, in one order, before any number is taken: locks are taken in one order everywhere."""
    if ids := sorted(set(customer_ids)):
        list(Customer.objects.select_for_update(no_key=True).filter(pk__in=ids).order_by("pk").values_list("pk"))


def planned(claims: Sequence[Claimed], *, excess: Mapping[str, Decimal], currency: str) -> tuple[CreditOn, ...]:
    """What of ``excess`` (by component, as the price list has it) goes back on which interim invoice, by line: net amounts."""
    return spread(claims, {code: Money(amount, currency) for code, amount in excess.items()})


def issue(*, row: Due, excess: Mapping[str, Decimal], at: datetime) -> None:
    """Credit ``excess`` on the interim invoices of the row's usage window, the newest first."""
    assert row.usage_from is not None
    claims = interim_claims(subscription_id=row.id, usage_from=row.usage_from)
    for credit in planned(claims, excess=excess, currency=row.currency):
        credit_notes.issue_credit_note(
            invoice_id=credit.claimed.id, amounts=credit.amounts, reason=REASON, actor=ACTOR, at=at,
            meant=Meant(instead_of=credit.instead_of),
        )  # fmt: skip
