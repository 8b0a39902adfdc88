from subscriptions.models.billing import (
    BillingCycle,
    BillingTerms,
    DraftCycle,
    DraftEdit,
    FailedCycle,
    InterimInvoice,
    UsageThreshold,
)
from subscriptions.models.coupons import AppliedCoupon, Coupon, CouponUse, PromotionCode
from subscriptions.models.dunning import DunningCase, DunningPause, DunningPolicy
from subscriptions.models.entitlements import (
    Consumption,
    EntitlementAlert,
    EntitlementCatalogue,
    EntitlementGrant,
    Feature,
    PlanEntitlement,
    QuotaCounter,
)
from subscriptions.models.experiments import Experiment, ExperimentExposure, ExperimentVariant
from subscriptions.models.migrations import PlanMigration, PlanMigrationItem
from subscriptions.models.plans import Interval, Plan, PlanVersion, Price, PriceFilter
from subscriptions.models.subscriptions import BilledPeriod, BillingRun, Credit, PlannedChange, Proration, Subscription

__all__ = [
    "AppliedCoupon",
    "BilledPeriod",
    "BillingCycle",
    "BillingRun",
    "BillingTerms",
    "Consumption",
    "Coupon",
    "CouponUse",
    "Credit",
    "DraftCycle",
    "DraftEdit",
    "DunningCase",
    "DunningPause",
    "DunningPolicy",
    "EntitlementAlert",
    "EntitlementCatalogue",
    "EntitlementGrant",
    "Experiment",
    "ExperimentExposure",
    "ExperimentVariant",
    "FailedCycle",
    "Feature",
    "InterimInvoice",
    "Interval",
    "Plan",
    "PlanEntitlement",
    "PlanMigration",
    "PlanMigrationItem",
    "PlanVersion",
    "PlannedChange",
    "Price",
    "PriceFilter",
    "PromotionCode",
    "Proration",
    "QuotaCounter",
    "Subscription",
    "UsageThreshold",
]
