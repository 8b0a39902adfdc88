"""``manage.py check_ledger``: do the books balance?"""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.management.organisations import chosen
from billing.selectors import ledger


class Command(BaseCommand):
    help = "Check that debits equal credits, per organisation, currency and entry. Exits with 1 when they do not."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--organisation", help="code; all of them if left out")

    def handle(self, *args: Any, **options: Any) -> None:
        wrong = 0
        for organisation in chosen(options["organisation"]):
            found = ledger.trial_balance(organisation_id=organisation.pk)
            for currency, (debit, credit) in sorted(found.totals.items()):
                mark = "ok" if debit == credit else f"DIFFERENCE {debit - credit}"
                self.stdout.write(f"{organisation.code} {currency}: debit {debit:.2f}, credit {credit:.2f}: {mark}")
            entries = ledger.unbalanced_entries(organisation_id=organisation.pk)
            for entry_id in entries:
                self.stdout.write(f"{organisation.code}: entry {entry_id} does not balance")
            wrong += len(entries) + (not found.balanced)
        if wrong:
            raise CommandError("The books do not balance.")
