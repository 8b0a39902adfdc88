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
from subscriptions.models.migrations import PlanMigration, PlanMigrationItem
from subscriptions.models.plans import Interval, Plan, PlanVersion, Price, PriceFilter
from subscriptions.models.subscriptions import BilledPeriod, BillingRun, Credit, PlannedChange, Proration, Subscription

__all__ = [
    "BilledPeriod",
    "BillingCycle",
    "BillingRun",
    "BillingTerms",
    "Credit",
    "DraftCycle",
    "DraftEdit",
    "DunningCase",
    "DunningPause",
    "DunningPolicy",
    "FailedCycle",
    "InterimInvoice",
    "Interval",
    "Plan",
    "PlanMigration",
    "PlanMigrationItem",
    "PlanVersion",
    "PlannedChange",
    "Price",
    "PriceFilter",
    "Proration",
    "Subscription",
    "UsageThreshold",
]
