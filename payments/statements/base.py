"""What every statement parser answers: statements, lines, refusals, and keys by which a line is known again."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation

from moneyed import Money

from billing.errors import InvalidInput
from billing.money import MAX_AMOUNT, currency_of, exponent, quantize

MAX_BYTES = 20 * 1024 * 1024
MAX_ROWS = 100_000
MAX_TEXT = 4000  # characters of one line's description that are kept

_SPACES = re.compile(r"\s+")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_PLAIN_NUMBER = re.compile(r"[+-]?\d{1,18}(?:\.\d{0,18})?\Z")


class StatementRefused(InvalidInput):
    """The file cannot be read as a bank statement. Nothing of it is booked."""

    code = "statement_refused"

    def __init__(self, expected: str, *, row: int | None = None, column: str = "", value: str = "") -> None:
        self.row, self.column, self.value, self.expected = row, column, value[:80], expected
        where = ", ".join(
            part for part in (f"row {row}" if row else "", f"column '{column}'" if column else "") if part
        )
        got = f" Found '{clean(self.value)}'." if value else ""
        super().__init__(f"{where[:1].upper()}{where[1:]}: expected {expected}.{got}" if where else f"Expected {expected}.{got}",
                         field="content")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StatementLine:
    """One booked line. ``amount`` is signed: positive came in. ``bank_ref`` is the bank's own id of it, if it gives one."""

    row: int
    booked_on: date
    amount: Money
    value_on: date | None = None
    bank_ref: str = ""
    reference: str = ""
    description: str = ""
    raw: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Statement:
    """The lines of one account in one currency. Balances are what the file states, if it does."""

    account: str
    currency: str
    lines: tuple[StatementLine, ...]
    opening: Money | None = None
    closing: Money | None = None


@dataclass(frozen=True, kw_only=True)
class StatementFile:
    """A file that was read in full. ``pending`` lines are announced by the bank but not booked: left out."""

    format: str
    statements: tuple[Statement, ...]
    pending: int = 0


def line_keys(lines: Sequence[StatementLine]) -> list[str]:
    """A key per line that a second import of the same line has again.

    The bank's id if it gives one, else reference (or description), with date, amount and a count of equal rows: two
    equal rows of one file are two lines, the same row in two files is one.
    """
    seen: Counter[tuple[str, ...]] = Counter()
    keys = []
    for line in lines:
        same = line.bank_ref or _SPACES.sub(" ", line.reference or line.description).strip().casefold()
        parts = ("id" if line.bank_ref else "row", same, line.booked_on.isoformat(),
                 f"{line.amount.amount:.4f}", line.amount.currency.code)  # fmt: skip
        seen[parts] += 1
        keys.append(hashlib.sha256("\x1f".join((*parts, str(seen[parts]))).encode()).hexdigest())
    return keys


def clean(text: str) -> str:
    """Text that a database and a page can hold: no control characters, single spaces, no ends."""
    return _SPACES.sub(" ", _CONTROLS.sub("", text)).strip()


def joined(*parts: str, limit: int = MAX_TEXT) -> str:
    """The parts that say something, each once, separated by a space."""
    kept: list[str] = []
    for part in map(clean, parts):
        if part and part not in kept:
            kept.append(part)
    return " ".join(kept)[:limit]


def plain_amount(text: str, currency: str, *, row: int | None, column: str) -> Money:
    """Money from a plain decimal (``-1234.56``); refuses the file for anything else, never takes it for zero."""
    if not _PLAIN_NUMBER.match(text.strip()):
        raise StatementRefused("an amount such as 1234.56", row=row, column=column, value=text)
    try:
        amount = Decimal(text.strip())
    except InvalidOperation as exc:
        raise StatementRefused("an amount such as 1234.56", row=row, column=column, value=text) from exc
    if abs(amount) > MAX_AMOUNT:
        raise StatementRefused("an amount below 999,999,999,999,999", row=row, column=column, value=text)
    if amount != quantize(amount, currency):
        raise StatementRefused(
            f"an amount with at most {exponent(currency)} decimals ({currency})", row=row, column=column, value=text
        )
    return Money(quantize(amount, currency), currency_of(currency))


def plain_date(text: str, *, row: int | None, column: str) -> date:
    """A date from ``2025-04-01`` with or without a time behind it; refuses anything else."""
    try:
        return date.fromisoformat(text.strip()[:10])
    except ValueError as exc:
        raise StatementRefused("a date such as 2025-04-01", row=row, column=column, value=text) from exc


def check_rows(count: int) -> None:
    """Refuse a file that grows beyond the limit of rows."""
    if count > MAX_ROWS:
        raise StatementRefused(f"at most {MAX_ROWS:,} lines in one file; split it by month")
