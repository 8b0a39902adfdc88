"""One billing moment of one subscription, priced as the billing run prices it, for those who only want to know."""

from datetime import datetime
from decimal import Decimal

from billing import clock
from billing.errors import Conflict
from subscriptions.models import Subscription
from subscriptions.services.billing_run_cycles import Cycles
from subscriptions.services.billing_run_rows import ALONE, Cycle, Due
from subscriptions.services.billing_terms import TermsBook
from subscriptions.services.coupon_book import CouponBook
from subscriptions.services.draft_cycles import grace_end
from subscriptions.services.interim_lines import interim_foreseen
from subscriptions.services.late_usage import foresee, foreseen

KEPT = ("status",)


class CannotBeBilled(Conflict):
    """The billing run would set the subscription aside."""

    code = "cannot_be_billed"
    message = "The subscription cannot be billed: {reason}"


def cycle_of(subscription: Subscription, *, at: datetime, coupons: CouponBook | None = None) -> Cycle:
    """The next billing moment of the row as it stands, issued at ``at``. Reads only; raises ``CannotBeBilled``.

    ``coupons`` keeps count of what earlier moments used up.
    """
    row = Due(**{name: getattr(subscription, name) for name in Due._fields})
    cycles = Cycles(organisation=subscription.organisation, at=at, coupons=coupons)
    if (owed := foreseen(subscription)) is not None:
        cycles.foreseen[subscription.pk] = owed
    cycles.interim = {(row.id, row.usage_from): interim_foreseen(subscription)}
    priced, refusals = cycles.price([row])
    if refusals:
        raise CannotBeBilled(reason=refusals[0].reason)
    return priced[0]


def issued_at(subscription: Subscription, *, at: datetime) -> datetime:
    """When an invoice of the run that is written at ``at`` gets its number: at once, or when the customer's grace ends."""
    if subscription.status in ALONE:
        return at
    terms = TermsBook(subscription.organisation)
    terms.meet([subscription.customer_id])
    days = terms.of(subscription.customer_id).grace_days
    return grace_end(at, days, clock.zone(subscription.organisation)) if days else at


def move_past(subscription: Subscription, cycle: Cycle) -> None:
    """Put the row where the billing run would leave it."""
    after = cycle.after()
    foresee(subscription, cycle.reading.corrections if cycle.reading is not None else ())
    for name in Due._fields:
        if name not in KEPT:
            setattr(subscription, name, getattr(after, name))


def next_total(subscription: Subscription, *, at: datetime) -> Decimal:
    """What the next invoice comes to, tax included; nothing when there is nothing to invoice."""
    invoice = cycle_of(subscription, at=at).invoice
    return invoice.total if invoice is not None else Decimal(0)
