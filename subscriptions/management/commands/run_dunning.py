"""``manage.py run_dunning``: take the dunning stages that are due, or show them."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.models import Organisation
from subscriptions.services.dunning import run_dunning


class Command(BaseCommand):
    """Take the stages that are due for one organisation or for all."""

    help = "Take the dunning stages that are due. --dry-run writes nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--organisation", help="code; without it all organisations")
        parser.add_argument("--dry-run", action="store_true", help="write nothing")
        parser.add_argument("--json", action="store_true", help="one JSON object per organisation")

    def handle(self, *args: Any, **options: Any) -> None:
        organisations = Organisation.objects.order_by("code")
        if options["organisation"]:
            organisations = organisations.filter(code=options["organisation"])
            if not organisations.exists():
                raise CommandError(f"No organisation has the code '{options['organisation']}'.")
        for organisation in organisations:
            report = run_dunning(organisation=organisation, dry_run=options["dry_run"])
            if options["json"]:
                self.stdout.write(json.dumps({"organisation": organisation.code} | asdict(report), default=str))
                continue
            verb = "would be taken" if report.dry_run else "taken"
            self.stdout.write(f"{organisation.code} on {report.on}: {len(report.steps)} stages {verb}")
            for step in report.steps:
                actions = ", ".join(step.actions)
                self.stdout.write(f"  {step.invoice_number}: stage {step.stage}, {step.days_overdue} days: {actions}")
            for case_id, reason in report.failures:
                self.stdout.write(f"  case {case_id} refused: {reason}")
