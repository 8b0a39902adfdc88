"""Test cards and UPI ids: the official numbers of both providers and what they do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


class InstrumentRefused(Exception):
    """The number or id cannot be an instrument at all."""


@dataclass(frozen=True)
class Card:
    """What a gateway remembers of a card: never the whole number."""

    iin: str
    last4: str
    network: str
    funding: str = "credit"
    issuer: str | None = None
    international: bool = False
    exp_month: int = 12
    exp_year: int = 2034


@dataclass(frozen=True)
class Instrument:
    """A way to pay. ``on_charge`` is ``ok`` or the reason that every charge gets."""

    method: str
    card: Card | None = None
    vpa: str | None = None
    bank: str | None = None
    on_charge: str = "ok"
    authentication: str = "none"  # none | unless_set_up | always
    saved_charge: str | None = None  # reason once it is saved, when it differs
    then: str = ""  # "dispute": disputed right after the charge


def taken_up(raw: dict[str, Any]) -> Instrument:
    """An instrument as a state file knows it."""
    return Instrument(**{**raw, "card": Card(**raw["card"]) if raw["card"] else None})


_RAZORPAY_FAILURES = {
    "4100280000090000": "payment_timed_out", "5305620000060000": "payment_timed_out",
    "4100280000080001": "insufficient_funds", "5305620000050001": "insufficient_funds",
    "4100280000070002": "payment_cancelled", "5305620000040002": "payment_cancelled",
    "4100280000060003": "card_declined", "5305620000030003": "card_declined",
    "4100280000050004": "card_declined", "5305620000020004": "card_declined",
    "4100280000040005": "card_declined", "5305620000010005": "card_declined",
    "4100280000030006": "card_disabled_for_online_payments",
    "5305620000000006": "card_disabled_for_online_payments",
    "4100280000010008": "card_number_invalid", "5305620000080008": "card_number_invalid",
    "4100280000020007": "gateway_technical_error", "5305620000090007": "gateway_technical_error",
    "4100280000000009": "authentication_failed", "5305620000070009": "authentication_failed",
}  # fmt: skip

_STRIPE_CARDS = {
    "4000000000000002": {"on_charge": "generic_decline"},
    "4000000000009995": {"on_charge": "insufficient_funds"},
    "4000000000009987": {"on_charge": "lost_card"},
    "4000000000009979": {"on_charge": "stolen_card"},
    "4000000000000069": {"on_charge": "expired_card"},
    "4000000000000127": {"on_charge": "incorrect_cvc"},
    "4000000000000119": {"on_charge": "processing_error"},
    "4000000000004954": {"on_charge": "fraudulent"},
    "4100000000000019": {"on_charge": "fraudulent"},
    "4000000000000341": {"saved_charge": "generic_decline"},
    "4000002500003155": {"authentication": "unless_set_up"},
    "4000002760003184": {"authentication": "always"},
    "4000000000000259": {"then": "dispute"},
}

STRIPE_ALIASES = {
    "pm_card_visa": "4242424242424242",
    "pm_card_mastercard": "5555555555554444",
    "pm_card_visa_chargeDeclined": "4000000000000002",
    "pm_card_chargeDeclined": "4000000000000002",
    "pm_card_visa_chargeDeclinedInsufficientFunds": "4000000000009995",
    "pm_card_chargeDeclinedInsufficientFunds": "4000000000009995",
    "pm_card_visa_chargeDeclinedLostCard": "4000000000009987",
    "pm_card_visa_chargeDeclinedStolenCard": "4000000000009979",
    "pm_card_chargeDeclinedExpiredCard": "4000000000000069",
    "pm_card_chargeDeclinedIncorrectCvc": "4000000000000127",
    "pm_card_chargeDeclinedProcessingError": "4000000000000119",
    "pm_card_chargeCustomerFail": "4000000000000341",
    "pm_card_authenticationRequiredOnSetup": "4000002500003155",
    "pm_card_authenticationRequired": "4000002760003184",
    "pm_card_createDispute": "4000000000000259",
    "pm_card_radarBlock": "4100000000000019",
    "pm_card_bypassPending": "4000000000000077",
}
TOKEN_ALIASES = {"tok_visa": "pm_card_visa", "tok_mastercard": "pm_card_mastercard",
                 "tok_chargeDeclined": "pm_card_visa_chargeDeclined"}  # fmt: skip


def luhn_ok(number: str) -> bool:
    """The check digit that every card number carries."""
    digits = [int(c) for c in reversed(number)]
    return (sum(digits[0::2]) + sum(sum(divmod(2 * d, 10)) for d in digits[1::2])) % 10 == 0


def network_of(number: str) -> str:
    """Card network by the leading digits."""
    if number.startswith("4"):
        return "Visa"
    if number[:2] in {"34", "37"}:
        return "American Express"
    if number[:2] in {"36", "38"}:
        return "Diners Club"
    if number[:2] in {"60", "65", "81", "82"}:
        return "RuPay"
    return "MasterCard"


def card_of(raw: str, **details: object) -> Card:
    """Card facts of a number; refuses what is no number."""
    number = "".join(c for c in raw if c.isdigit())
    if not 12 <= len(number) <= 19:
        raise InstrumentRefused("a card number has 12 to 19 digits")
    base = Card(
        iin=number[:6],
        last4=number[-4:],
        network=network_of(number),
        funding="debit" if number in {"5104060000000008", "6527658900001005"} else "credit",
        issuer="HDFC" if number[:2] in {"41", "47", "53", "55", "65"} else None,
        international=number in {"5104015555555558", "5104060000000008"},
    )
    return replace(base, **details)  # type: ignore[arg-type]


def razorpay_card(raw: str) -> Instrument:
    """A card at Razorpay: the documented failing numbers fail, other valid numbers succeed."""
    number = "".join(c for c in raw if c.isdigit())
    card = card_of(number)
    if number in _RAZORPAY_FAILURES:
        return Instrument("card", card=card, on_charge=_RAZORPAY_FAILURES[number])
    if number.startswith(("4100", "5500", "6527", "3608", "3402", "5241", "4718", "5104")) or luhn_ok(number):
        return Instrument("card", card=card)
    return Instrument("card", card=card, on_charge="card_number_invalid")


def stripe_card(raw: str, *, exp_month: int = 12, exp_year: int = 2034) -> Instrument:
    """A card at Stripe; a wrong check digit is refused with ``incorrect_number`` on use."""
    number = "".join(c for c in raw if c.isdigit())
    card = card_of(number, exp_month=exp_month, exp_year=exp_year)
    if number in _STRIPE_CARDS:
        return replace(Instrument("card", card=card), **_STRIPE_CARDS[number])  # type: ignore[arg-type]
    return Instrument("card", card=card, on_charge="ok" if luhn_ok(number) else "incorrect_number")


def upi(vpa: str) -> Instrument:
    """A UPI id: ``failure@razorpay`` fails; one without ``@`` is invalid."""
    if "@" not in vpa:
        return Instrument("upi", vpa=vpa, on_charge="invalid_vpa")
    return Instrument("upi", vpa=vpa, on_charge="payment_failed" if vpa.startswith("failure@") else "ok")


def bank_account(method: str, bank: str) -> Instrument:
    """Netbanking or e-mandate at a bank given by its four-letter code."""
    return Instrument(method, bank=bank.upper())
