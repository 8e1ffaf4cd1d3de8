"""Where the marks of a comparison's charts go, in per cent of their areas. page.html draws them as inline SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from volar.comparison.axes import NO_COST, amount
from volar.comparison.result import ArmOutcome, Axis, Monitor, PairOutcome
from volar.evaluation.charts import LOGARITHMIC_FROM, Tick, log_ticks, nice_ticks
from volar.evaluation.wording import points
from volar.statistics.intervals import Interval


@dataclass(frozen=True, kw_only=True)
class Place:
    """An interval on a chart's axis. low, high and estimate in per cent from the left (or from the top)."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Scale:
    """An axis: where its ticks are, and where any value is."""

    low: float
    high: float
    ticks: tuple[Tick, ...]

    def at(self, value: float) -> float:
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def place(self, interval: Interval) -> Place:
        return Place(estimate=self.at(interval.estimate), low=self.at(interval.low), high=self.at(interval.high))


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One arm on a scatter chart: cost from the left, success from the top. cost: the same in words. Arms of equal
    cost stand side by side."""

    arm: ArmOutcome
    across: float
    up: Place
    cost: str


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """Success against one compute axis. unknown: arms whose cost is not known."""

    axis: Axis
    dots: tuple[Dot, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    logarithmic: bool
    unknown: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Watch:
    """A confidence sequence: `band` is the outline of all intervals, `line` the running mean, as (x, y) points.
    looks: where the registered looks are; stopped: where the rule had its decision. zero: height of "no difference";
    margin: heights of the equivalence margin."""

    pair: PairOutcome
    band: tuple[tuple[float, float], ...]
    line: tuple[tuple[float, float], ...]
    looks: tuple[float, ...]
    stopped: float | None
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    zero: float
    margin: tuple[float, float]


def difference_scale(intervals: Sequence[Interval | None], margin: float) -> Scale:
    """One axis for all differences of the page, in points, with zero and the margin on it."""
    known = [interval for interval in intervals if interval is not None]
    ticks = nice_ticks(
        100 * min(-margin, -0.02, *(one.low for one in known)), 100 * max(margin, 0.02, *(one.high for one in known))
    )
    scale = Scale(low=ticks[0] / 100, high=ticks[-1] / 100, ticks=())
    return Scale(
        low=scale.low, high=scale.high,
        ticks=tuple(Tick(place=scale.at(tick / 100), text=points(tick / 100)) for tick in ticks),
    )  # fmt: skip


def scatters(arms: Sequence[ArmOutcome], axes: Sequence[Axis]) -> list[Scatter]:
    """One per axis that two arms or more are known on."""
    costs = (axis for axis in axes if axis.name not in NO_COST)
    return [found for axis in costs if (found := _scatter(arms, axis)) is not None]


def _scatter(arms: Sequence[ArmOutcome], axis: Axis) -> Scatter | None:
    known = [(arm, cost, arm.overall) for arm in arms if (cost := arm.axes[axis.name]) is not None and arm.overall]
    costs = [cost for _, cost, _ in known]
    if len(known) < 2 or not max(costs):
        return None
    logarithmic = min(costs) > 0 and max(costs) >= LOGARITHMIC_FROM * min(costs)
    ticks = log_ticks(min(costs), max(costs)) if logarithmic else nice_ticks(0.0, max(costs))
    texts = [amount(tick, axis.unit).removesuffix("FLOP").strip() for tick in ticks]  # the axis says what is counted
    across = _scaled(ticks, texts, logarithmic)
    rates = [rate for _, _, rate in known]
    heights = nice_ticks(100 * min(rate.low for rate in rates), 100 * max(rate.high for rate in rates))
    up = _percent_scale(heights)
    return Scatter(
        axis=axis, across=across.ticks, up=up.ticks, logarithmic=logarithmic,
        dots=tuple(
            Dot(arm=arm, across=place, cost=amount(cost, axis.unit), up=up.place(rate))
            for (arm, cost, rate), place in zip(
                known, _apart([across.at(math.log(cost) if logarithmic else cost) for cost in costs]), strict=True
            )
        ),
        unknown=tuple(arm.name for arm in arms if arm.axes[axis.name] is None),
    )  # fmt: skip


def _apart(places: Sequence[float], *, gap: float = 3.0) -> list[float]:
    """Places that would cover one another are moved aside, each group around its own mean; per cent."""
    order = sorted(range(len(places)), key=lambda k: places[k])
    groups: list[list[int]] = []
    for k in order:
        if groups and places[k] - places[groups[-1][-1]] < gap:
            groups[-1].append(k)
        else:
            groups.append([k])
    moved = list(places)
    for group in groups:
        middle = sum(places[k] for k in group) / len(group)
        for rank, k in enumerate(sorted(group)):
            moved[k] = middle + gap * (rank - (len(group) - 1) / 2) if len(group) > 1 else places[k]
    return moved


def _scaled(ticks: Sequence[float], texts: Sequence[str], logarithmic: bool) -> Scale:
    values = [math.log(tick) if logarithmic else tick for tick in ticks]
    scale = Scale(low=values[0], high=values[-1], ticks=())
    marks = tuple(Tick(place=scale.at(value), text=text) for value, text in zip(values, texts, strict=True))
    return Scale(low=scale.low, high=scale.high, ticks=marks)


def _percent_scale(ticks: Sequence[float]) -> Scale:
    """Rates, upside down, since places are counted from the top."""
    low, high = max(ticks[0], 0.0), min(ticks[-1], 100.0)
    scale = Scale(low=high / 100, high=low / 100, ticks=())
    shown = [tick for tick in ticks if low <= tick <= high]
    marks = tuple(Tick(place=scale.at(tick / 100), text=f"{tick:g}") for tick in shown)
    return Scale(low=scale.low, high=scale.high, ticks=marks)


def watch(pair: PairOutcome, monitor: Monitor, *, looks: Sequence[int], planned: int, margin: float) -> Watch:
    """planned: scenes per task that were registered; the axis goes that far, to show what stopping spared."""
    last = float(max(planned, monitor.scenes[-1]))
    sideways = [tick for tick in nice_ticks(0.0, last) if tick <= last]
    settled = len(monitor.scenes) // 5  # the first scenes tell nothing and would press all that follows flat
    shown = [*monitor.low[settled:], *monitor.high[settled:], *monitor.estimate[settled:], margin, -margin]
    ticks = nice_ticks(100 * min(shown), 100 * max(shown))
    top, bottom = min(ticks[-1], 100) / 100, max(ticks[0], -100) / 100

    def height(value: float) -> float:
        return round(100 * (top - min(max(value, bottom), top)) / (top - bottom), 2)

    def across(scenes: float) -> float:
        return round(100 * scenes / last, 2)

    places = [across(float(scenes)) for scenes in monitor.scenes]
    upper = list(zip(places, map(height, monitor.high), strict=True))
    lower = list(zip(places, map(height, monitor.low), strict=True))
    return Watch(
        pair=pair, band=(*upper, *reversed(lower)), line=tuple(zip(places, map(height, monitor.estimate), strict=True)),
        looks=tuple(across(float(look)) for look in looks), zero=height(0.0), margin=(height(margin), height(-margin)),
        stopped=across(float(monitor.stopped)) if monitor.stopped is not None else None,
        across=tuple(Tick(place=across(tick), text=f"{tick:g}") for tick in sideways),
        up=tuple(
            Tick(place=height(tick / 100), text=points(tick / 100)) for tick in ticks if bottom <= tick / 100 <= top
        ),
    )  # fmt: skip
