"""Console pages of payments; importing them registers them."""

from payments.admin import collecting, gateways

__all__ = ["collecting", "gateways"]
