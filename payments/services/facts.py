"""What events of this app tell about a row."""

from typing import Any

from billing.money import quantize
from payments.models import Payment


def amount_text(money: Any) -> str:
    """An amount as events carry it: a decimal string in the currency's own decimals."""
    return f"{quantize(money.amount, money.currency.code):f}"


def payment_facts(payment: Payment) -> dict[str, Any]:
    """What every payment event carries."""
    return {
        "payment_id": str(payment.pk),
        "reference": payment.reference,
        "customer_id": str(payment.customer_id),
        "amount": amount_text(payment.amount),
        "currency": payment.amount.currency.code,
    }
