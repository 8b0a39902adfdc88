"""What pricing refuses, by name."""

from billing.errors import InvalidInput


class InvalidPrice(InvalidInput):
    """A price does not say what its model needs, or says what its model does not know."""

    code = "invalid_price"
    message = "The price is not valid."


class InvalidTiers(InvalidPrice):
    """Tiers overlap, have a gap, are not in ascending order, or the last one is closed."""

    code = "invalid_tiers"
    message = "The tiers are not valid."


class InvalidFilters(InvalidPrice):
    """Filters of a price do not say what they select, or two of them select the same."""

    code = "invalid_filters"
    message = "The filters are not valid."


class InvalidQuantity(InvalidInput):
    """A quantity is negative or not a finite number."""

    code = "invalid_quantity"
    message = "The quantity must be zero or more."


class AmountTooLarge(InvalidInput):
    """Price × quantity is more than can be stored (15 digits before the point)."""

    code = "amount_too_large"
    message = "{amount} {currency} is more than an invoice line can hold; check quantity and unit price."
