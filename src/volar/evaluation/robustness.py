"""How success falls as one thing about the world changes more and more: a curve per arm and perturbation axis.

Levels are compared on the same scenes: the same seed is the same scene underneath. Tasks that are perturbed along
several axes at once belong to no curve.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from volar.core.errors import ConfigError
from volar.envs.task_names import TaskName, parse_task
from volar.evaluation.records import EpisodeRecord
from volar.statistics.intervals import Interval, Pairs, count_pairs, mean_rate, paired_difference


@dataclass(frozen=True, kw_only=True)
class Level:
    """One point of a curve. level: 0 is the unperturbed world. rate: mean over tasks. drop: this level's success minus
    that of level 0 on the same seeds, below 0 where it is lost; None at level 0 and without common scenes."""

    level: int
    successes: int
    scored: int
    rate: Interval
    drop: Interval | None


@dataclass(frozen=True, kw_only=True)
class RobustnessCurve:
    """levels: those that were run, in order. area: of the success under the curve from its first to its last level,
    by the trapezoid rule, over that of a success of 1; None for a single level."""

    arm: str
    axis: str
    tasks: tuple[str, ...]
    levels: tuple[Level, ...]
    area: float | None


Won = Mapping[int, bool]  # seed -> success of a scored episode


def robustness_curves(
    tasks: Sequence[str], arms: Sequence[str], records: Sequence[EpisodeRecord]
) -> tuple[RobustnessCurve, ...]:
    """One curve per arm and axis that `tasks` perturb. A level counts where each of the axis's tasks has a scored
    episode, so that every point is a mean over the same tasks; level 0 is there where the unperturbed tasks are."""
    won: dict[tuple[str, str], dict[int, bool]] = {}
    for record in records:
        arm, task, seed = record.key
        if record.episode.success is not None:
            won.setdefault((arm, task), {})[seed] = record.episode.success
    single = [name for name in map(_perturbed, tasks) if name is not None and len(name.levels) == 1]
    axes = dict.fromkeys(axis for name in single for axis in name.levels)
    curves = (_curve(arm, axis, [name for name in single if axis in name.levels], won) for axis in axes for arm in arms)
    return tuple(curve for curve in curves if curve is not None)


def _perturbed(task: str) -> TaskName | None:
    """None for a task of somebody else's naming, which may hold an @ that means nothing here."""
    try:
        return parse_task(task) if "@" in task else None
    except ConfigError:
        return None


def _curve(
    arm: str, axis: str, names: Sequence[TaskName], won: Mapping[tuple[str, str], Won]
) -> RobustnessCurve | None:
    bases = tuple(dict.fromkeys(name.base for name in names))
    clean = [won.get((arm, base), {}) for base in bases]
    levels = []
    for level in (0, *sorted({name.levels[axis] for name in names})):
        met = [won.get((arm, f"{base}@{axis}={level}" if level else base), {}) for base in bases]
        if all(met):
            levels.append(_level(level, met, clean))
    if not levels or not levels[-1].level:
        return None
    places, rates = [each.level for each in levels], [each.rate.estimate for each in levels]
    area = float(np.trapezoid(rates, places)) / (places[-1] - places[0]) if len(levels) > 1 else None
    return RobustnessCurve(arm=arm, axis=axis, tasks=bases, levels=tuple(levels), area=area)


def _level(level: int, met: Sequence[Won], clean: Sequence[Won]) -> Level:
    successes, scored = [sum(each.values()) for each in met], [len(each) for each in met]
    pairs = [_pairs(ours, theirs) for ours, theirs in zip(met, clean, strict=True)] if level else []
    return Level(
        level=level, successes=sum(successes), scored=sum(scored), rate=mean_rate(successes, scored),
        drop=paired_difference(pairs) if pairs and all(each.total for each in pairs) else None,
    )  # fmt: skip


def _pairs(perturbed: Won, clean: Won) -> Pairs:
    seeds = sorted(perturbed.keys() & clean.keys())
    return count_pairs(np.array([perturbed[s] for s in seeds], bool), np.array([clean[s] for s in seeds], bool))
