"""Services: what each earned, cost and left by month and currency, and saying which charge is of which service."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import mark_safe
from moneyed import Money
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminTextInputWidget

from analytics import charts
from analytics.attribution import ServiceFigure
from analytics.services import attribution
from billing import clock
from billing.admin.base import ReasonForm
from billing.admin.looks import NOTHING, money
from billing.admin.panels import Figure, Panel, Record, RecordAdmin
from billing.models import Meter, Organisation
from billing.money import quantize

PERMISSION = "plan.edit"
INK = ("#2563eb", "#10b981", "#8b5cf6", "#f59e0b", "#0ea5e9", "#ec4899", "#64748b")
"""The last is of everything beyond the first six services."""
TEXT = UnfoldAdminTextInputWidget


class DayInput(UnfoldAdminTextInputWidget):
    """A day by the browser's own calendar."""

    input_type = "date"

    def format_value(self, value: Any) -> str | None:
        return value.isoformat() if isinstance(value, date) else value


class SpanForm(forms.Form):
    """Days of issue, both included."""

    since = forms.DateField(label="Issued from", widget=DayInput())
    until = forms.DateField(label="to", widget=DayInput())

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("since") and given.get("until") and given["since"] > given["until"]:
            self.add_error("until", "This is before the first day.")
        return given


class TagsForm(forms.Form):
    """A service and a cost for each charge without a service of its own, and for one more."""

    reason = ReasonForm.base_fields["reason"]

    def __init__(self, data: Any = None, *, codes: Sequence[str], tags: dict[str, attribution.Tag]) -> None:
        super().__init__(data)
        self._codes = [*codes, ""]
        for n, code in enumerate(self._codes):
            tag = tags.get(code)
            if not code:
                self.fields[f"code_{n}"] = forms.CharField(
                    max_length=60, required=False, label="Another charge", widget=TEXT()
                )
            self.fields[f"service_{n}"] = forms.CharField(
                max_length=60, required=False, label="Service", widget=TEXT(attrs={"list": "services"}),
                initial=tag.service if tag else "",
            )  # fmt: skip
            self.fields[f"cost_{n}"] = forms.DecimalField(
                min_value=Decimal(0), max_digits=21, decimal_places=12, required=False, label="Cost of a unit",
                widget=UnfoldAdminDecimalFieldWidget(),
                initial=f"{tag.unit_cost.normalize():f}" if tag and tag.unit_cost is not None else None,
            )  # fmt: skip

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        for n, known in enumerate(self._codes):
            code = known or given.get(f"code_{n}", "")
            if given.get(f"cost_{n}") is not None and not given.get(f"service_{n}"):
                self.add_error(f"service_{n}", "Name the service that this is the cost of.")
            if not known and code in self._codes[:-1] and code:
                self.add_error(f"code_{n}", "This charge is listed above.")
            if not known and bool(code) != bool(given.get(f"service_{n}")):
                self.add_error(f"service_{n}" if code else f"code_{n}", "Name both: the charge and its service.")
        return given

    @property
    def rows(self) -> list[tuple[str, list[Any]]]:
        """The code and the fields of each charge."""
        return [
            (code, [self[f"{name}_{n}"] for name in ("code", "service", "cost") if f"{name}_{n}" in self.fields])
            for n, code in enumerate(self._codes)
        ]

    @property
    def tags(self) -> dict[str, dict[str, Any]]:
        """What ``tag_charges`` takes; a charge without a service is left out."""
        given, found = self.cleaned_data, {}
        for n, known in enumerate(self._codes):
            if service := given[f"service_{n}"]:
                cost = given[f"cost_{n}"]
                found[known or given[f"code_{n}"]] = {
                    "service": service,
                    "unit_cost": None if cost is None else f"{cost:f}",
                }
        return found


class ServicePages:
    """The two pages, for the admin of MRR movements."""

    def __init__(self, admin: RecordAdmin) -> None:
        self.admin = admin

    def shown(self, request: HttpRequest) -> HttpResponse:
        """Revenue, cost and margin of one organisation's services."""
        allowed = list(Organisation.objects.filter(pk__in=self.admin.organisations(request)).order_by("name"))
        if not allowed:
            raise PermissionDenied("This needs the permission 'analytics.view'.")
        chosen = next((one for one in allowed if str(one.pk) == request.GET.get("organisation", "")), allowed[0])
        until = clock.today(chosen)
        span = {"since": attribution.since_for(until), "until": until}
        asked = "since" in request.GET or "until" in request.GET
        form = SpanForm(request.GET if asked else None, initial=span)
        found: list[ServiceFigure] | None = None
        if not asked or form.is_valid():
            found = attribution.services_by_month(organisation=chosen, **(form.cleaned_data if asked else span))
        return TemplateResponse(request, "admin/analytics/services.html", {
            **self.admin.admin_site.each_context(request), "opts": self.admin.opts, "title": "Services", "form": form,
            "organisations": allowed, "organisation": chosen, "found": found is not None,
            "currencies": _currencies(found or [], chosen.currency),
            "may_tag": chosen.pk in self.admin.organisations_where(request, PERMISSION), "media": self.admin.media + form.media,
        })  # fmt: skip

    def tag(self, request: HttpRequest, organisation_id: Any) -> HttpResponse:
        """Say which charges without a meter's service are of which service."""
        mine = self.admin.organisations_where(request, PERMISSION)
        if not mine:
            raise PermissionDenied(f"This needs the permission '{PERMISSION}'.")
        found = Organisation.objects.filter(pk__in=mine, pk=organisation_id).first()
        if found is None:
            raise Http404
        until, tags = clock.today(found), attribution.tags_of(found)
        since = attribution.since_for(until)
        codes = attribution.charges_to_tag(organisation=found, since=since, until=until)
        form = TagsForm(request.POST if request.method == "POST" else None, codes=codes, tags=tags)
        back = f"{reverse('admin:analytics_services')}?organisation={found.pk}"
        if form.is_valid():
            done = self.admin.attempt(request, lambda: attribution.tag_charges(
                organisation=found, tags=form.tags, actor=self.admin.actor_in(request, found), reason=form.cleaned_data["reason"],
            ))  # fmt: skip
            if done is not None:
                return HttpResponseRedirect(back)
        services = {
            *Meter.objects.of(found).exclude(service="").values_list("service", flat=True),
            *(one.service for one in tags.values()),
        }
        return TemplateResponse(request, "admin/analytics/service_tags.html", {
            **self.admin.admin_site.each_context(request), "opts": self.admin.opts, "title": f"Services of {found.name}'s charges",
            "form": form, "back": back, "services": sorted(services), "currency": found.currency, "media": self.admin.media,
        })  # fmt: skip


def _currencies(found: Sequence[ServiceFigure], cost_currency: str) -> list[dict[str, Any]]:
    """A chart, the totals and the months of each currency."""
    shown = []
    for currency in sorted({one.currency for one in found}):
        rows = [one for one in found if one.currency == currency]
        names = sorted(
            {one.service for one in rows}, key=lambda name: -sum(one.revenue for one in rows if one.service == name)
        )
        ink = dict(zip(names, INK, strict=False)) | dict.fromkeys(names[len(INK) - 1 :], INK[-1])
        record = Record(
            facts=(),
            figures=_figures(rows, cost_currency),
            picture=_picture(rows, ink, currency),
            panels=[_totals(rows, names, cost_currency), _months(rows, cost_currency)],
        )
        shown.append({"currency": currency, "record": record})
    return shown


def _picture(rows: Sequence[ServiceFigure], ink: dict[str, str], currency: str) -> Any:
    """The chart with a key; services beyond the inks share the last one."""
    key = format_html_join(
        "", '<span><i style="background: {}"></i>{}</span>', [(colour, _named(name)) for name, colour in ink.items()]
    )
    return format_html(
        '<h3>Revenue by service, {}</h3><div class="m-key">{}</div>{}', currency, key, _chart(rows, ink, currency)
    )


def _chart(rows: Sequence[ServiceFigure], ink: dict[str, str], currency: str) -> Any:
    months = sorted({one.month for one in rows})
    revenue = {(one.month, one.service): one.revenue for one in rows}
    series = []
    for name, colour in ink.items():
        values = [revenue.get((month, name), Decimal(0)) for month in months]
        for negative in (False, True):  # credit notes of earlier months can outweigh a month's invoices
            part = [max(-value if negative else value, Decimal(0)) for value in values]
            if any(part):
                series.append(charts.Series(name=_named(name), values=part, colour=colour, negative=negative))
    text = charts.stacked_bars(
        labels=[f"{month:%b %y}" for month in months],
        series=series,
        title=f"Revenue by service in {currency}",
        unit=currency,
    )
    return mark_safe(text)  # noqa: S308  (made by analytics.charts, which escapes every text)


def _figures(rows: Sequence[ServiceFigure], cost_currency: str) -> list[Figure]:
    revenue, cost, margin = _sums(rows, cost_currency)
    known = [one for one in rows if one.margin(cost_currency) is not None]
    base = sum((one.revenue for one in known), Decimal(0))
    return [
        Figure(name="Revenue", value=_amount(revenue, rows[0].currency), hint="net of tax and credit notes"),
        Figure(name="Cost", value=_amount(cost, cost_currency), hint="of what has a unit cost"),
        Figure(name="Margin", value=_amount(margin, cost_currency), hint=f"{_percent(margin, base)} of revenue with a known cost"),
    ]  # fmt: skip


def _sums(rows: Sequence[ServiceFigure], cost_currency: str) -> tuple[Decimal, Decimal | None, Decimal | None]:
    """Revenue, cost and margin together; None where none is known."""
    costs = [one.cost for one in rows if one.cost is not None]
    margins = [found for one in rows if (found := one.margin(cost_currency)) is not None]
    revenue = sum((one.revenue for one in rows), Decimal(0))
    return revenue, sum(costs, Decimal(0)) if costs else None, sum(margins, Decimal(0)) if margins else None


def _totals(rows: Sequence[ServiceFigure], names: Sequence[str], cost_currency: str) -> Panel:
    lines = []
    for name in names:
        own = [one for one in rows if one.service == name]
        charged = set().union(*(one.charges for one in own))
        lines.append((_named(name), *_cells(own, cost_currency), ", ".join(sorted(charged))))
    return Panel(
        title="Services", headers=("Service", "Revenue", "Cost", "Margin", "of revenue", "Charges"), rows=lines, empty="",
        numbers=frozenset({1, 2, 3, 4}),
    )  # fmt: skip


def _months(rows: Sequence[ServiceFigure], cost_currency: str) -> Panel:
    lines = [
        (_month(one.month), _named(one.service), *_cells([one], cost_currency))
        for one in sorted(rows, key=lambda one: (-one.month.toordinal(), -one.revenue, one.service))
    ]
    return Panel(
        title="Months of issue", headers=("Month", "Service", "Revenue", "Cost", "Margin", "of revenue"), rows=lines, empty="",
        numbers=frozenset({2, 3, 4, 5}),
    )  # fmt: skip


def _cells(rows: Sequence[ServiceFigure], cost_currency: str) -> tuple[str, str, str, str]:
    revenue, cost, margin = _sums(rows, cost_currency)
    known = sum((one.revenue for one in rows if one.margin(cost_currency) is not None), Decimal(0))
    return (
        _amount(revenue, rows[0].currency),
        _amount(cost, cost_currency),
        _amount(margin, cost_currency),
        _percent(margin, known),
    )


def _amount(value: Decimal | None, currency: str) -> str:
    return NOTHING if value is None else money(Money(quantize(value, currency), currency))


def _percent(margin: Decimal | None, revenue: Decimal) -> str:
    return NOTHING if margin is None or revenue <= 0 else f"{margin * 100 / revenue:.1f} %"


def _named(service: str) -> str:
    return service or "no service"


def _month(month: date) -> str:
    return f"{month:%b %Y}"
