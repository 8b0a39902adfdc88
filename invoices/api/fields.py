"""Fields of this API: days within reason, amounts read from rows."""

from datetime import date
from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing.money import exponent

FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2099, 12, 31)


@extend_schema_field({"type": "string", "format": "date", "example": "2026-06-01"})
class DayField(serializers.DateField):
    """A day between 2000 and 2099."""

    def to_internal_value(self, value: Any) -> date:
        day = super().to_internal_value(value)
        if not FIRST_DAY <= day <= LAST_DAY:
            raise serializers.ValidationError("Give a day between 2000-01-01 and 2099-12-31.")
        return day


def wire_amount(value: Decimal, currency: str) -> dict[str, str]:
    """An amount column for JSON, without the detour over ``Money``."""
    return {"amount": f"{value:.{exponent(currency)}f}", "currency": currency}


def wire_number(value: Decimal) -> str:
    """A quantity, price or rate without needless zeros."""
    return f"{value.normalize():f}" if value else "0"
