"""``manage.py bench``: measure the product beside the limits of the machine."""

import sys
from typing import Any

from django.core.management.base import BaseCommand

from bench import command


class Command(BaseCommand):
    """Hand the arguments to the bench package."""

    help = "Measure the product beside the limits of the machine, in a database of its own."

    def run_from_argv(self, argv: list[str]) -> None:
        sys.exit(command.run(argv[2:]))

    def handle(self, *args: Any, **options: Any) -> None:
        command.run([])
