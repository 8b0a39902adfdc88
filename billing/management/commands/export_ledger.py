"""``manage.py export_ledger``: the books for another program, and for proof from outside."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from billing.management.organisations import named
from billing.services import ledger_export


class Command(BaseCommand):
    help = "Write an organisation's journal. `bean-check` finds nothing wrong with the Beancount form."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--organisation", required=True, help="code of the organisation")
        parser.add_argument("--format", choices=sorted(ledger_export.WRITERS), default="beancount")
        parser.add_argument("--output", type=Path, help="file to write; standard output if left out")

    def handle(self, *args: Any, **options: Any) -> None:
        organisation = named(options["organisation"])
        output: Path | None = options["output"]
        if output is None:
            ledger_export.export(organisation=organisation, form=options["format"], to=sys.stdout)
            return
        with output.open("w", encoding="utf-8", newline="") as file:
            count = ledger_export.export(organisation=organisation, form=options["format"], to=file)
        self.stderr.write(f"{count} entries written to {output}.")
