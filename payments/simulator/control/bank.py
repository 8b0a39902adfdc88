"""The merchant's bank: statements of the same money as camt.053, MT940 or CSV, clean or with noise."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from xml.sax.saxutils import escape

from payments.simulator import fees, workdays
from payments.simulator.control.errors import Refused
from payments.simulator.world import Account, BankLine

NS = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.02"
MONTHLY_CHARGE = {"INR": 11_800}  # smallest units; others 5.00


@dataclass(frozen=True)
class Statement:
    """Bookings of one currency in a period."""

    account: str
    currency: str
    start: date
    end: date
    opening: int
    lines: list[BankLine]

    @property
    def closing(self) -> int:
        """Balance after the last line."""
        return self.opening + sum(line.amount for line in self.lines)


@dataclass(frozen=True)
class Noise:
    """What a real bank adds: charges, short credits, mangled or missing lines (every n-th credit)."""

    charges: bool = False
    short: int = 0  # smallest units taken off the first credit
    mangle: int = 0
    missing: int = 0


def statements(account: Account, start: date, end: date, currency: str | None, noise: Noise) -> list[Statement]:
    """One statement per currency that ever moved (or the asked one), lines by day."""
    currencies = [currency] if currency else sorted({line.currency for line in account.bank} or {account.currency})
    return [_statement(account, start, end, code.upper(), noise) for code in currencies]


def _statement(account: Account, start: date, end: date, currency: str, noise: Noise) -> Statement:
    lines = list(_noisy([line for line in account.bank if line.currency == currency], noise))
    if noise.charges:
        lines += _charges(account, currency, workdays.local_date(account.opened, account.zone), end)
    lines.sort(key=lambda line: line.on)
    opening = account.options.opening_balance + sum(line.amount for line in lines if line.on < start)
    number = f"SIM{account.id.split('_')[1][:14].upper()}"
    return Statement(number, currency, start, end, opening, [ln for ln in lines if start <= ln.on <= end])


def _noisy(lines: Iterable[BankLine], noise: Noise) -> Iterable[BankLine]:
    for number, clean in enumerate(lines, start=1):
        if noise.missing and number % noise.missing == 0:
            continue
        shown = clean
        if noise.mangle and number % noise.mangle == 0:
            broken = clean.reference[:6] + " " + clean.reference[6:-2]
            shown = replace(clean, reference=broken, text=clean.text.replace(clean.reference, broken))
        if noise.short and number == 1:
            shown = replace(shown, amount=shown.amount - noise.short)
        yield shown


def _charges(account: Account, currency: str, start: date, end: date) -> list[BankLine]:
    """One charge on the last working day of each month."""
    result = []
    month = start.replace(day=1)
    while month <= end:
        following = (month + timedelta(days=32)).replace(day=1)
        on = following - timedelta(days=1)
        while not account.is_workday(on):
            on -= timedelta(days=1)
        if start <= on <= end:
            amount = MONTHLY_CHARGE.get(currency, int(Decimal(5).scaleb(fees.exponent(currency))))
            result.append(
                BankLine(on, -amount, currency, f"CHG{on:%Y%m}", f"ACCOUNT CHARGES {on:%b %Y} INCL TAX".upper())
            )
        month = following
    return result


def decimal_text(amount: int, currency: str) -> str:
    """``1234.50`` for smallest units, without a sign."""
    places = fees.exponent(currency)
    return f"{Decimal(abs(amount)).scaleb(-places):.{places}f}"


def camt053(items: list[Statement]) -> bytes:
    """ISO 20022 bank-to-customer statement, version 02."""
    body = "".join(_camt_statement(number, item) for number, item in enumerate(items, start=1))
    created = f"{items[0].end:%Y-%m-%d}T23:59:59Z"
    return (f'<?xml version="1.0" encoding="UTF-8"?>\n<Document xmlns="{NS}"><BkToCstmrStmt>'
            f"<GrpHdr><MsgId>SIM-{items[0].end:%Y%m%d}</MsgId><CreDtTm>{created}</CreDtTm></GrpHdr>"
            f"{body}</BkToCstmrStmt></Document>\n").encode()  # fmt: skip


def _camt_statement(number: int, item: Statement) -> str:
    entries = "".join(_camt_entry(line) for line in item.lines)
    return (f"<Stmt><Id>{item.account}-{item.end:%Y%m%d}-{item.currency}</Id><ElctrncSeqNb>{number}</ElctrncSeqNb>"
            f"<CreDtTm>{item.end:%Y-%m-%d}T23:59:59Z</CreDtTm>"
            f"<FrToDt><FrDtTm>{item.start:%Y-%m-%d}T00:00:00Z</FrDtTm><ToDtTm>{item.end:%Y-%m-%d}T23:59:59Z</ToDtTm>"
            f"</FrToDt><Acct><Id><Othr><Id>{item.account}</Id></Othr></Id><Ccy>{item.currency}</Ccy></Acct>"
            f"{_camt_balance('OPBD', item.opening, item.currency, item.start)}"
            f"{_camt_balance('CLBD', item.closing, item.currency, item.end)}{entries}</Stmt>")  # fmt: skip


def _camt_balance(code: str, amount: int, currency: str, on: date) -> str:
    return (f"<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp>"
            f'<Amt Ccy="{currency}">{decimal_text(amount, currency)}</Amt>'
            f"<CdtDbtInd>{'DBIT' if amount < 0 else 'CRDT'}</CdtDbtInd><Dt><Dt>{on}</Dt></Dt></Bal>")  # fmt: skip


def _camt_entry(line: BankLine) -> str:
    reference, text = escape(line.reference), escape(line.text)
    return (f'<Ntry><Amt Ccy="{line.currency}">{decimal_text(line.amount, line.currency)}</Amt>'
            f"<CdtDbtInd>{'DBIT' if line.amount < 0 else 'CRDT'}</CdtDbtInd><Sts>BOOK</Sts>"
            f"<BookgDt><Dt>{line.on}</Dt></BookgDt><ValDt><Dt>{line.on}</Dt></ValDt>"
            f"<AcctSvcrRef>{reference}</AcctSvcrRef>"
            f"<BkTxCd><Prtry><Cd>{'NCHG' if line.amount < 0 else 'NTRF'}</Cd></Prtry></BkTxCd>"
            f"<NtryDtls><TxDtls><Refs><EndToEndId>{reference}</EndToEndId></Refs>"
            f"<RmtInf><Ustrd>{text}</Ustrd></RmtInf></TxDtls></NtryDtls></Ntry>")  # fmt: skip


def mt940(items: list[Statement]) -> bytes:
    """SWIFT MT940; one block per currency, amounts with a decimal comma."""
    return "".join(_mt_statement(number, item) for number, item in enumerate(items, start=1)).encode()


def _mt_statement(number: int, item: Statement) -> str:
    def money(amount: int) -> str:
        text = decimal_text(amount, item.currency).replace(".", ",")
        return text if "," in text else text + ","

    def balance(amount: int, on: date) -> str:
        return f"{'D' if amount < 0 else 'C'}{on:%y%m%d}{item.currency}{money(amount)}"

    rows = [f":20:SIM{item.end:%y%m%d}{item.currency}", f":25:{item.account}", f":28C:{number}/1",
            f":60F:{balance(item.opening, item.start)}"]  # fmt: skip
    for line in item.lines:
        kind, mark = ("NCHG", "D") if line.amount < 0 else ("NTRF", "C")
        rows.append(f":61:{line.on:%y%m%d%m%d}{mark}{money(line.amount)}{kind}{line.reference[:16]}")
        text = line.text
        chunks = [text[at : at + 65] for at in range(0, min(len(text), 390), 65)]
        rows.append(":86:" + "\r\n".join(chunks))
    rows += [f":62F:{balance(item.closing, item.end)}", "-", ""]
    return "\r\n".join(rows)


def csv_text(item: Statement) -> bytes:
    """The columns of a large Indian bank: dd/mm/yy, separate withdrawal and deposit, running balance."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["Date", "Narration", "Chq./Ref.No.", "Value Dt", "Withdrawal Amt.", "Deposit Amt.",
                     "Closing Balance"])  # fmt: skip
    balance = item.opening
    for line in item.lines:
        balance += line.amount
        shown = decimal_text(line.amount, item.currency)
        sign = "-" if balance < 0 else ""
        writer.writerow([f"{line.on:%d/%m/%y}", line.text, line.reference, f"{line.on:%d/%m/%y}",
                         shown if line.amount < 0 else "", shown if line.amount >= 0 else "",
                         sign + decimal_text(balance, item.currency)])  # fmt: skip
    return out.getvalue().encode()


def render(account: Account, query: dict[str, str], now: int) -> tuple[bytes, str]:
    """GET /_sim/bank/{account}: the file and its content type."""
    try:
        opened = workdays.local_date(account.opened, account.zone)
        start = date.fromisoformat(query["from"]) if query.get("from") else opened
        end = date.fromisoformat(query["to"]) if query.get("to") else workdays.local_date(now, account.zone)
        noise = Noise(query.get("noise") == "1", *(int(query.get(k, "0")) for k in ("short", "mangle", "missing")))
    except ValueError as error:
        raise Refused(400, f"from and to are dates, short, mangle and missing whole numbers: {error}") from error
    form = query.get("format", "camt053")
    items = statements(account, start, end, query.get("currency"), noise)
    if form == "camt053":
        return camt053(items), "application/xml"
    if form == "mt940":
        return mt940(items), "text/plain; charset=utf-8"
    if form != "csv":
        raise Refused(400, "format is camt053, mt940 or csv")
    if len(items) > 1:
        raise Refused(400, "a CSV holds one currency: add currency= " + " or ".join(i.currency for i in items))
    return csv_text(items[0]), "text/csv; charset=utf-8"
