from subscriptions.admin import (
    billing_runs,
    coupons,
    dunning,
    entitlements,
    experiments,
    features,
    plan_moves,
    plans,
    subscriptions,
)

__all__ = [
    "billing_runs",
    "coupons",
    "dunning",
    "entitlements",
    "experiments",
    "features",
    "plan_moves",
    "plans",
    "subscriptions",
]
