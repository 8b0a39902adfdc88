"""``manage.py reconcile``: match what is open, and tell where every sum stands."""

from argparse import ArgumentParser
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing import clock
from billing.api.base import wire
from billing.management.organisations import chosen
from billing.models import Organisation
from payments.management.output import add_common, as_text
from payments.models import ReconciliationException
from payments.selectors.reconciliation import summary
from payments.services.matching import run_matching


class Command(BaseCommand):
    help = (
        "Match settlements with payments, refunds, disputes and bank lines, open and close exceptions, and print the sums of "
        "the last days down to the unexplained. Exits with 1 when anything is unexplained, with 0 otherwise; open exceptions "
        "do not change the exit code."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--organisation", help="code; all of them if left out")
        parser.add_argument("--days", type=int, default=31, help="how many days the sums go back (31)")
        add_common(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        unexplained = []
        for organisation in chosen(options["organisation"]):
            result = _reconcile(organisation, days=options["days"], dry_run=options["dry_run"])
            unexplained += [
                f"{organisation.code}: {row['unexplained']['amount']} {row['currency']}"
                for row in result["sums"]
                if Decimal(row["unexplained"]["amount"])
            ]
            self.stdout.write(as_text(result, as_json=True) if options["as_json"] else _lines(result))
        if unexplained:
            raise CommandError(
                f"Unexplained: {'; '.join(unexplained)}. See the settlements whose bridge does not close."
            )


def _reconcile(organisation: Organisation, *, days: int, dry_run: bool) -> dict[str, Any]:
    report = run_matching(organisation=organisation, dry_run=dry_run)
    today = clock.today(organisation)
    sums = summary(organisation=organisation, first=today - timedelta(days=max(0, min(days, 3650))), last=today)
    open_ones = ReconciliationException.objects.of(organisation).filter(status=ReconciliationException.Status.OPEN)
    return {
        "organisation": organisation.code,
        "dry_run": dry_run,
        "matching": report.as_dict(),
        "open_exceptions": open_ones.count(),
        "sums": [{"currency": row.currency}
                 | {name.lower().replace(" ", "_").replace(",", ""): wire(value) for name, value in row.rows()} for row in sums],
    }  # fmt: skip


def _lines(result: dict[str, Any]) -> str:
    parts = [f"{result['organisation']}: {result['open_exceptions']} open exceptions"]
    parts += [f"  {name.replace('_', ' ')}: {value}" for name, value in result["matching"].items() if value]
    for row in result["sums"]:
        parts.append(f"  {row['currency']}")
        parts += [
            f"    {name.replace('_', ' '):<28}{value['amount']:>18}"
            for name, value in row.items()
            if isinstance(value, dict)
        ]
    return "\n".join(parts)
