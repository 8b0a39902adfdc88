"""Addresses of entitlements below /api/v1/: asked before every action of an application, so they are tried first."""

from django.urls import path

from subscriptions.api import entitlements

urlpatterns = [
    path("entitlements/check", entitlements.CheckView.as_view(), name="entitlement-check"),
    path("entitlements/consume", entitlements.ConsumeView.as_view(), name="entitlement-consume"),
    path("entitlements/release", entitlements.ReleaseView.as_view(), name="entitlement-release"),
    path("entitlements", entitlements.EntitlementsView.as_view(), name="entitlements"),
]
