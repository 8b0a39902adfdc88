from subscriptions.admin import billing_runs, dunning, entitlements, features, plans, subscriptions

__all__ = ["billing_runs", "dunning", "entitlements", "features", "plans", "subscriptions"]
