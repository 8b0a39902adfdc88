"""What a component costs, by each charge model. Pure and exact; rounded half up once, at the end.

``price_component`` prices a quantity; ``parse_rule`` reads and checks a price as it is given. The models are in ``tiers``,
``packages`` and ``percentages``; ``selection`` says which price and line an event takes; ``commitments`` what is due at least.
"""

from subscriptions.pricing.charge_models import (
    DYNAMIC,
    FLAT,
    GRADUATED,
    GRADUATED_PERCENTAGE,
    MODELS,
    NEEDS,
    NO_PARAMETERS,
    PACKAGE,
    PER_UNIT,
    PERCENTAGE,
    VOLUME,
    needs_of,
    price_component,
)
from subscriptions.pricing.errors import AmountTooLarge, InvalidFilters, InvalidPrice, InvalidQuantity, InvalidTiers
from subscriptions.pricing.parsing import (
    MAX_TIERS,
    PARAMETERS,
    dump_parameters,
    dump_tiers,
    parse_decimal,
    parse_parameters,
    parse_tiers,
)
from subscriptions.pricing.percentages import needs_values
from subscriptions.pricing.rules import Rule, parse_rule
from subscriptions.pricing.selection import Filter, by_specificity, most_specific, parse_conditions, parse_group_by
from subscriptions.pricing.values import (
    MAX_UNIT_PRICE,
    UNIT_PRICE_DECIMALS,
    Parameters,
    PricedComponent,
    Tier,
    TierCharge,
    Usage,
    to_money,
)

__all__ = [
    "DYNAMIC",
    "FLAT",
    "GRADUATED",
    "GRADUATED_PERCENTAGE",
    "MAX_TIERS",
    "MAX_UNIT_PRICE",
    "MODELS",
    "NEEDS",
    "NO_PARAMETERS",
    "PACKAGE",
    "PARAMETERS",
    "PERCENTAGE",
    "PER_UNIT",
    "UNIT_PRICE_DECIMALS",
    "VOLUME",
    "AmountTooLarge",
    "Filter",
    "InvalidFilters",
    "InvalidPrice",
    "InvalidQuantity",
    "InvalidTiers",
    "Parameters",
    "PricedComponent",
    "Rule",
    "Tier",
    "TierCharge",
    "Usage",
    "by_specificity",
    "dump_parameters",
    "dump_tiers",
    "most_specific",
    "needs_of",
    "needs_values",
    "parse_conditions",
    "parse_decimal",
    "parse_group_by",
    "parse_parameters",
    "parse_rule",
    "parse_tiers",
    "price_component",
    "to_money",
]
