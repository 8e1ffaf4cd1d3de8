"""Two arms on different scenes: exact test, interval of one comparison, and interval and test over many tasks.

Barnard's exact test (1945) is SciPy's; Newcombe (1998, method 10 for independent rates); Mee (1984) and its
stratified form with every task weighing the same. On the same scenes use paired.py: it needs fewer of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import barnard_exact, norm

from volar.statistics.intervals import Interval, score_interval, score_z, wilson


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Successes of the two arms on one task."""

    first: int
    first_episodes: int
    second: int
    second_episodes: int


def newcombe(
    first: int, first_episodes: int, second: int, second_episodes: int, *, confidence: float = 0.95
) -> Interval:
    """First success rate minus the second, from their Wilson intervals."""
    one = wilson(first, first_episodes, confidence=confidence)
    two = wilson(second, second_episodes, confidence=confidence)
    estimate = one.estimate - two.estimate
    return Interval(
        estimate=estimate,
        low=estimate - math.hypot(one.estimate - one.low, two.high - two.estimate),
        high=estimate + math.hypot(one.high - one.estimate, two.estimate - two.low),
    )


def barnard(first: int, first_episodes: int, second: int, second_episodes: int) -> float:
    """Two-sided exact p-value of "equal success rates" on different scenes, unconditional (pooled z as the order)."""
    table = [[first, second], [first_episodes - first, second_episodes - second]]
    return float(barnard_exact(table, alternative="two-sided", pooled=True, n=64).pvalue)


def unpaired_difference(tasks: Sequence[Counts], *, confidence: float = 0.95) -> Interval:
    """First arm's success rate minus the second's on different scenes, as the mean over tasks. One task: Mee."""
    counts, weights = _strata(tasks)
    return score_interval(counts, np.array([0.0, 1.0]), weights, confidence=confidence)


def unpaired_p(tasks: Sequence[Counts]) -> float:
    """Two-sided score test of "the mean over tasks of the difference is zero" (for one task the pooled z-test)."""
    counts, weights = _strata(tasks)
    return float(2 * norm.sf(abs(score_z(counts, np.array([0.0, 1.0]), weights))))


def _strata(tasks: Sequence[Counts]) -> tuple[Float[np.ndarray, "strata 2"], Float[np.ndarray, " strata"]]:
    rows = [
        row
        for task in tasks
        for row in (
            (task.first_episodes - task.first, task.first),
            (task.second_episodes - task.second, task.second),
        )
    ]
    counts = np.array(rows, dtype=float).reshape(-1, 2)
    if (counts < 0).any():
        raise ValueError(f"Successes must lie in 0..episodes, got {list(tasks)}.")
    return counts, np.tile([1.0, -1.0], len(tasks)) / max(len(tasks), 1)
