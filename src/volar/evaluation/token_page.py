"""A comparison of tokenizers for people: a table for the terminal, drawings as SVG, one HTML page with everything."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.table import Table

from volar.evaluation.charts import nice_ticks
from volar.evaluation.tokens import METRICS, Comparison, Estimate

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 560.0, 360.0, 62.0, 46.0, 30.0, 110.0
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#595959", "#e69f00", "#56b4e9", "#8c510a")  # Okabe and Ito
SHOWN = ("tokens", "bits", "surprise", "rmse", "worst", "relative", "seam", "jerk", "valid_flipped", "used")
TIMES = ("encode_us", "decode_us")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Points from left to right. low, high: an interval at each, drawn as a line; may be empty."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def number(value: float) -> str:
    """Three significant digits."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def with_range(estimate: Estimate) -> str:
    """'0.024 ± 0.001', the half-width of the interval."""
    reach = (estimate.high - estimate.low) / 2
    spread = f"{reach:.0f}" if reach >= 1 else f"{reach:.1g}"
    return number(estimate.mean) if reach == 0 else f"{number(estimate.mean)} ± {spread}"


def console_table(comparison: Comparison) -> Table:
    """For the terminal: the metrics that decide; the page has all of them."""
    title = f"{comparison.data}: {comparison.horizon} steps of {len(comparison.dimensions)} dimensions"
    table = Table(title=f"{title} at {comparison.rate_hz:g} Hz, {comparison.splits} splits by episode")
    table.add_column("tokenizer")
    columns = SHOWN + TIMES
    for metric in columns:
        table.add_column(metric.replace("_", " "), justify="right")
    for row in comparison.rows:
        table.add_row(row.name, *(number(row.metrics[metric].mean) for metric in columns))
    return table


def size_against_error(comparison: Comparison) -> str:
    """SVG: bits per chunk against error, with both intervals."""
    points = {row.name: (row.metrics["bits"], row.metrics["relative"]) for row in comparison.rows}
    curves = {
        name: Curve(x=[bits.mean], y=[error.mean], low=[max(error.low, error.mean / 10)], high=[error.high])
        for name, (bits, error) in points.items()
    }
    return chart(curves, across="bits per chunk", up="error, % of range", title=comparison.data, log=(True, True))


def prefix_curves(comparison: Comparison) -> str:
    """SVG: error after a part of the tokens."""
    curves = {
        row.name: Curve(
            x=[100 * part / (len(row.prefix) - 1) for part in range(len(row.prefix))],
            y=[estimate.mean for estimate in row.prefix],
        )
        for row in comparison.rows
    }
    return chart(
        curves, across="% of the tokens", up="mean squared error, normalised", title=comparison.data, log=(False, True)
    )


def examples(comparison: Comparison) -> str:
    """SVG: the liveliest held-out chunk, each dimension (down) as each tokenizer (across) gives it back."""
    width, height, left, top = 120.0, 62.0, 74.0, 22.0
    parts = []
    for dimension, name in enumerate(comparison.dimensions):
        y = top + dimension * (height + 8)
        parts.append(f'<text x="0" y="{y + height / 2}">{escape(name.partition(" (")[0][:12])}</text>')
        true = comparison.example[:, dimension]
        shown = np.stack([true, *(row.example[:, dimension] for row in comparison.rows)])
        least = 0.05 * float(np.abs(comparison.example).max()) or 1.0  # rounding of a still dimension is no motion
        low, span = float(shown.min()), max(float(np.ptp(shown)), least)
        for column, found in enumerate(shown[1:]):
            x = left + column * (width + 8)
            parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="#f4f4f4"/>')
            for values, style in ((true, "#999;stroke-width:3"), (found, COLOURS[column % len(COLOURS)])):
                across = np.linspace(x, x + width, len(values))
                down = y + 3 + (height - 6) * (1 - (values - low) / span)
                line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))
                parts.append(f'<polyline points="{line}" style="fill:none;stroke:{style}"/>')
    for column, row in enumerate(comparison.rows):
        parts.append(f'<text x="{left + column * (width + 8)}" y="14">{escape(row.name)}</text>')
    return _svg(left + len(comparison.rows) * (width + 8), top + len(comparison.dimensions) * (height + 8), parts)


def chart(
    curves: Mapping[str, Curve], *, across: str, up: str, title: str, log: tuple[bool, bool] = (False, False)
) -> str:
    """SVG: named curves (one point: a mark) on common axes. log: whether the axis across and up is logarithmic."""
    xs = [x for curve in curves.values() for x in curve.x]
    ys = [y for curve in curves.values() for y in (*curve.y, *curve.low, *curve.high)]
    x_axis, y_axis = _axis(xs, LEFT, WIDTH - RIGHT, log[0]), _axis(ys, HEIGHT - BOTTOM, TOP, log[1])
    parts = [f'<text x="{LEFT}" y="16" style="font-weight:600">{escape(title)}</text>']
    for tick in x_axis.ticks:
        x = x_axis.place(tick)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#e3e3e3"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{tick:g}</text>')
    for tick in y_axis.ticks:
        y = y_axis.place(tick)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e3e3e3"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>'
    )
    parts.append(f'<text transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">{escape(up)}</text>')
    heights = _apart([y_axis.place(curve.y[-1]) for curve in curves.values()], gap=13.0)
    for index, ((name, curve), label) in enumerate(zip(curves.items(), heights, strict=True)):
        colour = COLOURS[index % len(COLOURS)]
        places = [(x_axis.place(x), y_axis.place(y)) for x, y in zip(curve.x, curve.y, strict=True)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{line}" style="fill:none;stroke:{colour};stroke-width:1.8"/>')
        for (x, _), low, high in zip(places, curve.low, curve.high, strict=False):
            ends = f'y1="{y_axis.place(low):.1f}" y2="{y_axis.place(high):.1f}"'
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" {ends} stroke="{colour}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        beside = WIDTH - RIGHT + 8
        x, y = places[-1]
        ends = f'x1="{x:.1f}" y1="{y:.1f}" x2="{beside - 2}" y2="{label:.1f}"'
        parts.append(f'<line {ends} stroke="{colour}" stroke-dasharray="1 3"/>')
        parts.append(f'<text x="{beside}" y="{label + 4:.1f}" fill="{colour}">{escape(name)}</text>')
    return _svg(WIDTH, HEIGHT, parts)


@dataclass(frozen=True)
class _Axis:
    start: float
    end: float
    first: float
    last: float
    log: bool
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        scaled = math.log10(max(value, 10**self.first)) if self.log else value
        return self.start + (self.end - self.start) * (scaled - self.first) / (self.last - self.first)


def _axis(values: Sequence[float], start: float, end: float, log: bool) -> _Axis:
    if not log:
        ticks = nice_ticks(min(0.0, *values), max(values))
        return _Axis(start, end, ticks[0], ticks[-1], log, tuple(ticks))
    positive = [value for value in values if value > 0] or [1.0]
    first, last = math.log10(min(positive)), math.log10(max(positive))
    margin = 0.05 * (last - first) or 0.3
    whole = [factor * 10.0**power for power in range(math.floor(first), math.ceil(last) + 1) for factor in (1, 2, 5)]
    ticks = [tick for tick in whole if first - margin <= math.log10(tick) <= last + margin]
    thin = [tick for tick in ticks if f"{tick:e}"[0] == "1"]
    return _Axis(start, end, first - margin, last + margin, log, tuple(thin if len(ticks) > 9 else ticks))


def _apart(places: Sequence[float], *, gap: float) -> list[float]:
    """The places moved up or down so that labels of height `gap` do not overlap."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = [0.0] * len(places)
    free = -math.inf
    for index in order:
        moved[index] = max(places[index], free)
        free = moved[index] + gap
    excess = max(0.0, free - gap - (HEIGHT - BOTTOM))
    return [place - excess for place in moved]


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}'
    back = f'<rect width="{width:g}" height="{height:g}" fill="#fff"/>'
    return "\n".join([f'{head} font-family="sans-serif" font-size="11">', back, *parts, "</svg>"])


def page(comparison: Comparison) -> str:
    """One HTML file without script or network: all metrics with intervals, and the three drawings."""
    environment = Environment(
        loader=PackageLoader("volar.evaluation", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    drawings = [size_against_error(comparison), prefix_curves(comparison), examples(comparison)]
    return environment.get_template("tokens.html").render(
        comparison=comparison, metrics=METRICS, drawings=drawings, with_range=with_range
    )
