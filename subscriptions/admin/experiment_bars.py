"""Rates and differences drawn with their intervals: a line from low to high, a dot for the figure. Pure; SVG, no script."""

from typing import Any

from django.utils.html import format_html

from subscriptions.experiments.statistics import Interval
from subscriptions.experiments.verdicts import Rate

WIDTH, HEIGHT, EDGE = 150, 16, 4
BAR = (
    '<span class="m-interval" role="img" aria-label="{label}"><svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
    'aria-hidden="true"><line x1="{left}" y1="8" x2="{right}" y2="8" stroke="currentColor" stroke-opacity=".2"/>'
    '<line x1="{zero}" y1="1" x2="{zero}" y2="15" stroke="currentColor" stroke-opacity=".45"/>'
    '<line x1="{low}" y1="8" x2="{high}" y2="8" stroke="currentColor" stroke-width="4" stroke-opacity=".55"/>'
    '<circle cx="{at}" cy="8" r="4" fill="currentColor"/></svg></span><span class="m-interval-text">{text}</span>'
)


def rate(shown: Rate, top: float) -> Any:
    """A rate on a scale from nothing to ``top``; nothing was counted yet: a dash."""
    if not shown.count:
        return "–"
    low, high = shown.interval
    text = f"{shown.successes:,} · {percent(shown.value)} ({percent(low)} to {percent(high)})"
    return _drawn(shown.value, shown.interval, from_=0.0, to=top, text=text)


def difference(value: float, interval: Interval, reach: float) -> Any:
    """A difference of rates, on a scale that reaches as far to either side of nothing."""
    text = f"{points(value)} ({points(interval.low)} to {points(interval.high)})"
    return _drawn(value, interval, from_=-reach, to=reach, text=text)


def _drawn(value: float, interval: Interval, *, from_: float, to: float, text: str) -> Any:
    def x(share: float) -> str:
        inside = min(max(share, from_), to)
        return f"{EDGE + (inside - from_) / (to - from_) * (WIDTH - 2 * EDGE):.1f}"

    return format_html(
        BAR, label=text, width=WIDTH, height=HEIGHT, left=EDGE, right=WIDTH - EDGE, zero=x(0.0), low=x(interval.low),
        high=x(interval.high), at=x(value), text=text,
    )  # fmt: skip


def percent(share: float) -> str:
    """``12.3 %``."""
    return f"{share * 100:.1f} %"


def points(share: float) -> str:
    """``+1.2 points``."""
    return f"{share * 100:+.1f} points"
