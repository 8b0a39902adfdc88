"""Amounts in words: ``Rupees One Lakh Twenty Only``. Pure."""

from decimal import Decimal

from moneyed import Money
from num2words import num2words

from billing.money import exponent, quantize
from invoices.rendering.hindi import hindi_number

_NAMES = {
    "en": {"INR": ("Rupees", "Paise"), "EUR": ("Euros", "Cents"), "USD": ("Dollars", "Cents"), "GBP": ("Pounds", "Pence")},
    "de": {"INR": ("Rupien", "Paise"), "EUR": ("Euro", "Cent"), "USD": ("Dollar", "Cent"), "GBP": ("Pfund", "Pence")},
    "fr": {"INR": ("roupies", "paise"), "EUR": ("euros", "centimes"), "USD": ("dollars", "cents"), "GBP": ("livres", "pence")},
    "hi": {"INR": ("रुपये", "पैसे"), "EUR": ("यूरो", "सेंट"), "USD": ("डॉलर", "सेंट"), "GBP": ("पाउंड", "पेंस")},
}  # fmt: skip


def in_words(money: Money, language: str) -> str:
    """The amount in words of a language; English where the language is not known."""
    code = money.currency.code
    language = language if language in _NAMES else "en"
    whole, part = _split(money, code)
    main, minor = _NAMES[language].get(code, (code, ""))
    if language == "en" and code == "INR":
        text = f"{main} {_english(whole, indian=True)}"
        return f"{text} and {_english(part, indian=True)} {minor} Only" if part else f"{text} Only"
    if language == "en":
        text = f"{_english(whole, indian=False)} {main}"
        return f"{text} and {_minor(part, minor, code, 'en')}" if part else text
    if language == "hi":
        text = f"{hindi_number(whole)} {main}"
        return f"{text} {hindi_number(part)} {minor} मात्र" if part else f"{text} मात्र"
    text = f"{num2words(whole, lang=language)} {main}"
    joint = {"de": "und", "fr": "et"}[language]
    if part:
        text += f" {joint} {_minor(part, minor, code, language)}"
    return text[0].upper() + text[1:]


def _split(money: Money, code: str) -> tuple[int, int]:
    value = abs(quantize(money.amount, code))
    whole = int(value)
    return whole, int((value - whole).scaleb(exponent(code)))


def _english(value: int, *, indian: bool) -> str:
    words = num2words(Decimal(value), lang="en_IN" if indian else "en")
    return str(words).replace(",", "").replace("-", " ").title().replace(" And ", " and ")


def _minor(part: int, name: str, code: str, language: str) -> str:
    if not name:
        return f"{part}/{10 ** exponent(code)}"
    words = _english(part, indian=False) if language == "en" else num2words(part, lang=language)
    return f"{words} {name}"
