"""Console pages of the foundation."""

from billing.admin import customers, events, ledger, meters, organisations, test_clocks, usage, usage_intake, webhooks  # noqa: F401
