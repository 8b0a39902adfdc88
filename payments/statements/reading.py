"""From bytes to a statement file: limits, format by content, then the parser of that format."""

from payments.statements import camt, csvfile, mt940file
from payments.statements.base import MAX_BYTES, StatementFile, StatementRefused

FORMATS = ("auto", "camt053", "mt940", "csv")


def read_statement(
    content: bytes, *, format: str = "auto", currency: str, dialect: csvfile.Dialect | None = None
) -> StatementFile:
    """Read one file. ``currency`` is the bank account's, for formats that do not name theirs.

    Raises ``StatementRefused`` with row, column, value and what was expected; then nothing of the file may be used.
    """
    if format not in FORMATS:
        raise StatementRefused(f"a format out of {', '.join(FORMATS)}", value=format)
    if len(content) > MAX_BYTES:
        raise StatementRefused(f"a file of at most {MAX_BYTES // 1024 // 1024} MB; this one has {len(content):,} bytes")
    if not content.strip(b"\x00\xef\xbb\xbf \t\r\n"):
        raise StatementRefused("a bank statement; the file is empty")
    chosen = recognise(content) if format == "auto" else format
    if chosen == "camt053":
        return camt.read(content)
    if chosen == "mt940":
        return mt940file.read(content)
    return csvfile.read(content, currency=currency, dialect=dialect)


def recognise(content: bytes) -> str:
    """The format, by content alone: a file's name proves nothing."""
    head = content[:4096]
    if b"\x00" in head.replace(b"\x00<", b"").replace(b"<\x00", b"") and not head.startswith(
        (b"\xff\xfe", b"\xfe\xff")
    ):
        raise StatementRefused("text: camt.053 XML, MT940 or CSV; this is a binary file")
    if head.startswith((b"%PDF", b"PK\x03\x04", b"\x1f\x8b", b"\xd0\xcf\x11\xe0")):
        raise StatementRefused("text: camt.053 XML, MT940 or CSV; export the statement in one of these")
    if head.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n\x00").startswith(b"<"):
        return "camt053"
    if b":60F:" in content or b":60M:" in content or b":61:" in head:
        return "mt940"
    return "csv"
