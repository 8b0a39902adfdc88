"""Amounts, quantities and days as people of a language write them. Indian rupees are grouped 1,00,000.00 everywhere."""

from datetime import date
from decimal import Decimal
from functools import lru_cache

from babel.dates import format_date
from babel.numbers import format_currency, format_decimal, get_currency_symbol
from moneyed import Money

from billing import places
from billing.money import exponent, quantize

_REGIONS = {"en": "en_GB", "de": "de_DE", "fr": "fr_FR", "hi": "hi_IN"}


@lru_cache(maxsize=64)
def locale_of(language: str, currency: str = "") -> str:
    """Locale for a language code; English about rupees is Indian English. Unknown languages are written in English."""
    code = language.replace("-", "_").split("_")[0].lower()
    if code not in _REGIONS:
        code = "en"
    if currency == "INR" and code == "en":
        return "en_IN"
    return _REGIONS[code]


@lru_cache(maxsize=64)
def _pattern(locale: str, decimals: int) -> str:
    grouping = "#,##,##0" if locale in ("en_IN", "hi_IN") else "#,##0"
    return grouping + ("." + "0" * decimals if decimals else "")


def _plain(text: str) -> str:
    """Without the narrow space and the minus that not every font has."""
    return text.replace("\u202f", "\u00a0").replace("-", "−")


def number(money: Money, language: str) -> str:
    """An amount without its currency: ``1,00,000.00``."""
    code = money.currency.code
    locale = locale_of(language, code)
    return _plain(format_decimal(quantize(money.amount, code), format=_pattern(locale, exponent(code)), locale=locale))


def amount(money: Money, language: str) -> str:
    """An amount with its currency's sign: ``₹1,00,000.00``, ``1.234,56 €``."""
    code = money.currency.code
    return _plain(format_currency(quantize(money.amount, code), code, locale=locale_of(language, code)))


def unit_price(price: Decimal, currency: str, language: str) -> str:
    """A price per unit with as many decimals as it has, at least the currency's."""
    digits = max(exponent(currency), -int(price.normalize().as_tuple().exponent))
    locale = locale_of(language, currency)
    return _plain(format_decimal(price, format=_pattern(locale, digits), locale=locale, decimal_quantization=False))


def quantity(value: Decimal, language: str, currency: str = "") -> str:
    """A quantity without needless zeros."""
    digits = max(0, -int(value.normalize().as_tuple().exponent))
    locale = locale_of(language, currency)
    return _plain(format_decimal(value, format=_pattern(locale, digits), locale=locale, decimal_quantization=False))


def percent(rate: Decimal, language: str) -> str:
    """``18 %`` without needless zeros."""
    return f"{quantity(rate, language)} %"


def day(value: date | None, language: str, currency: str = "") -> str:
    """``1 Jun 2026`` in the language; empty for no day."""
    if value is None:
        return ""
    return format_date(value, format="d MMM yyyy", locale=locale_of(language, currency))


def country(code: str, language: str) -> str:
    """Name of a country in the language; the code where it is not known."""
    return places.country_name(code, locale_of(language))


def symbol(currency: str, language: str) -> str:
    """The currency's sign."""
    return get_currency_symbol(currency, locale=locale_of(language, currency))
