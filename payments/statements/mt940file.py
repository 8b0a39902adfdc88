"""MT940 (SWIFT customer statement), read with the mt-940 library and checked line by line against the text."""

import logging
import re
from datetime import date
from typing import Any

import mt940
from moneyed import Money

from billing.errors import UnknownCurrency
from billing.money import currency_of
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

# The library logs the contents of lines it cannot read; those may hold names and account numbers.
logging.getLogger("mt940").setLevel(logging.CRITICAL)

_LINE = re.compile(r"^:61:", re.MULTILINE)
# The library would read "59.00" as 59 and "5x,00" as 5: an amount has its comma, and a letter or nothing behind it.
_SOUND_LINE = re.compile(r":61:\d{6}(?:\d{4}|\s{4})?R?[DC][A-Z]?\s?\d{1,15},\d{0,4}(?=[A-Z\s]|\Z)", re.IGNORECASE)
_OPENING = re.compile(r"^:60[FM]:[CD]\d{6}(?P<currency>[A-Z]{3})(?P<amount>\d{0,15},?\d{0,4})", re.MULTILINE)
_ASN_BANK = re.compile(
    r"\{1:F01ASNB|^:61:\d{6,10}[CD][\d,]{1,15}N[A-Z0-9]{3}[A-Z]{2}\d{2}[A-Z]{4}\d{10}\s*$", re.MULTILINE
)
_PARTS = ("purpose", "end_to_end_reference", "customer_reference", "additional_purpose", "applicant_name", "recipient_name",
          "transaction_details", "extra_details", "posting_text", "return_debit_notes")  # fmt: skip
_LONGEST_LINE = 2000  # characters; the standard allows 65 a row


def read(content: bytes) -> StatementFile:
    """All statements of the file; raises ``StatementRefused``."""
    text = _decode(content)
    _must_be_mt940(text)
    parsed = []
    for part in _parts(text):
        parsed.append(_statement(part, first_row=1 + sum(len(known.lines) for known in parsed)))
    return StatementFile(format="mt940", statements=tuple(parsed))


def _decode(content: bytes) -> str:
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1").replace("\r\n", "\n").replace("\r", "\n")


def _must_be_mt940(text: str) -> None:
    if not _OPENING.search(text):
        raise StatementRefused("MT940 with an opening balance such as :60F:C250401EUR1000,00")
    check_rows(len(_LINE.findall(text)))
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > _LONGEST_LINE:
            raise StatementRefused(f"rows of at most {_LONGEST_LINE} characters", row=number, value=line)
        if line.startswith(":61:") and not _SOUND_LINE.match(line):
            raise StatementRefused(
                "a line such as :61:2504010401C1234,56NTRFREFERENCE", row=number, column=":61:", value=line
            )


def _parts(text: str) -> list[str]:
    """One part per opening balance, each with the header above it."""
    starts = [match.start() for match in re.finditer(r"^:20:", text, re.MULTILINE)] or [0]
    pieces = [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
    parts: list[str] = []
    for piece in pieces:
        if _OPENING.search(piece) or not parts:
            parts.append(piece)
        else:
            parts[-1] += piece
    if _ASN_BANK.search(text):
        parts[0] = text[: starts[0]] + parts[0]
    return parts


def _statement(text: str, *, first_row: int) -> Statement:
    opening = _OPENING.search(text)
    if opening is None:
        raise StatementRefused("an opening balance such as :60F:C250401EUR1000,00 in each statement", row=first_row)
    currency = opening["currency"]
    try:
        currency_of(currency)
    except UnknownCurrency as exc:
        raise StatementRefused("a currency of ISO 4217", column=":60F:", value=currency) from exc
    collection = _parse(text, first_row=first_row)
    stated = [transaction for transaction in collection.transactions if "amount" in transaction.data]
    if len(stated) != len(_LINE.findall(text)):
        raise StatementRefused(
            f"{len(_LINE.findall(text))} readable lines (:61:); only {len(stated)} could be read", row=first_row
        )
    lines = tuple(_line(item.data, row=first_row + index, currency=currency) for index, item in enumerate(stated))
    return Statement(
        account=clean(str(collection.data.get("account_identification") or ""))[:60],
        currency=currency,
        lines=tuple(line for line in lines if line.amount.amount),  # some banks state balances as lines of nothing
        opening=_balance(collection.data, "final_opening_balance", "intermediate_opening_balance", currency=currency),
        closing=_balance(collection.data, "final_closing_balance", "intermediate_closing_balance", currency=currency),
    )


def _parse(text: str, *, first_row: int) -> Any:
    tags = {mt940.tags.StatementASNB.id: mt940.tags.StatementASNB()} if _ASN_BANK.search(text) else {}
    collection = mt940.models.Transactions(tags=tags, options=mt940.Options.all())
    try:
        collection.parse(text)  # not mt940.parse(): that opens a file when the text happens to name one
    except Exception as exc:  # the library raises RuntimeError, ValueError, InvalidOperation, AttributeError …
        raise StatementRefused(
            "lines as in :61:2504010401C1234,56NTRFREFERENCE", row=first_row, column=":61:", value=_culprit(exc)
        ) from exc
    return collection


def _culprit(exc: Exception) -> str:
    arguments = [argument for argument in exc.args if isinstance(argument, str)]
    return clean(arguments[-1]) if arguments else type(exc).__name__


def _line(data: dict[str, Any], *, row: int, currency: str) -> StatementLine:
    number = data["amount"].amount
    amount = plain_amount(f"{number:f}", currency, row=row, column=":61:")
    value_on = _day(data["date"])
    booked_on = _day(data.get("entry_date")) or value_on
    if booked_on is None:
        raise StatementRefused("a date such as 250401", row=row, column=":61:", value=str(data.get("date")))
    own, banks = clean(str(data.get("customer_reference") or "")), clean(str(data.get("bank_reference") or ""))
    return StatementLine(
        row=row,
        booked_on=booked_on,
        value_on=value_on,
        amount=amount,
        reference=next((text for text in (own, banks) if text and text != "NONREF"), "")[:140],
        description=joined(*(str(data.get(part) or "") for part in _PARTS), banks, own if own != "NONREF" else ""),
        raw={"type": str(data.get("id") or ""), "mark": str(data.get("status") or ""), "bank_reference": banks},
    )


def _day(value: Any) -> date | None:
    return date(value.year, value.month, value.day) if isinstance(value, date) else None


def _balance(data: dict[str, Any], *names: str, currency: str) -> Money | None:
    for name in names:
        balance = data.get(name)
        if balance is not None and balance.amount is not None and balance.amount.amount is not None:
            return plain_amount(f"{balance.amount.amount:f}", currency, row=None, column=name)
    return None
