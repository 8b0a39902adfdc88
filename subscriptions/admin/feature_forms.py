"""What the console asks about features and about what holds for all of them."""

from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget, UnfoldBooleanSwitchWidget

from billing.admin.base import ReasonForm
from billing.admin.panels import OrganisationForm, words
from subscriptions.entitlements import rules
from subscriptions.models import Feature

TEXT = UnfoldAdminTextInputWidget
ACCESS = [("full", "everything"), ("paid_period", "until the paid period is over"), ("none", "nothing")]
SEVERAL = [("add_up", "add up"), ("most_generous", "the most generous one holds")]
SOLD = [("more_generous", "they may only get more"), ("any", "they may change freely"), ("never", "they never change")]
RESETS = [
    ("billing_period", "with each billing period"), ("day", "every day"), ("week", "every Monday"),
    ("month", "on the first of the month"), ("year", "on 1 January"), ("never", "never: what is taken stays taken until it is released"),
]  # fmt: skip


class PercentagesField(forms.CharField):
    """``75, 90, 100``."""

    def clean(self, value: Any) -> Any:
        parts = [one.strip().removesuffix("%").strip() for one in (super().clean(value) or "").split(",")]
        given = [one for one in parts if one]
        if not all(one.isascii() and one.isdigit() and 1 <= int(one[:5]) <= 1000 for one in given):
            raise forms.ValidationError("Write percentages from 1 to 1000 with commas between: 75, 90, 100.")
        return [int(one) for one in given]

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value


class FeatureWordsForm(forms.Form):
    """What may be changed of a feature later."""

    name = forms.CharField(max_length=120, widget=TEXT())
    description = forms.CharField(max_length=300, required=False, widget=TEXT())
    unit = forms.CharField(max_length=40, required=False, widget=TEXT(), help_text="Word for one of it: export, seat.")
    reset = forms.ChoiceField(choices=RESETS, label="Full again", widget=UnfoldAdminSelectWidget())
    is_soft = forms.BooleanField(
        required=False, label="Soft limit", widget=UnfoldBooleanSwitchWidget(),
        help_text="Beyond the limit: allowed, and flagged as overage. Plans and exceptions may say otherwise for themselves.",
    )  # fmt: skip
    choices = forms.CharField(
        max_length=2000, required=False, widget=TEXT(),
        help_text="Of a static feature: its values, least generous first, with commas between; empty: any value.",
    )  # fmt: skip
    thresholds = PercentagesField(
        max_length=100, required=False, widget=TEXT(), label="Tell of at (percent)",
        help_text="Percent of the limit with commas between; empty: the organisation's choice.",
    )  # fmt: skip

    def clean_choices(self) -> list[str]:
        return [one.strip() for one in self.cleaned_data["choices"].split(",") if one.strip()]


class FeatureForm(FeatureWordsForm, OrganisationForm):
    """A feature to be."""

    code = forms.SlugField(max_length=60, widget=TEXT(), help_text="What applications ask for; it stays.")
    kind = forms.ChoiceField(
        choices=[("boolean", "there or not"), ("quota", "so much in a window, consumed through us"),
                 ("static", "a value that the application acts upon"), ("metered", "so much in a window of what a meter measures")],
        widget=UnfoldAdminSelectWidget(),
    )  # fmt: skip
    meter = forms.CharField(max_length=60, required=False, widget=TEXT(), help_text="Code, of a metered feature.")
    field_order = ("organisation", "code", "name", "kind", "meter")


class FeatureChangeForm(FeatureWordsForm):
    """A feature as it is to be from now on."""

    reason = ReasonForm.base_fields["reason"]

    def __init__(self, *args: Any, feature: Feature, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if feature.kind != Feature.Kind.STATIC:
            del self.fields["choices"]
        if feature.kind not in (Feature.Kind.QUOTA, Feature.Kind.METERED):
            for name in ("reset", "is_soft", "thresholds"):
                del self.fields[name]
        for name, field in self.fields.items():
            value = getattr(feature, name, None)
            field.initial = ", ".join(value) if name == "choices" and value else value


class ChoicesForm(forms.Form):
    """What holds for all features of an organisation."""

    several_subscriptions = forms.ChoiceField(
        choices=SEVERAL, widget=UnfoldAdminSelectWidget(), label="Quotas of several subscriptions of a customer"
    )
    sold_versions = forms.ChoiceField(
        choices=SOLD, widget=UnfoldAdminSelectWidget(), label="Entitlements of a plan version that has subscribers"
    )
    thresholds = PercentagesField(
        max_length=100, widget=TEXT(), label="Tell of limits at (percent)",
        help_text="Once in each window. A feature may have percentages of its own.",
    )  # fmt: skip
    mail_alerts = forms.BooleanField(
        required=False, widget=UnfoldBooleanSwitchWidget(), label="Also write to the customer then"
    )

    def __init__(self, *args: Any, chosen: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for status in rules.DEFAULT_STATUSES:
            self.fields[f"status_{status}"] = forms.ChoiceField(
                choices=ACCESS, widget=UnfoldAdminSelectWidget(), label=f"A subscription that is {words(status)} entitles to",
                initial=chosen["statuses"][status],
            )  # fmt: skip
        self.fields["reason"] = ReasonForm.base_fields["reason"]
        for name in ("several_subscriptions", "sold_versions", "thresholds", "mail_alerts"):
            self.fields[name].initial = chosen[name]

    @property
    def changes(self) -> dict[str, Any]:
        """What ``change_choices`` takes."""
        given = self.cleaned_data
        plain = {name: given[name] for name in ("several_subscriptions", "sold_versions", "thresholds", "mail_alerts")}
        return plain | {"statuses": {status: given[f"status_{status}"] for status in rules.DEFAULT_STATUSES}}
