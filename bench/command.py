"""What ``make bench`` does: measure the named lines in a database of their own, print the table and the JSON."""

import argparse
import json
import logging
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

from django.db import connection

from bench import api, billing_run, database, entitlements, pdf, usage
from bench.measuring import ROUNDS, Line, table

SECTIONS: dict[str, Callable[[float], Iterable[Line]]] = {
    "billing": billing_run.measure,
    "usage": usage.measure,
    "pdf": pdf.measure,
    "api": api.measure,
    "entitlements": entitlements.measure,
}

MOST = 5.0
"""As much as the sections besides billing do at most, whatever number of subscriptions is asked for: 5,000,000 events."""


def run(arguments: Sequence[str]) -> int:
    """Measure; returns the exit code: 1 when a ratio is below its aim."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parts = billing_run.PARTS
    parser.add_argument(
        "sections",
        nargs="*",
        help=f"some of {', '.join(SECTIONS)}, or a part of the first: {', '.join(parts)}; default: all",
    )
    parser.add_argument(
        "--scale",
        type=_scale,
        default=1.0,
        help="how much work a round has: 1 takes some minutes in all; 100k or 1m is a number of subscriptions",
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there as well")
    options = parser.parse_args(arguments)
    known = SECTIONS | parts
    if unknown := set(options.sections) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    lines: list[Line] = []
    logging.getLogger("django_structlog").setLevel(logging.WARNING)  # not a line for each message to the workers
    print("making a database …", flush=True)
    with database.of_our_own():
        version = _server_version()
        for name in options.sections or SECTIONS:
            print(f"measuring {name}, {ROUNDS} rounds …", flush=True)
            scale = options.scale if name.startswith("billing") else min(options.scale, MOST)
            for line in known[name](scale):
                print(f"  {line.name}: {line.product:,.1f} {line.unit}, {line.ratio:.2f} of the limit", flush=True)
                lines.append(line)
    print(f"\nPython {platform.python_version()}, PostgreSQL {version}, median of {ROUNDS} rounds, in turns\n")
    print(table(lines))
    figures = [asdict(line) | {"ratio": round(line.ratio, 3)} for line in lines]
    print(json.dumps(figures))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(figures, file, indent=1)
    return 0 if all(line.ratio >= line.aim for line in lines) else 1


def _scale(text: str) -> float:
    """A factor, or a number of subscriptions such as 10k, 100k, 1m."""
    unit = {"k": 1_000, "m": 1_000_000}.get(text[-1:].lower())
    return float(text) if unit is None else float(text[:-1]) * unit / billing_run.SMALL


def _server_version() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        return str(cursor.fetchone()[0])
