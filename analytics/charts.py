"""Charts as SVG, drawn on the server from figures: no script, no outside address, readable by a screen reader. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 14, 30
WIDEST_BAR = Decimal(56)


@dataclass(frozen=True, kw_only=True)
class Series:
    """One named row of figures; ``negative`` bars hang below the axis."""

    name: str
    values: Sequence[Decimal]
    colour: str
    negative: bool = False


def stacked_bars(*, labels: Sequence[str], series: Sequence[Series], title: str, unit: str = "") -> str:
    """A bar for each label, positive series stacked upwards, negative ones downwards."""
    up = [sum((s.values[i] for s in series if not s.negative), Decimal(0)) for i in range(len(labels))]
    down = [sum((s.values[i] for s in series if s.negative), Decimal(0)) for i in range(len(labels))]
    scale = _Scale(low=-max([*down, Decimal(0)]), high=max([*up, Decimal(0)]))
    step = _step(labels)
    parts = [scale.grid(unit)]
    for index in range(len(labels)):
        width = min(step * Decimal("0.64"), WIDEST_BAR)
        x = LEFT + step * index + (step - width) / 2
        level = {False: Decimal(0), True: Decimal(0)}
        for one in series:
            value = one.values[index]
            if not value:
                continue
            base = level[one.negative]
            level[one.negative] += value
            low, high = (-(base + value), -base) if one.negative else (base, base + value)
            hint = f"{escape(one.name)}, {escape(labels[index])}: {value:,.0f} {escape(unit)}"
            y, height = scale.y(high), max(scale.y(low) - scale.y(high), Decimal("0.8"))
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="1.5" fill="{one.colour}">'
                f"<title>{hint}</title></rect>"
            )
    parts.append(scale.zero_line())
    return _frame(parts, labels, title)


def lines(*, labels: Sequence[str], series: Sequence[Series], title: str, unit: str = "") -> str:
    """A line for each series over the labels."""
    highest = max((value for one in series for value in one.values), default=Decimal(0))
    scale = _Scale(low=Decimal(0), high=highest)
    step = _step(labels)
    parts = [scale.grid(unit)]
    for one in series:
        points = [(LEFT + step * i + step / 2, scale.y(value)) for i, value in enumerate(one.values)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{one.colour}" stroke-width="2.5" stroke-linejoin="round"/>'
        )
        for (x, y), label, value in zip(points, labels, one.values, strict=True):
            hint = f"{escape(one.name)}, {escape(label)}: {value:,.0f} {escape(unit)}"
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{one.colour}"><title>{hint}</title></circle>')
    return _frame(parts, labels, title)


class _Scale:
    """Figures to pixels, with a round grid."""

    def __init__(self, *, low: Decimal, high: Decimal) -> None:
        span = (high - low) or Decimal(1)
        self.tick = _round_tick(span / 4)
        self.low = (low / self.tick).to_integral_value(rounding="ROUND_FLOOR") * self.tick
        self.high = max(
            (high / self.tick).to_integral_value(rounding="ROUND_CEILING") * self.tick, self.low + self.tick
        )

    def y(self, value: Decimal) -> Decimal:
        share = (value - self.low) / (self.high - self.low)
        return Decimal(HEIGHT - BOTTOM) - share * (HEIGHT - BOTTOM - TOP)

    def grid(self, unit: str) -> str:
        parts = []
        value = self.low
        while value <= self.high:
            y = self.y(value)
            parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
            parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>')
            value += self.tick
        return "".join(parts)

    def zero_line(self) -> str:
        y = self.y(Decimal(0))
        return f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="axis"/>'


def _frame(parts: Sequence[str], labels: Sequence[str], title: str) -> str:
    step = _step(labels)
    every = max(1, -(-len(labels) // 13))
    names = "".join(
        f'<text x="{LEFT + step * i + step / 2:.1f}" y="{HEIGHT - 9}" text-anchor="middle">{escape(label)}</text>'
        for i, label in enumerate(labels)
        if i % every == 0
    )
    return (
        f'<svg class="m-chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}{names}</svg>'
    )


def _step(labels: Sequence[str]) -> Decimal:
    return Decimal(WIDTH - LEFT - RIGHT) / max(len(labels), 1)


def _round_tick(rough: Decimal) -> Decimal:
    power = Decimal(10) ** (rough.adjusted() if rough else 0)
    for factor in (1, 2, 5, 10):
        if power * factor >= rough:
            return power * factor
    return power * 10


def _short(value: Decimal) -> str:
    for limit, letter in ((Decimal(1_000_000), "M"), (Decimal(1_000), "k")):
        if abs(value) >= limit:
            return f"{(value / limit).normalize():f}{letter}"
    return f"{value.normalize():f}"
