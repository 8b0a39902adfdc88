"""Console pages of payments; importing them registers them."""

from payments.admin import (
    collecting,
    gateways,
    methods,
    on_customers,
    reconciliation,
    reconciliation_bank,
    reconciliation_exceptions,
)

__all__ = [
    "collecting",
    "gateways",
    "methods",
    "on_customers",
    "reconciliation",
    "reconciliation_bank",
    "reconciliation_exceptions",
]
