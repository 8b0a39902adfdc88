from subscriptions.models.dunning import DunningCase, DunningPolicy
from subscriptions.models.plans import Interval, Plan, PlanVersion, Price
from subscriptions.models.subscriptions import BilledPeriod, BillingRun, PlannedChange, Subscription

__all__ = [
    "BilledPeriod",
    "BillingRun",
    "DunningCase",
    "DunningPolicy",
    "Interval",
    "Plan",
    "PlanVersion",
    "PlannedChange",
    "Price",
    "Subscription",
]
