"""Where lines and ticks of a chart go, in per cent of its area. The report's template draws them as inline SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from volar.evaluation.robustness import RobustnessCurve
from volar.evaluation.training import Curve
from volar.evaluation.wording import number

DOTS = 30  # a curve of fewer points shows each of them
LOGARITHMIC_FROM = 20  # largest over smallest value from which a logarithmic axis shows more


@dataclass(frozen=True, kw_only=True)
class Tick:
    """place: per cent from the left or from the top."""

    place: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve. points: (from the left, from the top) in per cent; dotted: few enough to show each as a dot;
    last: its last value in words."""

    name: str
    points: tuple[tuple[float, float], ...]
    dotted: bool
    last: str


@dataclass(frozen=True, kw_only=True)
class LineChart:
    """Several curves on the same axes."""

    lines: tuple[Line, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    logarithmic: bool


def line_chart(curves: Mapping[str, Curve]) -> LineChart | None:
    """Curves over training steps from step 0 on; a logarithmic upward axis where values span a factor of 20. None
    without curves."""
    values = [value for curve in curves.values() for value in curve.values]
    if not values:
        return None
    logarithmic = min(values) > 0 and max(values) >= LOGARITHMIC_FROM * min(values)
    upward = log_ticks(min(values), max(values)) if logarithmic else nice_ticks(min(0.0, *values), max(values))
    last_step = max(step for curve in curves.values() for step in curve.steps) or 1.0
    sideways = [tick for tick in nice_ticks(0.0, last_step) if tick <= last_step]

    def height(value: float) -> float:
        scale = math.log if logarithmic else float
        low, high = scale(upward[0]), scale(upward[-1])
        return 100 * (high - scale(value)) / (high - low)

    def line(name: str, curve: Curve) -> Line:
        pairs = zip(curve.steps, curve.values, strict=True)
        points = tuple((round(100 * step / last_step, 2), round(height(value), 2)) for step, value in pairs)
        return Line(name=name, points=points, dotted=len(points) <= DOTS, last=f"{curve.values[-1]:.3g}")

    return LineChart(
        lines=tuple(line(name, curve) for name, curve in curves.items()),
        across=tuple(Tick(place=100 * tick / last_step, text=number(tick)) for tick in sideways),
        up=tuple(Tick(place=height(tick), text=number(tick)) for tick in upward),
        logarithmic=logarithmic,
    )


@dataclass(frozen=True, kw_only=True)
class RateLine:
    """Success rates with intervals. points: (from the left, rate, low and high from the top) in per cent."""

    arm: str
    points: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True, kw_only=True)
class RateChart:
    """The curves of one perturbation axis, rates from 0 to 100 %."""

    axis: str
    lines: tuple[RateLine, ...]
    across: tuple[Tick, ...]


def rate_chart(axis: str, curves: Sequence[RobustnessCurve]) -> RateChart:
    """Arms stand a little beside one another, so that intervals do not hide."""
    last = max(level.level for curve in curves for level in curve.levels)

    def line(place: int, curve: RobustnessCurve) -> RateLine:
        shift = place - (len(curves) - 1) / 2
        points = []
        for level in curve.levels:
            heights = (100 * (1 - rate) for rate in (level.rate.estimate, level.rate.low, level.rate.high))
            points.append((round(100 * level.level / last + shift, 2), *(round(height, 2) for height in heights)))
        return RateLine(arm=curve.arm, points=tuple(points))

    return RateChart(
        axis=axis,
        lines=tuple(line(place, curve) for place, curve in enumerate(curves)),
        across=tuple(Tick(place=100 * level / last, text=str(level)) for level in range(last + 1)),
    )


def nice_ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten that enclose [low, high], at most `most` and one."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if span / (factor * power) <= most - 1)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def log_ticks(low: float, high: float) -> Sequence[float]:
    """Powers of ten and their double and fivefold that enclose [low, high], thinned to whole powers if too many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
    start = max(i for i, tick in enumerate(every) if tick <= low * (1 + 1e-9))
    stop = min(i for i, tick in enumerate(every) if tick >= high * (1 - 1e-9))
    ticks = every[start : stop + 1]
    return ticks if len(ticks) <= 8 else [10.0**power for power in range(first, last + 1)]
