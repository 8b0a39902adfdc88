"""Add-ons on a subscription's page: what the plan offers, what is taken, and taking another quantity."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldBooleanWidget

from billing.admin.base import AboutRows, ReasonForm, decision
from billing.admin.panels import NOTHING, Panel, money
from billing.context import Actor
from subscriptions.admin.asking import foretelling
from subscriptions.models import Subscription
from subscriptions.services import add_ons, changing

TAKES = ("pending", "trialing", "active", "past_due")
PREFIX = "add_on_"


class AddOnsForm(AboutRows, ReasonForm):
    """How many of each; the fields are those that the subscription's plan offers."""

    prorate = forms.BooleanField(
        required=False, initial=True, widget=UnfoldBooleanWidget(), label="Charge or credit the rest of the paid period",
        help_text="Otherwise the price counts from the next period on.",
    )  # fmt: skip

    def suit(self, rows: Sequence[Any]) -> None:
        for offer in add_ons.offers(rows[0]) if rows else ():
            one = offer.component
            self.fields[PREFIX + one.code] = forms.IntegerField(
                min_value=0, max_value=changing.MAX_QUANTITY, initial=offer.quantity, label=one.name,
                widget=UnfoldAdminIntegerFieldWidget(), help_text=f"{one.code}; {offer.quantity:,} now.",
            )  # fmt: skip
        self.order_fields([*(name for name in self.fields if name.startswith(PREFIX)), "prorate", "reason"])


def wanted(row: Subscription, asked: dict[str, Any]) -> dict[str, Any]:
    """Options of the change: only what is said otherwise than it stands."""
    said = {name.removeprefix(PREFIX): value for name, value in asked.items() if name.startswith(PREFIX)}
    changed = {code: quantity for code, quantity in said.items() if quantity != row.add_ons.get(code, 0)}
    return {"add_ons": changed, "prorate": asked["prorate"]}


class AddOnActions:
    """What a subscription's page offers about add-ons."""

    @decision(
        description="Change add-ons", permission="subscription.edit", form=AddOnsForm, icon="add_box",
        foretell=foretelling("add_ons", wanted),
    )  # fmt: skip
    def change_add_ons(
        self, request: HttpRequest, row: Subscription, *, actor: Actor, reason: str, **asked: Any
    ) -> str:
        add_ons.set_add_ons(
            organisation=row.organisation, subscription_id=row.pk, actor=actor, reason=reason, **wanted(row, asked)
        )
        row.refresh_from_db(fields=["add_ons"])
        taken = ", ".join(f"{quantity:,} {code}" for code, quantity in sorted(row.add_ons.items()))
        return f"{row} has {taken or 'no add-ons any more'}."


def takes_add_ons(row: Subscription) -> bool:
    """Whether there is anything to take."""
    return row.status in TAKES and bool(add_ons.offers(row))


def add_ons_panel(row: Subscription) -> list[Panel]:
    """What the plan offers beside itself, and what of it is taken; nothing where it offers none."""
    rows = [
        (one.component.name, one.component.code, f"{one.quantity:,}" if one.quantity else NOTHING,
         money(one.amount) if one.quantity else NOTHING)
        for one in add_ons.offers(row)
    ]  # fmt: skip
    if not rows:
        return []
    return [
        Panel(title="Add-ons", headers=("Add-on", "Code", "Quantity", "A period"), rows=rows, numbers=frozenset({2, 3}),
              empty="", note="Prices of a whole period, without tax.")
    ]  # fmt: skip
