"""``manage.py sweep_outbox``: hand over what is pending, and say what is owed or dead."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.db.models import Count

from billing.management.organisations import chosen
from billing.models import EventHandling
from billing.services import outbox


class Command(BaseCommand):
    help = "Hand pending events over now, without waiting for a worker."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--organisation", help="code; all of them if left out")

    def handle(self, *args: Any, **options: Any) -> None:
        for organisation in chosen(options["organisation"]):
            done = 0
            while progress := outbox.dispatch(organisation.pk, wait=True):
                done += progress
            left = dict(
                EventHandling.objects.filter(event__organisation=organisation)
                .exclude(status=EventHandling.Status.DONE)
                .values_list("status")
                .annotate(Count("pk"))
            )
            owed = ", ".join(f"{count} {status}" for status, count in sorted(left.items())) or "nothing owed"
            self.stdout.write(f"{organisation.code}: {done} handed over; {owed}")
