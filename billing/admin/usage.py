"""What is counted."""

from django.contrib import admin

from billing.admin.base import TenantAdmin
from billing.models import Meter, UsageEvent


@admin.register(Meter)
class MeterAdmin(TenantAdmin):
    view_permission = "usage.view"
    list_display = ("code", "name", "aggregation", "unit", "organisation")
    list_select_related = ("organisation",)
    search_fields = ("code", "name")
    fields = readonly_fields = ("code", "name", "aggregation", "unit", "organisation")
    ordering = ("-id",)


@admin.register(UsageEvent)
class UsageEventAdmin(TenantAdmin):
    view_permission = "usage.view"
    list_display = ("event_id", "meter", "customer", "quantity", "occurred_at", "organisation")
    list_select_related = ("meter", "customer", "organisation")
    list_filter = ("meter__aggregation",)
    search_fields = ("=event_id", "=customer__external_id")
    fields = readonly_fields = ("event_id", "meter", "customer", "quantity", "properties", "occurred_at", "recorded_at")
    ordering = ("-id",)
