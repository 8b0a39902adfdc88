from subscriptions.admin import billing_runs, dunning, entitlements, features, plan_moves, plans, subscriptions

__all__ = ["billing_runs", "dunning", "entitlements", "features", "plan_moves", "plans", "subscriptions"]
