"""Document numbers: financial years and formats. Pure. At most 16 characters (CGST Rules 46), never starting with 0, - or /."""

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from billing.errors import InvalidInput
from invoices.errors import NumberTooLong

MAX_LENGTH = 16
_CODE = re.compile(r"[A-Z1-9][A-Z0-9-]{0,9}")


def financial_year(day: date, first_month: int) -> str:
    """``2026`` where the year is the calendar's, else ``26-27`` for the year that begins in ``first_month``."""
    if first_month == 1:
        return f"{day.year:04d}"
    start = day.year if day.month >= first_month else day.year - 1
    return f"{start % 100:02d}-{(start + 1) % 100:02d}"


def format_number(code: str, year: str, number: int) -> str:
    """``SV/26-27/00001``. Raises ``NumberTooLong`` beyond 16 characters."""
    text = f"{code}/{year}/{number:05d}"
    if len(text) > MAX_LENGTH:
        raise NumberTooLong(number=text)
    return text


def checked_code(code: str) -> str:
    """A series code that may begin a number: capitals, digits and ``-``. Raises ``InvalidInput``."""
    if not _CODE.fullmatch(code):
        raise InvalidInput(f"'{code}' cannot begin a document number; use capitals, digits and '-'.", field="code")
    return code


def default_code(organisation_code: str) -> str:
    """Initials of the organisation's code: ``sunrise-valley`` has SV."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", organisation_code.upper()) if word]
    initials = "".join(word[0] for word in words) if len(words) > 1 else "".join(words).lstrip("0")[:2]
    return initials.lstrip("0")[:3] or "INV"


def series_codes(organisation_code: str, settings: Mapping[str, Any]) -> tuple[str, str]:
    """First parts of invoice and of credit note numbers: what was chosen, else initials; credit notes add a C to it."""
    invoice = settings.get("invoice_series") or default_code(organisation_code)
    return str(invoice), str(settings.get("credit_note_series") or f"{invoice}C")
