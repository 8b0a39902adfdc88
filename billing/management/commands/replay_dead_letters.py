"""``manage.py replay_dead_letters``: give dead letters another round, after their cause is cured."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from billing.context import Actor
from billing.management.organisations import chosen
from billing.models import EventHandling
from billing.services import outbox


class Command(BaseCommand):
    help = "Replay events that a consumer gave up on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--organisation", help="code; all of them if left out")
        parser.add_argument("--consumer", help="only of this consumer")
        parser.add_argument("--reason", required=True, help="kept in the audit trail")
        parser.add_argument("--dry-run", action="store_true", help="only list them")

    def handle(self, *args: Any, **options: Any) -> None:
        actor = Actor.system("manage.py replay_dead_letters")
        for organisation in chosen(options["organisation"]):
            dead = EventHandling.objects.filter(event__organisation=organisation, status=EventHandling.Status.DEAD)
            if options["consumer"]:
                dead = dead.filter(consumer=options["consumer"])
            for handling in dead.select_related("event").order_by("event_id"):
                self.stdout.write(f"{organisation.code}: {handling.consumer}: {handling.event}: {handling.error}")
                if not options["dry_run"]:
                    outbox.replay(handling_id=handling.pk, actor=actor, reason=options["reason"])
            if not options["dry_run"]:
                done = outbox.dispatch(organisation.pk, wait=True)
                self.stdout.write(f"{organisation.code}: {done} caught up")
