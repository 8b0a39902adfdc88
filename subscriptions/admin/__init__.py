from subscriptions.admin import billing_runs, dunning, plans, subscriptions

__all__ = ["billing_runs", "dunning", "plans", "subscriptions"]
