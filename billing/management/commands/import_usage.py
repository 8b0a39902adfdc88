"""``manage.py import_usage``: read a CSV file of measurements."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.context import Actor
from billing.errors import DomainError
from billing.management.organisations import chosen
from billing.services import usage_imports
from billing.usage_csv import errors_csv


class Command(BaseCommand):
    help = (
        "Import a CSV file of measurements: event_id, meter, customer, occurred_at; quantity, subscription, amount, "
        "properties.<name> if wanted. Each line has its own verdict; the same file again counts nothing twice. Exits with 1 "
        "when lines were refused."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--organisation", required=True, help="code")
        parser.add_argument("--dry-run", action="store_true", help="tell what would happen and take nothing in")
        parser.add_argument("--errors", type=Path, help="write the refused lines there, as CSV")

    def handle(self, *args: Any, **options: Any) -> None:
        (organisation,) = chosen(options["organisation"])
        try:
            content = options["file"].read_bytes()
        except OSError as exc:
            raise CommandError(f"{options['file']}: {exc.strerror or exc}") from exc
        try:
            begun = usage_imports.begin_import(
                organisation=organisation, file_name=options["file"].name, content=content, dry_run=options["dry_run"],
                actor=Actor.system("import_usage"), wake_worker=False,
            )  # fmt: skip
        except DomainError as exc:
            raise CommandError(str(exc)) from exc
        row = usage_imports.read_on(import_id=begun.pk)
        if options["errors"]:
            rows = row.errors.order_by("line").values_list("line", "event_id", "field", "reason")
            options["errors"].write_text(errors_csv(list(rows)))
        self.stdout.write(
            f"{row.file_name}: {row.accepted} accepted, {row.duplicates} known already, {row.parked} parked, "
            f"{row.rejected} rejected{' (dry run)' if row.dry_run else ''}"
        )
        if row.rejected or row.failure:
            raise CommandError(row.failure or "Some lines were refused; --errors FILE names them.")
