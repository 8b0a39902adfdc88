"""Live a year of billing: two organisations, their customers, the gateways and the bank, day by day."""

import json
import os
import time
from argparse import ArgumentParser
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from config.demo import founding, year
from config.demo.http import DemoFailed, Simulator
from config.demo.report import Outcome, outcome_of, table

MAIL_PATIENCE_SECONDS = 240


def export_ledgers(folder: Path, organisations: list[str]) -> None:
    """Write ``<organisation>.beancount`` for each organisation, for `bean-check` to prove."""
    folder.mkdir(parents=True, exist_ok=True)
    for code in organisations:
        path = folder / f"{code}.beancount"
        call_command("export_ledger", organisation=code, format="beancount", output=path)


class Command(BaseCommand):
    """``manage.py demo_year``: needs the web server, a worker and the simulator; `make demo` starts them."""

    help = (
        "Live a year of billing for two organisations through the API and print what happened. "
        "Exits with 1 when the books do not balance or money is unexplained."
    )

    requires_system_checks = []  # it speaks to what others serve

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--scale", type=int, default=1, help="how many customers: 1 is about a hundred")
        parser.add_argument("--days", type=int, default=365, help="how many days to live")
        parser.add_argument("--first-day", type=date.fromisoformat, default=date(2025, 4, 1), help="first day, ISO")
        parser.add_argument("--seed", type=int, default=1, help="seed of the dice")
        parser.add_argument(
            "--export-ledger", type=Path, help="folder to write each organisation's ledger to, as beancount"
        )
        parser.add_argument("--json", action="store_true", help="print the outcome as JSON instead of a table")

    def handle(self, *args: Any, **options: Any) -> None:
        console = Console(stderr=options["json"])
        simulator_url, public_url = os.environ.get("MUNIM_SIMULATOR_URL"), os.environ.get("PUBLIC_URL")
        if not simulator_url or not public_url:
            raise CommandError(
                "Set PUBLIC_URL (the web server) and MUNIM_SIMULATOR_URL (the simulator), or use `make demo`."
            )
        started = time.monotonic()
        try:
            outcomes = self._live(console, Simulator(simulator_url), public_url, options)
        except DemoFailed as failure:
            raise CommandError(str(failure)) from failure
        if options["json"]:
            self.stdout.write(json.dumps([asdict(one) for one in outcomes], default=str))
        else:
            console.print(table(outcomes))
            console.print(f"Lived {options['days']} days in {time.monotonic() - started:.0f} s.")
            console.print(founding.logins_text())
        if options["export_ledger"]:
            export_ledgers(options["export_ledger"], [one.name for one in outcomes])
        if not all(one.is_sound for one in outcomes):
            raise CommandError("The books do not balance, or money is unexplained: see the table.")

    def _live(self, console: Console, simulator: Simulator, public_url: str, options: dict[str, Any]) -> list[Outcome]:
        first_day = options["first_day"]
        columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("Founding the organisations", total=options["days"])
            lives = founding.found(
                simulator=simulator,
                public_url=public_url,
                first_day=first_day,
                scale=options["scale"],
                seed=options["seed"],
            )
            houses = [life.house for life in lives]

            def tick(day: date) -> None:
                progress.update(bar, advance=1, description=f"Living {day:%d %b %Y}")

            year.live(houses=houses, simulator=simulator, first_day=first_day, days=options["days"], tick=tick)
            letters = progress.add_task("Sending the last letters", total=None)
            self._wait_for_mail(houses)
            progress.remove_task(letters)
        last_day = first_day + timedelta(days=options["days"] - 1)
        return [outcome_of(house, name=house.code, first_day=first_day, last_day=last_day) for house in houses]

    def _wait_for_mail(self, houses: list[Any]) -> None:
        deadline = time.monotonic() + MAIL_PATIENCE_SECONDS * max(house.scale for house in houses)
        while any(
            house.api.get("/mails", status=status, limit=1)["results"]
            for house in houses
            for status in ("due", "sending")
        ):
            if time.monotonic() > deadline:
                raise DemoFailed("Letters are still due after waiting; is a worker for the queue 'mail' running?")
            time.sleep(0.5)
