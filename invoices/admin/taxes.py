"""Tax rates and number series in the console."""

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.widgets import (
    UnfoldAdminDateWidget,
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminTextInputWidget,
)

from billing import places
from billing.admin.panels import OrganisationForm, Record, RecordAdmin, day, number, page_action, timeline_panel, words
from invoices.models import NumberSeries, TaxRate
from invoices.services import tax_rates


class RateForm(OrganisationForm):
    """A rate that holds from a day on."""

    category = forms.SlugField(
        max_length=40, widget=UnfoldAdminTextInputWidget(), help_text="What prices carry: saas, meals, tuition."
    )
    country = forms.RegexField(
        r"^[A-Z]{2}\Z", widget=UnfoldAdminTextInputWidget(), help_text="ISO 3166, for example IN."
    )
    region = forms.CharField(
        max_length=6,
        required=False,
        widget=UnfoldAdminTextInputWidget(),
        help_text="A state of India by its two digits (29). Empty: all regions of the country.",
    )
    rate = forms.DecimalField(
        min_value=0, max_value=100, decimal_places=4, max_digits=7, widget=UnfoldAdminDecimalFieldWidget(), help_text="Percent."
    )  # fmt: skip
    code = forms.CharField(
        max_length=12, required=False, widget=UnfoldAdminTextInputWidget(), help_text="HSN or SAC in India."
    )
    exemption_reason = forms.CharField(
        max_length=120, required=False, widget=UnfoldAdminTextInputWidget(), help_text="Printed where the rate is 0."
    )
    valid_from = forms.DateField(widget=UnfoldAdminDateWidget())
    valid_until = forms.DateField(required=False, widget=UnfoldAdminDateWidget(), help_text="Last day; empty: no end.")


@admin.register(TaxRate)
class TaxRateAdmin(RecordAdmin):
    """Rates are added, never changed: what was invoiced keeps its rate."""

    view_permission = "invoice.view"
    empty_hint = "Without a rate only lines outside of tax can be invoiced. Add the rates of your categories."
    list_display = (
        "category",
        "country",
        "in_region",
        "percent",
        "code",
        "holds_from",
        "holds_until",
        "exemption_reason",
    )
    list_filter = ("category", "country")
    search_fields = ("category__istartswith", "code__istartswith")
    ordering = ("category", "country", "region", "-valid_from")
    actions_list = ("add_rate",)

    @admin.display(description="rate", ordering="rate")
    def percent(self, row: TaxRate) -> str:
        return f"{number(row.rate)} %"

    @admin.display(description="region", ordering="region")
    def in_region(self, row: TaxRate) -> str:
        return places.region_name(row.country, row.region)

    @admin.display(description="valid from", ordering="valid_from")
    def holds_from(self, row: TaxRate) -> str:
        return day(row.valid_from)

    @admin.display(description="until", ordering="valid_until")
    def holds_until(self, row: TaxRate) -> str:
        return day(row.valid_until)

    @page_action(description="Add rate", permission="tax.edit", icon="add")
    def add_rate(self, request: HttpRequest) -> HttpResponse:
        form = RateForm(request.POST or None, organisations=self.organisations_where(request, "tax.edit"))
        back = reverse("admin:invoices_taxrate_changelist")
        if form.is_valid():
            given = form.cleaned_data
            actor = self.actor_in(request, given["organisation"])
            if self.attempt(request, lambda: tax_rates.add_rate(actor=actor, **given)) is not None:
                return HttpResponseRedirect(back)
        return self.ask(request, title="Add a tax rate", form=form, back_to=back)

    def record(self, request: HttpRequest, row: TaxRate) -> Record:
        return Record(
            facts=[
                ("Category", row.category),
                ("Country", row.country),
                ("Region", places.region_name(row.country, row.region) or "all"),
                ("Rate", f"{number(row.rate)} %"),
                ("HSN/SAC", row.code or "–"),
                ("Valid from", day(row.valid_from)),
                ("Until", day(row.valid_until) if row.valid_until else "no end"),
                ("Exemption", row.exemption_reason or "–"),
                ("Organisation", row.organisation),
            ],
            panels=timeline_panel(request, self, row, [row.pk]),
        )


@admin.register(NumberSeries)
class NumberSeriesAdmin(RecordAdmin):
    """Where numbering stands; a series begins by itself with the first document of its financial year."""

    view_permission = "invoice.view"
    empty_hint = "A series begins with the first finalised invoice of a financial year."
    list_display = ("code", "financial_year", "documents", "next_number", "organisation")
    list_filter = ("kind", "financial_year")
    list_select_related = ("organisation",)
    ordering = ("-financial_year", "code")

    @admin.display(description="numbers", ordering="kind")
    def documents(self, row: NumberSeries) -> str:
        return f"{words(row.kind)}s"

    def record(self, request: HttpRequest, row: NumberSeries) -> Record:
        return Record(
            facts=[
                ("Code", row.code),
                ("Financial year", row.financial_year),
                ("Numbers", f"{words(row.kind)}s"),
                ("Next number", row.next_number),
                ("Organisation", row.organisation),
            ]
        )
