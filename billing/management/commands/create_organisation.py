"""``manage.py create_organisation``: found an organisation with its first member and, if wanted, an API key."""

import getpass
import json
from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils.dateparse import parse_datetime

from billing import permissions
from billing.errors import DomainError
from billing.models import Organisation, Role, TestClock
from billing.services import organisations


class Command(BaseCommand):
    help = "Found an organisation. Asks for the password of its first member unless --no-member is given."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("code", help="short name in addresses, such as acme")
        parser.add_argument("--name", required=True)
        parser.add_argument("--currency", required=True, help="ISO 4217, such as INR")
        parser.add_argument("--country", required=True, help="ISO 3166-1, such as IN")
        parser.add_argument("--region", default="", help="state code of the seller, such as 29")
        parser.add_argument("--time-zone", default="UTC", help="IANA, such as Asia/Kolkata")
        parser.add_argument("--financial-year-start", type=int, default=1, help="first month, 1 to 12")
        parser.add_argument("--language", default="en")
        parser.add_argument(
            "--details", type=json.loads, default={}, help="JSON: email, phone, address, tax_ids, bank …"
        )
        parser.add_argument("--test-clock", help="live on a test clock that stands at this time (ISO 8601 with offset)")
        parser.add_argument("--member", help="e-mail address of the first member")
        parser.add_argument("--role", choices=Role.values, default=Role.ADMIN)
        parser.add_argument("--password", help="of the first member; asked for if left out")
        parser.add_argument("--api-key", metavar="NAME", help="make an API key with all permissions and print it")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with transaction.atomic():
                self._found(options)
        except DomainError as exc:
            raise CommandError(f"{exc.field or 'input'}: {exc}") from exc

    def _found(self, options: dict[str, Any]) -> None:
        clock = self._clock(options)
        organisation = organisations.create_organisation(
            code=options["code"],
            name=options["name"],
            currency=options["currency"],
            country=options["country"],
            region=options["region"],
            time_zone=options["time_zone"],
            financial_year_start=options["financial_year_start"],
            language=options["language"],
            details=options["details"],
            test_clock=clock,
        )
        self.stdout.write(f"Organisation {organisation.code}: {organisation.pk}")
        if clock:
            self.stdout.write(f"Test clock: {clock.pk} at {clock.now.isoformat()}")
        self._admit(organisation, options)
        if options["api_key"]:
            _, secret = organisations.create_api_key(
                organisation=organisation, name=options["api_key"], scopes=sorted(permissions.ALL)
            )
            self.stdout.write(f"API key (shown this once): {secret}")

    def _admit(self, organisation: Organisation, options: dict[str, Any]) -> None:
        if not options["member"]:
            return
        password = options["password"] or getpass.getpass(f"Password of {options['member']}: ")
        membership = organisations.add_member(
            organisation=organisation, email=options["member"], role=options["role"], password=password
        )
        self.stdout.write(f"Member {membership.user.email} as {membership.role}")

    def _clock(self, options: dict[str, Any]) -> TestClock | None:
        if not options["test_clock"]:
            return None
        at = parse_datetime(options["test_clock"])
        if not isinstance(at, datetime) or at.utcoffset() is None:
            raise CommandError("--test-clock expects a time with offset such as 2026-04-01T00:00:00+05:30.")
        return TestClock.objects.create(name=f"{options['name']} lives on a test clock"[:80], now=at)
