"""What the console asks about a plan beside its prices: words, trial, when it is offered, and how its subscriptions live."""

from collections.abc import Mapping
from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminDateWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from billing.admin.base import ReasonForm
from subscriptions import rules
from subscriptions.admin.lasting import term_text
from subscriptions.models import Interval, Plan
from subscriptions.services import catalog

TEXT = UnfoldAdminTextInputWidget
AS_THE_HOUSE = ("", "as the organisation")
SAID = {
    "proration": {"day": "by the day", "second": "by the second", "none": "not at all"},
    "cycle": {"anniversary": "from the first charged day", "calendar": "the calendar's"},
    "time_zone": {"organisation": "of the organisation", "customer": "of the customer"},
    "usage_after_change": {"restart": "billed at once, tiers begin anew", "continue": "priced by the new plan at the end"},
    "last_day": {"charged": "is charged", "free": "is free"},
    "change_when": {"now": "at once", "period_end": "at the period's end", "by_value": "dearer at once, cheaper at the end"},
}  # fmt: skip
LABELS = {
    "proration": "Parts of a period", "cycle": "Periods", "time_zone": "Days", "usage_after_change": "Usage before a change",
    "last_day": "The last day", "change_when": "A change takes hold",
}  # fmt: skip
WHOLE = ("payment_gate_days", "usage_in_advance_hours")
TERM = ("interval", "count", "renewals", "notice_days")


def _day(label: str, hint: str) -> forms.DateField:
    return forms.DateField(
        label=label, required=False, help_text=hint, widget=UnfoldAdminDateWidget(attrs={"type": "date"})
    )


def _choice(name: str) -> forms.ChoiceField:
    assert SAID[name].keys() == {*rules.CHOICES[name]}
    return forms.ChoiceField(
        choices=[AS_THE_HOUSE, *SAID[name].items()],
        required=False,
        label=LABELS[name],
        widget=UnfoldAdminSelectWidget(),
    )


def _whole(label: str, hint: str, least: int, most: int) -> forms.IntegerField:
    return forms.IntegerField(
        label=label, help_text=hint, required=False, min_value=least, max_value=most, widget=TEXT()
    )


class PlanWordsForm(forms.Form):
    """What may be changed of a plan later. The rules stand under their own names; empty: as the organisation."""

    name = forms.CharField(max_length=120, widget=TEXT())
    description = forms.CharField(max_length=300, required=False, widget=TEXT())
    trial_days = forms.IntegerField(min_value=0, max_value=catalog.MAX_TRIAL_DAYS, initial=0, widget=TEXT())
    available_from = _day("Offered from", "First day on which one may subscribe; empty: at once.")
    available_until = _day("Offered until", "Last day; empty: no end. Who has subscribed goes on.")
    proration = _choice("proration")
    cycle = _choice("cycle")
    time_zone = _choice("time_zone")
    change_when = _choice("change_when")
    usage_after_change = _choice("usage_after_change")
    last_day = _choice("last_day")
    payment_gate_days = _whole(
        "Days to pay first", "Incomplete until the first invoice is paid.", 1, rules.MAX_GATE_DAYS
    )
    usage_in_advance_hours = _whole(
        "Hours between invoices", "Of usage that is charged in advance.", 0, rules.MAX_HOURS
    )
    seats_meter = forms.CharField(
        max_length=60, required=False, widget=TEXT(), help_text="Code of the meter that counts seats in use."
    )
    trial_prices = forms.CharField(
        max_length=300, required=False, widget=TEXT(), help_text="What a trial costs: 49 INR, 1 EUR."
    )
    term_interval = forms.ChoiceField(
        choices=[AS_THE_HOUSE, *Interval.choices], required=False, label="Term in", widget=UnfoldAdminSelectWidget(),
        help_text="A fixed term that renews itself.",
    )  # fmt: skip
    term_count = _whole("Term of so many", "Empty: one.", 1, rules.MAX_TERM)
    term_renewals = _whole("Renews itself", "So many times; empty: for ever.", 0, rules.MAX_RENEWALS)
    term_notice_days = _whole("Days of notice", "Empty: none.", 0, rules.MAX_NOTICE_DAYS)
    RULES = (*SAID, *WHOLE, "seats_meter", "trial_prices", *(f"term_{name}" for name in TERM))

    @property
    def about_plan(self) -> list[Any]:
        """What the plan itself is."""
        return [self[name] for name in self.fields if name not in self.RULES]

    @property
    def about_rules(self) -> list[Any]:
        """How its subscriptions live."""
        return [self[name] for name in self.fields if name in self.RULES]

    def clean_trial_prices(self) -> dict[str, str]:
        """``49 INR, 1 EUR`` as amounts by currency."""
        found = {}
        for part in filter(None, (one.strip() for one in self.cleaned_data["trial_prices"].split(","))):
            amount, _, currency = part.partition(" ")
            if not currency.strip():
                raise forms.ValidationError(f"'{part}': write the amount and its currency, such as 49 INR.")
            found[currency.strip().upper()] = amount
        return found

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        said = [name for name in TERM[1:] if given.get(f"term_{name}") is not None]
        if said and not given.get("term_interval"):
            self.add_error("term_interval", "Say in what the term is counted, or leave its other fields empty.")
        return given

    def changes(self) -> dict[str, Any]:
        """What the catalogue takes: the fields of the plan, and its rules as a whole."""
        given = self.cleaned_data
        found = {name: given[name] for name in self.fields if name in given and name not in (*self.RULES, "reason")}
        said = {name: given[name] for name in (*SAID, "seats_meter", "trial_prices") if given[name]}
        said |= {name: given[name] for name in WHOLE if given[name] is not None}
        if given["term_interval"]:
            term = {name: given[f"term_{name}"] for name in TERM}
            said["term"] = {name: value for name, value in term.items() if value is not None}
        return {**found, "rules": said}


class PlanChangeForm(PlanWordsForm):
    """A plan as it is to be from now on."""

    reason = ReasonForm.base_fields["reason"]

    def __init__(self, data: Any = None, *, plan: Plan) -> None:
        self.plan = plan
        super().__init__(data, initial=initial_of_plan(plan))

    def changes(self) -> dict[str, Any]:
        """What the catalogue takes. A rule that says "none, whatever the organisation says" cannot be said here, so it stays."""
        found = super().changes()
        none = {name: None for name, value in self.plan.rules.items() if value is None}
        return {**found, "rules": none | found["rules"]}


def initial_of_plan(plan: Plan) -> dict[str, Any]:
    """The plan as the form shows it."""
    said: Mapping[str, Any] = plan.rules
    term = said.get("term") or {}
    prices = said.get("trial_prices") or {}
    return {
        **{name: getattr(plan, name) for name in catalog.CHANGEABLE if name != "rules"},
        **{name: said.get(name) for name in (*SAID, *WHOLE, "seats_meter")},
        **{f"term_{name}": term.get(name) for name in TERM},
        "trial_prices": ", ".join(f"{amount} {currency}" for currency, amount in prices.items()),
    }


def rules_text(plan: Plan) -> list[str]:
    """Where the plan differs from the organisation, in words."""
    found = []
    for name, value in plan.rules.items():
        if name == "term" and value:
            found.append(f"term of {term_text(rules.Term(**value))}")
        elif name == "trial_prices" and value:
            found.append("trial costs " + ", ".join(f"{amount} {currency}" for currency, amount in value.items()))
        else:
            label = LABELS.get(name, name.replace("_", " ")).lower()
            said = SAID.get(name, {}).get(value, value)
            found.append(f"{label}: {'none' if value is None else said}")
    return found
