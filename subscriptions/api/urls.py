"""Addresses of the subscriptions API below /api/v1/."""

from django.urls import URLPattern, URLResolver, path
from rest_framework.routers import SimpleRouter

from subscriptions.api import (
    add_ons,
    billing_cycles,
    billing_runs,
    coupons,
    draft_edits,
    dunning,
    dunning_runs,
    entitlement_policy,
    entitlements,
    experiments,
    features,
    plan_advice,
    plan_migrations,
    plans,
    quotes,
    subscriptions,
    usage,
)

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("plans", plans.PlanViewSet, "plan")
router.register("plan-migrations", plan_migrations.PlanMigrationViewSet, "plan-migration")
router.register("experiments", experiments.ExperimentViewSet, "experiment")
router.register("subscriptions", subscriptions.SubscriptionViewSet, "subscription")
router.register("billing-runs", billing_runs.BillingRunViewSet, "billing-run")
router.register("billing-cycles", billing_cycles.BillingCycleViewSet, "billing-cycle")
router.register("billing-terms", billing_cycles.BillingTermsViewSet, "billing-terms")
router.register("usage-thresholds", billing_cycles.UsageThresholdViewSet, "usage-threshold")
router.register("interim-invoices", billing_cycles.InterimInvoiceViewSet, "interim-invoice")
router.register("draft-edits", draft_edits.DraftEditViewSet, "draft-edit")
router.register("dunning-policies", dunning.DunningPolicyViewSet, "dunning-policy")
router.register("dunning-pauses", dunning.DunningPauseViewSet, "dunning-pause")
router.register("dunning-cases", dunning.DunningCaseViewSet, "dunning-case")
router.register("coupons", coupons.CouponViewSet, "coupon")
router.register("promotion-codes", coupons.PromotionCodeViewSet, "promotion-code")
router.register("applied-coupons", coupons.AppliedCouponViewSet, "applied-coupon")
router.register("features", features.FeatureViewSet, "feature")
router.register("plan-entitlements", features.PlanEntitlementViewSet, "plan-entitlement")
router.register("entitlement-grants", features.GrantViewSet, "entitlement-grant")
router.register("entitlement-consumptions", entitlements.ConsumptionViewSet, "entitlement-consumption")
router.register("entitlement-alerts", entitlements.AlertViewSet, "entitlement-alert")

urlpatterns: list[URLPattern | URLResolver] = [
    path("customers/<uuid:pk>/usage", usage.CustomerUsageView.as_view(), name="customer-usage"),
    path("experiments/<slug:id>/assign", experiments.AssignView.as_view(), name="experiment-assign"),
    path("prices/quote", quotes.QuoteView.as_view(), name="price-quote"),
    path("plans/compare", plan_advice.CompareView.as_view(), name="plan-compare"),
    path(
        "subscriptions/<uuid:pk>/recommendation",
        plan_advice.RecommendView.as_view(),
        name="subscription-recommendation",
    ),
    path("subscriptions/<uuid:pk>/add-ons", add_ons.AddOnsView.as_view(), name="subscription-add-ons"),
    path("entitlement-policy", entitlement_policy.EntitlementPolicyView.as_view(), name="entitlement-policy"),
    path("dunning/recovery", dunning_runs.DunningRecoveryView.as_view(), name="dunning-recovery"),
    path("dunning/run", dunning_runs.DunningRunView.as_view(), name="dunning-run"),
    *router.urls,
]
