"""One line of the table: a rate of the product beside the rate of its limit, both the median of several rounds."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Line:
    """What was measured: ``product`` and ``limit`` are ``unit`` a second; ``aim`` is the ratio we want."""

    name: str
    unit: str
    product: float
    limit: float
    limit_is: str
    aim: float
    rounds: tuple[tuple[float, float], ...] = field(default=())

    @property
    def ratio(self) -> float:
        """How much of the limit the product reaches."""
        return self.product / self.limit


def rate(work: Callable[[], int]) -> float:
    """Things a second of one call that returns how many it did."""
    began = time.perf_counter()
    done = work()
    return done / (time.perf_counter() - began)


def compare(
    *,
    name: str,
    unit: str,
    limit_is: str,
    aim: float,
    product: Callable[[int], float],
    limit: Callable[[int], float],
    rounds: int = ROUNDS,
) -> Line:
    """Measure product and limit in turns; both get the number of the round and return a rate."""
    measured = []
    for number in range(rounds):
        there = limit(number)
        measured.append((product(number), there))
    return Line(
        name=name,
        unit=unit,
        product=statistics.median(row[0] for row in measured),
        limit=statistics.median(row[1] for row in measured),
        limit_is=limit_is,
        aim=aim,
        rounds=tuple(measured),
    )


def table(lines: list[Line]) -> str:
    """The lines as a table for people."""
    rows = [("measured", "product", "limit", "ratio", "aim", "limit is")]
    rows += [
        (
            line.name,
            f"{line.product:,.0f} {line.unit}",
            f"{line.limit:,.0f}",
            f"{line.ratio:.2f}",
            f"{line.aim:.2f}",
            line.limit_is,
        )
        for line in lines
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)
