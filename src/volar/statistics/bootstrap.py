"""Differences between methods that were each trained several times: chance in the training and in the episodes.

Two intervals: a bootstrap over trainings and scenes (crossed: Owen & Eckles 2012), and a t-interval with
Satterthwaite's degrees of freedom (1946). docs/statistics.md says by simulation which one to trust when.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import t as student

from volar.statistics.intervals import Interval

BATCH = 250  # resamples at once


@dataclass(frozen=True, kw_only=True)
class SeedSpread:
    """rates: success rate of each training. deviation: their standard deviation. excess: the part of it that chance
    in the episodes does not explain. Both None for a single training."""

    rates: tuple[float, ...]
    deviation: float | None
    excess: float | None


def hierarchical_difference(
    first: Bool[np.ndarray, "seeds_a tasks n"] | Float[np.ndarray, "seeds_a tasks n"],
    second: Bool[np.ndarray, "seeds_b tasks n"] | Float[np.ndarray, "seeds_b tasks n"],
    *,
    seed: int,
    resamples: int = 4000,
    confidence: float = 0.95,
) -> Interval:
    """First arm's mean success minus the second's, over trainings, tasks and scenes; percentile limits.

    Trainings are resampled in each arm, scenes within each task, the same for both arms; tasks stay fixed, each
    weighing the same. A scene that some training has not met (NaN) is left out. Deviations of resampled trainings are
    stretched by sqrt(k / (k - 1)) (Rao & Wu 1988), else k = 3 trainings would show two thirds of their variance; it
    stays approximate for so few. An arm with one training is taken as it is: the interval then says nothing about
    training it again. ValueError when a task has no complete scene.
    """
    pairs = _complete(first, second)
    generator = np.random.default_rng(seed)
    draws = np.zeros(resamples)
    for start in range(0, resamples, BATCH):
        stop = min(start + BATCH, resamples)
        ours = _training_weights(generator, len(first), stop - start)
        theirs = _training_weights(generator, len(second), stop - start)
        for one, two in pairs:
            n = one.shape[1]
            scenes = generator.multinomial(n, np.full(n, 1 / n), size=stop - start)
            draws[start:stop] += ((ours @ one - theirs @ two) * scenes).sum(1) / n / len(pairs)
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return _bounded(_estimate(pairs), float(low), float(high))


def satterthwaite_difference(
    first: Bool[np.ndarray, "seeds_a tasks n"] | Float[np.ndarray, "seeds_a tasks n"],
    second: Bool[np.ndarray, "seeds_b tasks n"] | Float[np.ndarray, "seeds_b tasks n"],
    *,
    confidence: float = 0.95,
) -> Interval:
    """The same difference with a t-interval: variance between trainings of each arm, plus variance between scenes,
    minus what both count. Needs two trainings in each arm: ValueError otherwise, or when a task has < 2 scenes."""
    if min(len(first), len(second)) < 2:
        raise ValueError(
            f"The spread between trainings needs two or more of each arm, got {len(first)} and {len(second)}; "
            "train with more seeds, or use paired_difference and say that it holds for these checkpoints only."
        )
    pairs = _complete(first, second)
    tasks = len(pairs)
    if min(one.shape[1] for one, _ in pairs) < 2:
        raise ValueError("Every task needs two or more scenes that all trainings have met.")
    parts, overlap = [], 0.0
    for arm in (0, 1):
        count = len(pairs[0][arm])
        rates = np.mean([pair[arm].mean(1) for pair in pairs], axis=0)
        parts.append((float(rates.var(ddof=1)) / count, count - 1))
        overlap += sum(_residual(pair[arm]) / pair[arm].size for pair in pairs) / tasks**2
    between = sum(variance for variance, _ in parts)
    scenes = [
        ((one.mean(0) - two.mean(0)).var(ddof=1) / one.shape[1] / tasks**2, one.shape[1] - 1) for one, two in pairs
    ]
    within = float(sum(variance for variance, _ in scenes))
    variance = max(between + within - overlap, between, within)
    spread = sum(part**2 / freedom for part, freedom in (*parts, *scenes))
    estimate = _estimate(pairs)
    if not variance:
        return Interval(estimate=estimate, low=estimate, high=estimate)
    reach = float(student.ppf((1 + confidence) / 2, variance**2 / spread) * np.sqrt(variance))
    return _bounded(estimate, estimate - reach, estimate + reach)


def seed_spread(
    outcomes: Bool[np.ndarray, "seeds tasks n"] | Float[np.ndarray, "seeds tasks n"],
) -> SeedSpread:
    """How far trainings of one arm differ, tasks weighing the same, on the scenes that all of them met."""
    tasks = [one for one, _ in _complete(outcomes, outcomes)]
    rates = np.mean([task.mean(1) for task in tasks], axis=0)
    if len(rates) < 2:
        return SeedSpread(rates=tuple(rates.tolist()), deviation=None, excess=None)
    chance = sum(_residual(task) / task.shape[1] for task in tasks if task.shape[1] > 1) / len(tasks) ** 2
    variance = float(rates.var(ddof=1))
    return SeedSpread(rates=tuple(rates.tolist()), deviation=variance**0.5, excess=max(0.0, variance - chance) ** 0.5)


def _complete(first: np.ndarray, second: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per task, both arms' outcomes [seeds, scenes] on the scenes that every training has met."""
    if first.shape[1:] != second.shape[1:] or not first.size or not second.size:
        raise ValueError(f"Both arms need the same tasks and scenes, got {first.shape[1:]} and {second.shape[1:]}.")
    both = np.concatenate([first, second]).astype(float)
    met = np.isfinite(both.sum(0))
    if not met.sum(1).all():
        raise ValueError(f"Task {int(np.argmin(met.sum(1)))} has no scene that all trainings have met.")
    return [(both[: len(first), task, met[task]], both[len(first) :, task, met[task]]) for task in range(len(met))]


def _estimate(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    return float(np.mean([one.mean() - two.mean() for one, two in pairs]))


def _bounded(estimate: float, low: float, high: float) -> Interval:
    return Interval(estimate=estimate, low=max(-1.0, low), high=min(1.0, high))


def _residual(outcomes: np.ndarray) -> float:
    """Variance that neither the training nor the scene explains."""
    rest = outcomes - outcomes.mean(0) - outcomes.mean(1)[:, None] + outcomes.mean()
    return float((rest**2).sum()) / ((outcomes.shape[0] - 1) * (outcomes.shape[1] - 1))


def _training_weights(generator: np.random.Generator, trainings: int, count: int) -> Float[np.ndarray, "r seeds"]:
    """Resampled weights of the trainings, adding up to one; deviations stretched to the right variance."""
    equal = np.full(trainings, 1 / trainings)
    if trainings == 1:
        return np.ones((count, 1))
    drawn = generator.multinomial(trainings, equal, size=count) / trainings
    return equal + (drawn - equal) * np.sqrt(trainings / (trainings - 1))
