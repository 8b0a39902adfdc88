"""The plan editor's forms: one for the plan, one for each component, in words that a person writes."""

import json
from decimal import Decimal
from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from billing.errors import DomainError
from subscriptions import pricing
from subscriptions.admin.plan_words import PlanWordsForm
from subscriptions.models import Interval, PlanVersion, Price
from subscriptions.pricing import tier_words
from subscriptions.services import catalog
from subscriptions.services.catalog import FilterInput, PriceInput

TEXT = UnfoldAdminTextInputWidget
MODELS = {
    "flat": "flat: once a period",
    "per_unit": "per unit",
    "graduated": "graduated: each unit at its tier",
    "volume": "volume: all units at the last one's tier",
    "package": "package: for each so many begun",
    "percentage": "percentage of amounts",
    "graduated_percentage": "graduated percentage",
    "dynamic": "dynamic: as events say",
}
KINDS = {"recurring": "part of the plan", "add_on": "add-on with own quantity", "one_off": "once, at the start"}

MAIN = ("code", "name", "currency", "kind", "model", "unit_price", "unit", "meter", "sample")
BY_MODEL = (
    "tiers", "package_size", "rate", "fixed_fee", "free_units", "free_events", "min_per_event", "max_per_event",
)  # fmt: skip
FILLED = ("code", "name", "unit_price", "meter", "tiers", "rate", "filters")
MORE = ("tax_category", "in_arrears", "as_used", "prorated", "min_commitment", "group_by", "filters")


def _decimal(label: str, hint: str = "", **more: Any) -> forms.DecimalField:
    return forms.DecimalField(
        label=label, required=False, min_value=Decimal(0), max_digits=27, decimal_places=12, help_text=hint,
        widget=TEXT(attrs={"inputmode": "decimal"}), **more,
    )  # fmt: skip


class PlanForm(PlanWordsForm):
    """What a new plan is called, how it is billed, and how its subscriptions live."""

    code = forms.SlugField(max_length=60, widget=TEXT())
    interval = forms.ChoiceField(choices=Interval.choices, initial="month", widget=UnfoldAdminSelectWidget())
    interval_count = forms.IntegerField(min_value=1, max_value=365, initial=1, widget=TEXT(), label="Every so many")
    prices_include_tax = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
        help_text="Prices are what the customer pays in all; it stays.",
    )
    field_order = ("code", "name", "description", "interval", "interval_count", "prices_include_tax", "trial_days")


class VersionForm(forms.Form):
    """What holds for the whole version."""

    effective_from = forms.DateTimeField(
        required=False, widget=TEXT(attrs={"type": "datetime-local"}), help_text="For new subscribers; empty: at once."
    )
    minimum = forms.CharField(
        max_length=200, required=False, widget=TEXT(), label="Minimum of a period",
        help_text="In every currency of the prices: 5000 INR, 60 USD. Empty: none.",
    )  # fmt: skip
    quantity = forms.IntegerField(
        min_value=1, max_value=1_000_000, initial=1, widget=TEXT(), label="Preview for so many",
        help_text="Seats of the subscription that the preview prices.",
    )  # fmt: skip

    def clean_minimum(self) -> dict[str, str]:
        """``5000 INR, 60 USD`` as amounts by currency."""
        found = {}
        for part in filter(None, (one.strip() for one in self.cleaned_data["minimum"].split(","))):
            amount, _, currency = part.partition(" ")
            if not currency.strip():
                raise forms.ValidationError(f"'{part}': write the amount and its currency, such as 5000 INR.")
            found[currency.strip().upper()] = amount
        return found


class ComponentForm(forms.Form):
    """One price. What its model does not need stays empty."""

    code = forms.SlugField(max_length=60, widget=TEXT())
    name = forms.CharField(max_length=120, widget=TEXT(), help_text="As the invoice says it.")
    currency = forms.CharField(min_length=3, max_length=3, widget=TEXT())
    kind = forms.ChoiceField(choices=list(KINDS.items()), initial="recurring", widget=UnfoldAdminSelectWidget())
    model = forms.ChoiceField(choices=list(MODELS.items()), widget=UnfoldAdminSelectWidget())
    unit_price = _decimal("Price", "Of a period, a unit or a package.")
    unit = forms.CharField(max_length=40, required=False, widget=TEXT(), help_text="seat, call, GB")
    meter = forms.CharField(
        max_length=60, required=False, widget=TEXT(attrs={"list": "meters"}), help_text="Code; set: billed by usage."
    )
    tax_category = forms.CharField(max_length=40, required=False, widget=TEXT())
    tiers = forms.CharField(
        required=False, max_length=4000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "placeholder": "up to 1000: 0\nabove: 0.02 + 5"}),
        help_text="One a line, the last one 'above'; a fee of the tier after +; rates with %.",
    )  # fmt: skip
    package_size = _decimal("Package size")
    rate = _decimal("Rate in %")
    fixed_fee = _decimal("Fee an event")
    free_units = _decimal("Free units")
    free_events = forms.IntegerField(required=False, min_value=0, widget=TEXT())
    min_per_event = _decimal("At least an event")
    max_per_event = _decimal("At most an event")
    min_commitment = _decimal("At least a period", "Of this component's usage.")
    in_arrears = forms.BooleanField(
        required=False, help_text="Billed when the period is over; usage is, unless as used."
    )
    as_used = forms.BooleanField(
        required=False, help_text="Usage is billed soon after it happens, not at the period's end."
    )
    prorated = forms.BooleanField(required=False, initial=True, help_text="Part of a period: its days.")
    group_by = forms.CharField(
        max_length=500, required=False, widget=TEXT(), help_text="Event properties with commas: a line for each value."
    )
    filters = forms.CharField(
        required=False, max_length=20_000, widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text='Other prices for some usage, as JSON: [{"key": "eu", "conditions": {"region": ["eu"]}, "unit_price": "0.03"}]',
    )  # fmt: skip
    sample = _decimal("Preview for", "Usage, as one event; or quantity of the add-on.")

    @property
    def main(self) -> list[Any]:
        """What every component says."""
        return [self[name] for name in MAIN]

    @property
    def by_model(self) -> list[Any]:
        """What only some models need."""
        return [self[name] for name in BY_MODEL]

    @property
    def more(self) -> list[Any]:
        """What is seldom said."""
        return [self[name] for name in MORE]

    def has_changed(self) -> bool:
        """Whether somebody has begun to fill it in; choices that stand there from the start say nothing."""
        return any((self.data.get(self.add_prefix(name)) or "").strip() for name in FILLED)

    def clean_filters(self) -> tuple[FilterInput, ...]:
        text = self.cleaned_data["filters"].strip()
        if not text:
            return ()
        try:
            found = json.loads(text, parse_float=Decimal)
            return tuple(FilterInput(**one) for one in found)
        except (ValueError, TypeError, RecursionError) as exc:
            raise forms.ValidationError("Not a JSON list of filters with key, conditions and a price.") from exc

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        try:
            rates = pricing.needs_of(given.get("model", "flat")).rates
            given["tiers"] = tier_words.read(given.get("tiers") or "", rates=rates)
        except DomainError as exc:
            self.add_error("tiers", str(exc))
        if given.get("as_used") and not given.get("meter"):
            self.add_error("as_used", "Only usage is billed as used: give a meter, or leave this out.")
        elif given.get("as_used") and given.get("in_arrears"):
            self.add_error("as_used", "Either in arrears or as used, not both.")
        return given

    def price(self) -> PriceInput:
        """What the catalogue takes."""
        given = self.cleaned_data
        names = pricing.PARAMETERS
        properties = {name: f"{given[name]:f}" if isinstance(given[name], Decimal) else str(given[name])
                      for name in names if given[name] is not None}  # fmt: skip
        return PriceInput(
            code=given["code"], name=given["name"], currency=given["currency"].upper(), model=given["model"],
            kind=given["kind"], unit_price=given["unit_price"], tiers=given["tiers"], properties=properties,
            meter=given["meter"] or None, pay_in_advance=_in_advance(given), prorated=given["prorated"],
            min_commitment=given["min_commitment"], filters=given["filters"],
            group_by=[one.strip() for one in given["group_by"].split(",") if one.strip()],
            unit=given["unit"], tax_category=given["tax_category"],
        )  # fmt: skip


def _in_advance(given: dict[str, Any]) -> bool | None:
    """What was ticked; None where nothing was: fees in advance, usage afterwards."""
    return True if given["as_used"] else False if given["in_arrears"] else None


class BaseComponents(forms.BaseFormSet):
    """Components; those ticked for removal are left out."""

    @property
    def kept(self) -> list[ComponentForm]:
        """The filled forms that stay."""
        return [one for one in self.forms if one.has_changed() and not one.cleaned_data.get("DELETE")]


Components = forms.formset_factory(
    ComponentForm, formset=BaseComponents, extra=0, can_delete=True, max_num=catalog.MAX_PRICES, validate_max=True,
    min_num=1, validate_min=False, absolute_max=catalog.MAX_PRICES + 5,
)  # fmt: skip


def initial_of(version: PlanVersion | None) -> list[dict[str, Any]]:
    """The newest version's prices as the forms show them."""
    if version is None:
        return []
    found = []
    for price in version.prices.select_related("meter").prefetch_related("filters"):
        needs = pricing.needs_of(price.model)
        tiers = tier_words.say(pricing.parse_tiers(price.tiers, rates=needs.rates)) if needs.tiers else ""
        found.append(
            {
                "code": price.code, "name": price.name, "currency": price.currency, "kind": price.kind, "model": price.model,
                "unit_price": plain(price.unit_price), "unit": price.unit, "meter": price.meter.code if price.meter else "",
                "tax_category": price.tax_category, "tiers": tiers, **price.properties,
                "min_commitment": plain(price.min_commitment), "in_arrears": not price.pay_in_advance and price.meter is None,
                "as_used": price.pay_in_advance and price.meter is not None,
                "prorated": price.prorated, "group_by": ", ".join(price.group_by), "filters": _filters_text(price),
            }
        )  # fmt: skip
    return found


def minimum_text(version: PlanVersion | None) -> str:
    """The version's minimums as the form takes them."""
    return ", ".join(f"{amount} {code}" for code, amount in (version.min_commitment if version else {}).items())


def plain(value: Decimal | None) -> str:
    """A decimal without the zeros that the column adds."""
    return "" if value is None else f"{value.normalize() + 0:f}"


def _filters_text(price: Price) -> str:
    shown = []
    for one in price.filters.all():
        said: dict[str, Any] = {"key": one.key, "name": one.name, "conditions": one.conditions}
        if one.unit_price is not None:
            said["unit_price"] = plain(one.unit_price)
        said |= {name: value for name, value in (("tiers", one.tiers), ("properties", one.properties)) if value}
        shown.append(said)
    return json.dumps(shown, indent=1, ensure_ascii=False) if shown else ""
