"""``manage.py run_billing``: bill what is due, or show what would be billed."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.dateparse import parse_datetime

from billing.errors import DomainError
from billing.models import Organisation
from subscriptions.services.billing_run import CHUNK, BillingRunReport, Progress, run_billing
from subscriptions.services.plan_migrations import settle_due


class Command(BaseCommand):
    """Bill what is due for one organisation or for all."""

    help = "Bill what is due. --dry-run writes nothing and shows the same figures."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--organisation", help="code; without it all organisations")
        parser.add_argument("--due-at", help="ISO 8601 with zone; default: now on the organisation's clock")
        parser.add_argument("--dry-run", action="store_true", help="write nothing")
        parser.add_argument("--json", action="store_true", help="one JSON object per organisation")
        parser.add_argument("--chunk-size", type=int, default=CHUNK)

    def handle(self, *args: Any, **options: Any) -> None:
        due_at = parse_datetime(options["due_at"]) if options["due_at"] else None
        if options["due_at"] and (due_at is None or due_at.tzinfo is None):
            raise CommandError("--due-at is a time with its zone, such as 2026-06-01T00:00:00+05:30.")
        organisations = Organisation.objects.order_by("code")
        if options["organisation"]:
            organisations = organisations.filter(code=options["organisation"])
            if not organisations.exists():
                raise CommandError(f"No organisation has the code '{options['organisation']}'.")
        for organisation in organisations:
            try:
                if not options["dry_run"]:
                    settle_due(organisation=organisation)
                report = run_billing(
                    organisation=organisation,
                    due_at=due_at,
                    dry_run=options["dry_run"],
                    chunk_size=options["chunk_size"],
                    progress=None if options["json"] else self._tell,
                )
            except DomainError as exc:
                raise CommandError(str(exc)) from exc
            self.stdout.write(_as_json(report) if options["json"] else _as_text(report))

    def _tell(self, progress: Progress) -> None:
        self.stderr.write(f"  {progress.billed} periods billed of {progress.due} subscriptions due")


def _as_json(report: BillingRunReport) -> str:
    return json.dumps(asdict(report) | {"failed": report.failed}, default=str)


def _as_text(report: BillingRunReport) -> str:
    verb = "would make" if report.dry_run else "made"
    totals = ", ".join(f"{total:.2f} {currency}" for currency, total in report.totals.items()) or "nothing"
    done = f"{report.billed} periods {verb} {report.invoices} invoices over {totals}"
    first = f"{report.organisation}: {report.due} due, {done}; {report.failed} set aside"
    return "\n".join([first, *(f"  {failure.external_id}: {failure.reason}" for failure in report.failures)])
