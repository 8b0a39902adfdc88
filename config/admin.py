"""Console pages of the platform itself: when recurring work runs. What libraries register beside it is taken off."""

import json
from typing import Any, ClassVar

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from django_celery_results.models import GroupResult, TaskResult
from unfold.admin import ModelAdmin

from billing.admin.finding import SaysNotThere
from billing.selectors import access

PERMISSION = "schedule.view"
admin.site.index_title = "Overview"
admin.site.site_header = admin.site.site_title = "Munim"

for model in (
    AccessAttempt, AccessFailureLog, AccessLog, ClockedSchedule, CrontabSchedule, Group, GroupResult, IntervalSchedule,
    PeriodicTask, SolarSchedule, TaskResult,
):  # fmt: skip
    if admin.site.is_registered(model):
        admin.site.unregister(model)


def operates(request: HttpRequest) -> bool:
    """Whether the signed-in person operates the house itself."""
    return bool(request.user.is_active and getattr(request.user, "is_superuser", False))


class ForSchedulers(SaysNotThere, ModelAdmin):
    """One schedule for all organisations: their administrators look at it, the operators of the house (superusers) change it."""

    list_fullwidth = True
    empty_hint: ClassVar[str] = ""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return operates(request) or bool(access.organisations_with(request.user, PERMISSION))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return operates(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(PeriodicTask)
class ScheduleAdmin(ForSchedulers):
    """Recurring tasks: when they run, and whether they do. Beat notices a change within seconds."""

    empty_hint = "The tasks appear once beat has been started."
    list_display = ("name", "when", "enabled", "last_run_at", "total_run_count")
    list_filter = ("enabled",)
    search_fields = ("name",)
    fields = (
        "name",
        "enabled",
        "interval",
        "crontab",
        "description",
        "args",
        "kwargs",
        "last_run_at",
        "total_run_count",
    )
    readonly_fields = ("name", "args", "kwargs", "last_run_at", "total_run_count")
    list_select_related = ("interval", "crontab", "solar", "clocked")

    @admin.display(description="runs")
    def when(self, row: PeriodicTask) -> str:
        return str(row.scheduler)


class Times(ForSchedulers):
    """Times that tasks may be given. New ones may be added; those in use are not changed under their tasks."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return operates(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(IntervalSchedule)
class IntervalAdmin(Times):
    """Every so many seconds, minutes, hours or days."""

    list_display = ("__str__", "every", "period")
    empty_hint = "Add an interval, then choose it in a task."


@admin.register(CrontabSchedule)
class CrontabAdmin(Times):
    """At minutes, hours and days as cron names them."""

    list_display = ("human_readable", "timezone")
    empty_hint = "Add a time, then choose it in a task."


@admin.register(TaskResult)
class FailedTaskAdmin(SaysNotThere, ModelAdmin):
    """Tasks that failed in the last days, for the operators of the house: an error may name any organisation's rows."""

    list_fullwidth = True
    empty_hint = "Nothing has failed in the last days. What fails is shown here for a week, with its error."
    list_display = ("task_name", "date_done", "error")
    list_filter = ("date_done",)
    search_fields = ("task_name", "task_id", "result")
    fields = ("task_name", "task_id", "date_created", "date_done", "task_args", "task_kwargs", "error", "traceback")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[TaskResult]:
        rows: QuerySet[TaskResult] = super().get_queryset(request)
        return rows.filter(status="FAILURE").order_by("-date_done", "-id")

    @admin.display(description="error")
    def error(self, row: TaskResult) -> str:
        """The kind of the exception and its words, from what Celery keeps as JSON."""
        try:
            kept = json.loads(row.result or "null")
        except ValueError:
            kept = None
        if not isinstance(kept, dict):
            return str(row.result or "")
        words = kept.get("exc_message") or ""
        return f"{kept.get('exc_type', '')}: {', '.join(map(str, words)) if isinstance(words, list) else words}"

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return operates(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return operates(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
