"""CSV statements: a stated dialect, or one that the file itself proves.

What the file does not prove (are the dates 03/04 in March or April?) is asked for, never guessed.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from moneyed import Money

from billing.errors import UnknownCurrency
from billing.money import currency_of
from payments.statements import headings
from payments.statements.base import (
    Statement,
    StatementFile,
    StatementLine,
    StatementRefused,
    check_rows,
    clean,
    joined,
    plain_amount,
)

_DELIMITERS = (",", ";", "\t", "|")
_DATE_FORMATS = ("%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%Y", "%m-%d-%Y", "%d-%m-%y", "%d.%m.%Y",
                 "%d.%m.%y", "%Y/%m/%d", "%Y.%m.%d.", "%Y.%m.%d", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %b %y",
                 "%d/%b/%Y", "%b %d, %Y", "%Y%m%d", "%d%m%Y")  # fmt: skip
_PENDING = frozenset({"pending", "uncleared", "ausstehend", "vorgemerkt"})
_SIGNS_OF_MONEY = re.compile(r"[\s\u00a0\u202f'₹$€£¥]|Rs\.?|\b[A-Z]{3}\b")
_COMMA_DECIMAL = re.compile(r"\d,\d{1,2}\Z")
_POINT_DECIMAL = re.compile(r"\d\.\d{1,2}\Z")
_GROUPED = {",": re.compile(r"\d{1,3}(?:,\d{2,3})*,\d{3}(?:\.|\Z)"), ".": re.compile(r"\d{1,3}(?:\.\d{3})+(?:,|\Z)")}
_CREDIT_WORDS = frozenset({"cr", "c", "credit", "in", "i", "inflow", "deposit", "h", "haben", "bij", "+", "crdt"})
_DEBIT_WORDS = frozenset({"dr", "d", "debit", "out", "o", "outflow", "withdrawal", "s", "soll", "af", "-", "dbit"})
_MAX_FIELD = 10_000


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a bank writes its CSV. Every part left empty is taken from the file. Columns count from 1."""

    delimiter: str = ""
    encoding: str = ""
    decimal: str = ""  # "." or ","
    date_format: str = ""  # as strptime reads it
    day_first: bool | None = None  # decides between 03/04 and 04/03 when the dates themselves do not
    has_header: bool = True
    columns: dict[str, int] = field(
        default_factory=dict
    )  # date, value_date, description, reference, debit, credit, amount, …

    @classmethod
    def from_json(cls, stated: dict[str, Any]) -> "Dialect":
        """A dialect from what a bank account keeps; refuses unknown words."""
        unknown = sorted(set(stated) - set(cls.__dataclass_fields__))
        columns = stated.get("columns") or {}
        if unknown or not isinstance(columns, dict) or set(columns) - set(headings.WORDS):
            raise StatementRefused(f"a dialect of {', '.join(cls.__dataclass_fields__)}; columns {', '.join(headings.WORDS)}",
                                   value=", ".join(unknown) or str(columns))  # fmt: skip
        return cls(**stated)


def read(content: bytes, *, currency: str, dialect: Dialect | None = None) -> StatementFile:
    """The one statement of a CSV file; raises ``StatementRefused``."""
    dialect = dialect or Dialect()
    text = _decode(content, dialect.encoding)
    rows, columns = _table(text, dialect)
    booked, pending = _booked(rows, columns)
    reader = _Reader(columns=columns, currency=currency, day=_date_format(booked, columns, dialect),
                     decimal=dialect.decimal or _decimal(booked, columns))  # fmt: skip
    lines = _lines(reader, booked)
    if not lines and not pending:
        raise StatementRefused("at least one booked line below the header")
    opening, closing = _balances(reader, lines)
    return StatementFile(
        format="csv",
        statements=(Statement(account="", currency=currency, lines=tuple(lines), opening=opening, closing=closing),),
        pending=pending,
    )


@dataclass(frozen=True)
class _Row:
    """Cells of one row with its number in the file."""

    number: int
    cells: list[str]


def _decode(content: bytes, encoding: str) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    for candidate in [encoding] if encoding else ["utf-8-sig", "cp1252", "latin-1"]:
        try:
            return content.decode(candidate)
        except (UnicodeDecodeError, LookupError):
            continue
    raise StatementRefused("text in the stated encoding", value=encoding)


def _table(text: str, dialect: Dialect) -> tuple[list[_Row], dict[str, int]]:
    """Rows below the header, and where each column stands (from 0)."""
    delimiters = (dialect.delimiter,) if dialect.delimiter else _DELIMITERS
    if dialect.columns and not dialect.has_header:
        return list(_rows(text, delimiters[0])), {name: place - 1 for name, place in dialect.columns.items()}
    best: tuple[int, int, str, dict[str, int]] = (0, 0, "", {})
    for delimiter in delimiters:
        for index, row in enumerate(_first_rows(text, delimiter)):
            found = headings.columns_of(row.cells)
            if headings.suffices(found) and len(found) > best[0]:
                best = (len(found), index, delimiter, found)
    if not best[0]:
        raise StatementRefused(
            "a header row with a date, a text and an amount (or debit and credit); else state the dialect of this account",
            row=1, value=text[:80])  # fmt: skip
    stated = {name: place - 1 for name, place in dialect.columns.items()}
    rows = list(_rows(text, best[2]))
    _must_fit(rows[best[1] + 1 :], width=len(rows[best[1]].cells))
    return rows[best[1] + 1 :], best[3] | stated


def _must_fit(rows: Sequence[_Row], *, width: int) -> None:
    """A cell beyond the header is a separator inside a value, as in ``12,34`` for one amount: never read as 12."""
    for row in rows:
        beyond = next((cell for cell in row.cells[width:] if cell), "")
        if beyond:
            raise StatementRefused(
                f"at most {width} cells, as in the header", row=row.number, column=str(width + 1), value=beyond
            )


def _first_rows(text: str, delimiter: str) -> list[_Row]:
    rows = []
    for row in _rows(text, delimiter):
        rows.append(row)
        if len(rows) == 30:
            break
    return rows


def _rows(text: str, delimiter: str) -> Iterator[_Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=False)
    count = 0
    try:
        for cells in reader:
            count += 1
            check_rows(count - 100)  # a preamble and continued texts are no lines
            if any(cell.strip() for cell in cells):
                if max(map(len, cells)) > _MAX_FIELD:
                    raise StatementRefused(f"fields of at most {_MAX_FIELD:,} characters", row=reader.line_num)
                yield _Row(reader.line_num, [clean(cell) for cell in cells])
    except csv.Error as exc:
        raise StatementRefused(f"readable CSV ({exc})", row=reader.line_num) from exc


def _cell(row: _Row, columns: dict[str, int], name: str) -> str:
    place = columns.get(name, -1)
    return row.cells[place] if 0 <= place < len(row.cells) else ""


def _booked(rows: Sequence[_Row], columns: dict[str, int]) -> tuple[list[tuple[_Row, str]], int]:
    """Booked rows, each with its text; rows that only continue a text are joined to the one above."""
    booked: list[tuple[_Row, str]] = []
    pending = 0
    for row in rows:
        day = _cell(row, columns, "date")
        text = joined(*(_cell(row, columns, name) for name in ("description", "details", "payer")))
        money = "".join(_cell(row, columns, name) for name in ("amount", "debit", "credit"))
        if day.casefold() in _PENDING:
            pending += 1
        elif not day and not money and booked:
            above, known = booked[-1]
            booked[-1] = (above, joined(known, text))
        elif not day and _is_total(row):
            continue
        else:
            booked.append((row, text))
    return booked, pending


def _is_total(row: _Row) -> bool:
    """A closing row such as "Total" or "End of statement" under the lines."""
    first = next((cell for cell in row.cells if cell), "").casefold().strip(" *:.-")
    return first.startswith(("total", "grand total", "summe", "end of statement", "statement summary", "generated on"))


def _date_format(booked: Sequence[tuple[_Row, str]], columns: dict[str, int], dialect: Dialect) -> str:
    """The one format that reads every date; two that disagree are a question to a person."""
    if dialect.date_format or not booked:
        return dialect.date_format or "%Y-%m-%d"
    values = [(row.number, _cell(row, columns, "date")) for row, _ in booked]
    fitting = [fmt for fmt in _DATE_FORMATS if all(_day(value, fmt) for _, value in values)]
    if not fitting:
        number, value = next(((n, v) for n, v in values if not any(_day(v, fmt) for fmt in _DATE_FORMATS)), values[0])
        raise StatementRefused("a date such as 2025-04-01 or 01/04/2025, in one format for all rows",
                               row=number, column="date", value=value)  # fmt: skip
    readings = {tuple(_day(value, fmt) for _, value in values): fmt for fmt in reversed(fitting)}
    if len(readings) == 1:
        return fitting[0]
    if dialect.day_first is not None:
        wanted = [fmt for fmt in fitting if (fmt.find("%d") < fmt.find("%m")) == dialect.day_first]
        if wanted:
            return wanted[0]
    raise StatementRefused("a stated date format (date_format or day_first of the account's dialect): these dates can be read "
                           f"as {' and '.join(sorted(readings.values()))}", row=values[0][0], column="date",
                           value=values[0][1])  # fmt: skip


def _day(value: str, fmt: str) -> date | None:
    if not value or len(value) > 20:
        return None
    try:
        found = datetime.strptime(value, fmt).date()  # noqa: DTZ007  a date on a statement has no zone
    except ValueError:
        return None
    return found if 1990 <= found.year <= 2199 else None


def _decimal(booked: Sequence[tuple[_Row, str]], columns: dict[str, int]) -> str:
    """Point or comma: what the amounts of the file prove together."""
    comma = point = None
    for row, _ in booked:
        for name in ("amount", "debit", "credit", "balance"):
            text = _bare(_cell(row, columns, name))
            if _COMMA_DECIMAL.search(text) or _GROUPED["."].match(text.lstrip("+-")):
                comma = comma or (row.number, name, text)
            if _POINT_DECIMAL.search(text) or _GROUPED[","].match(text.lstrip("+-")):
                point = point or (row.number, name, text)
    if comma and point:
        number, name, text = max(comma, point)
        raise StatementRefused("one decimal sign in all amounts; else state 'decimal' in the account's dialect",
                               row=number, column=name, value=text)  # fmt: skip
    return "," if comma else "."


def _bare(text: str) -> str:
    """The number without currency signs, spaces, and trailing CR or DR."""
    text = re.sub(r"\s*\b(?:cr|dr)\.?\Z", "", text, flags=re.IGNORECASE)
    text = _SIGNS_OF_MONEY.sub("", text)
    return f"-{text[1:-1]}" if text.startswith("(") and text.endswith(")") else text


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Reads cells of one file in its one dialect."""

    columns: dict[str, int]
    currency: str
    day: str
    decimal: str

    def cell(self, row: _Row, name: str) -> str:
        return _cell(row, self.columns, name)

    def date(self, row: _Row, name: str) -> date | None:
        text = self.cell(row, name)
        if not text:
            return None
        found = _day(text, self.day)
        if found is None:
            raise StatementRefused(f"a date like {self.day}", row=row.number, column=name, value=text)
        return found

    def money(self, row: _Row, name: str) -> Money | None:
        """The amount of a cell as written; None for an empty cell. What cannot be read refuses the file."""
        text = self.cell(row, name)
        bare = _bare(text)
        if not bare:
            if text:
                raise StatementRefused("an amount such as 1234.56", row=row.number, column=name, value=text)
            return None
        grouping = "," if self.decimal == "." else "."
        if grouping in bare and not _GROUPED[grouping].match(bare.lstrip("+-")):
            raise StatementRefused(
                f"an amount with '{self.decimal}' before the decimals", row=row.number, column=name, value=text
            )
        plain = bare.replace(grouping, "").replace(self.decimal, ".")
        if plain.endswith("-"):
            plain = f"-{plain[:-1]}"
        return plain_amount(plain, self.currency, row=row.number, column=name)

    def signed(self, row: _Row) -> Money:
        """What the row moved: positive came in."""
        debit, credit, amount = (self.money(row, name) for name in ("debit", "credit", "amount"))
        if amount is not None:
            return self._directed(row, amount)
        if debit and credit:
            raise StatementRefused(
                "either a debit or a credit", row=row.number, column="debit", value=self.cell(row, "debit")
            )
        if debit is None and credit is None:
            raise StatementRefused(
                "an amount", row=row.number, column="amount" if "amount" in self.columns else "debit"
            )
        return -abs(debit) if debit else credit if credit is not None else -abs(debit)  # type: ignore[arg-type]

    def _directed(self, row: _Row, amount: Money) -> Money:
        word = self.cell(row, "direction").casefold().rstrip(".")
        if "direction" not in self.columns:
            tail = self.cell(row, "amount")[-3:].strip(" .").casefold()
            return -abs(amount) if tail == "dr" else amount
        if word in _CREDIT_WORDS:
            return abs(amount)
        if word in _DEBIT_WORDS or (not word and amount.amount >= 0):
            return -abs(amount)
        raise StatementRefused("a direction such as CR or DR", row=row.number, column="direction", value=word)


def _lines(reader: _Reader, booked: Sequence[tuple[_Row, str]]) -> list[StatementLine]:
    lines = []
    for row, text in booked:
        booked_on = reader.date(row, "date")
        if booked_on is None:
            raise StatementRefused("a date", row=row.number, column="date")
        _same_currency(reader, row)
        amount = reader.signed(row)
        if not amount.amount:
            continue
        reference = reader.cell(row, "reference").strip("'")
        lines.append(
            StatementLine(
                row=row.number,
                booked_on=booked_on,
                value_on=reader.date(row, "value_date"),
                amount=amount,
                bank_ref=reader.cell(row, "id")[:100],
                reference=reference[:140] if reference.strip("0- ") else "",
                description=text,
                raw={str(index + 1): cell[:300] for index, cell in enumerate(row.cells[:40]) if cell},
            )
        )
    check_rows(len(lines))
    return lines


def _same_currency(reader: _Reader, row: _Row) -> None:
    stated = reader.cell(row, "currency").upper()
    if not stated:
        return
    try:
        currency_of(stated)
    except UnknownCurrency as exc:
        raise StatementRefused("a currency of ISO 4217", row=row.number, column="currency", value=stated) from exc
    if stated != reader.currency:
        raise StatementRefused(
            f"lines in the account's currency {reader.currency}", row=row.number, column="currency", value=stated
        )


def _balances(reader: _Reader, lines: Sequence[StatementLine]) -> tuple[Money | None, Money | None]:
    """Balances before the first and after the last line, where the rows state them; newest first or oldest first."""
    place = reader.columns.get("balance")
    if place is None or not lines:
        return None, None
    ordered = lines if lines[0].booked_on <= lines[-1].booked_on else lines[::-1]
    first, last = (
        reader.money(_Row(line.row, _padded(line.raw, place)), "balance") for line in (ordered[0], ordered[-1])
    )
    return (first - ordered[0].amount if first is not None else None), last


def _padded(raw: dict[str, str], place: int) -> list[str]:
    return [raw.get(str(index + 1), "") for index in range(place + 1)]
