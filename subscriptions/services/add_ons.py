"""Add-ons of a subscription: what it takes beside its plan, each with a quantity of its own."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from django.db import transaction
from moneyed import Money

from billing.context import Actor
from billing.models import Organisation
from subscriptions.errors import AddOnNotOffered, BillingBehind, InvalidSubscription, NothingToChange
from subscriptions.lines import Component
from subscriptions.models import Subscription
from subscriptions.periods import local_date
from subscriptions.selectors import price_books
from subscriptions.services import acting, changing, documents, rows, switches
from subscriptions.services.changing import Changed
from subscriptions.services.desk import Desk
from subscriptions.services.documents import Documents, Issued
from subscriptions.services.zones import zone_of
from subscriptions.switching import Terms, switch_lines


@dataclass(frozen=True, slots=True)
class Offer:
    """An add-on of the subscription's plan version, and how many were taken."""

    component: Component
    quantity: int

    @property
    def amount(self) -> Money:
        """Of the quantity, for a whole period, without tax."""
        return self.component.price(self.quantity).amount


def offers(subscription: Subscription) -> list[Offer]:
    """What the subscription could take, and what it has."""
    version = subscription.plan_version_id
    offered = price_books(subscription.organisation_id, [version]).offered(version, subscription.currency)
    return [Offer(component, int(subscription.add_ons.get(component.code, 0))) for component in offered]


def set_add_ons(
    *,
    organisation: Organisation,
    subscription_id: uuid.UUID,
    add_ons: Mapping[str, int],
    actor: Actor,
    prorate: bool = True,
    reason: str = "",
) -> Changed:
    """Take add-ons by code (0: none of it any more; what is not named stays), on a row whose billing is up to date.

    The rest of the paid period is charged or credited by the day unless ``prorate`` is off: then the price counts from the
    next period on. Raises ``AddOnNotOffered``, ``NothingToChange``, ``TransitionRefused``, ``BillingBehind``.
    """
    acting.bill_now(organisation=organisation, subscription_id=subscription_id)
    with transaction.atomic():
        subscription = rows.lock(subscription_id)
        desk = Desk(organisation=subscription.organisation, actor=actor)
        issued = set_add_ons_row(subscription, desk, add_ons=add_ons, prorate=prorate, reason=reason)
        rows.save(subscription)
        return Changed(subscription=subscription, issued=issued)


def set_add_ons_row(
    subscription: Subscription, desk: Desk, *, add_ons: Mapping[str, int], prorate: bool = True, reason: str = ""
) -> Issued:
    """Take add-ons on a row; the caller saves it."""
    wanted = checked(subscription, add_ons)
    desk.end_grace(subscription)
    planned = plan_documents(subscription, desk, add_ons=wanted, prorate=prorate)
    issued = desk.issue(subscription, planned, reason=reason or "Change of add-ons")
    if subscription.status not in rows.NOT_STARTED:
        switches.note_terms(subscription, until_on=local_date(desk.now, zone_of(subscription)))
    before, subscription.add_ons = subscription.add_ons, wanted
    desk.record("add_ons_changed", subscription, reason=reason, before={"add_ons": before}, after={"add_ons": wanted})
    desk.tell("changed", subscription, at=desk.now)
    return issued


def checked(subscription: Subscription, add_ons: Mapping[str, int]) -> dict[str, int]:
    """The add-ons that the subscription would have: allowed, and not what it has already."""
    if subscription.status not in (*rows.NOT_STARTED, *rows.LIVE):
        raise rows.refusal(subscription, "take add-ons")
    offered = {offer.component.code for offer in offers(subscription)}
    for code, quantity in add_ons.items():
        if code not in offered:
            raise AddOnNotOffered(add_on=code[:60], field="add_ons")
        if not 0 <= quantity <= changing.MAX_QUANTITY:
            raise InvalidSubscription(f"The quantity of '{code}' is 0 to {changing.MAX_QUANTITY}.", field="add_ons")
    wanted = {code: quantity for code, quantity in {**subscription.add_ons, **add_ons}.items() if quantity}
    if wanted == subscription.add_ons:
        raise NothingToChange("The subscription has these add-ons already.")
    return wanted


def plan_documents(
    subscription: Subscription, desk: Desk, *, add_ons: Mapping[str, int], prorate: bool = True
) -> Documents:
    """What taking ``add_ons`` now bills and credits. Reads only: a preview shows the same."""
    if subscription.status in rows.NOT_STARTED or not prorate:
        return Documents()
    at, zone = desk.now, zone_of(subscription)
    if subscription.next_billing_at is not None and subscription.next_billing_at <= at:
        raise BillingBehind(on=local_date(subscription.next_billing_at, zone).isoformat())
    version, quantity = subscription.plan_version_id, subscription.quantity
    books = price_books(subscription.organisation_id, [version])
    old, new = (
        Terms(books.get(version, subscription.currency, taken), quantity) for taken in (subscription.add_ons, add_ons)
    )
    paid = switches.paid_period(subscription)
    lines = switch_lines(old=old, new=new, paid=paid, at=at)
    first_on = paid.first_on(at)
    return documents.plan(
        subscription=subscription, lines=lines, claims=lambda: desk.claims(subscription, first_on), first_on=first_on,
        held=lambda: desk.held(subscription), books=[new.book],
        last_on=paid.last_on, at=at, inclusive=new.book.inclusive,
    )  # fmt: skip
