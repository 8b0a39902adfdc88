"""What the console asks before a coupon is offered, gets a word, or is given to a customer."""

from datetime import datetime
from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from billing import clock
from billing.admin.finding import FindInput
from billing.admin.panels import OrganisationForm
from billing.models import Organisation
from subscriptions.models import Coupon

TEXT = UnfoldAdminTextInputWidget
NAMES = "Codes, with commas between; empty: all."


def codes(text: str) -> list[str]:
    """``a, b`` as a list."""
    return [code.strip() for code in text.split(",") if code.strip()]


def on_the_wall(organisation: Organisation, at: datetime | None) -> datetime | None:
    """A time as somebody wrote it: meant where the organisation is."""
    return at.replace(tzinfo=clock.zone(organisation)) if at else None


def _number(
    label: str, help_text: str = "", *, initial: int | None = None, required: bool = False
) -> forms.IntegerField:
    return forms.IntegerField(
        min_value=1, max_value=2**31 - 1, required=required, initial=initial, widget=TEXT(), label=label, help_text=help_text
    )  # fmt: skip


def _until() -> forms.SplitDateTimeField:
    return forms.SplitDateTimeField(
        required=False, widget=UnfoldAdminSplitDateTimeWidget(), label="To be taken until", help_text="Empty: without end."
    )  # fmt: skip


class OfferForm(OrganisationForm):
    """A coupon to be: a percentage, or an amount."""

    code = forms.SlugField(max_length=60, widget=TEXT())
    name = forms.CharField(max_length=120, widget=TEXT(), help_text="As the invoice says it.")
    percent = forms.DecimalField(
        max_digits=7, decimal_places=4, required=False, widget=TEXT(), help_text="Or the amount below."
    )
    amount = forms.DecimalField(max_digits=19, decimal_places=4, required=False, widget=TEXT())
    currency = forms.CharField(max_length=3, required=False, widget=TEXT(), help_text="Of the amount.")
    duration = forms.ChoiceField(
        choices=[("once", "one invoice"), ("periods", "so many invoices"), ("forever", "for ever")],
        widget=UnfoldAdminSelectWidget(), label="Lasts",
    )  # fmt: skip
    periods = _number("How many invoices")
    carries_over = forms.BooleanField(
        required=False, widget=UnfoldBooleanWidget(), label="What an amount has left goes to the next invoice"
    )
    expires_at = _until()
    max_redemptions = _number("At most", "How often it may be taken in all; empty: as often as it is asked for.")
    max_per_customer = _number("For each customer", initial=1, required=True)
    plans = forms.CharField(max_length=2000, required=False, widget=TEXT(), help_text=NAMES)
    meters = forms.CharField(max_length=2000, required=False, widget=TEXT(), help_text=NAMES)
    charges = forms.CharField(max_length=2000, required=False, widget=TEXT(), help_text=NAMES)

    def terms(self) -> dict[str, Any]:
        """As ``create_coupon`` takes them."""
        said = dict(self.cleaned_data)
        said["kind"] = Coupon.Kind.PERCENT if said["percent"] is not None else Coupon.Kind.FIXED
        said["currency"] = said["currency"].upper()
        said["expires_at"] = on_the_wall(said["organisation"], said["expires_at"])
        return said | {name: codes(said[name]) for name in ("plans", "meters", "charges")}


class WordForm(forms.Form):
    """A promotion code for the coupon."""

    code = forms.CharField(max_length=40, widget=TEXT(), help_text="Kept in capitals.")
    expires_at = _until()
    max_redemptions = _number("At most", "Empty: as often as the coupon allows.")
    first_subscription_only = forms.BooleanField(
        required=False, widget=UnfoldBooleanWidget(), label="Only for customers who were not billed yet"
    )


class GiveForm(forms.Form):
    """Who gets the coupon."""

    customer = forms.CharField(
        max_length=100, widget=FindInput("billing.customer"), help_text="External id; write to find it."
    )
    subscription = forms.CharField(
        max_length=100,
        required=False,
        widget=FindInput("subscriptions.subscription", beside="customer"),
        help_text="External id; empty: all of the customer's.",
    )
