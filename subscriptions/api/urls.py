"""Addresses of the subscriptions API below /api/v1/."""

from django.urls import URLPattern, URLResolver, path
from rest_framework.routers import SimpleRouter

from subscriptions.api import add_ons, billing_runs, dunning, plans, quotes, subscriptions

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("plans", plans.PlanViewSet, "plan")
router.register("subscriptions", subscriptions.SubscriptionViewSet, "subscription")
router.register("billing-runs", billing_runs.BillingRunViewSet, "billing-run")
router.register("dunning-policies", dunning.DunningPolicyViewSet, "dunning-policy")
router.register("dunning-cases", dunning.DunningCaseViewSet, "dunning-case")

urlpatterns: list[URLPattern | URLResolver] = [
    path("prices/quote", quotes.QuoteView.as_view(), name="price-quote"),
    path("subscriptions/<uuid:pk>/add-ons", add_ons.AddOnsView.as_view(), name="subscription-add-ons"),
    *router.urls,
]
