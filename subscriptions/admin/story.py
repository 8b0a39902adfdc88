"""The time line of a subscription as a picture: what was billed, what happened, what comes. SVG, drawn from values. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from html import escape

WIDTH, LEFT, RIGHT = 960, 16, 16
BARS_TOP, BAR, ROW = 34, 26, 34
COLOURS = {"paid": "#15803d", "open": "#b45309", "void": "#9ca3af", "coming": "#2563eb"}
WORDS = {"paid": "paid", "open": "to be paid", "void": "void or written off", "coming": "would come"}
MOST_DOTS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """An invoice: the days [first_on, last_on] it is for, and how it stands."""

    first_on: date
    last_on: date
    text: str
    hint: str
    standing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """Something that happened on a day, or is planned for it."""

    on: date
    text: str
    is_planned: bool = False


def story(*, bars: Sequence[Bar], dots: Sequence[Dot], today: date) -> str:
    """The picture; empty when there is nothing to show."""
    dots = sorted(dots, key=lambda dot: dot.on)[-MOST_DOTS:]
    days = [*(bar.first_on for bar in bars), *(bar.last_on for bar in bars), *(dot.on for dot in dots)]
    if not days:
        return ""
    axis = _Axis(min([*days, today]) - timedelta(days=2), max([*days, today]) + timedelta(days=3))
    rows = _rows(bars)
    dots_top = BARS_TOP + ROW * (max(rows, default=0) + 1) + 22
    parts = [axis.months(dots_top + 26)]
    parts += [_bar(bar, row, axis) for bar, row in zip(bars, rows, strict=True)]
    levels, bottom = _labels(dots, axis)
    parts += [_dot(dot, level, axis, dots_top) for dot, level in zip(dots, levels, strict=True)]
    height = dots_top + 26 + 16 * (bottom + 1) + 26
    x = axis.x(today)
    parts.append(
        f'<line x1="{x:.1f}" y1="22" x2="{x:.1f}" y2="{dots_top + 18}" stroke="#dc2626" stroke-width="1.5"/>'
        f'<text x="{x + 4:.1f}" y="30" font-size="11" class="m-alarm">today</text>'
    )
    parts.append(_key(height - 8))
    title = f"Time line from {axis.first} to {axis.last}: {len(bars)} invoices, {len(dots)} events"
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="100%" role="img" aria-label="{escape(title)}" '
        f'style="min-width:640px" font-family="inherit">{"".join(parts)}</svg>'
    )


class _Axis:
    """Days to pixels."""

    def __init__(self, first: date, last: date) -> None:
        self.first, self.last = first, last
        self.step = (WIDTH - LEFT - RIGHT) / max((last - first).days, 1)

    def x(self, day: date) -> float:
        return LEFT + (day - self.first).days * self.step

    def months(self, bottom: int) -> str:
        """A line at the first of each month, named where there is room."""
        months = (self.last.year - self.first.year) * 12 + self.last.month - self.first.month
        every = max(1, months // 14 + 1)
        found = []
        for n in range(1, months + 1, every):
            year, month = divmod(self.first.month - 1 + n, 12)
            day = date(self.first.year + year, month + 1, 1)
            x = self.x(day)
            if x > WIDTH - 56:
                break
            found.append(
                f'<line x1="{x:.1f}" y1="16" x2="{x:.1f}" y2="{bottom}" stroke="currentColor" stroke-opacity=".14"/>'
                f'<text x="{x + 3:.1f}" y="13" font-size="11" fill="currentColor" fill-opacity=".6">{day:%b %Y}</text>'
            )
        return "".join(found)


def _rows(bars: Sequence[Bar]) -> list[int]:
    """The first row of each bar in which no earlier one is in its way."""
    ends: list[date] = []
    found = []
    for bar in bars:
        row = next((n for n, end in enumerate(ends) if end < bar.first_on), len(ends))
        ends[row : row + 1] = [bar.last_on]
        found.append(row)
    return found


def _bar(bar: Bar, row: int, axis: _Axis) -> str:
    x, y = axis.x(bar.first_on), BARS_TOP + ROW * row
    width = max(axis.x(bar.last_on + timedelta(days=1)) - x - 2, 3)
    colour = COLOURS[bar.standing]
    dash = ' stroke-dasharray="4 3"' if bar.standing == "coming" else ""
    text = ""
    if width > 7 * len(bar.text):
        text = f'<text x="{x + 6:.1f}" y="{y + 17}" font-size="12" fill="currentColor">{escape(bar.text)}</text>'
    return (
        f'<g><title>{escape(bar.hint)}</title><rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" rx="4" '
        f'fill="{colour}" fill-opacity=".16" stroke="{colour}"{dash}/>{text}</g>'
    )


def _labels(dots: Sequence[Dot], axis: _Axis) -> tuple[list[int], int]:
    """A level below the axis for each label, so that none covers another; at most six, then labels are left out (-1)."""
    ends: list[float] = []
    found = []
    for dot in dots:
        x = min(axis.x(dot.on), WIDTH - RIGHT - 6.4 * len(dot.text))
        level = next((n for n, end in enumerate(ends) if end < x), len(ends))
        if level > 5:
            found.append(-1)
            continue
        ends[level : level + 1] = [x + 6.4 * len(dot.text) + 8]
        found.append(level)
    return found, max(found, default=0)


def _dot(dot: Dot, level: int, axis: _Axis, top: int) -> str:
    x = axis.x(dot.on)
    fill, colour = ("none", COLOURS["coming"]) if dot.is_planned else ("currentColor", "currentColor")
    hint = f"{dot.on}: {dot.text}"
    mark = (
        f'<circle cx="{x:.1f}" cy="{top}" r="4.5" fill="{fill}" stroke="{colour}" stroke-width="1.5">'
        f"<title>{escape(hint)}</title></circle>"
    )
    if level < 0:
        return mark
    at, y = min(x, WIDTH - RIGHT - 6.4 * len(dot.text)), top + 20 + 16 * level
    return (
        f'{mark}<line x1="{x:.1f}" y1="{top + 5}" x2="{x:.1f}" y2="{y - 9}" stroke="currentColor" stroke-opacity=".25"/>'
        f'<text x="{at:.1f}" y="{y}" font-size="11" fill="{colour}">{escape(dot.text)}</text>'
    )


def _key(y: int) -> str:
    parts, x = [], LEFT
    for name, colour in COLOURS.items():
        parts.append(
            f'<rect x="{x}" y="{y - 9}" width="12" height="9" rx="2" fill="{colour}" fill-opacity=".3" stroke="{colour}"/>'
            f'<text x="{x + 17}" y="{y}" font-size="11" fill="currentColor" fill-opacity=".75">{WORDS[name]}</text>'
        )
        x += 30 + 7 * len(WORDS[name])
    return "".join(parts)
