"""Countries and India's states by the names people read. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from babel import Locale, UnknownLocaleError

INDIA = "IN"

# The two digits that tax law gives a state: (ISO 3166-2, name). 25 and 28 are no longer given.
STATES: dict[str, tuple[str, str]] = {
    "01": ("JK", "Jammu and Kashmir"), "02": ("HP", "Himachal Pradesh"), "03": ("PB", "Punjab"),
    "04": ("CH", "Chandigarh"), "05": ("UT", "Uttarakhand"), "06": ("HR", "Haryana"), "07": ("DL", "Delhi"),
    "08": ("RJ", "Rajasthan"), "09": ("UP", "Uttar Pradesh"), "10": ("BR", "Bihar"), "11": ("SK", "Sikkim"),
    "12": ("AR", "Arunachal Pradesh"), "13": ("NL", "Nagaland"), "14": ("MN", "Manipur"), "15": ("MZ", "Mizoram"),
    "16": ("TR", "Tripura"), "17": ("ML", "Meghalaya"), "18": ("AS", "Assam"), "19": ("WB", "West Bengal"),
    "20": ("JH", "Jharkhand"), "21": ("OD", "Odisha"), "22": ("CG", "Chhattisgarh"), "23": ("MP", "Madhya Pradesh"),
    "24": ("GJ", "Gujarat"), "26": ("DH", "Dadra and Nagar Haveli and Daman and Diu"), "27": ("MH", "Maharashtra"),
    "29": ("KA", "Karnataka"), "30": ("GA", "Goa"), "31": ("LD", "Lakshadweep"), "32": ("KL", "Kerala"),
    "33": ("TN", "Tamil Nadu"), "34": ("PY", "Puducherry"), "35": ("AN", "Andaman and Nicobar Islands"),
    "36": ("TS", "Telangana"), "37": ("AP", "Andhra Pradesh"), "38": ("LA", "Ladakh"), "97": ("OT", "Other Territory"),
    "96": ("XX", "Other Country"),
}  # fmt: skip
ABROAD = "96"
_BY_ISO = {iso: code for code, (iso, _) in STATES.items()} | {"OR": "21", "CT": "22", "TG": "36", "UK": "05"}


def state_code(region: str) -> str:
    """The two digits of a state given by them or by its ISO code; empty when it is neither."""
    region = region.strip().upper().removeprefix("IN-")
    return region if region in STATES else _BY_ISO.get(region, "")


def state_name(code: str) -> str:
    """``Karnataka (29)``; empty when no state has these two digits."""
    return f"{STATES[code][1]} ({code})" if code in STATES else ""


def country_name(code: str, locale: str = "en") -> str:
    """Name of a country in the locale; the code where it is not known."""
    try:
        return str(Locale.parse(locale).territories.get(code, code))
    except UnknownLocaleError:
        return code


def region_name(country: str, region: str) -> str:
    """A region as people read it: India's states by name and digits, others as they are written."""
    return (state_name(state_code(region)) if country == INDIA else "") or region


def place_of_supply_name(code: str) -> str:
    """Where a supply is taxed: ``Karnataka (29)``, ``Germany``; empty for none."""
    return state_name(code) or country_name(code)


def on_one_line(address: Mapping[str, Any], parts: Sequence[str]) -> str:
    """The ``parts`` of an address with commas between, its country and its state by name."""
    country = str(address.get("country") or "")
    read = {
        **address,
        "country": country_name(country),
        "region": region_name(country, str(address.get("region") or "")),
    }
    return ", ".join(str(read[part]) for part in parts if read.get(part))
