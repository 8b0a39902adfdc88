"""Addresses of the analytics API below /api/v1/."""

from django.urls import path

from analytics.api.views import CollectionView, MrrView, OverviewView

urlpatterns = [
    path("analytics/mrr", MrrView.as_view(), name="analytics-mrr"),
    path("analytics/collection", CollectionView.as_view(), name="analytics-collection"),
    path("analytics/overview", OverviewView.as_view(), name="analytics-overview"),
]
