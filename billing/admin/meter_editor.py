"""The pages that write a meter: a new one, other words for one, and a trial on an event before anything is saved."""

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from billing.admin.base import path_to
from billing.admin.looks import NOTHING, number
from billing.admin.meter_forms import COUNTING, EventForm, MeterChangeForm, MeterForm
from billing.admin.panels import RecordAdmin
from billing.errors import DomainError
from billing.models import Meter, Organisation
from billing.services import meters

PERMISSION = "plan.edit"
EVENT = ("event_quantity", "event_properties")
NEW = (
    ("Meter", ("organisation", "code", "name", "unit")),
    ("How it counts", ("aggregation", "recurring", "expression", "unique_property")),
    ("What events carry", ("properties",)),
    ("Rounding", ("rounding", "rounding_decimals")),
    ("Service and cost", ("service", "unit_cost")),
)
CHANGE = (
    ("Meter", ("name", "unit")),
    ("What events carry", ("properties",)),
    ("Service and cost", ("service", "unit_cost", "unit_cost_from")),
    ("Why", ("reason",)),
)


class MeterEditor:
    """The pages of the editor, for the meter admin."""

    def __init__(self, admin: RecordAdmin) -> None:
        self.admin = admin

    def add(self, request: HttpRequest) -> HttpResponse:
        """A meter to be: tried or saved."""
        form = MeterForm(request.POST or None, organisations=self.admin.organisations_where(request, PERMISSION))
        back = reverse("admin:billing_meter_changelist")
        if "save" in request.POST and form.is_valid():
            given = form.cleaned_data
            actor = self.admin.actor_in(request, given["organisation"])
            made = self.admin.attempt(request, lambda: meters.create_meter(
                organisation=given["organisation"], code=given["code"], actor=actor, **form.choices, **{
                    name: value for name, value in form.words.items() if name != "properties"}), form=form)  # fmt: skip
            if made is not None:
                return HttpResponseRedirect(path_to(made))
        trial = self._trial(form, None) if "try" in request.POST else None
        return self._page(
            request, title="New meter", form=form, sections=NEW, back=back, trial=trial, save="Begin to count"
        )

    def change(self, request: HttpRequest, row: Meter) -> HttpResponse:
        """Other words for a meter; how it counts stays."""
        form = MeterChangeForm(request.POST if request.method == "POST" else None, meter=row)
        if "save" in request.POST and form.is_valid():
            done = self.admin.attempt(request, lambda: meters.update_meter(
                organisation=row.organisation, meter_id=row.pk, actor=self.admin.actor(request, row),
                reason=form.cleaned_data["reason"], **form.words), form=form)  # fmt: skip
            if done is not None:
                return HttpResponseRedirect(path_to(row))
        trial = self._trial(form, row) if "try" in request.POST else None
        lead = "How it counts stays, so that what was counted stays true: begin a new meter to count in another way."
        return self._page(request, title=f"Edit {row.name}", form=form, sections=CHANGE, back=path_to(row), trial=trial,
                          save="Save", lead=lead)  # fmt: skip

    def try_on(self, request: HttpRequest, row: Meter) -> HttpResponse:
        """What a meter makes of an event; for everybody who may look."""
        form = EventForm(request.POST if request.method == "POST" else None)
        trial = self._trial(form, row) if "try" in request.POST else None
        lead = (
            f"{row.get_aggregation_display().capitalize()}; quantity of an event: {row.expression or 'as it is sent'}."
        )
        return self._page(request, title=f"Try {row.name} on an event", form=form, sections=(), back=path_to(row), trial=trial,
                          lead=lead)  # fmt: skip

    def _trial(self, form: Any, row: Meter | None) -> dict[str, str] | None:
        """What the meter as it is written makes of the event, or nothing and the reason at its field.

        Fields that say nothing about counting are not asked for yet.
        """
        form.full_clean()
        for name in [name for name in form.errors if name not in COUNTING]:
            del form.errors[name]
        if form.errors:
            return None
        try:
            meter = self._drafted(form, row)
            found = meters.try_event(meter, **form.event)
        except DomainError as exc:
            form.add_error(exc.field if exc.field in form.fields else "event_properties", str(exc))
            return None
        unit = form.data.get("unit", "") if row is None else meter.unit
        return {
            "quantity": f"{number(found.quantity)} {unit}".strip(),
            "rounded": f"{number(found.rounded)} {unit}".strip() if meter.rounding else "",
            "subject": found.subject,
            "sign": "taken away" if found.subject and not found.quantity else "counted",
            "reads": ", ".join(meters.reads(meter)) or NOTHING,
        }

    def _drafted(self, form: Any, row: Meter | None) -> Meter:
        if row is None:
            return meters.draft_meter(organisation=Organisation(), code="draft", name="Draft", **form.choices)
        if "properties" in form.cleaned_data:
            row.properties = form.cleaned_data["properties"]
        return row

    def _page(
        self, request: HttpRequest, *, title: str, form: Any, sections: Any, back: str, trial: Any, save: str = "", lead: str = ""
    ) -> HttpResponse:  # fmt: skip
        return TemplateResponse(request, "admin/billing/meter_editor.html", {
            **self.admin.admin_site.each_context(request), "opts": self.admin.opts, "title": title, "lead": lead,
            "sections": [(name, [form[field] for field in fields]) for name, fields in sections],
            "event": [form[name] for name in EVENT], "trial": trial, "tried": "try" in request.POST, "save": save, "back": back,
            "media": self.admin.media + form.media,
        })  # fmt: skip
