"""Details of a seller or buyer as documents print them: checked and brought into one form. Pure."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from zoneinfo import available_timezones

import phonenumbers
from babel import Locale
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from stdnum import iban

from billing import taxids
from billing.errors import InvalidInput

ADDRESS = {"line1": 200, "line2": 200, "city": 100, "region": 60, "postal_code": 20, "country": 2}
BANK = {"name": 100, "account": 34, "ifsc": 11, "iban": 42, "bic": 11}
IFSC = re.compile(r"[A-Z]{4}0[A-Z0-9]{6}")
BIC = re.compile(r"[A-Z]{6}[A-Z0-9]{2}([A-Z0-9]{3})?")
UPI = re.compile(r"[A-Za-z0-9._-]{2,}@[A-Za-z][A-Za-z0-9.-]{1,63}")
TAX_IDS = {"gstin": taxids.clean_gstin, "pan": taxids.clean_pan, "vat": taxids.clean_vat}
TREATMENTS = ("standard", "exempt", "sez", "export", "reverse_charge")
LANGUAGES = ("en", "de", "fr", "es", "hi", "it", "nl", "pt")


class InvalidParty(InvalidInput):
    code = "invalid_party"


@dataclass(frozen=True, kw_only=True)
class Party:
    """Clean details, and the columns that tax rules need beside them."""

    details: dict[str, Any]
    country: str
    region: str
    registered: bool
    tax_treatment: str


def clean_party(
    *,
    name: str,
    email: str = "",
    phone: str = "",
    address: Mapping[str, str] | None = None,
    tax_ids: Mapping[str, str] | None = None,
    country: str = "",
    region: str = "",
    tax_treatment: str = "standard",
    more: Mapping[str, Any] | None = None,
) -> Party:
    """Check and normalise; raises ``InvalidParty`` or ``InvalidTaxId`` naming the field.

    ``country`` and ``region`` stand in where the address names none. A GSTIN decides the region: it is the state the
    party is registered in. ``more`` is printed on documents as it is (bank, UPI id).
    """
    place = clean_address(address or {}, country=country)
    place["region"] = place["region"] or region
    ids = clean_tax_ids(tax_ids or {})
    if tax_treatment not in TREATMENTS:
        raise InvalidParty(f"Expected one of {', '.join(TREATMENTS)}.", field="tax_treatment")
    details = {
        **(more or {}),
        "name": clean_text(name, field="name", limit=200, required=True),
        "email": clean_email(email),
        "phone": clean_phone(phone, country=place["country"]),
        "address": place,
        "tax_ids": ids,
    }
    return Party(
        details=details,
        country=place["country"],
        region=ids["gstin"][:2] if "gstin" in ids else place["region"][:6],
        registered=bool(ids.keys() & {"gstin", "vat"}),
        tax_treatment=tax_treatment,
    )


def clean_text(value: Any, *, field: str, limit: int, required: bool = False) -> str:
    """Text without control characters, at most ``limit`` characters."""
    if not isinstance(value, str):
        raise InvalidParty("Expected a text.", field=field)
    text = unicodedata.normalize("NFC", value).strip()
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in text):
        raise InvalidParty("Control characters are not accepted here.", field=field)
    if len(text) > limit:
        raise InvalidParty(f"At most {limit} characters.", field=field)
    if required and not text:
        raise InvalidParty("This may not be empty.", field=field)
    return text


def clean_email(value: str) -> str:
    """An e-mail address, or nothing."""
    text = clean_text(value, field="email", limit=254)
    if text:
        try:
            validate_email(text)
        except ValidationError as exc:
            raise InvalidParty(f"'{text}' is not an e-mail address.", field="email") from exc
    return text


def clean_phone(value: str, *, country: str) -> str:
    """A telephone number in international form (``+919845012345``), or nothing."""
    text = clean_text(value, field="phone", limit=40)
    if not text:
        return ""
    try:
        number = phonenumbers.parse(text, country or None)
    except phonenumbers.NumberParseException as exc:
        raise InvalidParty(f"'{text}' is not a telephone number; begin with +.", field="phone") from exc
    if not phonenumbers.is_possible_number(number):
        raise InvalidParty(f"'{text}' has too few or too many digits.", field="phone")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def clean_address(value: Mapping[str, str], *, country: str) -> dict[str, str]:
    """An address with all of its keys; its country must be known."""
    unknown = set(value) - set(ADDRESS)
    if unknown:
        raise InvalidParty(f"An address has no '{min(unknown)}'.", field="address")
    place = {
        key: clean_text(value.get(key) or "", field=f"address.{key}", limit=limit) for key, limit in ADDRESS.items()
    }
    place["country"] = clean_country(place["country"] or country, field="address.country")
    return place


def clean_tax_ids(value: Mapping[str, str]) -> dict[str, str]:
    """Tax registrations by kind; empty ones are left out."""
    unknown = set(value) - set(TAX_IDS)
    if unknown:
        raise InvalidParty(f"Known kinds are {', '.join(TAX_IDS)}.", field="tax_ids")
    return {
        kind: TAX_IDS[kind](clean_text(number, field=f"tax_ids.{kind}", limit=40))
        for kind, number in value.items()
        if number
    }


def clean_bank(value: Mapping[str, str]) -> dict[str, str]:
    """The account that documents name for transfers; empty entries are left out."""
    unknown = set(value) - set(BANK)
    if unknown:
        raise InvalidParty(f"A bank account has no '{min(unknown)}'.", field="bank")
    found = {key: clean_text(value.get(key) or "", field=f"bank.{key}", limit=limit) for key, limit in BANK.items()}
    for key, shape in (("ifsc", IFSC), ("bic", BIC)):
        found[key] = found[key].replace(" ", "").upper()
        if found[key] and not shape.fullmatch(found[key]):
            raise InvalidParty(f"'{found[key]}' is no {key.upper()}.", field=f"bank.{key}")
    found["iban"] = found["iban"].replace(" ", "").upper()
    if found["iban"] and not iban.is_valid(found["iban"]):
        raise InvalidParty(
            f"'{found['iban']}' is no IBAN: its check digits or its length do not fit.", field="bank.iban"
        )
    return {key: text for key, text in found.items() if text}


def clean_upi_id(value: str) -> str:
    """A UPI address such as ``school@bank``, or nothing."""
    text = clean_text(value, field="upi_id", limit=255)
    if text and not UPI.fullmatch(text):
        raise InvalidParty(f"'{text}' is not a UPI id such as school@bank.", field="upi_id")
    return text


def clean_country(value: str, *, field: str = "country") -> str:
    """A country code of ISO 3166-1, two letters."""
    code = value.upper() if isinstance(value, str) else ""
    if code not in countries():
        raise InvalidParty(f"'{value}' is not a country code of ISO 3166-1 such as IN.", field=field)
    return code


def clean_time_zone(value: str, *, field: str = "time_zone") -> str:
    """A time zone of the IANA list."""
    if value not in time_zones():
        raise InvalidParty(f"'{value}' is not a time zone such as Asia/Kolkata.", field=field)
    return value


def clean_language(value: str, *, field: str = "language") -> str:
    """A language that documents can be written in."""
    if value not in LANGUAGES:
        raise InvalidParty(f"Expected one of {', '.join(LANGUAGES)}.", field=field)
    return value


@lru_cache(maxsize=1)
def countries() -> frozenset[str]:
    """Codes of countries: the territories of CLDR that are neither groups nor private."""
    names = [str(code) for code in Locale("en").territories]
    return frozenset(code for code in names if len(code) == 2 and code.isalpha()) - {
        "EU",
        "EZ",
        "UN",
        "QO",
        "XA",
        "XB",
        "ZZ",
    }


@lru_cache(maxsize=1)
def time_zones() -> frozenset[str]:
    """Names of time zones."""
    return frozenset(available_timezones() - {"localtime", "Factory"})
