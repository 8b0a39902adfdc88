"""Minimum commitments: what a period comes to at least, and the line that makes up for what is missing.

A part of a period commits to its days' share. What is charged is never less than the commitment, and never more than the
greater of commitment and usage.
"""

from decimal import Decimal

from moneyed import Money

from subscriptions.pricing.values import to_money
from subscriptions.proration import Part, share


def committed(minimum: Decimal, part: Part, currency: str) -> Money:
    """What ``part`` of a period has to come to."""
    return share(to_money(minimum, currency), part)


def true_up(*, minimum: Decimal, part: Part, charged: Money) -> Money:
    """What is missing to the commitment of ``part``; zero when enough was charged."""
    missing = committed(minimum, part, charged.currency.code) - charged
    return missing if missing.amount > 0 else Money(Decimal(0), charged.currency)
