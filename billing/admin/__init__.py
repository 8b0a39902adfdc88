"""Console pages of the foundation."""

from billing.admin import customers, events, ledger, organisations, test_clocks, usage, webhooks  # noqa: F401
