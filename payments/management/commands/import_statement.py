"""``manage.py import_statement``: read a bank statement file."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.context import Actor
from billing.errors import DomainError
from billing.management.organisations import chosen
from billing.models import Organisation
from payments.management.output import add_common, as_text
from payments.models import BankAccount
from payments.services.statements import import_statement, preview_statement
from payments.statements import FORMATS, MAX_BYTES


class Command(BaseCommand):
    help = (
        "Import a bank statement (camt.053, MT940, CSV) into a bank account: all of it or nothing; the same file again "
        "changes nothing. Exits with 1 when the file is refused; row, column and value are named."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--organisation", required=True, help="code")
        parser.add_argument("--account", required=True, help="code of the bank account")
        parser.add_argument("--format", default="auto", choices=FORMATS)
        add_common(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        (organisation,) = chosen(options["organisation"])
        account = BankAccount.objects.of(organisation).filter(code=options["account"]).first()
        if account is None:
            known = ", ".join(BankAccount.objects.of(organisation).values_list("code", flat=True)) or "none"
            raise CommandError(f"No bank account '{options['account']}' in {organisation.code}; there is: {known}.")
        try:
            result = self._work(organisation, account, _content(options["file"]), options)
        except DomainError as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(as_text(result, as_json=options["as_json"]))

    def _work(
        self, organisation: Organisation, account: BankAccount, content: bytes, options: dict[str, Any]
    ) -> dict[str, Any]:
        given: dict[str, Any] = {
            "organisation": organisation,
            "bank_account": account,
            "content": content,
            "format": options["format"],
        }
        done: Any
        if options["dry_run"]:
            done = preview_statement(**given)
            more = {"total": str(done.total), "opening": str(done.opening or "-"), "closing": str(done.closing or "-"),
                    "difference": str(done.difference if done.difference is not None else "-")}  # fmt: skip
        else:
            done = import_statement(file_name=options["file"].name, actor=Actor.system("import_statement"), **given)
            more = {"import": str(done.pk)}
        names = ("format", "rows_read", "rows_new", "rows_known", "rows_pending")
        return {"account": account.code} | {name: getattr(done, name) for name in names} | more


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise CommandError(f"{path}: {exc.strerror or exc}") from exc
