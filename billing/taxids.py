"""Tax registrations: are they well formed? Pure; asks no authority."""

import re

from stdnum.eu import vat as eu_vat
from stdnum.exceptions import ValidationError
from stdnum.in_ import pan

from billing import places
from billing.errors import InvalidInput

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
GSTIN = re.compile(r"\d{2}[A-Z]{5}\d{4}[A-Z][1-9A-Z]Z[0-9A-Z]")
# States and territories that issue GSTINs. Our own table: python-stdnum does not know 38 (Ladakh) and 97 (other territory).
GST_STATES = frozenset(places.STATES) - {places.ABROAD}
OTHER_VAT = re.compile(r"[A-Z]{2}[0-9A-Z]{2,18}")


class InvalidTaxId(InvalidInput):
    code = "invalid_tax_id"
    message = "'{value}' is not a well-formed {kind}: {reason}."


def clean_gstin(value: str) -> str:
    """A GSTIN in capitals: state, PAN, entity, Z, check character; raises ``InvalidTaxId``."""
    number = _compact(value)
    if not GSTIN.fullmatch(number):
        raise _refused("GSTIN", value, "expected 15 characters such as 33AAFCT2207K1ZJ", "gstin")
    if number[:2] not in GST_STATES:
        raise _refused("GSTIN", value, f"there is no state {number[:2]}", "gstin")
    if gstin_check(number[:14]) != number[14]:
        raise _refused("GSTIN", value, "its check character does not fit", "gstin")
    return number


def gstin_check(body: str) -> str:
    """Check character of the first 14 characters: weights 1 and 2, quotient and remainder by 36 added."""
    total = 0
    for index, sign in enumerate(body):
        product = ALPHABET.index(sign) * (1 + index % 2)
        total += product // 36 + product % 36
    return ALPHABET[(36 - total % 36) % 36]


def clean_pan(value: str) -> str:
    """A permanent account number (India) in capitals; raises ``InvalidTaxId``."""
    try:
        return str(pan.validate(_compact(value)))
    except ValidationError as exc:
        raise _refused("PAN", value, "expected ten characters such as AAFCT2207K", "pan") from exc


def clean_vat(value: str) -> str:
    """A VAT id with its country prefix. Of EU members the digits are checked, of others the form."""
    number = _compact(value)
    if not OTHER_VAT.fullmatch(number):
        raise _refused("VAT id", value, "expected a country prefix and up to 18 characters", "vat")
    if number[:2] in EU_PREFIXES:
        try:
            return str(eu_vat.validate(number))
        except ValidationError as exc:
            raise _refused("VAT id", value, f"it does not fit the rules of {number[:2]}", "vat") from exc
    return number


EU_PREFIXES = frozenset({code.upper() for code in eu_vat.MEMBER_STATES} - {"GR"} | {"EL", "XI"})


def _compact(value: str) -> str:
    return re.sub(r"[\s.\-/]", "", value).upper()


def _refused(kind: str, value: str, reason: str, field: str) -> InvalidTaxId:
    return InvalidTaxId(kind=kind, value=value[:40], reason=reason, field=f"tax_ids.{field}")
