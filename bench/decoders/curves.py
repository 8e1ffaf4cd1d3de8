"""Success curves with intervals as one SVG: a panel per task, logarithmic costs, a shape and a label per decoder."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from volar.statistics.intervals import Interval

WIDTH, HEIGHT, LEFT, TOP, GAP = 330, 230, 48, 34, 26
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#555555", "#e69f00", "#56b4e9", "#000000", "#8c564b", "#808000")
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 4")


@dataclass(frozen=True)
class Curve:
    """points: (cost, success)."""

    name: str
    points: Sequence[tuple[float, Interval]]


def draw(panels: Mapping[str, Sequence[Curve]], axis: str) -> str:
    costs = [cost for curves in panels.values() for curve in curves for cost, _ in curve.points]
    low, high = math.log(min(costs)) - 0.1, math.log(max(costs)) + 0.1
    names = list(dict.fromkeys(curve.name for curves in panels.values() for curve in curves))
    columns = 2
    total = (
        columns * (WIDTH + LEFT + GAP),
        (len(panels) + 1) // columns * (HEIGHT + TOP + GAP) + 24 * len(names) // 2 + 40,
    )
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total[0]} {total[1]}" font-family="sans-serif" '
             f'font-size="12"><rect width="100%" height="100%" fill="white"/>']  # fmt: skip
    for place, (task, curves) in enumerate(panels.items()):
        x0 = LEFT + place % columns * (WIDTH + LEFT + GAP)
        y0 = TOP + place // columns * (HEIGHT + TOP + GAP)

        def x(cost: float, x0: int = x0) -> float:
            return x0 + (math.log(cost) - low) / (high - low) * WIDTH

        def y(rate: float, y0: int = y0) -> float:
            return y0 + (1 - rate) * HEIGHT

        parts.append(f'<text x="{x0}" y="{y0 - 10}" font-weight="bold">{task}</text>')
        for rate in (0, 0.25, 0.5, 0.75, 1):
            parts.append(f'<path d="M{x0} {y(rate)}h{WIDTH}" stroke="#ddd"/><text x="{x0 - 8}" y="{y(rate) + 4}" '
                         f'text-anchor="end">{rate:.0%}</text>')  # fmt: skip
        for power in range(math.floor(low / math.log(2)), math.ceil(high / math.log(2)) + 1):
            if low <= power * math.log(2) <= high:
                tick = 2.0**power
                parts.append(f'<text x="{x(tick)}" y="{y0 + HEIGHT + 16}" text-anchor="middle">{tick:g}</text>')
        for curve in curves:
            number = names.index(curve.name)
            colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
            line = " ".join(f"{x(cost):.1f},{y(rate.estimate):.1f}" for cost, rate in curve.points)
            parts.append(
                f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
            )
            for cost, rate in curve.points:
                parts.append(f'<path d="M{x(cost):.1f} {y(rate.low):.1f}V{y(rate.high):.1f}" stroke="{colour}"/>'
                             f'<text x="{x(cost):.1f}" y="{y(rate.estimate) + 4:.1f}" fill="{colour}" '
                             f'text-anchor="middle" font-weight="bold">{number + 1}</text>')  # fmt: skip
    foot = (len(panels) + 1) // columns * (HEIGHT + TOP + GAP) + 14
    parts.append(f'<text x="{LEFT}" y="{foot}">{axis} (logarithmic), success with 95 % intervals</text>')
    for number, name in enumerate(names):
        x0, y0 = LEFT + number % 2 * 330, foot + 22 + number // 2 * 20
        parts.append(f'<text x="{x0}" y="{y0}" fill="{COLOURS[number % len(COLOURS)]}"><tspan font-weight="bold">'
                     f'{number + 1}</tspan>  {name}</text>')  # fmt: skip
    return "".join(parts) + "</svg>\n"
