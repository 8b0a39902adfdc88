"""Refusals. Every business refusal is a ``DomainError`` with a stable code and the status an API answers."""

from typing import Any


class DomainError(Exception):
    """A refusal a person can act on: what was expected, and what to do."""

    code = "refused"
    http_status = 409
    message = "The request was refused."
    is_transient = False
    """Whether the same request may succeed shortly: then an Idempotency-Key is given back, not used up."""

    def __init__(self, message: str | None = None, *, field: str | None = None, **details: Any) -> None:
        self.field = field
        self.details = details
        super().__init__(message or self.message.format(**details))


class InvalidInput(DomainError):
    """A value is malformed or outside what the operation allows."""

    code = "invalid_input"
    http_status = 422
    message = "The input is not valid."


class NotFound(DomainError):
    """The object does not exist, or belongs to another organisation: both look the same."""

    code = "not_found"
    http_status = 404
    message = "No such object."


class PermissionRefused(DomainError):
    """The actor lacks a named permission."""

    code = "permission_denied"
    http_status = 403
    message = "This needs the permission '{permission}'."


class Conflict(DomainError):
    """The object's present state does not allow the operation."""

    code = "conflict"
    http_status = 409
    message = "The object's state does not allow this."


class InvalidAmount(InvalidInput):
    """An amount is not a finite decimal with the currency's number of decimals, or has the wrong sign."""

    code = "invalid_amount"
    message = "The amount is not valid."


class UnknownCurrency(InvalidInput):
    """The currency is not an ISO 4217 code that Munim knows."""

    code = "unknown_currency"
    message = "'{currency}' is not a currency code of ISO 4217."


class CurrencyMismatch(InvalidInput):
    """Two amounts of different currencies met without a rate."""

    code = "currency_mismatch"
    message = "Expected {expected}, got {got}."


class InvalidAllocation(InvalidInput):
    """Weights to split by are empty, negative or add up to nothing."""

    code = "invalid_allocation"
    message = "The weights {weights} cannot split an amount."
