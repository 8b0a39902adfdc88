"""The API, version 1: each app adds its own addresses."""

from django.urls import include, path

urlpatterns = [
    path("", include("subscriptions.api.entitlement_urls")),
    path("", include("billing.api.urls")),
    path("", include("payments.api.urls")),
    path("", include("invoices.api.urls")),
    path("", include("subscriptions.api.urls")),
    path("", include("analytics.api.urls")),
]
