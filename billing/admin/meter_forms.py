"""What the console asks about meters, and about an event to try one on."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminDateWidget,
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from billing import clock, expressions
from billing.admin.base import ReasonForm
from billing.admin.panels import OrganisationForm
from billing.models import Meter
from billing.services import meter_costs

TEXT = UnfoldAdminTextInputWidget
COUNTS = [
    ("sum", "sum: quantities are added up"),
    ("count", "count: how many events there were"),
    ("max", "maximum: the greatest quantity"),
    ("unique", "unique: how many different values of a property"),
    ("latest", "latest: the quantity that came last"),
    ("weighted", "weighted by time: how much there was, for how long"),
]
ROUNDINGS = [("", "not rounded"), ("round", "half up"), ("ceil", "up"), ("floor", "down")]
COUNTING = (
    "aggregation", "recurring", "expression", "unique_property", "rounding", "rounding_decimals", "properties",
    "event_quantity", "event_properties",
)  # fmt: skip
"""Fields that matter when an event is tried."""


class DeclaredField(forms.CharField):
    """A property on each line: ``bytes number required``."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            max_length=3000, required=False, label="Declared properties",
            widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "placeholder": "bytes number required\nregion"}),
            help_text="One on each line: its name, then “number” if it is one, then “required” if no event may lack it. "
            "Events with other properties are refused or parked. Empty: an event may have any.", **kwargs,
        )  # fmt: skip

    def clean(self, value: Any) -> Any:
        return [_declared(line.split()) for line in (super().clean(value) or "").splitlines() if line.strip()]

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(declared_text, value)) if isinstance(value, list) else value


def declared_text(one: Mapping[str, Any]) -> str:
    """``bytes number required``."""
    number = " number" if one.get("kind") == "number" else ""
    return f"{one['name']}{number}{' required' if one.get('required') else ''}"


def _declared(said: list[str]) -> dict[str, Any]:
    name, *more = said
    if unknown := [word for word in more if word not in ("number", "text", "required")]:
        raise forms.ValidationError(f"After the name “{name}”, “{unknown[0]}” says nothing: write number or required.")
    return {"name": name, "kind": "number" if "number" in more else "text", "required": "required" in more}


class EventForm(forms.Form):
    """An event to try a meter on; nothing is taken in."""

    event_quantity = forms.DecimalField(
        max_digits=30, decimal_places=12, required=False, label="Quantity", widget=UnfoldAdminDecimalFieldWidget(),
        help_text="Empty: the event names none.",
    )  # fmt: skip
    event_properties = forms.CharField(
        max_length=2000, required=False, label="Properties",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4, "placeholder": "bytes: 3000\nregion: eu"}),
        help_text="One on each line, or as JSON. Quotation marks make a text of a number.",
    )  # fmt: skip

    def clean_event_properties(self) -> dict[str, Any]:
        text = self.cleaned_data["event_properties"].strip()
        if not text.startswith("{"):
            return dict(_said(line) for line in text.splitlines() if line.strip())
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise forms.ValidationError(f"This is no JSON: {exc}") from exc

    @property
    def event(self) -> dict[str, Any]:
        """What ``try_event`` takes."""
        given = self.cleaned_data
        return {"properties": given["event_properties"], "quantity": given["event_quantity"]}


def _said(line: str) -> tuple[str, Any]:
    name, colon, said = line.partition(":")
    if not colon or not name.strip():
        raise forms.ValidationError(f"Expected a name, a colon and a value, not “{line.strip()[:60]}”.")
    try:
        value = json.loads(said)
    except (ValueError, RecursionError):
        value = said.strip()
    return name.strip(), value


class MeterWordsForm(forms.Form):
    """What may be changed of a meter later."""

    name = forms.CharField(max_length=120, widget=TEXT(), help_text="On invoices and lists.")
    unit = forms.CharField(max_length=40, required=False, widget=TEXT(), help_text="Word for one: call, GB, seat.")
    properties = DeclaredField()
    service = forms.CharField(
        max_length=60, required=False, widget=TEXT(), label="Service",
        help_text="Service or product line that its revenue is of, on the page of services.",
    )  # fmt: skip
    unit_cost = forms.DecimalField(
        min_value=Decimal(0), max_digits=21, decimal_places=12, required=False, label="Cost of a unit",
        widget=UnfoldAdminDecimalFieldWidget(),
        help_text="What a unit costs us, in the organisation's currency. Empty: not known.",
    )  # fmt: skip

    @property
    def words(self) -> dict[str, Any]:
        """What ``update_meter`` takes."""
        return {name: self.cleaned_data[name] for name in MeterWordsForm.base_fields}


class MeterForm(EventForm, MeterWordsForm, OrganisationForm):
    """A meter to be."""

    code = forms.SlugField(max_length=60, widget=TEXT(), help_text="What events name it by; it stays.")
    aggregation = forms.ChoiceField(choices=COUNTS, label="Counts", widget=UnfoldAdminSelectWidget())
    recurring = forms.BooleanField(
        required=False, label="Carried on", widget=UnfoldBooleanSwitchWidget(),
        help_text="A period begins with what stood at the end of the last one: stored data, seats. "
        "Of sum, unique, latest and weighted.",
    )  # fmt: skip
    expression = forms.CharField(
        max_length=expressions.MAX_LENGTH, required=False, label="Quantity of an event",
        widget=TEXT(attrs={"placeholder": 'ceil(bytes / 1024) * if(region = "eu", 2, 1)'}),
        help_text="Computed from its properties, with + - * / ( ) and round, ceil, floor, min, max, if. "
        "Empty: the quantity that is sent, 1 without one.",
    )  # fmt: skip
    unique_property = forms.CharField(
        max_length=60, required=False, label="Property that is counted", widget=TEXT(),
        help_text="Of a unique count only: user, device. An event with “operation: remove” takes its value away.",
    )  # fmt: skip
    rounding = forms.ChoiceField(
        choices=ROUNDINGS, required=False, widget=UnfoldAdminSelectWidget(), help_text="Once, of the finished quantity of a period."
    )  # fmt: skip
    rounding_decimals = forms.IntegerField(
        min_value=-6, max_value=12, required=False, initial=0, label="Decimals that stay",
        widget=UnfoldAdminIntegerFieldWidget(), help_text="0: whole units; -2: hundreds.",
    )  # fmt: skip

    def clean_rounding_decimals(self) -> int:
        return self.cleaned_data["rounding_decimals"] or 0

    @property
    def choices(self) -> dict[str, Any]:
        """What ``draft_meter`` takes, beside what names the meter."""
        given = self.cleaned_data
        return {name: given[name] for name in given if name in COUNTING and not name.startswith("event_")}


class MeterChangeForm(EventForm, MeterWordsForm):
    """A meter as it is to be from now on."""

    unit_cost_from = forms.DateField(
        required=False, label="Cost counts from", widget=UnfoldAdminDateWidget(attrs={"type": "date"}),
        help_text="The whole of this day has the new cost, days before keep theirs. Empty: today.",
    )  # fmt: skip
    reason = ReasonForm.base_fields["reason"]

    def __init__(self, data: Any = None, *, meter: Meter) -> None:
        initial = {name: getattr(meter, name, None) for name in MeterWordsForm.base_fields}
        cost = meter_costs.cost_on(meter, clock.today(meter.organisation))
        if cost is not None:
            initial["unit_cost"] = f"{cost.normalize():f}"
        super().__init__(data, initial=initial)

    @property
    def words(self) -> dict[str, Any]:
        """What ``update_meter`` takes."""
        return {**super().words, "unit_cost_from": self.cleaned_data["unit_cost_from"]}
