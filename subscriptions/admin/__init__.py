from subscriptions.admin import (
    billing_runs,
    coupons,
    drafts,
    dunning,
    entitlements,
    experiments,
    features,
    plan_moves,
    plans,
    subscriptions,
    usage,
)

__all__ = [
    "billing_runs",
    "coupons",
    "drafts",
    "dunning",
    "entitlements",
    "experiments",
    "features",
    "plan_moves",
    "plans",
    "subscriptions",
    "usage",
]
