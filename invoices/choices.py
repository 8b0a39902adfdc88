"""What an organisation may choose about its documents; see docs/settings.md."""

import base64
import binascii
import io
import re
from datetime import date
from typing import Any

from PIL import Image, UnidentifiedImageError

from billing import parties
from billing.errors import InvalidInput
from billing.models import Organisation
from billing.services import choices
from invoices import numbers

COLOR = re.compile(r"#[0-9a-fA-F]{6}")
MAX_LOGO = 300_000
MAX_PIXELS = 4_000_000
MAX_FOOTER = 400
MAX_NET_DAYS = 365
_MAGIC = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}
_END = {"image/png": b"IEND\xaeB`\x82", "image/jpeg": b"\xff\xd9"}
MAX_TRAILER = 1024  # bytes that programs may leave after the end of a picture
_SERIES = ("invoice_series", "credit_note_series")


def read_logo(text: str) -> tuple[str, bytes] | None:
    """Type and bytes of a logo written as a data URI; None where it is none."""
    head, _, body = text.partition(",")
    kind = head.removeprefix("data:").removesuffix(";base64")
    if kind not in _MAGIC or not head.endswith(";base64") or len(body) > MAX_LOGO * 4 // 3 + 4:
        return None
    try:
        image = base64.b64decode(body, validate=True)
    except binascii.Error:
        return None
    return (kind, image) if image.startswith(_MAGIC[kind]) else None


def write_logo(kind: str, image: bytes) -> str:
    """A picture as the choice ``logo`` is written."""
    return f"data:{kind};base64,{base64.b64encode(image).decode()}"


def _is_whole(kind: str, image: bytes) -> bool:
    """Whether the file has its end; the library may have been told to draw what is cut off (WeasyPrint does, as it loads)."""
    return _END[kind] in image[-MAX_TRAILER:]


def _logo(organisation: Organisation, value: Any) -> str:
    found = read_logo(value) if isinstance(value, str) else None
    if found is None:
        raise InvalidInput(f"Expected a PNG or JPEG picture of at most {MAX_LOGO // 1000} kB as a data URI.")
    try:
        with Image.open(io.BytesIO(found[1])) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise InvalidInput(f"The picture has {width} × {height} pixels; at most {MAX_PIXELS:,} are taken.")
            picture.load()
        if not _is_whole(*found):
            raise ValueError("cut off")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        raise InvalidInput("The picture is broken and cannot be read.") from exc
    return str(value)


def _color(organisation: Organisation, value: Any) -> str:
    if not isinstance(value, str) or not COLOR.fullmatch(value):
        raise InvalidInput("Expected a colour such as #1f4e79.")
    return value


def _footer(organisation: Organisation, value: Any) -> str:
    return parties.clean_text(value, field="invoice_footer", limit=MAX_FOOTER)


def _series(organisation: Organisation, value: Any) -> str:
    """A code whose numbers fit on documents; credit notes have another one than invoices, also where it follows from it."""
    code = numbers.checked_code(value if isinstance(value, str) else "")
    year = numbers.financial_year(date(2000, 12, 31), organisation.financial_year_start)
    invoice, note = numbers.series_codes(organisation.code, organisation.settings)
    for one in (invoice, note):
        numbers.format_number(one, year, 1)
    if invoice == note:
        raise InvalidInput("Credit notes have numbers of their own: choose another code than that of invoices.")
    return code


for _name in _SERIES:
    choices.register(_name, _series)
choices.register("net_days", choices.whole_number(0, MAX_NET_DAYS))
choices.register("gst_export", choices.one_of("lut", "igst"))
choices.register("lost_disputes", choices.one_of("loss", "reopen"))
choices.register("apply_credit_automatically", choices.yes_or_no)
choices.register("mail_invoices", choices.yes_or_no)
choices.register("brand_color", _color)
choices.register("logo", _logo)
choices.register("invoice_footer", _footer)
