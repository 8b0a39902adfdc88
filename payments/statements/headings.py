"""Column headings of bank exports, in the words banks use."""

import re
from collections.abc import Sequence

WORDS: dict[str, tuple[str, ...]] = {
    "date": ("date", "txn date", "tran date", "transaction date", "posting date", "post date", "booking date", "date processed",
             "posted date", "buchungstag", "buchungsdatum", "datum", "boekdatum", "tranzakció dátuma", "fecha", "data"),
    "value_date": ("value date", "value dt", "valuta", "valutadatum", "wertstellung", "értéknap", "fecha valor"),
    "description": ("description", "narration", "details", "particulars", "transaction remarks", "remarks", "transaction details",
                    "transaction description", "verwendungszweck", "omschrijving", "buchungstext", "memo", "partner neve", "concepto"),
    "details": ("vrije mededeling", "közlemény", "additional info", "notes", "narrative", "gestructureerde mededeling"),
    "payer": ("payer", "payee", "counterparty", "naam tegenpartij", "beguenstigter/zahlungspflichtiger", "name",
              "beneficiary / remitter"),
    "reference": ("ref", "reference", "ref no", "reference no", "reference number", "chq./ref.no.", "ref no./cheque no.",
                  "cheque/reference no.", "chq/ref number", "chq / ref no.", "utr", "bank reference", "transaction reference",
                  "megbízás azonosító", "cheque no", "chq no"),
    "id": ("transaction id", "tran id", "txn id", "bank id", "fitid"),
    "debit": ("debit", "withdrawal", "withdrawals", "withdrawal amt", "withdrawal amount", "debit amount", "dr amount", "paid out",
              "money out", "debet", "soll", "dr"),
    "credit": ("credit", "deposit", "deposits", "deposit amt", "deposit amount", "credit amount", "cr amount", "paid in", "money in",
               "haben", "cr"),
    "amount": ("amount", "transaction amount", "txn amount", "betrag", "bedrag", "importe", "tranzakció összege", "amt"),
    "direction": ("dr/cr", "cr/dr", "dr / cr", "cr / dr", "type", "debit/credit", "credit/debit", "direction", "bevétel/kiadás",
                  "soll/haben", "af bij"),
    "balance": ("balance", "closing balance", "running balance", "available balance", "saldo", "egyenleg", "balance amount"),
    "currency": ("currency", "ccy", "munt", "währung", "tranzakció devizaneme", "moneda"),
}  # fmt: skip

_IN_BRACKETS = re.compile(r"\s*\([^)]*\)\s*$")


def _plain(cell: str) -> str:
    return _IN_BRACKETS.sub("", cell).strip().rstrip(".:").casefold()


_BY_HEADING = {_plain(word): name for name, words in WORDS.items() for word in words}


def columns_of(cells: Sequence[str]) -> dict[str, int]:
    """Which column stands where (from 0), by heading; an unnamed column behind an amount may hold CR and DR."""
    found: dict[str, int] = {}
    for place, cell in enumerate(cells):
        name = _BY_HEADING.get(_plain(cell))
        if name and name not in found:
            found[name] = place
    if "debit" in found and "credit" in found:
        found.pop("amount", None)
        found.pop("direction", None)
    elif "amount" in found:
        found.pop("debit", None)
        found.pop("credit", None)
        behind = found["amount"] + 1
        if "direction" not in found and behind == len(cells) - 1 and not cells[behind].strip():
            found["direction"] = behind
    return found


def suffices(found: dict[str, int]) -> bool:
    """Whether a statement can be read from these columns."""
    money = "amount" in found or ("debit" in found and "credit" in found)
    return "date" in found and money and bool({"description", "reference", "payer"} & set(found))
