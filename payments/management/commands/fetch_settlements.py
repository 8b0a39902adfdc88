"""``manage.py fetch_settlements``: ask the gateways for payouts."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.management.organisations import chosen
from payments.management.output import add_common, as_text
from payments.services.fetching import fetch_settlements


class Command(BaseCommand):
    help = (
        "Fetch settlements (payouts) with all their rows from every gateway account and post them. Safe to repeat. "
        "Exits with 1 when a gateway could not be asked or a settlement was set aside."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--organisation", help="code; all of them if left out")
        parser.add_argument("--since", help="first day, as 2025-04-01; twelve days before the newest known if left out")
        add_common(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        since = _moment(options["since"])
        failed = False
        for organisation in chosen(options["organisation"]):
            report = fetch_settlements(organisation=organisation, since=since, dry_run=options["dry_run"])
            failed |= bool(report.errors or report.set_aside)
            self.stdout.write(
                as_text({"organisation": organisation.code} | report.as_dict(), as_json=options["as_json"])
            )
        if failed:
            raise CommandError(
                "A gateway could not be asked or a settlement was set aside; it is fetched with the next run."
            )


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as exc:
        raise CommandError("--since: expected a day such as 2025-04-01") from exc
