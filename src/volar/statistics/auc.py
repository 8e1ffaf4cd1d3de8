"""How well a score ranks one kind of case above another: area under the ROC curve (Mann & Whitney 1947).

0.5 is chance, 1 perfect, 0 perfect with the wrong sign.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from volar.statistics.intervals import Interval


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """The scores of both kinds in one repetition of an experiment."""

    good: Float[np.ndarray, " g"]
    bad: Float[np.ndarray, " n"]


def area_under_curve(good: Float[np.ndarray, " g"], bad: Float[np.ndarray, " n"]) -> float:
    """The chance that a good case scores above a bad one; equal scores count half. ValueError where one kind lacks.

    >>> area_under_curve(np.array([3.0, 2.0]), np.array([1.0, 2.0]))
    0.875
    """
    if not len(good) or not len(bad):
        raise ValueError(f"Both kinds are needed, got {len(good)} good and {len(bad)} bad cases.")
    ordered = np.sort(bad)
    below, reached = np.searchsorted(ordered, good, "left"), np.searchsorted(ordered, good, "right")
    return float((below + reached).mean() / 2 / len(bad))


def mean_area(repetitions: Sequence[Ranked], *, seed: int, resamples: int = 2000, confidence: float = 0.95) -> Interval:
    """Mean area over repetitions; percentile limits from resampling the repetitions and the cases of each kind."""
    if not repetitions:
        raise ValueError("A mean area needs at least one repetition.")
    generator = np.random.default_rng(seed)
    draws = np.empty(resamples)
    for index in range(resamples):
        chosen = generator.integers(0, len(repetitions), len(repetitions))
        draws[index] = np.mean([_redrawn(repetitions[one], generator) for one in chosen])
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    estimate = float(np.mean([area_under_curve(one.good, one.bad) for one in repetitions]))
    return Interval(estimate=estimate, low=float(low), high=float(high))


def _redrawn(ranked: Ranked, generator: np.random.Generator) -> float:
    return area_under_curve(
        generator.choice(ranked.good, len(ranked.good)), generator.choice(ranked.bad, len(ranked.bad))
    )
