"""VAT ids for the demo's companies: well formed, each its own, and nobody's by intention."""

from functools import cache
from itertools import count

from stdnum.eu import vat

_STEP = 37  # so that neighbours do not look like a row of numbers


@cache
def vat_id(country: str, number: int) -> str:
    """The VAT id of company ``number`` in DE, FR, AT or NL. Distinct by country and number."""
    for body in count(1_123_400 + number * _STEP):
        found = next((one for one in _candidates(country, body) if vat.is_valid(one)), None)
        if found is not None:
            return found
    raise AssertionError("there is always another number")


def _candidates(country: str, body: int) -> list[str]:
    """Every number that begins with ``body``; at most one of them has the right check digits."""
    digits = [f"{body}{check}" for check in range(10)]
    match country:
        case "DE":
            return [f"DE1{digit}" for digit in digits]
        case "AT":
            return [f"ATU{digit}" for digit in digits]
        case "NL":
            return [f"NL0{digit}B01" for digit in digits]
        case "FR":
            sirens = [f"3{digit}" for digit in digits]
            return [f"FR{int(siren + '12') % 97:02d}{siren}" for siren in sirens]
    raise ValueError(f"No VAT ids of {country} here.")
