from subscriptions.models.billing import (
    BillingCycle,
    BillingTerms,
    DraftCycle,
    DraftEdit,
    FailedCycle,
    InterimInvoice,
    UsageThreshold,
)
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
from subscriptions.models.migrations import PlanMigration, PlanMigrationItem
from subscriptions.models.plans import Interval, Plan, PlanVersion, Price, PriceFilter
from subscriptions.models.subscriptions import BilledPeriod, BillingRun, Credit, PlannedChange, Proration, Subscription

__all__ = [
    "BilledPeriod",
    "BillingCycle",
    "BillingRun",
    "BillingTerms",
    "Consumption",
    "Credit",
    "DraftCycle",
    "DraftEdit",
    "DunningCase",
    "DunningPause",
    "DunningPolicy",
    "EntitlementAlert",
    "EntitlementCatalogue",
    "EntitlementGrant",
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
    "Proration",
    "QuotaCounter",
    "Subscription",
    "UsageThreshold",
]
