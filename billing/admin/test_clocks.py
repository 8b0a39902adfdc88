"""Test clocks: see where time stands, and live on."""

import uuid
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSplitDateTimeWidget

from billing.admin.base import decision
from billing.admin.panels import NOTHING, REFRESH, Figure, Panel, Record, RecordAdmin, badge, status_column
from billing.context import Actor
from billing.models import TestClock
from billing.selectors import access
from billing.services import test_clocks


class AdvanceForm(forms.Form):
    """Until when, and in which steps."""

    to = forms.SplitDateTimeField(label="Live until (UTC)", widget=UnfoldAdminSplitDateTimeWidget())
    step_hours = forms.IntegerField(
        min_value=1, max_value=test_clocks.MAX_STEP_HOURS, initial=24, required=False, widget=UnfoldAdminIntegerFieldWidget(),
        help_text="Hours per step; everything that is due runs at each step.",
    )  # fmt: skip


def _in_utc(at: datetime | None) -> str:
    """Clocks of several organisations may live in several zones: their pages speak UTC."""
    return NOTHING if at is None else f"{at.day} {at:%b %Y, %H:%M} UTC"


@admin.register(TestClock)
class TestClockAdmin(RecordAdmin):
    __test__ = False
    view_permission = "test_clock.view"
    empty_hint = "Life is real here. manage.py create_organisation --test-clock founds one whose time can be turned."
    organisation_path = "organisations"
    list_display = ("name", "now", "state", "steps", "target")
    list_filter = ("status",)
    ordering = ("-id",)
    actions_detail = ("advance",)
    state = status_column()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).distinct()

    def organisation_id_of(self, row: models.Model) -> uuid.UUID:
        """The first organisation that lives by this clock."""
        return row.organisations.order_by("pk").values_list("pk", flat=True).first()  # type: ignore[attr-defined]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed = self.organisations(request)
        return bool(allowed) if obj is None else obj.organisations.filter(pk__in=allowed).exists()

    def actor(self, request: HttpRequest, row: Any) -> Actor:
        """Who turns a clock needs the permission in every organisation that lives by it."""
        actor = super().actor(request, row)
        grants = access.grants_of(request.user)
        held = [grants.get(pk, frozenset()) for pk in row.organisations.values_list("pk", flat=True)]
        permissions = frozenset.intersection(*held) if held else frozenset()
        return Actor(type=actor.type, id=actor.id, label=actor.label, address=actor.address, permissions=permissions)

    @display(description="steps")
    def steps(self, clock: TestClock) -> str:
        return f"{clock.progress.get('steps_done', 0)} of {clock.progress.get('steps_total', 0)}"

    def called(self, row: TestClock) -> str:
        return row.name

    def offers(self, row: TestClock, action: str) -> bool:
        return row.status != TestClock.Status.ADVANCING

    def record(self, request: HttpRequest, row: TestClock) -> Record:
        jobs = [(name, count) for name, count in sorted((row.progress.get("jobs") or {}).items())]
        organisations = ", ".join(row.organisations.values_list("name", flat=True))
        return Record(
            badges=[badge({"advancing": "processing", "ready": "active"}.get(row.status, row.status), row.status)],
            notice=row.error,
            figures=[
                Figure(name="It is", value=_in_utc(row.now)),
                Figure(name="Steps", value=self.steps(row), hint="of this advance"),
            ],
            facts=[("Organisations", organisations), ("Step", f"{row.step_hours} hours"), ("Until", _in_utc(row.target))],
            refresh=REFRESH if row.status == TestClock.Status.ADVANCING else 0,
            panels=[
                Panel(title="What was done", headers=("Job", "Count"), rows=jobs, numbers=frozenset({1}),
                      empty="Nothing was due.")
            ],
        )  # fmt: skip

    @decision(description="Advance", permission="test_clock.advance", form=AdvanceForm, icon="fast_forward")
    def advance(
        self, request: HttpRequest, clock: TestClock, *, actor: Actor, to: datetime, step_hours: int | None
    ) -> str:
        begun = test_clocks.advance(clock_id=clock.pk, to=to, step_hours=step_hours or 24, actor=actor)
        return f"Living until {to:%d %b %Y, %H:%M}: {begun.progress['steps_total']} steps."
