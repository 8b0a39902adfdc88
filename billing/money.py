"""Money: one rounding rule, exact allocation, minor units. Pure; no database, no clock."""

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from functools import lru_cache

from moneyed import CURRENCIES, Currency, Money

from billing.errors import CurrencyMismatch, InvalidAllocation, InvalidAmount, UnknownCurrency

MAX_AMOUNT = Decimal("999999999999999.9999")  # numeric(19, 4)

# Codes in ISO 4217 that are not money one can pay with (metals, funds, testing).
_NOT_PAYABLE = frozenset({"XAU", "XAG", "XPT", "XPD", "XXX", "XTS", "XDR", "XBA", "XBB", "XBC", "XBD", "XSU", "XUA"})


@lru_cache(maxsize=512)
def currency_of(code: str) -> Currency:
    """Return the ISO 4217 currency ``code``; raise ``UnknownCurrency`` for anything else."""
    found = CURRENCIES.get(code) if isinstance(code, str) else None
    if found is None or code in _NOT_PAYABLE:
        raise UnknownCurrency(currency=code, field="currency")
    return found


@lru_cache(maxsize=512)
def exponent(code: str) -> int:
    """Number of decimals of the currency's minor unit (ISO 4217): JPY 0, INR 2, KWD 3."""
    sub_unit = currency_of(code).sub_unit or 1
    return len(str(sub_unit)) - 1


@lru_cache(maxsize=512)
def _quantum(code: str) -> Decimal:
    return Decimal(1).scaleb(-exponent(code))


def quantize(amount: Decimal, code: str) -> Decimal:
    """Round ``amount`` half up (away from zero) to the minor unit of the currency ``code``."""
    return amount.quantize(_quantum(code), rounding=ROUND_HALF_UP)


def round_money(money: Money) -> Money:
    """Round half up to the currency's own exponent; the only rounding rule of the house."""
    return Money(quantize(money.amount, money.currency.code), money.currency)


def zero(code: str) -> Money:
    """Nothing, in the currency ``code``, with its decimals."""
    return Money(quantize(Decimal(0), code), currency_of(code))


def to_minor_units(money: Money) -> int:
    """Whole minor units (paise, cents) of ``money``; raise ``InvalidAmount`` if it has finer parts."""
    scaled = money.amount.scaleb(exponent(money.currency.code))
    if scaled != scaled.to_integral_value():
        raise InvalidAmount(f"{money.amount} has more decimals than {money.currency.code} allows.", field="amount")
    return int(scaled)


def from_minor_units(minor: int, currency: Currency | str) -> Money:
    """Money from whole minor units."""
    code = currency.code if isinstance(currency, Currency) else currency
    return Money(Decimal(minor).scaleb(-exponent(code)), currency_of(code))


def parse_amount(text: object, code: str, *, field: str = "amount", positive: bool = True) -> Money:
    """Read an amount from the wire: a decimal string with at most the currency's decimals.

    Raises ``UnknownCurrency`` or ``InvalidAmount`` (NaN, infinity, a float, too many decimals, too large,
    zero or negative when ``positive``).
    """
    currency = currency_of(code)
    if not isinstance(text, str | Decimal | int) or isinstance(text, bool):
        raise InvalidAmount("Give the amount as a decimal string such as '499.00'.", field=field)
    try:
        amount = Decimal(text)
    except InvalidOperation as exc:
        raise InvalidAmount(f"'{text}' is not a decimal number.", field=field) from exc
    if not amount.is_finite() or abs(amount) > MAX_AMOUNT:
        raise InvalidAmount(f"'{text}' is not an amount of money.", field=field)
    if amount != quantize(amount, code):
        raise InvalidAmount(f"{code} has {exponent(code)} decimals; '{text}' has more.", field=field)
    if positive and amount <= 0:
        raise InvalidAmount("The amount must be greater than zero.", field=field)
    return Money(quantize(amount, code), currency)


def same_currency(*amounts: Money, field: str | None = None) -> str:
    """The one currency of ``amounts``; raise ``CurrencyMismatch`` when others differ from the first, naming ``field``."""
    codes = list(dict.fromkeys(amount.currency.code for amount in amounts))
    if len(codes) != 1:
        first, *rest = codes or ["?"]
        raise CurrencyMismatch(expected=first, got=", ".join(rest), field=field)
    return codes[0]


def allocate(total: Money, weights: Sequence[int | Decimal]) -> list[Money]:
    """Split ``total`` by ``weights``; spare minor units go to the largest remainders, first on a tie.

    The parts add up to ``total`` exactly. Raises ``InvalidAllocation`` for empty, negative or all-zero weights.
    """
    if min(weights, default=-1) < 0 or sum(weights) == 0:
        raise InvalidAllocation(weights=list(weights))
    if total.amount < 0:  # mirror the positive split: a credit note undoes its invoice line by line
        return [-part for part in allocate(-total, weights)]
    minor = to_minor_units(total)
    weight_sum = sum(weights)
    shares = [divmod(minor * weight, weight_sum) for weight in weights]
    spare = minor - sum(int(quotient) for quotient, _ in shares)
    largest_first = sorted(range(len(shares)), key=lambda i: -shares[i][1])
    lucky = set(largest_first[:spare])
    return [from_minor_units(int(q) + (i in lucky), total.currency) for i, (q, _) in enumerate(shares)]
