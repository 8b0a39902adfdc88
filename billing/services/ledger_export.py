"""The books in the words of other programs: Beancount, CSV and JSON. Streams; the books may be large."""

import csv
import json
import re
import uuid
from collections.abc import Iterable, Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TextIO
from zoneinfo import ZoneInfo

from django.db.models import Min

from billing.models import JournalEntry, LedgerAccount, Organisation

ROOTS = {"asset": "Assets", "liability": "Liabilities", "equity": "Equity", "income": "Income", "expense": "Expenses"}
COLUMNS = ("date", "occurred_at", "entry", "kind", "source", "account", "currency", "debit", "credit", "customer")
CHUNK = 2000
PLAIN = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")


def export(*, organisation: Organisation, form: str, to: TextIO) -> int:
    """Write all entries of an organisation in ``form`` (beancount, csv or json); returns how many."""
    return WRITERS[form](organisation, to)


def account_name(code: str, kind: str) -> str:
    """A Beancount account for a code of ours: ``tax_payable:cgst`` becomes ``Liabilities:Tax-Payable:Cgst``.

    A part that is not lower case words is spelt out sign by sign, so that two codes never share an account.
    """
    return ":".join([ROOTS[kind], *(_component(part) for part in code.split(":"))])


def _component(part: str) -> str:
    if PLAIN.fullmatch(part):
        return "-".join(word[:1].upper() + word[1:] for word in part.split("_"))
    return "X--" + re.sub(r"[^a-z0-9]", lambda found: f"-{ord(found.group()):x}-", part)


def _beancount(organisation: Organisation, to: TextIO) -> int:
    zone = ZoneInfo(organisation.time_zone)
    first = JournalEntry.objects.of(organisation).aggregate(first=Min("occurred_at"))["first"]
    opened = _day(first, zone) if first else date(2000, 1, 1)
    to.write(f'option "title" {_quoted(organisation.name)}\noption "operating_currency" "{organisation.currency}"\n\n')
    to.writelines(f"{opened} open {name} {codes}\n" for name, codes in sorted(_accounts(organisation).items()))
    count = 0
    for entry in _entries(organisation):
        words = _quoted(entry.description or entry.kind.replace("_", " "))
        to.write(f'\n{_day(entry.occurred_at, zone)} * {words}\n  entry: "{entry.pk}"\n  kind: {_quoted(entry.kind)}\n')
        to.write(f'  source: "{entry.source_id}"\n')
        for posting in entry.postings.all():
            sign = "" if posting.side == "D" else "-"
            name = account_name(posting.account.code, posting.account.kind)
            to.write(f"  {name}  {sign}{_plain(posting.amount.amount)} {posting.account.currency}\n")
        count += 1
    return count


def _csv(organisation: Organisation, to: TextIO) -> int:
    writer = csv.writer(to)
    writer.writerow(COLUMNS)
    count = 0
    for entry in _entries(organisation):
        count += 1
        for row in _rows(entry, ZoneInfo(organisation.time_zone)):
            writer.writerow([_harmless(row[column]) for column in COLUMNS])
    return count


def _json(organisation: Organisation, to: TextIO) -> int:
    """One entry a line."""
    count = 0
    for entry in _entries(organisation):
        count += 1
        rows = list(_rows(entry, ZoneInfo(organisation.time_zone)))
        line = {
            "id": str(entry.pk),
            "kind": entry.kind,
            "occurred_at": entry.occurred_at.isoformat(),
            "source": str(entry.source_id),
            "description": entry.description,
            "postings": [
                {key: row[key] for key in ("account", "currency", "debit", "credit", "customer")} for row in rows
            ],
        }
        to.write(json.dumps(line, ensure_ascii=False) + "\n")
    return count


WRITERS = {"beancount": _beancount, "csv": _csv, "json": _json}


def _entries(organisation: Organisation) -> Iterator[Any]:
    rows = JournalEntry.objects.of(organisation).prefetch_related("postings__account").order_by("occurred_at", "pk")
    return rows.iterator(chunk_size=CHUNK)


def _accounts(organisation: Organisation) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for code, kind, currency in LedgerAccount.objects.of(organisation).values_list("code", "kind", "currency"):
        found.setdefault(account_name(code, kind), set()).add(currency)
    return {name: ",".join(sorted(currencies)) for name, currencies in found.items()}


def _rows(entry: Any, zone: ZoneInfo) -> Iterable[dict[str, str]]:
    for posting in entry.postings.all():
        amount = _plain(posting.amount.amount)
        customer: uuid.UUID | None = posting.customer_id
        yield {
            "date": _day(entry.occurred_at, zone).isoformat(),
            "occurred_at": entry.occurred_at.isoformat(),
            "entry": str(entry.pk),
            "kind": entry.kind,
            "source": str(entry.source_id),
            "account": posting.account.code,
            "currency": posting.account.currency,
            "debit": amount if posting.side == "D" else "",
            "credit": amount if posting.side == "C" else "",
            "customer": str(customer) if customer else "",
        }


def _day(moment: datetime, zone: ZoneInfo) -> date:
    return moment.astimezone(zone).date()


def _plain(amount: Decimal) -> str:
    """At least two decimals, no more than needed: 499.00, 0.0125."""
    text = f"{amount:.4f}"
    return text[:-2] if text.endswith("00") else text.rstrip("0")


def _quoted(text: str) -> str:
    """A Beancount string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'


def _harmless(text: str) -> str:
    """Text that a spreadsheet will not take for a formula; numbers are ours and stay numbers."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
