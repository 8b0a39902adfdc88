"""What the console asks before it drafts, starts, weighs or concludes an experiment."""

import re
from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from billing.admin.base import ReasonForm
from billing.admin.panels import OrganisationForm
from subscriptions.services.experiments.drafting import VariantInput

TEXT = UnfoldAdminTextInputWidget
LINE = re.compile(
    r"(?P<code>[-\w]+)\s*=\s*(?:(?P<plan>[-\w]+)\s*)??(?:v(?P<version>\d{1,4})\s*)?,\s*(?P<weight>\d{1,3})\s*%?",
    re.ASCII,
)
SHARE = re.compile(r"(?P<code>[-\w]+)\s*=\s*(?P<weight>\d{1,3})\s*%?", re.ASCII)


class DraftForm(OrganisationForm):
    """An experiment to be."""

    plan = forms.CharField(max_length=60, widget=TEXT(), help_text="Code.")
    code = forms.SlugField(max_length=60, widget=TEXT())
    name = forms.CharField(max_length=120, widget=TEXT())
    hypothesis = forms.CharField(max_length=500, required=False, widget=TEXT(), help_text="What is expected, and why.")
    variants = forms.CharField(
        max_length=2000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}),
        help_text="One to a line, the control first: “today = v1, 50 %”; of another plan: “yearly = team-year v2, 50 %”.",
    )
    allocation_percent = forms.IntegerField(
        min_value=1, max_value=100, initial=100, widget=TEXT(), label="Share of customers, %"
    )

    def clean_variants(self) -> list[VariantInput]:
        """The lines as variants."""
        return [self._variant(line) for line in self.cleaned_data["variants"].splitlines() if line.strip()]

    def _variant(self, line: str) -> VariantInput:
        found = LINE.fullmatch(line.strip())
        if found is None:
            raise forms.ValidationError(f"“{line.strip()}” is not read: write “code = v1, 50 %”.")
        said: dict[str, Any] = found.groupdict()
        return VariantInput(
            code=said["code"], plan=said["plan"] or "", version=int(said["version"]) if said["version"] else None,
            weight=int(said["weight"]),
        )  # fmt: skip


class StartForm(forms.Form):
    """What it is to be decided by, said before it runs."""

    baseline_rate = forms.DecimalField(
        max_digits=7,
        decimal_places=6,
        widget=TEXT(),
        help_text="Share of those who see today's price and subscribe: 0.08.",
    )
    minimum_effect = forms.DecimalField(
        max_digits=7, decimal_places=6, widget=TEXT(), help_text="Least difference worth finding: 0.02 is two points."
    )
    planned_sample = forms.IntegerField(
        min_value=2, required=False, widget=TEXT(),
        help_text="Customers of each variant before anything is claimed; empty: as many as that takes.",
    )  # fmt: skip


class ReweighForm(ReasonForm):
    """Other shares for those who are assigned from now on."""

    weights = forms.CharField(
        max_length=500, required=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="One to a line: “today = 90”; 0: nobody new.",
    )  # fmt: skip
    allocation_percent = forms.IntegerField(
        min_value=1, max_value=100, required=False, widget=TEXT(), label="Share of customers, %"
    )

    def clean_weights(self) -> dict[str, int]:
        """The lines as percentages by variant."""
        found = {}
        for line in filter(str.strip, self.cleaned_data["weights"].splitlines()):
            said = SHARE.fullmatch(line.strip())
            if said is None:
                raise forms.ValidationError(f"“{line.strip()}” is not read: write “today = 90”.")
            found[said["code"]] = int(said["weight"])
        return found


class ConcludeForm(ReasonForm):
    """Which variant was decided for."""

    variant = forms.SlugField(max_length=60, widget=TEXT(), help_text="Its code.")
