"""Bank statements: looked at, then imported once. The same file again, or the same line in another file, changes nothing."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection, transaction
from moneyed import Money

from billing import clock
from billing.context import Actor
from billing.errors import Conflict, InvalidInput, PermissionRefused
from billing.ids import uuid7
from billing.models import Organisation
from billing.money import currency_of, zero
from billing.services import audit
from payments.models import BankAccount, BankLine, StatementImport
from payments.statements import (
    Dialect,
    Statement,
    StatementFile,
    StatementLine,
    StatementRefused,
    line_keys,
    read_statement,
)

PREVIEW_LINES = 20
_CODE = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}\Z")


@dataclass(frozen=True, kw_only=True)
class StatementPreview:
    """What an import would do, and whether the file adds up."""

    format: str
    file_hash: str
    rows_read: int
    rows_new: int
    rows_known: int
    rows_pending: int
    total: Money
    opening: Money | None
    closing: Money | None
    first_lines: tuple[StatementLine, ...]
    before: StatementImport | None
    """The statement that ends before this one begins; None where none does, or where lines of this one are known."""

    @property
    def gap(self) -> Money | None:
        """Opening balance against the closing balance of the statement before; None when they do not state both."""
        if self.before is None or self.before.closing_balance is None or self.opening is None:
            return None
        return self.opening - self.before.closing_balance

    @property
    def difference(self) -> Money | None:
        """Opening balance and lines against the closing balance; None when the file does not state both."""
        if self.opening is None or self.closing is None:
            return None
        return self.opening + self.total - self.closing


def create_bank_account(
    *, organisation: Organisation, code: str, name: str, currency: str, last4: str = "", dialect: dict[str, object] | None = None,
    actor: Actor
) -> BankAccount:  # fmt: skip
    """Open a bank account whose statements will be imported; its ledger account is ``bank:<code>``."""
    if not actor.may("statement.import"):
        raise PermissionRefused(permission="statement.import")
    if not _CODE.match(code):
        raise InvalidInput("Give a code of small letters, digits, '-' and '_', for example 'hdfc-main'.", field="code")
    currency_of(currency)
    Dialect.from_json(dict(dialect or {}))
    with transaction.atomic():
        account = BankAccount(
            organisation=organisation, code=code, name=name, currency=currency, last4=last4, dialect=dialect or {}
        )
        BankAccount.objects.bulk_create([account], ignore_conflicts=True)
        if not BankAccount.objects.filter(pk=account.pk).exists():
            raise Conflict(f"There is a bank account '{code}' already.", field="code")
        audit.record(
            actor=actor, action="bank_account.created", target=account, after={"code": code, "currency": currency}
        )
    return account


def preview_statement(
    *, organisation: Organisation, bank_account: BankAccount, content: bytes, format: str = "auto"
) -> StatementPreview:
    """Read a file and tell what importing it would do; writes nothing. Raises ``StatementRefused``."""
    file, chosen, lines = _read(organisation, bank_account, content, format)
    known = len(_known_keys(bank_account, line_keys(lines)))
    return StatementPreview(
        format=file.format, file_hash=_hash(content), rows_read=len(lines), rows_new=len(lines) - known, rows_known=known,
        rows_pending=file.pending, total=sum((line.amount for line in lines), zero(bank_account.currency)),
        opening=chosen[0].opening if chosen else None, closing=chosen[-1].closing if chosen else None,
        first_lines=tuple(lines[:PREVIEW_LINES]), before=None if known else _before(bank_account, lines),
    )  # fmt: skip


def _before(bank_account: BankAccount, lines: Sequence[StatementLine]) -> StatementImport | None:
    """The import with the newest line that was booked before the first of ``lines``, or on its day."""
    first = min((line.booked_on for line in lines), default=None)
    earlier = (
        BankLine.objects.filter(bank_account=bank_account, booked_on__lte=first) if first else BankLine.objects.none()
    )
    line = earlier.select_related("statement").order_by("-booked_on", "-id").first()
    return line.statement if line else None


def import_statement(
    *,
    organisation: Organisation,
    bank_account: BankAccount,
    file_name: str,
    content: bytes,
    format: str = "auto",
    actor: Actor,
) -> StatementImport:
    """Import one file. All of it or nothing; a refused file is kept as a refusal with its reason.

    Raises ``StatementRefused``, ``PermissionRefused``. The same file again returns its first import.
    """
    if not actor.may("statement.import"):
        raise PermissionRefused(permission="statement.import")
    done = StatementImport.objects.filter(bank_account=bank_account, file_hash=_hash(content), error="").first()
    if done is not None:
        return done
    try:
        file, chosen, lines = _read(organisation, bank_account, content, format)
    except StatementRefused as exc:
        _keep_refusal(organisation, bank_account, file_name, content, format, exc, actor)
        raise
    return _store(organisation, bank_account, file_name, content, file, chosen, lines, actor)


def _read(
    organisation: Organisation, bank_account: BankAccount, content: bytes, format: str
) -> tuple[StatementFile, list[Statement], list[StatementLine]]:
    stated = dict(bank_account.dialect)
    stated.setdefault("day_first", organisation.country != "US")  # where the dates themselves do not prove it
    file = read_statement(content, format=format, currency=bank_account.currency, dialect=Dialect.from_json(stated))
    chosen = _of_account(file, bank_account)
    lines = [line for statement in chosen for line in statement.lines]
    for line in lines:
        if line.amount.currency.code != bank_account.currency:
            raise StatementRefused(f"lines in {bank_account.currency}, the currency of account '{bank_account.code}'",
                                   row=line.row, column="currency", value=line.amount.currency.code)  # fmt: skip
    return file, chosen, lines


def _of_account(file: StatementFile, bank_account: BankAccount) -> list[Statement]:
    """The statements of this account out of a file that may hold several."""
    named = [statement for statement in file.statements if _digits(statement.account)]
    accounts = {_digits(statement.account) for statement in named}
    if bank_account.last4 and accounts:
        fitting = [statement for statement in named if _digits(statement.account).endswith(bank_account.last4)]
        if not fitting:
            ends = ", ".join(sorted(f"…{account[-4:]}" for account in accounts))
            raise StatementRefused(
                f"a statement of the account that ends in {bank_account.last4}", column="account", value=ends
            )
        return fitting
    if len(accounts) > 1:
        raise StatementRefused(
            f"one account in the file, or the last four digits stated for '{bank_account.code}'; it has {len(accounts)}"
        )
    return list(file.statements)


def _digits(account: str) -> str:
    return re.sub(r"\D", "", account) or account


def _known_keys(bank_account: BankAccount, keys: Sequence[str]) -> set[str]:
    step = 10_000
    stored = BankLine.objects.filter(bank_account=bank_account)
    return {
        key
        for at in range(0, len(keys), step)
        for key in stored.filter(line_key__in=keys[at : at + step]).values_list("line_key", flat=True)
    }


@transaction.atomic
def _store(
    organisation: Organisation, bank_account: BankAccount, file_name: str, content: bytes, file: StatementFile,
    chosen: list[Statement], lines: list[StatementLine], actor: Actor,
) -> StatementImport:  # fmt: skip
    """Insert the import and its new lines. The account is locked, so two imports count each line once."""
    BankAccount.objects.select_for_update(of=("self",)).get(pk=bank_account.pk)
    done = StatementImport.objects.filter(bank_account=bank_account, file_hash=_hash(content), error="").first()
    if done is not None:
        return done
    keys = line_keys(lines)
    known = len(_known_keys(bank_account, keys))
    statement = StatementImport.objects.create(
        organisation=organisation, bank_account=bank_account, file_name=_name(file_name), file_hash=_hash(content),
        format=file.format, rows_read=len(lines), rows_new=len(lines) - known, rows_known=known, rows_pending=file.pending,
        currency=bank_account.currency, opening_balance=chosen[0].opening if chosen else None,
        closing_balance=chosen[-1].closing if chosen else None, imported_by=actor.label[:120], imported_at=clock.now(organisation),
    )  # fmt: skip
    _copy_lines(statement, keys, lines)
    audit.record(actor=actor, action="statement.imported", target=statement,
                 after={"file": statement.file_name, "rows_new": statement.rows_new, "rows_known": known})  # fmt: skip
    return statement


_COLUMNS = ("id", "recorded_at", "organisation_id", "bank_account_id", "statement_id", "row_number", "line_key", "booked_on",
            "value_on", "currency", "amount", "reference", "description", "state", "rule", "raw")  # fmt: skip


def _copy_lines(statement: StatementImport, keys: Sequence[str], lines: Sequence[StatementLine]) -> None:
    """Write the lines that are not known yet with COPY. The caller holds the account, so nobody writes them meanwhile."""
    known = _known_keys(statement.bank_account, keys)
    recorded_at = clock.wall_now()
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY payments_bankline ({', '.join(_COLUMNS)}) FROM STDIN") as copy,
    ):
        for key, line in zip(keys, lines, strict=True):
            if key not in known:
                copy.write_row((uuid7(), recorded_at, *_values(statement, key, line)))


def _values(statement: StatementImport, key: str, line: StatementLine) -> tuple[object, ...]:
    raw = {name: value for name, value in line.raw.items() if value} | (
        {"bank_ref": line.bank_ref} if line.bank_ref else {}
    )
    return (statement.organisation_id, statement.bank_account_id, statement.pk, line.row, key, line.booked_on, line.value_on,
            line.amount.currency.code, line.amount.amount, line.reference[:140], line.description, BankLine.State.UNMATCHED.value,
            "", json.dumps(raw))  # fmt: skip


@transaction.atomic
def _keep_refusal(
    organisation: Organisation, bank_account: BankAccount, file_name: str, content: bytes, format: str, exc: StatementRefused,
    actor: Actor,
) -> None:  # fmt: skip
    refusal = StatementImport.objects.create(
        organisation=organisation, bank_account=bank_account, file_name=_name(file_name), file_hash=_hash(content),
        format=format, currency=bank_account.currency, error=str(exc)[:300] or "refused", imported_by=actor.label[:120],
        imported_at=clock.now(organisation),
    )  # fmt: skip
    audit.record(
        actor=actor,
        action="statement.refused",
        target=refusal,
        after={"file": refusal.file_name, "error": refusal.error},
    )


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _name(file_name: str) -> str:
    """The last part of a file's name; it may come from anywhere."""
    return (file_name.replace("\\", "/").rsplit("/", 1)[-1].replace("\x00", "").strip() or "statement")[:200]
