"""Addresses of the analytics API below /api/v1/."""

from django.urls import path

from analytics.api.services import ServicesView, ServiceTagsView
from analytics.api.views import CollectionView, MrrView, OverviewView

urlpatterns = [
    path("analytics/services", ServicesView.as_view(), name="analytics-services"),
    path("analytics/service-tags", ServiceTagsView.as_view(), name="analytics-service-tags"),
    path("analytics/mrr", MrrView.as_view(), name="analytics-mrr"),
    path("analytics/collection", CollectionView.as_view(), name="analytics-collection"),
    path("analytics/overview", OverviewView.as_view(), name="analytics-overview"),
]
