"""CSV of measurements: its heading, its rows as events, and where each row ends. Pure.

Columns: ``event_id``, ``meter``, ``customer``, ``occurred_at``; if wanted ``quantity``, ``subscription``, ``amount`` and any
number of ``properties.<name>``. An empty cell is a value left out. UTF-8, comma or semicolon, quotation marks as usual.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from billing.errors import InvalidInput

REQUIRED = ("event_id", "meter", "customer", "occurred_at")
OPTIONAL = ("quantity", "subscription", "amount")
PREFIX = "properties."
MAX_COLUMNS = 60
MAX_LINE = 20_000
BOM = b"\xef\xbb\xbf"
NOT_CLOSED = (
    "This row opens a quotation mark that is not closed, or goes on in the next line without the cells expected."
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class NoUsageFile(InvalidInput):
    """The file is no CSV of measurements; the message says what was expected."""

    code = "no_usage_file"


class Heading(NamedTuple):
    """Names of the columns, the separator, and the number of bytes the heading takes."""

    columns: tuple[str, ...]
    separator: str
    size: int


class Line(NamedTuple):
    """One row: its number in the file (the heading is 1), where it ends, and the event or what is wrong with the row."""

    number: int
    end: int
    event: Any
    problem: str = ""


def heading_of(content: bytes) -> Heading:
    """The heading of a file. Raises ``NoUsageFile``."""
    first, newline, _ = content[:MAX_LINE].partition(b"\n")
    try:
        text = first.removeprefix(BOM).decode()
    except UnicodeDecodeError as exc:
        raise NoUsageFile("The file is not UTF-8.", field="content") from exc
    separator = ";" if text.count(";") > text.count(",") else ","
    columns = tuple(cell.strip() for cell in next(csv.reader([text], delimiter=separator), []))
    if missing := [name for name in REQUIRED if name not in columns]:
        raise NoUsageFile(f"The heading lacks the column '{missing[0]}'.", field="content")
    if len(columns) > MAX_COLUMNS or len(set(columns)) != len(columns):
        raise NoUsageFile(f"Expected at most {MAX_COLUMNS} different columns.", field="content")
    for name in columns:
        if name not in REQUIRED and name not in OPTIONAL and not (name.startswith(PREFIX) and len(name) > len(PREFIX)):
            raise NoUsageFile(f"The column '{name[:60]}' is not known here.", field="content")
    return Heading(columns, separator, len(first) + len(newline))


def lines(heading: Heading, chunk: bytes, *, position: int, number: int, is_last: bool) -> Iterator[Line]:
    """The whole rows of ``chunk``, which begins at byte ``position`` after ``number`` lines; empty rows are passed over.

    A row that ends with the chunk is left for the next one, unless the chunk is the last. A quotation mark that is not closed
    spoils its own line only: what it seems to enclose is read again, line by line.
    """
    source = _Source(chunk)
    reader = csv.reader(source, delimiter=heading.separator)
    while True:
        began_at, began_after = source.read, source.lines
        try:
            cells = next(reader, None)
        except (csv.Error, UnicodeDecodeError):
            cells, problem = [], "This row cannot be read: expected CSV in UTF-8."
        else:
            problem = ""
        if cells is None or (source.read == len(chunk) and not is_last):
            return
        if source.lines > began_after + 1 and (problem or len(cells) != len(heading.columns)):
            source.go_back(began_at, began_after)
            next(source)
            reader, problem = csv.reader(source, delimiter=heading.separator), NOT_CLOSED
        number_now = number + source.lines
        if problem:
            yield Line(number_now, position + source.read, None, problem)
        elif any(cell.strip() for cell in cells):
            yield _line(heading, cells, number_now, position + source.read)


def _line(heading: Heading, cells: Sequence[str], number: int, end: int) -> Line:
    if len(cells) != len(heading.columns):
        return Line(number, end, None, f"Expected {len(heading.columns)} cells, found {len(cells)}.")
    given = {name: cell.strip() for name, cell in zip(heading.columns, cells, strict=True) if cell.strip()}
    event: dict[str, Any] = {name: value for name, value in given.items() if not name.startswith(PREFIX)}
    properties = {name.removeprefix(PREFIX): value for name, value in given.items() if name.startswith(PREFIX)}
    if properties:
        event["properties"] = properties
    return Line(number, end, event)


class _Source:
    """Lines of bytes as text, counted as the reader asks for them."""

    def __init__(self, chunk: bytes) -> None:
        self.buffer = io.BytesIO(chunk)
        self.read = self.lines = 0

    def go_back(self, read: int, lines: int) -> None:
        """To where ``read`` bytes and ``lines`` lines were read."""
        self.buffer.seek(read)
        self.read, self.lines = read, lines

    def __iter__(self) -> "_Source":
        return self

    def __next__(self) -> str:
        line = self.buffer.readline()
        if not line:
            raise StopIteration
        self.read += len(line)
        self.lines += 1
        return line.decode()


def errors_csv(rows: Sequence[tuple[int, str, str, str]]) -> str:
    """``line, event_id, field, reason`` as CSV; what a spreadsheet would take for a formula is made a text."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("line", "event_id", "field", "reason"))
    for line, *texts in rows:
        writer.writerow((line, *(f"'{text}" if text.startswith(FORMULA) else text for text in texts)))
    return out.getvalue()
