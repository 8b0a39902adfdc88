"""What the gateways keep. All amounts are integers in the currency's smallest unit."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

ZERO_DECIMAL = frozenset({"BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "UGX", "VND", "VUV",
                          "XAF", "XOF", "XPF"})  # fmt: skip
THREE_DECIMAL = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})

GST = Decimal("0.18")
RAZORPAY_RATES = {"card": Decimal("0.02"), "netbanking": Decimal("0.02"), "upi": Decimal("0.004")}
RAZORPAY_FLAT = {"emandate": 1_000}  # paise before GST
RAZORPAY_INTERNATIONAL = Decimal("0.03")
STRIPE_RATES = {"EUR": (Decimal("0.015"), Decimal("0.25")), "GBP": (Decimal("0.015"), Decimal("0.20"))}
STRIPE_DEFAULT = (Decimal("0.029"), Decimal("0.30"))
INR_PER_UNIT = {  # the rate at which international payments are settled
    "USD": Decimal("84.00"), "EUR": Decimal("91.50"), "GBP": Decimal("107.00"), "AED": Decimal("22.87"),
    "SGD": Decimal("62.50"), "JPY": Decimal("0.56"), "KWD": Decimal("273.00"), "BHD": Decimal("222.80"),
    "OMR": Decimal("218.20"), "AUD": Decimal("54.30"), "CAD": Decimal("60.10"),
}  # fmt: skip


@dataclass(frozen=True)
class Fee:
    """``total`` includes ``tax``."""

    total: int
    tax: int


def exponent(currency: str) -> int:
    """Number of decimals of a currency."""
    code = currency.upper()
    return 0 if code in ZERO_DECIMAL else 3 if code in THREE_DECIMAL else 2


def whole(value: Decimal) -> int:
    """Round half up to a whole smallest unit."""
    return int(value.quantize(Decimal(1), ROUND_HALF_UP))


def to_inr(amount: int, currency: str) -> int:
    """Paise for ``amount`` smallest units of ``currency`` at the fixed table rate."""
    if currency == "INR":
        return amount
    return whole(Decimal(amount).scaleb(-exponent(currency)) * INR_PER_UNIT[currency] * 100)


def razorpay_fee(*, base_amount: int, method: str, international: bool) -> Fee:
    """Fee in paise on ``base_amount`` paise: percentage or flat by method, and 18 % GST on top of it."""
    if base_amount == 0:
        return Fee(0, 0)
    rate = RAZORPAY_INTERNATIONAL if international else RAZORPAY_RATES.get(method, Decimal("0.02"))
    net = RAZORPAY_FLAT[method] if method in RAZORPAY_FLAT else whole(base_amount * rate)
    tax = whole(net * GST)
    fee = min(net + tax, base_amount)
    return Fee(fee, min(tax, fee))


def stripe_fee(*, amount: int, currency: str) -> Fee:
    """Percentage and a fixed part in the charge's own currency; no tax."""
    rate, fixed = STRIPE_RATES.get(currency.upper(), STRIPE_DEFAULT)
    return Fee(min(whole(amount * rate + fixed.scaleb(exponent(currency))), amount), 0)


def stripe_dispute_fee(currency: str) -> int:
    """15.00 in the charge's currency (20.00 for EUR and GBP)."""
    units = Decimal(20) if currency.upper() in STRIPE_RATES else Decimal(15)
    return whole(units.scaleb(exponent(currency)))
