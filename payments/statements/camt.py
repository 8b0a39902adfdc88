"""camt.053 (ISO 20022 bank to customer statement), versions 02 to 08.

Read as a stream, with entities, document types and external references refused. One line per booked entry: the bank
books an entry, its details explain it. Pending and informational entries are counted and left out.
"""

import re
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse
from moneyed import Money

from billing.errors import UnknownCurrency
from billing.money import currency_of, zero
from payments.statements.base import (
    Statement,
    StatementFile,
    StatementLine,
    StatementRefused,
    check_rows,
    clean,
    joined,
    plain_amount,
    plain_date,
)

_NAMESPACE = re.compile(r"\{(?P<uri>[^}]*)\}")
_MESSAGE = re.compile(r"urn:iso:std:iso:20022:tech:xsd:(?P<message>[a-z]{4}\.\d{3})\.001\.(?P<version>\d{2})\Z")
_VERSIONS = frozenset({"02", "03", "04", "05", "06", "07", "08"})
_SAYS_NOTHING = frozenset({"NOTPROVIDED", "NOTAVAILABLE", "NONREF", ""})


def read(content: bytes) -> StatementFile:
    """All statements of the file; raises ``StatementRefused``."""
    statements: list[Statement] = []
    pending = 0
    try:
        for statement, left_out in _statements(content):
            statements.append(statement)
            pending += left_out
            check_rows(sum(len(known.lines) for known in statements))
    except DefusedXmlException as exc:
        raise StatementRefused("XML without a document type, entities or external references") from exc
    except (ParseError, ValueError, LookupError) as exc:
        raise StatementRefused(f"well-formed XML ({clean(str(exc))[:100]})") from exc
    if not statements:
        raise StatementRefused("at least one statement (Stmt) in the file")
    return StatementFile(format="camt053", statements=tuple(statements), pending=pending)


def _statements(content: bytes) -> Iterator[tuple[Statement, int]]:
    """Walk the document; forget each entry once it is read."""
    lines: list[StatementLine] = []
    rows = pending = 0
    path: list[Element] = []
    for event, element in iterparse(BytesIO(content), events=("start", "end"), forbid_dtd=True):
        if event == "start":
            if not path:
                _must_be_camt053(element)
            path.append(element)
            if len(path) > 60:
                raise StatementRefused("XML nested at most 60 deep")
            continue
        path.pop()
        name = _name(element)
        if name == "Ntry" and path and _name(path[-1]) == "Stmt":
            rows += 1
            check_rows(rows)
            line = _entry(element, row=rows)
            pending += line is None
            lines += [line] if line else []
            path[-1].remove(element)
        elif name == "Stmt":
            yield _statement(element, lines), pending
            lines, pending = [], 0
            element.clear()


def _must_be_camt053(root: Element) -> None:
    space = _NAMESPACE.match(root.tag)
    message = _MESSAGE.match(space["uri"]) if space else None
    if message is None or _name(root) != "Document":
        raise StatementRefused(
            "a camt.053 document (namespace urn:iso:std:iso:20022:tech:xsd:camt.053.001.NN)", value=root.tag
        )
    if message["message"] != "camt.053":
        raise StatementRefused(
            "a statement (camt.053); a notification or report books nothing", value=message["message"]
        )
    if message["version"] not in _VERSIONS:
        raise StatementRefused("camt.053 in version 02 to 08", value=message["version"])


def _statement(element: Element, lines: list[StatementLine]) -> Statement:
    account = _text(element, "Acct/Id/IBAN") or _text(element, "Acct/Id/Othr/Id")
    balances = {code: amount for code, amount in map(_balance, _all(element, "Bal")) if code}
    opening = balances.get("OPBD") or balances.get("PRCD")
    closing = balances.get("CLBD")
    stated = next((amount.currency.code for amount in (opening, closing) if amount is not None), "")
    currency = _text(element, "Acct/Ccy") or stated or (lines[0].amount.currency.code if lines else "")
    return Statement(
        account=clean(account)[:60], currency=currency, lines=tuple(lines), opening=opening, closing=closing
    )


def _balance(element: Element) -> tuple[str, Money | None]:
    code = _text(element, "Tp/CdOrPrtry/Cd")
    return code, _signed(element, row=None) if code in ("OPBD", "PRCD", "CLBD") else None


def _entry(element: Element, *, row: int) -> StatementLine | None:
    """A booked entry, or None for one that is not booked."""
    status = _text(element, "Sts") or _text(element, "Sts/Cd")
    if status not in ("BOOK", "PDNG", "INFO", "FUTR"):
        raise StatementRefused("a status BOOK, PDNG, INFO or FUTR", row=row, column="Sts", value=status)
    amount = _signed(element, row=row)
    if status != "BOOK":
        return None
    value_text = _date_text(element, "ValDt")
    booked_text = _date_text(element, "BookgDt") or value_text
    if not booked_text:
        raise StatementRefused("a booking date", row=row, column="BookgDt")
    details = _all(element, "NtryDtls/TxDtls")
    return StatementLine(
        row=row,
        booked_on=plain_date(booked_text, row=row, column="BookgDt"),
        value_on=plain_date(value_text, row=row, column="ValDt") if value_text else None,
        amount=amount,
        bank_ref=clean(_text(element, "AcctSvcrRef"))[:100],
        reference=_reference(element, details)[:140],
        description=_description(element, details),
        raw={"NtryRef": clean(_text(element, "NtryRef"))[:140], "details": str(len(details)),
             "code": joined(*(_text(element, f"BkTxCd/{part}") for part in ("Domn/Cd", "Domn/Fmly/Cd", "Prtry/Cd")))},
    )  # fmt: skip


def _reference(entry: Element, details: list[Element]) -> str:
    """What the payer or the sending bank calls it; of a batch, the batch's id."""
    paths = (
        "Refs/EndToEndId",
        "RmtInf/Strd/CdtrRefInf/Ref",
        "Refs/TxId",
        "Refs/InstrId",
        "Refs/UETR",
        "Refs/AcctSvcrRef",
    )
    candidates = [_text(details[0], path) for path in paths] if len(details) == 1 else []
    candidates += [_text(entry, "NtryDtls/Btch/PmtInfId"), _text(entry, "NtryRef"), _text(entry, "AcctSvcrRef")]
    return next((clean(text) for text in candidates if clean(text) not in _SAYS_NOTHING), "")


def _description(entry: Element, details: list[Element]) -> str:
    parts: list[str] = []
    for detail in details[:200]:
        parts += [text.text or "" for text in _all(detail, "RmtInf/Ustrd")]
        parts += [
            _text(detail, path)
            for path in ("RmtInf/Strd/CdtrRefInf/Ref", "Refs/EndToEndId", "Refs/TxId", "Refs/InstrId")
        ]
        parts += [_text(detail, f"RltdPties/{party}") for party in ("Dbtr/Nm", "Dbtr/Pty/Nm", "Cdtr/Nm", "Cdtr/Pty/Nm")]
        parts.append(_text(detail, "AddtlTxInf"))
    parts.append(_text(entry, "AddtlNtryInf"))
    return joined(*(part for part in parts if part.strip() not in _SAYS_NOTHING))


def _signed(element: Element, *, row: int | None) -> Money:
    node = _first(element, "Amt")
    text = (node.text or "") if node is not None else ""
    code = node.get("Ccy", "") if node is not None else ""
    try:
        currency_of(code)
    except UnknownCurrency as exc:
        raise StatementRefused("a currency of ISO 4217", row=row, column="Amt Ccy", value=code) from exc
    amount = plain_amount(text, code, row=row, column="Amt")
    if amount < zero(code):
        raise StatementRefused(
            "an amount without a sign; CdtDbtInd tells the direction", row=row, column="Amt", value=text
        )
    direction = _text(element, "CdtDbtInd")
    if direction not in ("CRDT", "DBIT"):
        raise StatementRefused("CRDT or DBIT", row=row, column="CdtDbtInd", value=direction)
    return amount if direction == "CRDT" else -amount


def _date_text(element: Element, path: str) -> str:
    return _text(element, f"{path}/Dt") or _text(element, f"{path}/DtTm")


def _name(element: Element) -> str:
    return str(element.tag).rsplit("}", 1)[-1]


def _all(element: Element, path: str) -> list[Element]:
    found = [element]
    for step in path.split("/"):
        found = [child for parent in found for child in parent if _name(child) == step]
    return found


def _first(element: Element, path: str) -> Any:
    found: Any = element
    for step in path.split("/"):
        found = next((child for child in found if _name(child) == step), None)
        if found is None:
            return None
    return found


def _text(element: Element, path: str) -> str:
    found = _first(element, path)
    return (found.text or "").strip() if found is not None else ""
