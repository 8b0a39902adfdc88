from subscriptions.models.dunning import DunningCase, DunningPolicy
from subscriptions.models.plans import Interval, Plan, PlanVersion, Price
from subscriptions.models.subscriptions import BilledPeriod, BillingRun, Credit, PlannedChange, Proration, Subscription

__all__ = [
    "BilledPeriod",
    "BillingRun",
    "Credit",
    "DunningCase",
    "DunningPolicy",
    "Interval",
    "Plan",
    "PlanVersion",
    "PlannedChange",
    "Price",
    "Proration",
    "Subscription",
]
